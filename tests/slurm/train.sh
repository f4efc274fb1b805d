#!/usr/bin/env bash
# usage: train.sh PROGRAM — train.sbatch on 8 ranks over four nodes, by srun and by mpirun.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/hosts.sh
. "$here/../support/hosts.sh"
# shellcheck source=tests/slurm/slurm.sh
. "$here/slurm.sh"
isolate "$@"
prepare "$1" 5 4
reference

for launch in srun mpirun; do
    job=$(LAUNCH=$launch sbatch --parsable --nodes=4 --ntasks-per-node=2 "$jobs/train.sbatch" "${arguments[@]}")
    ends_as "$job" COMPLETED 180
    same_as_reference "$job"
    grep -q '"event":"start".*"ranks":8[,}]' "run-$job/metrics.jsonl" || fail "not 8 ranks"
    passed "$launch, 8 ranks on 4 nodes"
done

# A wrong option: refused once, and not put back.
job=$(sbatch --parsable --nodes=1 --ntasks-per-node=2 "$jobs/train.sbatch" --no-such-option)
ends_as "$job" FAILED 30
[ "$(job_restarts "$job")" -eq 0 ] || fail "a wrong option was tried again"
passed "a wrong option is not tried again"

# A shell that srun opened for two tasks: one process by hand trains alone, with a warning; srun from there
# starts two that join.
cat >shell <<END
#!/bin/sh
[ "\$SLURM_PROCID" = 0 ] || exit 0 # as a bash without a terminal does
"$program" train --data "$DATA" ${arguments[*]} --epochs 1 --progress never --checkpoint-dir none
srun --mpi=$MPI_TYPE --overlap --ntasks=2 "$program" train --data "$DATA" ${arguments[*]} --epochs 1 \\
    --progress never --checkpoint-dir none
exit 0
END
chmod +x shell
timeout 90 script -qec "srun --mpi=$MPI_TYPE --nodes=1 --ntasks=2 --pty ./shell" /dev/null >shell.log </dev/null ||
    fail "a shell of srun: $(cat shell.log)"
grep -aq 'warning: Slurm gave this shell 2 tasks' shell.log || fail "no warning in a shell: $(cat shell.log)"
[ "$(grep -ao '^Run: [0-9]* process' shell.log | tr '\n' ' ')" = "Run: 1 process Run: 2 process " ] ||
    fail "a shell of srun: $(cat shell.log)"
passed "one process by hand in a shell of srun, and srun from there"
