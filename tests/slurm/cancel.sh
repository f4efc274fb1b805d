#!/usr/bin/env bash
# usage: cancel.sh PROGRAM — a cancelled job leaves a checkpoint, stays cancelled, and can be gone on with.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/hosts.sh
. "$here/../support/hosts.sh"
# shellcheck source=tests/slurm/slurm.sh
. "$here/slurm.sh"
isolate "$@"
prepare "$1" 100 4
reference
held stop # until Slurm sends CONT, which it does before TERM

started=()
for launch in srun mpirun; do
    started+=("$(LAUNCH=$launch sbatch --parsable --nodes=2 --ntasks-per-node=2 "$jobs/train.sbatch" \
        "${arguments[@]}")")
done
for job in "${started[@]}"; do
    until_stopped "$job"
    let_go "$job"
    scancel "$job"
done
export MNIST_DIST=$program
again=()
for job in "${started[@]}"; do
    ends_as "$job" CANCELLED 30
    grep -q '"event":"end"' "run-$job/metrics.jsonl" && fail "job $job was over before it was cancelled"
    again+=("$(RUN=run-$job sbatch --parsable --nodes=2 --ntasks-per-node=1 "$jobs/train.sbatch" \
        "${arguments[@]}")")
done
for i in 0 1; do
    ends_as "${again[i]}" COMPLETED 240
    same_as_reference "${again[i]}" "run-${started[i]}"
    in_state "${started[i]}" CANCELLED || fail "the cancelled job ${started[i]} came back"
    [ "$(job_restarts "${started[i]}")" -eq "$(<"let-go-${started[i]}")" ] ||
        fail "the cancelled job ${started[i]} came back"
    passed "job ${started[i]} cancelled, job ${again[i]} went on with half the ranks to the same bits"
done
