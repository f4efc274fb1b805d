#!/usr/bin/env bash
# Bad input to train and evaluate, through the binary, on 1 and 3 ranks: the right exit code from every
# rank, exactly one line that says what is wrong, no hang, and the earlier checkpoints untouched.
set -euo pipefail
exe=$1
dir=$(mktemp -d train_errors.XXXXXX)
trap 'chmod -R u+w "$dir" 2>/dev/null || true; umount "$dir/full" 2>/dev/null || true; rm -rf "$dir"' EXIT

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# A small data set, a run with checkpoints, and what is needed to tell that it stays as it was.
"$exe" synth -o "$dir/data.h5" --images 600 --test-images 100 --seed 3 >"$dir/out"
small=(--data "$dir/data.h5" --model mlp16 --epochs 1 --batch-size 50)
"$exe" train "${small[@]}" --epochs 2 --checkpoint-dir "$dir/good" >"$dir/out" 2>&1 ||
    fail "train: $(cat "$dir/out")"
ckpt=$(readlink -f "$dir/good/latest")
before=$(sha256sum "$dir"/good/*.h5)

checks=0
# refused CODE WORD COMMAND...: alone and on three ranks, or on each number in $ranks.
refused() {
    local want=$1 word=$2 code lines np
    shift 2
    for np in ${ranks:-1 3}; do
        code=0
        if [ "$np" = 1 ]; then
            timeout 60 "$exe" "$@" >"$dir/out" 2>"$dir/err" || code=$?
        else
            timeout 60 "$MPIEXEC" -n "$np" "$exe" "$@" >"$dir/out" 2>"$dir/err" || code=$?
        fi
        [ "$code" = "$want" ] || fail "np $np, $*: exit $code, not $want: $(cat "$dir/err")"
        lines=$(grep -c '^mnist_dist: ' "$dir/err" || true)
        [ "$lines" = 1 ] || fail "np $np, $*: $lines lines: $(cat "$dir/err")"
        grep '^mnist_dist: error: ' "$dir/err" | grep -q -e "$word" ||
            fail "np $np, $*: no '$word' in: $(cat "$dir/err")"
        checks=$((checks + 1))
    done
    [ "$(sha256sum "$dir"/good/*.h5)" = "$before" ] || fail "$*: the good checkpoints changed"
}

# Options.
refused 2 "--no-such is not a valid option" train --no-such
refused 2 "'ten' is not a whole number" train --epochs ten
refused 2 "is not between" train --batch-size 0
refused 2 "'adagrad' is not one of" train --optimizer adagrad
refused 2 "is not a number" train --lr fast
refused 2 "one argument too many" train surplus
refused 2 "needs CKPT" evaluate
refused 2 "error: --augment: 'blur' is not one of rotate, scale" train --augment rotate:9,blur:3
refused 2 "erase:29 is larger than the images of 28 x 28" train "${small[@]}" --augment erase:29

# Exchanges: unknown names, the name of before, and those that these ranks cannot use. (mpi has no such.)
none=("${small[@]}" --checkpoint-dir none)
known="known: auto, local, mpi, tree, shared, hierarchical\$"
refused 2 "error: 'telepathy' is not an exchange; $known" train "${none[@]}" --exchange telepathy
refused 2 "error: 'Tree' is not an exchange; $known" train "${none[@]}" --exchange Tree
refused 2 "error: 'tree,mpi' is not an exchange; $known" train "${none[@]}" --exchange tree,mpi
MNIST_DIST_EXCHANGE=radio refused 2 "error: 'radio' is not an exchange; $known" train "${none[@]}"
refused 2 "error: --exchange: the value is empty; give one\$" train "${none[@]}" --exchange ""
refused 2 "'allreduce' is now called 'tree'; 'mpi' is the one that calls MPI_Allreduce\$" \
    train "${none[@]}" --exchange allreduce
ranks="2 3" refused 2 "exchange 'local' is for one process, not [23]: take 'auto'\$" \
    train "${none[@]}" --exchange local
ranks="2 3" MND_TEST_NODES=0,1 refused 2 \
    "exchange 'shared' is for one node and these processes run on 2: take 'hierarchical' or 'auto'\$" \
    train "${none[@]}" --exchange shared

# Options that contradict one another, and values that make no sense.
refused 2 "--textbook means --exchange mpi, .* --exchange tree" train "${none[@]}" --textbook --exchange tree
MNIST_DIST_PRODUCTS=native refused 2 "--textbook means --products openblas" train "${none[@]}" --textbook
ranks=1 refused 2 "--step-epochs: 0 is not between" train "${none[@]}" --schedule step --step-epochs 0
refused 2 "--step-epochs 0.001 is less than a step" train "${none[@]}" --schedule step --step-epochs 0.001
ranks=1 refused 2 "--target-accuracy: 98 is not between 0 and 1" train "${none[@]}" --target-accuracy 98

# Specs.
refused 2 "layer 1 (nonsense)" train "${small[@]}" --checkpoint-dir none --model nonsense
refused 2 "put flatten before it" train "${small[@]}" --checkpoint-dir none --model dense:10
refused 2 "end with dense:10" train "${small[@]}" --checkpoint-dir none --model flatten,dense:7
refused 2 "larger than its input" train "${small[@]}" --checkpoint-dir none \
    --model conv:4:40,flatten,dense:10

# Data.
refused 1 "$dir/missing.h5" train "${small[@]}" --checkpoint-dir none --data "$dir/missing.h5"
head -c 5000 "$dir/data.h5" >"$dir/short.h5"
refused 1 "$dir/short.h5" train "${small[@]}" --checkpoint-dir none --data "$dir/short.h5"
head -c 5000 /dev/urandom >"$dir/noise.h5"
refused 1 "$dir/noise.h5" train "${small[@]}" --checkpoint-dir none --data "$dir/noise.h5"
refused 1 "$dir" train "${small[@]}" --checkpoint-dir none --data "$dir"
if /usr/bin/python3 -c 'import h5py' 2>/dev/null; then
    cp "$dir/data.h5" "$dir/label.h5"
    /usr/bin/python3 - "$dir/label.h5" <<'PY'
import sys, h5py
with h5py.File(sys.argv[1], "r+") as f:
    f["y_train"][577] = 200
PY
    refused 1 "label" train "${small[@]}" --checkpoint-dir none --data "$dir/label.h5"
fi

# More ranks than images: logical ranks stand for them on one process as well.
"$exe" synth -o "$dir/tiny.h5" --images 2 --test-images 5 --seed 3 >"$dir/out"
refused 2 "more than the 2 training" train --data "$dir/tiny.h5" --model mlp16 --checkpoint-dir none \
    --logical-ranks 3

# Checkpoints.
refused 1 "$dir/none.h5" evaluate "$dir/none.h5" --data "$dir/data.h5"
cp "$ckpt" "$dir/flipped.h5"
printf '\xff' | dd of="$dir/flipped.h5" bs=1 seek=9000 conv=notrunc status=none
refused 1 "flipped.h5" evaluate "$dir/flipped.h5" --data "$dir/data.h5"
refused 1 "flipped.h5" train "${small[@]}" --checkpoint-dir none --resume "$dir/flipped.h5"
head -c 2000 "$ckpt" >"$dir/cut.h5"
refused 1 "cut.h5" train "${small[@]}" --checkpoint-dir none --resume "$dir/cut.h5"
refused 1 "give --model" train "${small[@]}" --checkpoint-dir none --model mlp512 --resume "$ckpt"
refused 1 "give the same" train "${small[@]}" --checkpoint-dir none --seed 9 --resume "$ckpt"
refused 1 "give the same" train "${small[@]}" --checkpoint-dir none --batch-size 51 --resume "$ckpt"
# A resume may change the augmentation, but says so.
"$exe" train "${small[@]}" --epochs 3 --checkpoint-dir "$dir/more" --resume "$ckpt" \
    --augment shift:1 >"$dir/out" 2>&1 || fail "resume with --augment: $(cat "$dir/out")"
grep -q "was written with --augment none: the run goes on with --augment shift:1" "$dir/out" ||
    fail "a resume with --augment says: $(cat "$dir/out")"
"$exe" train "${small[@]}" --epochs 4 --checkpoint-dir "$dir/more" --resume auto \
    --augment shift:1.0 >"$dir/out" 2>&1 || fail "resume with --augment: $(cat "$dir/out")"
! grep -q "was written with" "$dir/out" || fail "warns of nothing: $(cat "$dir/out")"
"$exe" synth -o "$dir/other.h5" --images 100 --test-images 5 --seed 4 >"$dir/out"
refused 1 "other data" train "${small[@]}" --checkpoint-dir none --data "$dir/other.h5" \
    --resume "$ckpt" --epochs 3

# Folders and files that cannot be written.
touch "$dir/file"
refused 1 "$dir/file" train "${small[@]}" --checkpoint-dir "$dir/file"
refused 1 "$dir/file/such: cannot create the folder" train "${small[@]}" --checkpoint-dir "$dir/file/such"
refused 1 "cannot create the folder $dir/file: Not a" train "${small[@]}" --checkpoint-dir none \
    --metrics "$dir/file/m.jsonl"
if [ "$(id -u)" = 0 ] && mkdir -p "$dir/full" && mount -t tmpfs -o size=64k tmpfs "$dir/full" 2>/dev/null
then
    # A full disk: a checkpoint of mlp16 needs more than 64 KiB.
    refused 1 "$dir/full" train "${small[@]}" --checkpoint-dir "$dir/full"
    [ -z "$(ls -A "$dir/full")" ] || fail "a full disk: $(ls -A "$dir/full") is left behind"
    umount "$dir/full"
fi

# A loss that stops being finite: the step, the rank and the layer; the last good checkpoint stays.
refused 1 "NaN or infinite in epoch" train "${small[@]}" --optimizer sgd --lr 1e6 --momentum 0.99 \
    --epochs 5 --checkpoint-dir "$dir/nan"

[ "$checks" -ge 70 ] || fail "only $checks refusals were checked"
echo "$checks refusals checked"
