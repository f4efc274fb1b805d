#!/usr/bin/env bash
# What a hostile machine does to a run: the disk fills up after some checkpoints, folders and files
# vanish or become read-only, another run wants the same folder, limits are tight, the reader of a
# pipe goes away. Each time one line that names the file, the right exit code, and the last good
# checkpoint still there and going on to the bits of an undisturbed run.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/runs.sh
. "$here/../support/runs.sh"
exe=$1
dir=$(mktemp -d hostile.XXXXXX)
pid=
clean_up() {
    [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
    umount "$dir/full" 2>/dev/null || true
    umount "$dir/readonly" 2>/dev/null || true
    rm -rf "$dir"
}
trap clean_up EXIT

"$exe" synth -o "$dir/data.h5" --images 2000 --test-images 100 --seed 3 >"$dir/out"
run=(--data "$dir/data.h5" --model mlp16 --batch-size 20 --progress never)
"$exe" train "${run[@]}" --epochs 6 --checkpoint-dir none >"$dir/out" 2>&1 || fail "$(cat "$dir/out")"
wanted=$(grep '^weights_sha256' "$dir/out")
begun() { grep -qs '"event":"checkpoint"' "$dir/m.jsonl"; }

# ended CODE WORD: how the last run (its code in $code) should have ended.
ended() {
    [ "$code" = "$1" ] || fail "$2: exit $code, not $1: $(cat "$dir/err")"
    [ "$(grep -c '^mnist_dist: .*error' "$dir/err")" = 1 ] || fail "$2: not one line: $(cat "$dir/err")"
    grep '^mnist_dist: .*error: ' "$dir/err" | grep -q -e "$2" || fail "no '$2': $(cat "$dir/err")"
}
# goes_on DIR: to the same bits.
goes_on() {
    "$exe" train "${run[@]}" --epochs 6 --checkpoint-dir "$1" --resume auto >"$dir/out" 2>&1 ||
        fail "$1 does not go on: $(cat "$dir/out")"
    [ "$(grep '^weights_sha256' "$dir/out")" = "$wanted" ] || fail "$1: other weights"
}

# A disk that holds two checkpoints and not a third: the run ends there, the two stay.
mkdir "$dir/full" "$dir/readonly"
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=640k tmpfs "$dir/full" 2>/dev/null; then
    code=0
    timeout 60 "$exe" train "${run[@]}" --epochs 6 --keep 0 --checkpoint-dir "$dir/full" \
        >"$dir/out" 2>"$dir/err" || code=$?
    ended 1 "No space left.*earlier ones are untouched"
    left=("$dir"/full/ckpt-*.h5)
    [ ${#left[@]} -ge 2 ] || fail "a full disk left only ${left[*]}"
    [ -z "$(find "$dir/full" -name '.*.tmp.*')" ] || fail "a full disk: half a file is left"
    cp -a "$dir/full" "$dir/copy"
    goes_on "$dir/copy"
    # Metrics on a disk that is full: the checkpoints are elsewhere and stay.
    dd if=/dev/zero of="$dir/full/fill" bs=4k 2>/dev/null || true
    code=0
    timeout 60 "$exe" train "${run[@]}" --epochs 6 --checkpoint-dir none --metrics "$dir/full/m.jsonl" \
        >"$dir/out" 2>"$dir/err" || code=$?
    ended 1 "m.jsonl: cannot write metrics: No space"
    umount "$dir/full"
    # A file system that becomes read-only.
    mount -t tmpfs -o size=8m tmpfs "$dir/readonly"
    rm -f "$dir/m.jsonl"
    timeout 60 "$exe" train "${run[@]}" --epochs 100000 --checkpoint-dir "$dir/readonly/c" \
        --metrics "$dir/m.jsonl" >"$dir/out" 2>"$dir/err" &
    pid=$!
    wait_for 30 begun || fail "no checkpoint: $(cat "$dir/err")"
    for _ in $(seq 200); do mount -o remount,ro "$dir/readonly" 2>/dev/null && break; done
    code=0
    wait "$pid" || code=$?
    ended 1 "Read-only file system"
    "$exe" evaluate "$dir/readonly/c/latest" --data "$dir/data.h5" >"$dir/out" 2>&1 ||
        fail "read-only: $(cat "$dir/out")"
    umount "$dir/readonly"
else
    echo "no tmpfs can be mounted here: full disk and read-only file system are left out"
fi

# The data file may go once it has been read. Meanwhile nobody else gets the folder.
rm -f "$dir/m.jsonl"
"$exe" synth -o "$dir/gone.h5" --images 2000 --test-images 100 --seed 3 >"$dir/out"
MNIST_DIST_FAULT=hang:0:450 timeout 60 "$exe" train "${run[@]}" --data "$dir/gone.h5" --epochs 6 \
    --checkpoint-dir "$dir/c" --metrics "$dir/m.jsonl" >"$dir/first" 2>&1 &
pid=$!
wait_for 30 begun || fail "no checkpoint: $(cat "$dir/first")"
rm "$dir/gone.h5"
wait_for 30 test -f "$dir/c/ckpt-00000400.h5" || fail "without its data file: $(cat "$dir/first")"
code=0
"$exe" train "${run[@]}" --stall-timeout 1 --epochs 6 --checkpoint-dir "$dir/c" \
    >"$dir/out" 2>"$dir/err" || code=$?
ended 1 "another run is writing"
[ -f "$dir/c/ckpt-00000400.h5" ] || fail "the second run took the first one's checkpoints away"
# Killed, it leaves no lock behind.
kill -KILL "$(cat "/proc/$pid/task/$pid/children")"
wait "$pid" 2>/dev/null || true
pid=
goes_on "$dir/c"

# The folder of checkpoints goes: a new one is made, and the run is not lost.
rm -f "$dir/m.jsonl"
timeout 60 "$exe" train "${run[@]}" --epochs 100000 --checkpoint-dir "$dir/removed" \
    --metrics "$dir/m.jsonl" >"$dir/out" 2>"$dir/err" &
pid=$!
wait_for 30 begun || fail "no checkpoint: $(cat "$dir/err")"
for _ in $(seq 100); do rm -rf "$dir/removed" 2>/dev/null && break; done
code=0
sleep 0.5
kill -TERM "$pid" 2>/dev/null || true
wait "$pid" || code=$?
pid=
# Removed in the middle of a write it is an error, otherwise a new folder.
if [ "$code" != 75 ]; then ended 1 "$dir/removed"; fi

# A FIFO for the metrics that no process reads: no hang.
mkfifo "$dir/fifo"
code=0
timeout -k 2 20 "$exe" train "${run[@]}" --epochs 1 --checkpoint-dir none --metrics "$dir/fifo" \
    >"$dir/out" 2>"$dir/err" || code=$?
ended 1 "$dir/fifo: cannot write metrics: no process reads this FIFO"
# One whose reader goes away after ten bytes. Opened for both first, so that the program finds a reader.
exec 3<>"$dir/fifo"
head -c 10 <&3 >"$dir/ten" &
pid=$!
exec 3>&-
code=0
timeout 60 "$exe" train "${run[@]}" --epochs 3000 --checkpoint-dir none --metrics "$dir/fifo" \
    >"$dir/out" 2>"$dir/err" || code=$?
ended 1 "$dir/fifo: cannot write metrics: Broken pipe"
wait "$pid" || fail "the reader of the FIFO: exit $?"
pid=
[ "$(wc -c <"$dir/ten")" = 10 ] || fail "a FIFO: not ten bytes: $(cat "$dir/ten")"

# Files may not grow beyond 8 KiB (ulimit -f counts KiB in bash).
code=0
(ulimit -f 8 && exec timeout 60 "$exe" train "${run[@]}" --epochs 1 --checkpoint-dir "$dir/large") \
    >/dev/null 2>"$dir/err" || code=$?
ended 1 "File too large"
[ -z "$(ls -A "$dir/large")" ] || fail "ulimit -f: $(ls -A "$dir/large") is left behind"

# Little address space: the run ends, and not in a hang of OpenBLAS's threads. Sanitizers need more.
if [ -z "${MND_SANITIZE:-}" ]; then
    for threads in 1 4; do
        code=0
        (ulimit -v 250000 && exec timeout 60 "$exe" train "${run[@]}" --epochs 1 --checkpoint-dir none \
            --threads "$threads") >"$dir/out" 2>"$dir/err" || code=$?
        [ "$code" = 0 ] || fail "250 MB of address space, $threads threads: exit $code: $(cat "$dir/err")"
    done
fi

# Standard output on a full device: an error at the end, but the checkpoint is there.
code=0
"$exe" train "${run[@]}" --epochs 1 --checkpoint-dir "$dir/o" >/dev/full 2>"$dir/err" || code=$?
ended 1 "standard output"
"$exe" evaluate "$dir/o/latest" --data "$dir/data.h5" >"$dir/out" 2>&1 || fail "$(cat "$dir/out")"

# The last step makes the parameters NaN: no training loss sees it, the test loss does.
code=0
"$exe" train "${run[@]}" --batch-size 1000 --epochs 1 --optimizer adamw --weight-decay 1e6 --lr 100 \
    --checkpoint-dir none >"$dir/out" 2>"$dir/err" || code=$?
ended 1 "test loss became NaN or infinite"

# Nothing depends on a clock that users or NTP can set.
! grep -nE 'CLOCK_REALTIME|gettimeofday|[^a-z_]time\(' "$here"/../../src/*/*.c | grep -v '^.*: *\*' ||
    fail "a clock that can be set back is read"
passed "full disk, read-only, removed, locked, pipes, limits, clock"
