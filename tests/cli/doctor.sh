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
# A batch script that uses neither srun nor mpirun still trains, alone.
says 0 "weights_sha256" env SLURM_NTASKS=4 SLURM_JOB_ID=1 "$exe" "${train[@]}"

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
