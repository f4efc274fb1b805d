#!/usr/bin/env bash
# A checkpoint that the program wrote, opened by h5py and run by NumPy, gives the loss and accuracy
# that `mnist_dist evaluate` gives. On images the program draws; the long form also on MNIST.
set -euo pipefail
exe=$1
forward=$MND_SOURCE_DIR/tests/golden/numpy_forward.py
python=/usr/bin/python3
[ -x "$python" ] || python=python3
if ! "$python" -c 'import h5py, numpy' 2>/dev/null; then
    echo "skipped: no h5py or NumPy (Debian: apt-get install python3-h5py python3-numpy)"
    exit 77
fi
dir=$(mktemp -d numpy_forward.XXXXXX)
trap 'rm -rf "$dir"' EXIT

# same DATA MODEL OPTION...: trains, and compares both sides' figures.
same() {
    local data=$1 model=$2 ours theirs
    shift 2
    rm -rf "$dir/ckpt"
    "$exe" train --data "$data" --model "$model" --checkpoint-dir "$dir/ckpt" --epochs 1 \
        --progress never "$@" >"$dir/out" 2>&1 || { cat "$dir/out" >&2; return 1; }
    ours=$("$exe" evaluate "$dir/ckpt/latest" --data "$data" | grep '^Test images')
    theirs=$("$python" "$forward" "$dir/ckpt/latest" --data "$data")
    printf '%-12s mnist_dist: %s\n%-12s NumPy:      %s\n' "${model:0:12}" "${ours#Test }" "" "$theirs"
    # NumPy computes in float64: an image whose two best classes differ by a rounding error may
    # fall to the other side.
    printf '%s\n%s\n' "$ours" "$theirs" | awk '
        { gsub(/[(),]/, " ")
          for (i = 1; i < NF; i++) if ($i == "loss") loss[NR] = $(i + 1)
          right[NR] = $(NF - 1) }
        END { wrong = loss[1] - loss[2]; if (wrong < 0) wrong = -wrong
              apart = right[1] - right[2]; if (apart < 0) apart = -apart
              exit !(NR == 2 && loss[1] > 0 && wrong <= 2e-6 + 1e-5 * loss[1] && apart <= 1) }' || {
        echo "FAILED: $model: the two differ" >&2
        exit 1
    }
}

"$exe" synth -o "$dir/data.h5" --images 3000 --test-images 600 --seed 3 >/dev/null
same "$dir/data.h5" mlp16 --lr 0.01 --optimizer rmsprop
same "$dir/data.h5" mlp512
same "$dir/data.h5" cnn
same "$dir/data.h5" conv:4:3x5:s2:same,tanh,avgpool:3:s2,conv:6:2:same,relu,dropout:0.1,maxpool:2:s1,flatten,dense:20,sigmoid,dense:10 \
    --lr 0.01
same "$dir/data.h5" conv:6:3,leakyrelu,maxpool:3:s2:same,conv:8:3,leakyrelu:0.1,avgpool:2:same,globalavgpool,dense:10 \
    --lr 0.01
same "$dir/data.h5" conv:4:3,maxpool:2,lstm:20,dense:10 --lr 0.01
same "$dir/data.h5" 'conv:4:3,batchnorm,relu,residual(conv:4:3:same,batchnorm:0.8:sync,residual(relu)),maxpool:2,flatten,dense:20,batchnorm,relu,dense:10' \
    --lr 0.01
if [ "${MND_LONG:-0}" = 1 ] && [ -f "$MND_SOURCE_DIR/data/mnist.h5" ]; then
    for model in mlp16 mlp512 cnn; do same "$MND_SOURCE_DIR/data/mnist.h5" $model; done
fi
echo "numpy_forward: all passed"
