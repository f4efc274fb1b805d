#!/usr/bin/env bash
# The default options give the same weights on 1, 2, 3, 4 and 8 ranks: --logical-ranks is 8. One epoch
# of them; with MND_LONG=1 all ten, on MNIST, whose weights_sha256 is the one that the README shows.
# So does every exchange of the fast path, on one node and on two, with and without --clip-norm and --ema.
set -euo pipefail
# shellcheck source=tests/support/cli.sh
. "$(dirname "${BASH_SOURCE[0]}")/../support/cli.sh"
data=$MND_SOURCE_DIR/data/mnist.h5

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

# By every exchange that --help names, but mpi.
"$exe" synth -o few.h5 --images 1010 --test-images 50 --seed 2 >out
# one NP CLIP EXCHANGE USED: leaves its weights_sha256 in sha; USED is what the run says that it used.
runs=0
one() {
    local ema=0.9
    [ "$2" != 0 ] || ema=0
    "$MPIEXEC" -n "$1" "$exe" train --ema $ema --data few.h5 --model mlp16 --epochs 1 --checkpoint-dir none \
        --progress never --clip-norm "$2" --exchange "$3" >out 2>&1 || fail "np $1 $3: $(cat out)"
    grep -qF " 8 logical ranks, exchange $4," out || fail "np $1 $3: not exchange $4: $(cat out)"
    grep '^weights_sha256 ' out >sha || fail "np $1 $3: no weights_sha256 in: $(cat out)"
    runs=$((runs + 1))
}
same() { diff "wanted.$1" sha >&2 || fail "--clip-norm $1, $2: other weights"; }
names=$("$exe" train --help | sed -n 's/^ *--exchange NAME *\(.*\) (auto)$/\1/p')
names=$(tr -s ', ' '\n' <<<"$names" | grep -vxE 'or|mpi')
[ "$(wc -l <<<"$names")" -ge 4 ] || fail "too few exchanges in --help: $names"
for clip in 0 0.3; do
    one 1 $clip auto local
    mv sha wanted.$clip
    for np in 2 3; do
        for name in $names; do
            case $name in
                auto | hierarchical) used=shared ;; # on one node
                *) used=$name ;;
            esac
            one $np $clip "$name" "$used"
            same $clip "exchange $name on $np ranks"
            [ "$name" != shared ] || continue
            [ "$used" = "$name" ] || used=hierarchical
            MND_TEST_NODES=0,1 one $np $clip "$name" "$used"
            same $clip "exchange $name on $np ranks of two nodes"
        done
    done
done
! diff -q wanted.0 wanted.0.3 >/dev/null || fail "--clip-norm 0.3 changes nothing"
[ "$runs" -ge 30 ] || fail "only $runs runs"
echo "default_bits: $runs small runs by every exchange, and all ranks of the defaults, $(cat wanted)"
