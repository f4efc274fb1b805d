#!/usr/bin/env bash
# usage: run.sh FUZZER SEEDS — fuzzes for MND_FUZZ_SECONDS (10) from the seeds, in a fresh folder.
set -euo pipefail
fuzzer=$1 seeds=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/found"
folders=("$work/found")
[ -d "$seeds" ] && folders+=("$seeds")
cd "$work"
# An input that fails is printed in base 64, for the folder goes away.
"$fuzzer" -max_total_time="${MND_FUZZ_SECONDS:-10}" -timeout=10 -rss_limit_mb=1024 \
    -malloc_limit_mb=256 -print_final_stats=1 "${folders[@]}" || {
    status=$?
    for file in crash-* timeout-* oom-* leak-*; do
        [ -f "$file" ] || continue
        echo "$file (base 64):"
        base64 "$file"
    done
    exit "$status"
}
