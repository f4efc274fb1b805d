#!/usr/bin/env bash
# usage: sweep.sh PROGRAM — array_sweep.sbatch collects its table, and scaling.sbatch its own.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/hosts.sh
. "$here/../support/hosts.sh"
# shellcheck source=tests/slurm/slurm.sh
. "$here/slurm.sh"
isolate "$@"
prepare "$1" 1 4

# One trial too many for the list, and one that cannot work.
sweep=$(ARCHITECTURES="16-16 flatten,dense:8,act,dense:10 nonsense:3,act" ACTIVATIONS="relu tanh" \
    EPOCHS="1 2" sbatch --parsable --array=0-12 "$jobs/array_sweep.sbatch" --batch-size 64)
table=sweep-$sweep/table.md
whole() { [ -e "$table" ] && [ "$(wc -l <"$table")" = 14 ]; }
wait_for 240 whole || fail "the sweep does not end"
cat "$table"
expected=$(for a in 784-16-16-10 flatten,dense:8,act,dense:10 nonsense:3,act; do
    for f in relu tanh; do for e in 1 2; do echo "| $a | $f | $e |"; done; done
done)
diff <(echo "$expected") <(tail -n +3 "$table" | cut -d'|' -f1-4 | sed 's/$/|/') ||
    fail "the table does not hold the trials in order"
[ "$(grep -c '| failed |$' "$table")" -eq 4 ] || fail "the trials that cannot work are not called failed"
[ "$(grep -cE '\| [0-9]+\.[0-9]{2} % \|$' "$table")" -eq 8 ] || fail "trials have no accuracy"

# A row says what the same run says by hand.
launch_ranks 2 "$program" train --data "$DATA" --model flatten,dense:8,tanh,dense:10 --epochs 2 \
    --seed 1 --batch-size 64 --progress never --checkpoint-dir hand --metrics hand.jsonl >hand.log 2>&1
accuracy=$(sed -n 's/.*"test_accuracy":\([-+0-9.e]*\).*/\1/p' hand.jsonl | tail -n 1)
row=$(printf '| flatten,dense:8,act,dense:10 | tanh | 2 | %.2f %% |' \
    "$(awk -v a="$accuracy" 'BEGIN { print 100 * a }')")
grep -qxF "$row" "$table" || fail "by hand the trial gives: $row"
passed "sweep of 12 trials"

for launch in srun mpirun; do
    # The program's bench has tests of its own; here it takes a minute or more.
    bench=no
    [ "${MND_LONG:-}" != 1 ] || bench=yes
    job=$(BENCH=$bench LAUNCH=$launch MODEL=mlp16 BATCH=64 sbatch --parsable --nodes=3 --ntasks-per-node=2 "$jobs/scaling.sbatch")
    ends_as "$job" COMPLETED 600
    cat "scaling-$job/table.txt"
    rows=$(awk '{ print $1, $2, $3, $4 }' "scaling-$job/table.txt")
    diff - <(echo "$rows") <<'EOF' || fail "not the rows that were asked for"
scaling nodes ranks batch
strong 1 2 64
strong 2 4 64
strong 3 6 64
weak 1 2 64
weak 2 4 128
weak 3 6 192
EOF
    awk 'NR > 1 && $5 <= 0 { bad = 1 } END { exit bad }' "scaling-$job/table.txt" ||
        fail "a row without a speed"
    [ "$bench" = no ] || [ -s "scaling-$job/bench.json" ] || fail "no figures of bench"
    passed "scaling by $launch"
done
