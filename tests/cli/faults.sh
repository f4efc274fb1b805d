#!/usr/bin/env bash
# Faults on purpose: a rank that hangs, is stopped or killed, a flipped bit, a NaN, signals. Each is
# noticed and named, ends the job with a non-zero code, and leaves the last good checkpoint.
set -euo pipefail
exe=$1
dir=$(mktemp -d faults.XXXXXX)
trap 'rm -rf "$dir"' EXIT
host=$(uname -n)

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

"$exe" synth -o "$dir/data.h5" --images 2000 --test-images 100 --seed 3 >"$dir/out"
run=(--data "$dir/data.h5" --model mlp16 --batch-size 20 --logical-ranks 3 --progress never)

# broken FAULT EXCHANGE WORD... : the run on three ranks ends by itself, with all the words in a line.
broken() {
    local fault=$1 exchange=$2 code=0 word line
    shift 2
    rm -rf "$dir/ckpt"
    MNIST_DIST_FAULT=$fault timeout 120 "$MPIEXEC" -n 3 "$exe" train "${run[@]}" --epochs 3 \
        --exchange "$exchange" --stall-timeout 2 --check-every 10 --checkpoint-every 50 \
        --checkpoint-dir "$dir/ckpt" >"$dir/out" 2>"$dir/err" || code=$?
    [ "$code" != 0 ] || fail "$fault, $exchange: the run went on"
    [ "$code" != 124 ] || fail "$fault, $exchange: the run hung: $(cat "$dir/err")"
    line=$(grep '^mnist_dist: error:' "$dir/err" || true)
    for word in "$@"; do
        line=$(grep -e "$word" <<<"$line") || fail "$fault, $exchange: no '$word': $(cat "$dir/err")"
    done
    # The last good checkpoint is there and goes on.
    "$exe" evaluate "$dir/ckpt/latest" --data "$dir/data.h5" >"$dir/out" 2>&1 ||
        fail "$fault, $exchange: $(cat "$dir/out")"
    "$exe" train "${run[@]}" --epochs 3 --checkpoint-dir "$dir/ckpt" --resume auto >"$dir/out" 2>&1 ||
        fail "$fault, $exchange: resume: $(cat "$dir/out")"
    grep '^weights_sha256' "$dir/out" | diff - "$dir/wanted" || fail "$fault, $exchange: other weights"
}

"$exe" train "${run[@]}" --epochs 3 --checkpoint-dir none >"$dir/out" 2>&1 || fail "$(cat "$dir/out")"
grep '^weights_sha256' "$dir/out" >"$dir/wanted"

for exchange in tree shared; do
    broken hang:1:130 $exchange "rank 1 on host $host, pid [0-9]*, is stuck" "computing at step 130"
    broken stop:2:130 $exchange "rank 2 on host $host, pid [0-9]*, gives no sign of life"
    broken stop:0:130 $exchange "rank 0 on host $host, pid [0-9]*, gives no sign of life"
done
broken flip:1:130 tree "replicas differ at step 130" "parameters of rank 1 on host $host"
# Parameter 0 is of rank 0's slice, whichever rank changes it; there is no other copy to compare.
broken flip:1:130 shared "rank 0 on host $host are not what the step before left behind" "at step 130"
# Nor does it get into a checkpoint, here that of the step after which it flips, or into a result.
broken flip:0:150 shared "rank 0 on host $host are not what" "at step 150"
broken flip:0:300 shared "rank 0 on host $host are not what" "at step 300"
broken nan:2:130 tree "NaN or infinite in epoch 2, step 130, on rank 2" "layer 2 (dense:16)"
broken nan:0:130 shared "NaN or infinite in epoch 2, step 130, on rank 0" "layer 2 (dense:16)"
broken kill:1:130 shared # named by mpirun itself

# begin COMMAND...: starts a run without end, in the background, and waits for its second epoch.
begin() {
    rm -rf "$dir/ckpt" "$dir/m.jsonl"
    # The shell makes what it starts in the background ignore SIGINT, and that would stay so.
    env --default-signal=INT "$@" train "${run[@]}" --epochs 100000 --checkpoint-dir "$dir/ckpt" --metrics "$dir/m.jsonl" \
        >"$dir/out" 2>"$dir/err" &
    pid=$!
    for _ in $(seq 400); do
        grep -qs '"epoch":2' "$dir/m.jsonl" && return
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    kill -KILL "$pid" 2>/dev/null || true
    fail "no second epoch: $(cat "$dir/err")"
}

# ends CODE WHAT: that run ends with this code.
ends() {
    local code=0
    wait "$pid" || code=$?
    [ "$code" = "$1" ] || fail "$2: exit $code: $(cat "$dir/err")"
}

# Signals: all ranks agree at a step's end, save and exit with 75; the same command goes on.
for signal in TERM INT HUP USR1 USR2; do
    begin "$exe"
    kill -s "$signal" "$pid"
    ends 75 "SIG$signal"
    grep -q "stopped by SIG$signal after step .*--resume auto" "$dir/err" || fail "$(cat "$dir/err")"
    "$exe" evaluate "$dir/ckpt/latest" --data "$dir/data.h5" >"$dir/out" || fail "SIG$signal"
done

# A signal that was ignored when the program started stays so: nohup.
trap '' HUP
begin "$exe"
trap - HUP
kill -HUP "$pid"
sleep 0.3
kill -TERM "$pid"
ends 75 "SIGTERM after SIGHUP, which is ignored"
grep -q "stopped by SIGTERM" "$dir/err" || fail "SIGHUP is not ignored: $(cat "$dir/err")"

# Under mpirun SIGUSR1 reaches every rank; mpirun hands the code on.
begin "$MPIEXEC" -n 3 "$exe"
kill -s USR1 "$pid"
ends 75 "SIGUSR1 to mpirun"
[ "$(grep -c 'stopped by SIGUSR1' "$dir/err")" = 1 ] || fail "SIGUSR1 to mpirun: $(cat "$dir/err")"

# A launcher sends it to one process after the other: those that get it, or get it again, when all are
# about to leave do not die of it.
begin "$MPIEXEC" -n 3 "$exe"
mapfile -t ranks < <(pgrep -f "^$exe train .*$dir/m.jsonl")
[ ${#ranks[@]} -eq 3 ] || fail "not 3 processes: ${ranks[*]}"
while kill -s USR1 "${ranks[@]}" 2>/dev/null; do kill -s TERM "${ranks[@]}" 2>/dev/null || true; done
ends 75 "SIGUSR1 and SIGTERM again and again"

# A process that cannot come to a step's end any more: a second SIGINT ends it at once.
MNIST_DIST_FAULT=hang:0:250 begin "$exe"
sleep 0.5
kill -INT "$pid"
sleep 0.5
kill -0 "$pid" || fail "one SIGINT ended a process in the middle of a step"
kill -INT "$pid"
ends 130 "a second SIGINT"
echo "faults are noticed, named and survived"
