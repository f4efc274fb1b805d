#!/usr/bin/env bash
# Where a run stops, which epoch is the best, and what it is judged by (--target-accuracy, --patience,
# --monitor, --validation): the same on 1, 2 and 3 ranks and after a kill; a finished run stays finished.
set -euo pipefail
# shellcheck source=tests/support/cli.sh
. "$(dirname "${BASH_SOURCE[0]}")/../support/cli.sh"
says() { grep -qE -- "$1" out || fail "$what: no '$1' in: $(cat out)"; }
# Epochs, figures and weights, without times.
facts() { sed -n -e '/"event":"epoch"/s/,"seconds".*//p' -e '/"event":"end"/s/,"seconds".*//p' "$1"; }
links() { echo "latest $(readlink "$1/latest"), best $(readlink "$1/best")"; }

"$exe" synth -o s.h5 --images 300 --test-images 200 --seed 1 >out

# check WHAT EPOCH OPTIONS...: ends after this epoch, on any number of ranks, killed or not, once and again.
check() {
    what=$1 epoch=$2
    shift 2
    local run=(train --data s.h5 --model mlp16 --lr 0.02 --batch-size 30 --logical-ranks 3 --progress never "$@")
    rm -rf c? m?
    for np in 1 2 3; do
        "$MPIEXEC" -n "$np" "$exe" "${run[@]}" --checkpoint-dir c$np --metrics m$np >out 2>&1 || fail "$what: $(cat out)"
        cmp <(facts m1) <(facts m$np) || fail "$what: $np ranks decide otherwise"
        [ "$(links c1)" = "$(links c$np)" ] || fail "$what: $np ranks: $(links c$np), not $(links c1)"
    done
    [ "$(grep -c '"event":"epoch"' m1)" = "$epoch" ] || fail "$what: not $epoch epochs: $(cat out)"
    best=$(sed -n 's/.*"best_epoch":\([0-9]*\).*/\1/p' m1)
    [ -f c1/best ] || fail "$what: the best epoch is not kept: $(ls c1)"
    "$exe" evaluate c1/best --data s.h5 | grep -q "epoch $best," || fail "$what: best is not epoch $best"

    # Killed in the middle of the epoch after the best, or before it, and in the last step.
    steps=$(sed -n 's/.*"epoch":1,"step":\([0-9]*\),.*/\1/p' m1)
    middle=$((best < epoch ? best : best - 1))
    for step in $((middle * steps + 5)) $((epoch * steps)); do
        rm -rf c4 m4
        MNIST_DIST_FAULT=kill:0:$step "$exe" "${run[@]}" --checkpoint-every 7 --checkpoint-dir c4 --metrics m4 >out 2>&1 || true
        "$exe" "${run[@]}" --checkpoint-dir c4 --metrics m4 --resume auto >out 2>&1 || fail "$what: $(cat out)"
        cmp <(facts m1) <(facts m4) || fail "$what: killed at step $step, decides otherwise"
        [ "$(readlink c4/best)" = "$(readlink c1/best)" ] || fail "$what: killed at $step: $(links c4)"
    done

    # The same command once more ends at once, with the same result.
    "$MPIEXEC" -n 2 "$exe" "${run[@]}" --checkpoint-dir c1 --metrics m1 --resume auto >out 2>&1 || fail "$what: $(cat out)"
    says "^finished: "
    ! grep -q '^Epoch' out || fail "$what: a finished run went on: $(cat out)"
    cmp <(facts m1) <(facts m2) || fail "$what: a finished run has another result"
    says "^checkpoint c1/"
}

check "target" 2 --epochs 20 --target-accuracy 0.5
says "^finished: epoch 2 reached --target-accuracy 0.5"
check "accuracy" 7 --epochs 40 --patience 2 --keep 1
says "^finished: no higher val_accuracy since epoch 5 \(--patience 2\)"
says "^best checkpoint c1/ckpt-00000050.h5"
check "loss of a validation split" 12 --epochs 40 --patience 2 --monitor loss --validation 0.2
says "^finished: no lower val_loss since epoch 10 \(--patience 2\)"
says " 240 training, 60 validation and 200 test images"
grep -q '"images":240,"validation":60,"monitor":"loss","patience":2' m1 || fail "the split is not in the metrics"

loss=$(sed -n 's/.*"best_loss":\([0-9]*.[0-9]\{4\}\).*/\1/p' m1)
"$exe" evaluate c1/best --data s.h5 --split validation | grep -q "Validation images 60, loss $loss" ||
    fail "evaluate does not find the split"
"$exe" synth -o other.h5 --images 300 --test-images 20 --seed 2 >out
code=0
"$exe" evaluate c1/best --data other.h5 --split validation >out 2>&1 || code=$?
what="the validation images of other data"
[ $code = 1 ] || fail "$what: exit $code: $(cat out)"
says "was trained on other data than other.h5 holds"

# The split is part of the run; a larger number goes on after a finished run.
run=(train --data s.h5 --model mlp16 --lr 0.02 --batch-size 30 --progress never --checkpoint-dir c1 --resume auto)
what="without the split" code=0
"$exe" "${run[@]}" >out 2>&1 || code=$?
[ $code != 0 ] || fail "resumed without the split"
says "give the same.*--validation 60|--validation 60: give the same"
what="more patience"
"$exe" "${run[@]}" --epochs 14 --patience 5 --monitor loss --validation 60 >out 2>&1 || fail "$(cat out)"
says "^Epoch 14/14 "
for n in 300 1.5 0.001; do
    code=0
    "$exe" train --data s.h5 --validation $n --checkpoint-dir none >out 2>&1 || code=$?
    [ $code = 2 ] || fail "--validation $n: exit $code: $(cat out)"
done

# Held out are the last training images; the test images are only for the end. A file with that split
# gives the same run. (By Python's h5py, where it is installed.)
if python=$(command -v /usr/bin/python3) && "$python" -c 'import h5py' 2>/dev/null; then
    "$python" - <<'SPLIT'
import h5py
with h5py.File("s.h5") as f, h5py.File("v.h5", "w") as v:
    for a in "xy":
        v[a + "_train"] = f[a + "_train"][:240]
        v[a + "_test"] = f[a + "_train"][240:]
SPLIT
    run=(train --model mlp16 --batch-size 30 --epochs 3 --logical-ranks 3 --progress never)
    "$exe" "${run[@]}" --data s.h5 --validation 60 --checkpoint-dir c5 --metrics m5 >out 2>&1 || fail "$(cat out)"
    "$exe" "${run[@]}" --data v.h5 --checkpoint-dir none --metrics m6 >out 2>&1 || fail "$(cat out)"
    cmp <(facts m5 | grep epoch\",) <(facts m6 | grep epoch\",) || fail "other images are held out than the last"
    test=$(sed -n 's/.*"test_loss":\([0-9]*.[0-9]\{3\}\).*/\1/p' m5)
    "$exe" evaluate c5/latest --data s.h5 | grep -q "Test images 200, loss $test" || fail "not the test images at the end"
    # v.h5 holds no checksum: its content is compared.
    "$exe" evaluate c5/latest --data v.h5 --split validation >out 2>&1 && fail "other data without a checksum pass"
    what="a split of h5py's data"
    says "was trained on other data than v.h5 holds"
fi
echo "stopping: all passed"
