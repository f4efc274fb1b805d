#!/usr/bin/env bash
# accept through the binary: this machine passes on 1 and 3 ranks and by both kinds of products; a fault
# on purpose fails. No bound on speed: the machine may be busy.
set -euo pipefail
exe=$1
dir=$PWD/$(mktemp -d accept.XXXXXX)
trap 'rm -rf "$dir"' EXIT

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# accepts CODE PATTERN COMMAND...
accepts() {
    local want=$1 pattern=$2 code=0
    shift 2
    TMPDIR=$dir timeout 120 "$@" >"$dir/out" 2>&1 || code=$?
    [ "$code" = "$want" ] || fail "$*: exit $code, not $want: $(cat "$dir/out")"
    grep -q -e "$pattern" "$dir/out" || fail "$*: no '$pattern' in: $(cat "$dir/out")"
    [ -z "$(find "$dir" -name 'mnist_dist-accept*')" ] || fail "$*: left a file behind"
}

easy=(accept --min-efficiency 0)
accepts 0 "^PASSED  known answer" "$exe" "${easy[@]}"
accepts 0 "^PASSED  accuracy" "$exe" "${easy[@]}" --products openblas
accepts 0 "^PASSED  exchange shared .*0 of" "$MPIEXEC" -n 3 "$exe" "${easy[@]}"
accepts 0 " 0 failed" "$MPIEXEC" -n 3 "$exe" "${easy[@]}" --threads 2
MNIST_DIST_FAULT=flip:0:20 accepts 1 "^FAILED  known answer" "$exe" "${easy[@]}"
MNIST_DIST_FAULT=flip:1:20 accepts 1 "differ at step\|FAILED  known answer" \
    "$MPIEXEC" -n 2 "$exe" "${easy[@]}"
accepts 1 "set TMPDIR" env TMPDIR="$dir/none" "$exe" "${easy[@]}"
echo "accepted and refused as it should be"
