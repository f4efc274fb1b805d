#!/usr/bin/env bash
# The default options give the same weights on 1, 2, 3, 4 and 8 ranks: --logical-ranks is 8. One epoch
# of them; with MND_LONG=1 all ten, on MNIST, whose weights_sha256 is the one that the README shows.
set -euo pipefail
exe=$(realpath "$1")
data=$MND_SOURCE_DIR/data/mnist.h5
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

short=(--epochs 1)
if [ "${MND_LONG:-}" = 1 ] && [ -f "$data" ]; then
    short=()
    grep -om 1 'weights_sha256 [0-9a-f]*' "$MND_SOURCE_DIR/README.md" >wanted
elif [ ! -f "$data" ]; then
    data=drawn.h5
    "$exe" synth -o "$data" --images 6000 --test-images 1000 --seed 1 >out
fi

for np in 1 2 3 4 8; do
    "$MPIEXEC" -n $np "$exe" train "${short[@]}" --data "$data" --checkpoint-dir none \
        --progress never >out 2>&1 || fail "np $np: $(cat out)"
    grep '^weights_sha256 ' out >sha || fail "np $np: no weights_sha256 in: $(cat out)"
    grep -qF ' 8 logical ranks' out || fail "np $np: not 8 logical ranks: $(cat out)"
    [ -f wanted ] || cp sha wanted
    diff wanted sha >&2 || fail "np $np: other weights"
done
# More ranks than that: as many logical ranks.
"$MPIEXEC" -n 9 "$exe" train --data "$data" --model mlp16 --epochs 1 --checkpoint-dir none \
    --batch-size 1000 --progress never >out 2>&1 || fail "np 9: $(cat out)"
grep -qF ' 9 logical ranks' out || fail "9 ranks: not as many logical ranks: $(cat out)"
echo "default_bits: all passed, $(cat wanted)"
