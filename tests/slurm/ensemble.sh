#!/usr/bin/env bash
# usage: ensemble.sh PROGRAM — ensemble.sbatch: a signal while members train, checkpoint, requeue, resume;
# each member has the bits of an ensemble that nobody disturbed, and the result is evaluated.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/hosts.sh
. "$here/../support/hosts.sh"
# shellcheck source=tests/slurm/slurm.sh
. "$here/slurm.sh"
isolate "$@"
prepare "$1" 40 2
"$program" train --members 3 --data "$DATA" "${arguments[@]}" --progress never --checkpoint-dir reference \
    --metrics reference/metrics.jsonl >reference.log 2>&1 || fail "the undisturbed ensemble: $(cat reference.log)"
held stop

job=$(MEMBERS=3 RUN=run-slurm sbatch --parsable --nodes=2 --ntasks-per-node=2 "$jobs/ensemble.sbatch" "${arguments[@]}")
wait_for 180 has_stopped slurm || fail "job $job does not come to its 400th step"
let_go "$job"
scancel --batch --signal=USR1 "$job"
wait_for 60 signal_waits slurm || fail "no signal reaches the ranks of job $job"
kill -CONT "$(stopped_rank slurm)"
ends_as "$job" COMPLETED 180
came_back "$job" || fail "job $job was not put back"
grep -q '^== stopped with code 75' ensemble-"$job".log || fail "job $job did not stop in order"
for k in 1 2 3; do
    for run in reference run-slurm; do sed -n "s/^{\"member\":$k,/{/p" $run/metrics.jsonl >$run.$k; done
    same_facts reference.$k run-slurm.$k "$epochs" || fail "member $k differs from one that was never disturbed"
done
grep -q '"event":"resume"' run-slurm.1 || fail "job $job did not go on, it began again"
grep -q '"checkpoints":\[.*"misread_by_all":[0-9]*,"misread":\[' run-slurm/ensemble.json || fail "no result"
passed "job $job: $(job_restarts "$job") restarts, the same bits of each member"
