#!/usr/bin/env bash
# Installs what is missing of the Debian packages that mnist_dist needs, as root or through sudo.
# Does nothing, in a few milliseconds, when all are there.
#
# usage: scripts/setup.sh [run|test|npm]     run (default): to build and to train; test: to test as
#        well; npm: for the last of the sources of MNIST, when no other answers
set -euo pipefail

# The pthread variant of OpenBLAS is named outright: the OpenMP variant starts threads of its own kind.
run_packages=(
    gcc libc6-dev cmake ninja-build pkg-config
    openmpi-bin libopenmpi-dev
    libopenblas-dev libopenblas0-pthread libopenblas-pthread-dev
    libhdf5-dev zlib1g-dev libpng-dev libjpeg-dev libexif-dev libssl-dev libcjson-dev libzip-dev
    liblzf-dev libcmocka-dev
    ca-certificates curl
)
test_packages=(
    clang clang-format clang-tidy libclang-rt-dev valgrind shellcheck
    mpich libmpich-dev
    hdf5-tools python3 python3-numpy python3-h5py python3-torch
    slurmctld slurmd slurm-client munge iproute2 procps git
)

what=${1:-run}
case $what in
run) packages=("${run_packages[@]}") ;;
test) packages=("${run_packages[@]}" "${test_packages[@]}") ;;
npm) packages=(npm) ;;
*)
    echo "usage: scripts/setup.sh [run|test|npm]" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "set-up: this is not a Debian system, so nothing is installed. Needed are what Debian calls:" \
        "${packages[*]}" >&2
    exit 0
fi

# dpkg-query fails when it knows nothing of a package at all; those are missing as well.
present=" $(dpkg-query -W -f='${db:Status-Status}=${Package} ' "${packages[@]}" 2>/dev/null || true) "
missing=()
for package in "${packages[@]}"; do
    [[ $present == *" installed=$package "* ]] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "set-up: packages are missing, and neither root nor sudo is at hand; ask for" \
            "'apt-get install --no-install-recommends ${missing[*]}'" >&2
        exit 1
    fi
    as_root=(sudo)
    # Without a terminal nobody could answer the question for a password.
    [ -t 0 ] || as_root=(sudo -n)
fi

echo "set-up: installing ${#missing[@]} Debian packages${as_root[0]:+ through sudo}: ${missing[*]}" >&2
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q \
        -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 "$@" </dev/null >"$log" 2>&1
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
fail() {
    tail -n 20 "$log" >&2
    echo "set-up: 'apt-get $1' failed; the lines above say why" >&2
    exit 1
}
apt update || fail update
apt install -y --no-install-recommends "${missing[@]}" || fail install
echo "set-up: installed" >&2
