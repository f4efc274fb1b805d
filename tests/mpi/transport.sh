#!/usr/bin/env bash
# usage: transport.sh PROGRAM DENY_COPIES - where the kernel refuses that a process reads another one's memory,
# the doctor names the setting that keeps Open MPI quiet; with it, and where it is allowed, there is no warning.
set -euo pipefail
exe=$1 deny=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() {
    echo "FAILED: $*" >&2
    exit 1
}
if "$deny" true; then :; elif [ $? = 77 ]; then
    echo "no seccomp filters here"
    exit 77
fi
"$exe" synth -o "$dir/s.h5" --images 100 --test-images 20 >/dev/null
doctor=("$exe" doctor --data "$dir/s.h5" --checkpoint-dir "$dir/c")
# says PATTERN COMMAND...
says() {
    local pattern=$1
    shift
    "$MPIEXEC" -n 2 "$@" "${doctor[@]}" >"$dir/out" 2>"$dir/err" </dev/null || fail "$(cat "$dir/out" "$dir/err")"
    grep -q -e "$pattern" "$dir/out" || fail "no '$pattern' in: $(cat "$dir/out" "$dir/err")"
}
"$MPIEXEC" -n 1 "${doctor[@]}" >"$dir/out" </dev/null || fail "alone: $(cat "$dir/out")"
if ! ompi_info >/dev/null 2>&1 || ldd "$exe" | grep -q libmpich; then
    says "^ok *transport" "$deny" # other libraries test it themselves
    exit 0
fi
says "^WARNING *transport .*the kernel refuses copies between processes" "$deny"
grep -q "mend: export OMPI_MCA_btl_vader_single_copy_mechanism=none" "$dir/out" || fail "$(cat "$dir/out")"
OMPI_MCA_btl_vader_single_copy_mechanism=none says "^ok *transport" "$deny"
# Here the kernel may refuse by itself.
says "transport" env
# What the setting is for: long messages, and no line about them.
OMPI_MCA_btl_vader_single_copy_mechanism=none "$MPIEXEC" -n 2 "$deny" "$exe" train --data "$dir/s.h5" \
    --model mlp512 --epochs 1 --exchange mpi --checkpoint-dir none >"$dir/out" 2>"$dir/err" </dev/null ||
    fail "$(cat "$dir/err")"
! grep -q "Read -1" "$dir/out" "$dir/err" || fail "the setting does not help: $(cat "$dir/err")"
echo "the doctor knows what the kernel refuses"
