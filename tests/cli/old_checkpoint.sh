#!/usr/bin/env bash
# A checkpoint of an earlier version (arithmetic fma-2) is read: evaluate and predict give the
# figures of that version, a resume warns that the arithmetic differs and goes on to the same figures, rounded.
set -euo pipefail
# shellcheck source=tests/support/cli.sh
. "$(dirname "${BASH_SOURCE[0]}")/../support/cli.sh"
old=$MND_SOURCE_DIR/tests/cli/files/checkpoint-fma-2.h5
says() { grep -qF -- "$1" out || fail "no '$1' in: $(cat out)"; }

# The data of the run that wrote it, and its options; the figures are what that version printed.
"$exe" synth -o s.h5 --images 500 --test-images 100 --seed 1 >out
run=(--data s.h5 --model "maxpool:4,flatten,dense:10" --lr 0.01 --batch-size 50 --checkpoint-dir none
    --progress never --resume "$old")

"$exe" evaluate "$old" --data s.h5 >out 2>&1 || fail "$(cat out)"
says 'Test images 100, loss 2.0098'
says 'accuracy 0.2700 (27 right)'
cp out alone
"$MPIEXEC" -n 2 "$exe" evaluate "$old" --data s.h5 >out 2>&1 || fail "on 2 ranks: $(cat out)"
diff alone out >&2 || fail "evaluate prints something else on 2 ranks"

# predict, one image after another: the same loss and the same number of right answers in the end.
for ((i = 0; i < 100; i++)); do
    "$exe" predict "$old" --data s.h5 --index $i >out 2>&1 || fail "predict $i: $(cat out)"
    awk '/^ *[0-9]  [01]\.[0-9]+/ { p[$1] = $2; if ($2 > p[best]) best = $1 }
        /^answer: / { if ($2 != best) exit 1 }
        /^actual: / { label = substr($2, 1, 1); print -log(p[label]), $NF; n++ }
        END { exit n != 1 }' out >>predicted || fail "predict $i: $(cat out)"
done
awk '{ loss += $1; right += $2 == "right" }
    END { printf "%d %.4f %d\n", NR, loss / NR, right }' predicted >figures
[ "$(cat figures)" = "100 2.0099 27" ] || fail "predict: not 100 images, loss 2.0099, 27 right: $(cat figures)"

for np in 1 2; do
    "$MPIEXEC" -n $np "$exe" train "${run[@]}" --epochs 3 >out 2>&1 || fail "np $np: $(cat out)"
    grep -v '^mnist_dist: warning:' out >rest || true
    [ "$(grep -c '^mnist_dist: warning:.*fma-2' out)" = 1 ] || fail "np $np: no warning: $(cat out)"
    says '2 logical ranks'
    grep -q '^Epoch 3/3 .* loss 1.8475  accuracy 0.4140  val_loss 1.8678  val_accuracy 0.3500 ' rest ||
        fail "np $np: other figures: $(cat rest)"
done
echo "old_checkpoint: all passed"
