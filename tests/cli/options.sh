#!/usr/bin/env bash
# Mistyped commands, options, words and variables: the nearest known one is named. Values with control
# characters; options without effect; folders that are created for output.
set -euo pipefail
# shellcheck source=tests/support/cli.sh
. "$(dirname "${BASH_SOURCE[0]}")/../support/cli.sh"

# says CODE PATTERN LINES COMMAND...: LINES messages, one of which matches; nothing unprintable
says() {
    local want=$1 pattern=$2 lines=$3 code=0
    shift 3
    "$@" >out 2>err </dev/null || code=$?
    [ "$code" = "$want" ] || fail "$*: exit $code, not $want: $(cat err)"
    [ "$(grep -c '^mnist_dist: ' err || true)" = "$lines" ] || fail "$*: not $lines messages: $(cat err)"
    [ "$lines" = 0 ] || grep -qE -e "$pattern" err || fail "$*: no '$pattern' in: $(cat err)"
    ! LC_ALL=C grep -q '[^[:print:]]' err || fail "$*: control characters: $(cat -A err)"
}

says 2 "'trian' is not a command; did you mean train\?" 1 "$exe" trian
says 2 "'Evaluate' is not a command; did you mean evaluate\?" 1 "$exe" Evaluate
says 2 "'xyzzy' is not a command; see" 1 "$exe" xyzzy
says 2 "--batch_size is not a valid option; did you mean --batch-size\?" 1 "$exe" --batch_size 64
says 2 "--optimiser=sgd is not a valid option; did you mean --optimizer\?" 1 "$exe" train --optimiser=sgd
says 2 "'epochs=3' is one argument too many; did you mean --epochs\?" 1 "$exe" train epochs=3
says 2 "--frobnicate is not a valid option; see" 1 "$exe" train --frobnicate
says 2 "'nevr' is not one of auto\|always\|never; did you mean never\?" 1 "$exe" train --progress nevr
says 2 "'0,001' is not a number; write decimals with a point" 1 "$exe" train --lr 0,001
says 2 "train: '64\?' has a carriage return" 1 "$exe" train --batch-size $'64\r'
says 2 "mnist_dist: 'train\?' has a carriage return" 1 "$exe" $'train\r'
says 2 "train: '\?' has a carriage return" 1 "$exe" train $'\r' # a line that ends in a backslash
says 2 "MNIST_DIST_DATA: 's.h5\?' has a carriage return" 1 env MNIST_DIST_DATA=$'s.h5\r' "$exe" train
says 1 "a .\[31mb.h5: No such file" 1 "$exe" show --data $'a\n\x1b[31mb.h5'

# Variables: known to any command is known.
summary=("$exe" summary --model mlp16)
says 0 "" 0 env MNIST_DIST_EPOCHS=3 MNIST_DIST_SPLIT=train MNIST_DIST_FAULT= MNIST_DIST_KERNELS= \
    MNIST_DIST_TOP=2 MNIST_DIST_MIN_EFFICIENCY=0.5 "${summary[@]}"
says 0 "MNIST_DIST_EPOCH in the environment is unknown.* MNIST_DIST_EPOCHS\?" 1 \
    env MNIST_DIST_EPOCH=3 "${summary[@]}"
says 0 "MNIST_DIST_BATCHSIZE .* did you mean MNIST_DIST_BATCH_SIZE\?" 2 \
    env MNIST_DIST_BATCHSIZE=3 MNIST_DIST_ZZZ=1 "${summary[@]}"
grep -q "MNIST_DIST_ZZZ in the environment is unknown and ignored; 'mnist_dist COMMAND --help'" err ||
    fail "$(cat err)"
says 0 "MNIST_DIST_KERNELS: 'opneblas' is not one of .*openblas.* did you mean openblas\?" 1 \
    env MNIST_DIST_KERNELS=opneblas "${summary[@]}"
says 0 "MNIST_DIST_EPOCH in" 1 "$MPIEXEC" -n 2 env MNIST_DIST_EPOCH=3 "${summary[@]}"

# Options without effect are warned of; output folders are created, with their parents.
synth=("$exe" synth --images 60 --test-images 10)
says 0 "" 0 "${synth[@]}" -o made/of/nothing/s.h5
train=("$exe" train --data made/of/nothing/s.h5 --model mlp16 --epochs 1)
says 0 "" 0 "${train[@]}" --checkpoint-dir runs/1/ck --metrics logs/1/m.jsonl
for file in runs/1/ck/ckpt-00000001.h5 logs/1/m.jsonl; do [ -s $file ] || fail "$(ls -R)"; done
says 0 "" 0 "$exe" show --data made/of/nothing/s.h5 --png pics/new/a.png
[ -s pics/new/a.png ] || fail "$(ls -R)"
says 0 "" 0 "$exe" doctor --data made/of/nothing/s.h5 --checkpoint-dir ever/so/deep
[ ! -e ever ] || fail "doctor left a folder"
train+=(--checkpoint-dir none)
says 0 "--step-epochs and --step-gamma do nothing without --schedule step" 1 "${train[@]}" --step-gamma 0.1
says 0 "--final-lr does nothing without --schedule cosine" 1 "${train[@]}" --final-lr 0.1
says 0 "--warmup-epochs 5 is more than --epochs 1" 1 "${train[@]}" --warmup-epochs 5
says 0 "--lr 0: no parameter will change" 1 "${train[@]}" --lr 0
says 0 "" 0 "${train[@]}" --textbook --exchange mpi --products openblas
says 0 "" 0 "${train[@]}" --textbook --exchange auto
grep -q 'exchange mpi, OpenBLAS' out || fail "$(cat out)"

# The line of the data has the channels; virtual data sets are called that, whatever their type.
if /usr/bin/python3 -c 'import h5py' 2>/dev/null; then
    /usr/bin/python3 - <<'PY'
import h5py, numpy as np
x, y = np.zeros((20, 8, 8, 3), np.uint8), np.arange(20, dtype=np.uint8) % 2
with h5py.File("c.h5", "w") as f:
    for s in "train", "test":
        f["x_" + s], f["y_" + s] = x, y
for name, kind in ("v8", "u1"), ("v32", "f4"):
    with h5py.File(name + ".h5", "w") as f:
        layout = h5py.VirtualLayout(x.shape, dtype=kind)
        layout[:] = h5py.VirtualSource("c.h5", "x_train", x.shape, dtype=kind)
        f.create_virtual_dataset("x_train", layout)
        f["y_train"], f["x_test"], f["y_test"] = y, x, y
PY
    says 0 "" 0 "$exe" train --data c.h5 --model flatten,dense:2 --epochs 1 --checkpoint-dir none
    grep -q '^Data: c.h5, 20 training and 20 test images of 8 x 8 x 3, 2 classes$' out || fail "$(cat out)"
    says 1 "v8.h5: /x_train is a virtual data set" 1 "$exe" show --data v8.h5
    says 1 "v32.h5: /x_train is a virtual data set" 1 "$exe" show --data v32.h5
else
    echo "skipped for want of h5py: channels and virtual data sets"
fi
echo "options: all passed"
