#!/usr/bin/env bash
# usage: node_down.sh PROGRAM — two jobs each lose a node: of one the slurmd is killed, of the other the
# whole node goes dark. Slurm puts both back, and they end on other nodes with the same bits.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/hosts.sh
. "$here/../support/hosts.sh"
# shellcheck source=tests/slurm/slurm.sh
. "$here/slurm.sh"
isolate "$@"
prepare "$1" 120 6
reference
# In the first start after the loss a rank crashes before the others have heard of it, as MPI_Init may.
# shellcheck disable=SC2016 # expanded there
held hang '[ "$SLURM_PROCID" != 3 ] || [ ! -e "let-go-$SLURM_JOB_ID" ] ||
    ! mkdir "crashed-$SLURM_JOB_ID" 2>/dev/null || kill -SEGV $$'

started=()
for _ in 1 2; do
    started+=("$(sbatch --parsable --nodes=2 --ntasks-per-node=2 "$jobs/train.sbatch" "${arguments[@]}")")
done
lost=()
for job in "${started[@]}"; do
    wait_for 180 has_checkpoint "run-$job" || fail "job $job writes no checkpoint"
    let_go "$job"
    # The second node: the first runs the batch script and rank 0.
    lost+=("$(scontrol show hostnames "$(squeue -h -j "$job" -o %N)" | tail -n 1)")
done
kill -KILL "$(<"$work/slurm/slurmd.${lost[0]}.pid")"
host_cut "${lost[1]}"
host_signal "${lost[1]}" KILL

for job in "${started[@]}"; do
    ends_as "$job" COMPLETED 240
    came_back "$job" || fail "job $job was over before its node was gone"
    same_as_reference "$job"
    passed "job $job: $(grep -c '^== job' mnist_dist-"$job".log) starts, the same bits"
done
