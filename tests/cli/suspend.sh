#!/usr/bin/env bash
# A job that is suspended for longer than --stall-timeout and continued goes on to the same bits, whether its
# ranks wake up at once or seconds apart; one that stays stopped while the others run is named.
set -euo pipefail
exe=$1
dir=$(mktemp -d suspend.XXXXXX)
ranks=()
# shellcheck disable=SC2317 # called by the trap
clean_up() {
    [ ${#ranks[@]} -eq 0 ] || kill -KILL "${ranks[@]}" 2>/dev/null || true
    rm -rf "$dir"
}
trap clean_up EXIT

fail() {
    echo "FAILED: $*: $(cat "$dir/err")" >&2
    exit 1
}

"$exe" synth -o "$dir/data.h5" --images 2000 --test-images 50 --seed 3 >"$dir/err"
run=(--data "$dir/data.h5" --model mlp16 --batch-size 20 --logical-ranks 3 --progress never
    --checkpoint-dir none --epochs 100)
"$exe" train "${run[@]}" >"$dir/out" 2>"$dir/err" || fail "alone"
grep '^weights_sha256' "$dir/out" >"$dir/wanted"

# begin EXCHANGE: a run on three ranks, in its second epoch; their numbers in `ranks`.
begin() {
    rm -f "$dir/m.jsonl"
    "$MPIEXEC" -n 3 "$exe" train "${run[@]}" --exchange "$1" --stall-timeout 1 \
        --metrics "$dir/m.jsonl" >"$dir/out" 2>"$dir/err" </dev/null &
    job=$!
    until grep -qs '"epoch":2' "$dir/m.jsonl"; do
        kill -0 "$job" 2>/dev/null || fail "no second epoch"
        sleep 0.02
    done
    mapfile -t ranks < <(pgrep -f "^$exe train .*$dir/m.jsonl")
    [ ${#ranks[@]} -eq 3 ] || fail "not 3 processes: ${ranks[*]}"
}

begin shared
kill -STOP "${ranks[@]}"
sleep 1.6
kill -CONT "${ranks[@]}"
sleep 0.2
kill -STOP "${ranks[@]}"
sleep 1.6
# One after the other: the first waits for the last for longer than the limit.
for i in 2 1 0; do
    kill -CONT "${ranks[i]}" || fail "ended while it was suspended"
    sleep 0.6
done
wait "$job" || fail "exit $?"
ranks=()
! grep -q watchdog "$dir/err" || fail "a message of the watchdog"
grep '^weights_sha256' "$dir/out" | diff - "$dir/wanted" || fail "other weights"

begin tree
kill -STOP "${ranks[@]}"
sleep 1.5
kill -CONT "${ranks[0]}" "${ranks[2]}"
code=0
wait "$job" || code=$?
stopped=${ranks[1]}
ranks=()
[ "$code" -ne 0 ] || fail "the run ended without one of its ranks"
grep -q "pid $stopped, gives no sign of life" "$dir/err" || fail "the stopped rank is not named"
! grep -q -- ' -[0-9.]* s' "$dir/err" || fail "negative seconds"
echo "suspended runs go on"
