#!/usr/bin/env bash
# doctor through the binary: a sound launch, troubles that a test can make, and that train refuses the
# fatal ones.
set -euo pipefail
exe=$1
dir=$(mktemp -d doctor.XXXXXX)
trap 'rm -rf "$dir"' EXIT

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# says CODE PATTERN COMMAND...: exit code and a line of stdout or stderr
says() {
    local want=$1 pattern=$2 code=0
    shift 2
    timeout 60 "$@" >"$dir/out" 2>&1 || code=$?
    [ "$code" = "$want" ] || fail "$*: exit $code, not $want: $(cat "$dir/out")"
    grep -q -e "$pattern" "$dir/out" || fail "$*: no '$pattern' in: $(cat "$dir/out")"
}

"$exe" synth -o "$dir/data.h5" --images 300 --test-images 50 >"$dir/out"
ask=(--data "$dir/data.h5" --checkpoint-dir "$dir/ck")
says 0 "^ok *data .*data.h5 can be read" "$exe" doctor "${ask[@]}"
[ ! -e "$dir/ck" ] || fail "doctor left the checkpoint folder behind"
says 0 "^ok *binaries" "$MPIEXEC" -n 2 "$exe" doctor "${ask[@]}"
says 0 "^WARNING *threads" "$MPIEXEC" -n 2 "$exe" doctor "${ask[@]}" --threads 200
says 1 "^FATAL *data .*missing.h5" "$MPIEXEC" -n 2 "$exe" doctor "${ask[@]}" --data "$dir/missing.h5"
touch "$dir/file"
says 1 "^FATAL *checkpoints .*file" "$exe" doctor "${ask[@]}" --checkpoint-dir "$dir/file"
says 2 "is not a valid option" "$exe" doctor --no-such

# srun without PMI, and the launcher of another MPI: both leave worlds of one.
train=(train --data "$dir/data.h5" --model mlp16 --epochs 1 --checkpoint-dir none)
says 1 "srun started 4 tasks" env SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=0 "$exe" "${train[@]}"
says 1 "srun --mpi=pmix -n 4" env SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=0 "$exe" doctor "${ask[@]}"
# One process by hand, inside of a step's shell or with variables of an MPI left over: a warning at most.
says 0 "warning: Slurm gave this shell 4 tasks" env SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=0 SLURM_STEP_ID=0 \
    SLURM_PTY_PORT=40001 "$exe" "${train[@]}"
says 0 "warning: the environment has variables of an MPI launch of 4" env OMPI_COMM_WORLD_SIZE=4 \
    OMPI_COMM_WORLD_RANK=1 "$exe" "${train[@]}"
says 0 "^WARNING *launch .*variables of an MPI" env PMI_SIZE=4 PMI_RANK=0 "$exe" doctor "${ask[@]}"
says 2 "is not a valid option" env OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=1 "$exe" show --no-such

# A batch script that uses neither srun nor mpirun still trains, alone.
says 0 "weights_sha256" env SLURM_NTASKS=4 SLURM_JOB_ID=1 "$exe" "${train[@]}"

# A control group that is too small: said with figures before any memory is taken, not by the kernel's
# signal. The group is a folder that one command sees in place of the real ones.
mkdir "$dir/groups"
echo "cpu memory" >"$dir/groups/cgroup.controllers"
limit() { # limit MAX CURRENT CPUS
    echo "$1" >"$dir/groups/memory.max"
    echo "$2" >"$dir/groups/memory.current"
    echo "$3" >"$dir/groups/cpu.max"
}
# shellcheck disable=SC2016 # for the inner shell
limited=(unshare --mount --propagation private bash -c
    'mount --bind "$0" /sys/fs/cgroup && exec "$@"' "$dir/groups")
if [ "$(id -u)" = 0 ] && grep -q ^0:: /proc/self/cgroup && "${limited[@]}" true 2>/dev/null; then
    limit 10000000 9900000 "max 100000"
    says 1 "error: host .*: 1 process needs about .*control group .* allows.*--mem=" "${limited[@]}" "$exe" "${train[@]}"
    says 1 "^FATAL *memory .*(code 137)" "${limited[@]}" "$exe" doctor "${ask[@]}"
    limit 1000000 0 "max 100000" # the data fits, the activations probably do not
    says 0 "warning: host .*: 1 process needs about" "${limited[@]}" "$exe" "${train[@]}"
    limit max 0 "25000 100000"
    says 0 "^WARNING *threads .*they may use 0.25 (the limit of their control group)" \
        "${limited[@]}" "$exe" doctor "${ask[@]}"
    says 0 "warning: host .*they may use 0.25" "${limited[@]}" "$exe" "${train[@]}"
else
    echo "no mount namespace with control groups of version 2 here: their limits are left out"
fi

# Ranks that round differently, or run another binary, must not train together.
cat >"$dir/mixed" <<'SH'
#!/bin/sh
[ "${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-0}}" = 1 ] && export MNIST_DIST_KERNELS=openblas
exec "$@"
SH
chmod +x "$dir/mixed"
says 1 "the replicas would drift apart" "$MPIEXEC" -n 2 "$dir/mixed" "$exe" "${train[@]}"
cp "$exe" "$dir/other"
echo >>"$dir/other"
says 1 "runs another binary" "$MPIEXEC" -n 1 "$exe" "${train[@]}" : -n 1 "$dir/other" "${train[@]}"
echo "the doctor is right"
