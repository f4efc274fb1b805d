#!/usr/bin/env bash
# usage: preempt.sh PROGRAM — a job of higher priority takes the nodes: Slurm sends TERM, the run writes
# a checkpoint, Slurm puts the job back, it goes on when the nodes are free again, the same bits.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/hosts.sh
. "$here/../support/hosts.sh"
# shellcheck source=tests/slurm/slurm.sh
. "$here/slurm.sh"
isolate "$@"
prepare "$1" 100 2
reference
held stop # until Slurm sends CONT, which it does before TERM

job=$(sbatch --parsable --partition=low --nodes=2 --ntasks-per-node=2 "$jobs/train.sbatch" "${arguments[@]}")
until_stopped "$job"
let_go "$job"
urgent=$(sbatch --parsable --partition=all --nodes=2 --exclusive --wrap 'sleep 2')
ends_as "$urgent" COMPLETED 120
ends_as "$job" COMPLETED 240
came_back "$job" || fail "job $job was not preempted"
grep -q '"event":"resume"' "run-$job/metrics.jsonl" || fail "job $job did not go on, it began again"
grep -q '^== stopped with code 75' mnist_dist-"$job".log || fail "job $job did not stop in order"
same_as_reference "$job"
passed "job $job: preempted by job $urgent, $(job_restarts "$job") restarts, the same bits"
