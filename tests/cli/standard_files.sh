#!/usr/bin/env bash
# Standard input, output and error: closed at the start they never become a data file's number, and the exit
# code says that results were lost; metrics that go to standard output are added to what is printed there.
set -euo pipefail
exe=$1
dir=$(mktemp -d standard_files.XXXXXX)
trap 'rm -rf "$dir"' EXIT

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

"$exe" synth -o "$dir/s.h5" --images 500 --test-images 50 --seed 3 >"$dir/out"
run=(train --data "$dir/s.h5" --model mlp16 --batch-size 50 --epochs 2 --progress never)
"$exe" "${run[@]}" --checkpoint-dir "$dir/open" --metrics "$dir/open.jsonl" >"$dir/out" 2>&1
grep '^weights_sha256' "$dir/out" >"$dir/wanted"

# whole NAME: a run's checkpoints and metrics are what the first run's are.
whole() {
    diff <(sed 's/"seconds".*//; s/"start".*//' "$dir/open.jsonl" | grep epoch) \
        <(sed 's/"seconds".*//; s/"start".*//' "$dir/$1.jsonl" | grep epoch) || fail "$1: metrics"
    ! grep -av '^{.*}$' "$dir/$1.jsonl" || fail "$1: lines in the metrics that are none"
    "$exe" evaluate "$dir/$1/latest" --data "$dir/s.h5" >"$dir/out" 2>&1 ||
        fail "$1: $(cat "$dir/out")"
}

code=0
"$exe" "${run[@]}" --checkpoint-dir "$dir/no1" --metrics "$dir/no1.jsonl" >&- 2>"$dir/err" || code=$?
[ "$code" = 1 ] || fail "exit $code with standard output closed"
grep -q 'standard output is closed.*>/dev/null' "$dir/err" || fail "$(cat "$dir/err")"
whole no1
"$exe" "${run[@]}" --checkpoint-dir "$dir/no2" --metrics "$dir/no2.jsonl" >"$dir/out" 2>&- || fail "stderr closed"
whole no2
code=0
"$exe" "${run[@]}" --checkpoint-dir "$dir/none" --metrics "$dir/none.jsonl" <&- >&- 2>&- || code=$?
[ "$code" = 1 ] || fail "exit $code with all of them closed"
whole none
"$exe" synth -o "$dir/s2.h5" --images 500 --test-images 50 --seed 3 <&- >&- 2>&- && fail "exit 0"
cmp "$dir/s.h5" "$dir/s2.h5"

# Metrics to standard output, which is a file: nothing is overwritten, truncated or replaced.
for name in /dev/stdout "$dir/log"; do
    echo "# of an earlier run" >"$dir/log"
    "$exe" "${run[@]}" --checkpoint-dir "$dir/m" --metrics "$name" >>"$dir/log" 2>&1
    "$exe" "${run[@]}" --epochs 3 --checkpoint-dir "$dir/m" --metrics "$name" --resume auto \
        >>"$dir/log" 2>&1
    [ "$(head -n 1 "$dir/log")" = "# of an earlier run" ] || fail "$name: $(cat "$dir/log")"
    grep '^weights_sha256' "$dir/log" | head -n 1 | diff - "$dir/wanted" || fail "$name: weights"
    [ "$(grep -c '^{"event":"start".*}$' "$dir/log")" = 2 ] || fail "$name: $(cat "$dir/log")"
    [ "$(grep -c '^{"event":"end".*}$' "$dir/log")" = 2 ] || fail "$name: $(cat "$dir/log")"
    grep -q '^{"event":"epoch","epoch":3,.*}$' "$dir/log" || fail "$name: $(cat "$dir/log")"
    [ "$(grep -c '^Epoch ' "$dir/log")" = 3 ] || fail "$name: $(cat "$dir/log")"
    # Not even when the run goes back to an earlier point.
    cp "$dir/log" "$dir/before"
    "$exe" "${run[@]}" --checkpoint-dir "$dir/m" --metrics "$name" --resume "$dir/m/ckpt-00000010.h5" \
        >>"$dir/log" 2>&1
    cmp -n "$(stat -c %s "$dir/before")" "$dir/before" "$dir/log" || fail "$name: lines are lost"
    grep '^weights_sha256' "$dir/log" | tail -n 1 | diff - "$dir/wanted" || fail "$name: weights"
    rm -r "$dir/m"
done
"$exe" "${run[@]}" --checkpoint-dir none --metrics /dev/stdout >"$dir/log"
[ "$(grep -c '^{.*}$' "$dir/log")" -ge 4 ] || fail "$(cat "$dir/log")"
grep '^weights_sha256' "$dir/log" | diff - "$dir/wanted" || fail "weights"
"$exe" "${run[@]}" --checkpoint-dir none --metrics /dev/stdout | cat >"$dir/log2"
diff <(grep -c '^{' "$dir/log") <(grep -c '^{' "$dir/log2") || fail "by a pipe"
echo "standard files are never data files"
