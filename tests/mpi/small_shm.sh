#!/usr/bin/env bash
# A /dev/shm that is too small for the shared exchange: refused or gone around, never a SIGBUS.
# usage: small_shm.sh TEST_MPI_EXCHANGE
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/hosts.sh
. "$here/../support/hosts.sh"
isolate "$@"

# Enough for the MPI library's own segments, not for 16 M parameters.
mount -t tmpfs -o size=64m tmpfs /dev/shm
MND_TEST_SMALL_SHM=1 "${MPIEXEC:-mpirun}" -np 2 "$1"
