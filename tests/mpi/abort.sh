#!/usr/bin/env bash
# mnd_comm_abort: one rank's abort ends all ranks, waiting ones too, with the code it gave.
# usage: abort.sh TEST_MPI_COMM
set -euo pipefail
export MND_TEST_ABORT=42
expect() {
    local code=0
    timeout 60 "$@" >/dev/null 2>&1 || code=$?
    [ "$code" = 42 ] || {
        echo "FAILED: $*: exit code $code, not 42" >&2
        exit 1
    }
}
expect "${MPIEXEC:-mpirun}" -np 3 "$1"
expect "${MPIEXEC:-mpirun}" -np 1 "$1"
# No launcher, no MPI.
expect "$1"
