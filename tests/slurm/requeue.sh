#!/usr/bin/env bash
# usage: requeue.sh PROGRAM — the time limit comes near: signal, checkpoint, requeue, resume, the same
# bits; by srun and by mpirun. Slurm looks at its limits twice a minute at best, so the signal comes from
# scancel, and from the limit itself only in the long form (MND_LONG=1).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/hosts.sh
. "$here/../support/hosts.sh"
# shellcheck source=tests/slurm/slurm.sh
. "$here/slurm.sh"
isolate "$@"
options=() limit=60
if [ "${MND_LONG:-}" = 1 ]; then options=(--time=2 --signal=B:USR1@60) limit=300; fi
prepare "$1" 100 4
reference
held stop

started=()
for launch in srun mpirun; do
    started+=("$(LAUNCH=$launch sbatch --parsable --nodes=2 --ntasks-per-node=2 "${options[@]}" \
        "$jobs/train.sbatch" "${arguments[@]}")")
done
for job in "${started[@]}"; do
    until_stopped "$job"
    let_go "$job"
    [ ${#options[@]} -gt 0 ] || scancel --batch --signal=USR1 "$job"
    wait_for "$limit" signal_waits "$job" || fail "no signal reaches the ranks of job $job"
    kill -CONT "$(stopped_rank "$job")" || true # Slurm itself may have been faster
done
for job in "${started[@]}"; do
    ends_as "$job" COMPLETED 240
    came_back "$job" || fail "job $job was not put back"
    grep -q '"event":"resume"' "run-$job/metrics.jsonl" || fail "job $job did not go on, it began again"
    grep -q '^== stopped with code 75' mnist_dist-"$job".log || fail "job $job did not stop in order"
    same_as_reference "$job"
    passed "job $job: $(job_restarts "$job") restarts, the same bits"
done
