#!/usr/bin/env bash
# What a run must not lose or mistake: the metrics of an earlier run, the run that --resume was to continue,
# another run's metrics file, the data that it was trained on.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/runs.sh
. "$here/../support/runs.sh"
exe=$(realpath "$1")
dir=$(realpath "$(mktemp -d no_loss.XXXXXX)")
pid=
clean_up() {
    [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
    rm -rf "$dir"
}
trap clean_up EXIT
cd "$dir"
mkdir scratch

"$exe" synth -o s.h5 --images 600 --test-images 100 >scratch/out
model=(--data s.h5 --model mlp16 --batch-size 50 --progress never)
# train CODE OPTION...
train() {
    local want=$1 code=0
    shift
    timeout 60 "$exe" train "${model[@]}" "$@" >scratch/out 2>scratch/err </dev/null || code=$?
    [ "$code" = "$want" ] || fail "$*: exit $code, not $want: $(cat scratch/out scratch/err)"
}
# ranks2 CODE OPTION...: two ranks with folders of their own, as on two hosts that share none
ranks2() {
    local want=$1 code=0
    shift
    MND_TEST_NODES=0,1 timeout 60 "$MPIEXEC" -n 1 -wdir "$PWD/a" "$exe" train "${model[@]}" "$@" : \
        -n 1 -wdir "$PWD/b" "$exe" train "${model[@]}" "$@" >scratch/out 2>scratch/err </dev/null || code=$?
    [ "$code" = "$want" ] || fail "two hosts, $*: exit $code, not $want: $(cat scratch/out scratch/err)"
}
says() { grep -q -e "$1" "scratch/$2" || fail "no '$1' in: $(cat "scratch/$2")"; }
epochs() { grep -c '"event":"epoch"' "$1"; }

# A new run in the same folder: the earlier metrics lie with the earlier checkpoints.
train 0 --epochs 3 --checkpoint-dir c --metrics c/m.jsonl
train 0 --epochs 1 --checkpoint-dir c --metrics c/m.jsonl
[ "$(epochs c/earlier-1/m.jsonl) $(epochs c/m.jsonl)" = "3 1" ] || fail "metrics: $(ls c c/earlier-1)"
[ -e c/earlier-1/latest ] || fail "checkpoints: $(ls c/earlier-1)"
says "metrics of an earlier one were moved to c/earlier-1/m.jsonl" err
# Without checkpoints: a folder beside the file.
train 0 --epochs 2 --checkpoint-dir none --metrics m.jsonl
train 0 --epochs 1 --checkpoint-dir none --metrics m.jsonl
[ "$(epochs earlier-1/m.jsonl) $(epochs m.jsonl)" = "2 1" ] || fail "metrics without checkpoints are lost"
train 0 --epochs 1 --checkpoint-dir none --metrics m.jsonl
[ "$(epochs earlier-2/m.jsonl)" = 1 ] || fail "the second move"

# --resume that finds nothing.
train 0 --epochs 1 --checkpoint-dir C --metrics m.jsonl --resume auto
says "^Nothing to resume in C: a new run" out
grep -q '"resume":"auto","resumed_from":null' m.jsonl || fail "metrics: $(head -1 m.jsonl)"
[ "$(epochs earlier-3/m.jsonl)" = 1 ] || fail "--resume auto that finds nothing lost the metrics"
# One that finds damaged ones only keeps them, and does not advise what was done.
mkdir E && echo damaged >E/ckpt-00000012.h5
train 0 --epochs 1 --checkpoint-dir E --resume auto
says "of an earlier one were moved to E/earlier-1, for none of them is valid" err
train 1 --epochs 2 --checkpoint-dir D --resume required
says "error: --resume required: host .* has no valid checkpoint in D" err
train 0 --epochs 2 --checkpoint-dir C --metrics m.jsonl --resume required
says "^Resumed from C/ckpt-" out
grep -q '"resume":"required","resumed_from":"C/ckpt-00000012.h5"' m.jsonl || fail "$(cat m.jsonl)"
train 2 --epochs 2 --checkpoint-dir none --resume required

# A second run on one metrics file is refused; the first one's lines stay, and so do the checkpoints.
begun() { grep -qs '"event":"start"' "$1"; }
MNIST_DIST_FAULT=hang:0:5 "$exe" train "${model[@]}" --checkpoint-dir none --metrics w.jsonl >scratch/first 2>&1 \
    </dev/null &
pid=$!
wait_for 20 begun w.jsonl || fail "the first run does not start: $(cat scratch/first)"
cp w.jsonl w.copy
find c >scratch/before
train 1 --epochs 1 --checkpoint-dir c --metrics w.jsonl --stall-timeout 1
says "w.jsonl: another run is writing its metrics there" err
cmp w.jsonl w.copy || fail "the first run's metrics changed"
find c | cmp - scratch/before || fail "the refused run moved checkpoints"
kill -KILL "$pid"
wait "$pid" 2>/dev/null || true
pid=

# Hosts that do not see the same files.
mkdir a b
cp s.h5 a
ranks2 1 --epochs 1 --checkpoint-dir none
says "error: rank 1 on host .*: s.h5: " err
cp s.h5 b
cp -r C b/C
ranks2 1 --epochs 3 --checkpoint-dir C --resume auto
says "error: rank 1 on host .*: C holds checkpoints here, but none on host .*, where rank 0" err
[ ! -e a/C ] || fail "a new run was begun"
touch a/F
ranks2 1 --epochs 1 --checkpoint-dir F
says "error: rank 0 on host .*: F" err

# Other data than before, also where the file has no checksum of its own.
if /usr/bin/python3 -c 'import h5py' 2>/dev/null; then
    cat >scratch/put.py <<'PY'
import sys, h5py, numpy as np
name, n, change = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with h5py.File(name, "w") as f:
    for split, count in ("train", n), ("test", 100):
        r = np.random.default_rng(1)
        y, x = r.integers(0, 4, count).astype(np.uint8), r.integers(0, 90, (count, 8, 8)).astype(np.uint8)
        x[np.arange(count), y * 2] += 120
        if split == "train":
            x[7, 3, 3] += change
        f["x_" + split], f["y_" + split] = x, y
PY
    model=(--data d.h5 --model "flatten,dense:4" --batch-size 50 --progress never --metrics d.jsonl)
    put() { /usr/bin/python3 scratch/put.py "$@"; }
    put d.h5 600 0
    cp d.h5 same.h5
    code=0
    MNIST_DIST_FAULT=kill:0:18 "$exe" train "${model[@]}" --epochs 3 --checkpoint-every 5 --checkpoint-dir h \
        >scratch/out 2>&1 || code=$?
    [ "$code" = 137 ] || fail "exit $code: $(cat scratch/out)"
    grep -q '"data_sha256":"[0-9a-f]\{64\}"' d.jsonl || fail "no checksum of a file by h5py"
    for n in 600 300 900; do
        put d.h5 "$n" 1
        train 1 --epochs 3 --checkpoint-dir h --resume auto
        says "was trained on other data than d.h5 holds" err
    done
    cp same.h5 a/d.h5
    put b/d.h5 600 1
    ranks2 1 --epochs 1 --checkpoint-dir none
    says "d.h5 on host .* holds other data than the file that rank 0 reads" err
    mv same.h5 d.h5
    train 0 --epochs 3 --checkpoint-dir h --resume auto
    # Pixels of a file of this program, changed afterwards.
    /usr/bin/python3 -c 'import h5py; h5py.File("s.h5", "r+")["x_train"][7, 3, 3] ^= 1'
    train 1 --data s.h5 --epochs 1 --checkpoint-dir none
    says "s.h5: damaged, or changed after it was made" err
fi
echo "nothing is lost"
