#!/usr/bin/env bash
# train --members: each member has the bits that it has alone, on any number of ranks and after a kill;
# the metrics hold each epoch of each member once; a signal, an error or a stuck rank in one member.
set -euo pipefail
# shellcheck source=tests/support/cli.sh
. "$(dirname "${BASH_SOURCE[0]}")/../support/cli.sh"

"$exe" synth -o d.h5 --images 600 --test-images 40 --seed 3 >out
export MNIST_DIST_DATA=d.h5 MNIST_DIST_MODEL=mlp16 MNIST_DIST_BATCH_SIZE=50 MNIST_DIST_PROGRESS=never
unset MNIST_DIST_FAULT
EPOCHS=3

# ends CODE COMMAND...: its output goes to `out`. CODE killed: what the launcher makes of it, not 0.
ends() {
    local code=0 expected=$1
    shift
    "$@" >out 2>&1 || code=$?
    [ "$expected" != killed ] || [ "$code" = 0 ] || return 0
    [ "$code" = "$expected" ] || fail "exit $code, not $expected: $*: $(cat out)"
}
says() { grep -q -- "$1" out || fail "no '$1' in: $(cat out)"; }
ensemble() { # RANKS DIR OPTIONS...
    launch_ranks "$1" "$exe" train --members 3 --epochs $EPOCHS --checkpoint-dir "$2" --metrics "$2.jsonl" "${@:3}"
}
# part METRICS MEMBER: the lines of a member.
part() { sed -n "s/^{\"member\":$2,/{/p" "$1"; }
# same_members DIR: each member is what it is alone, and the ensemble was evaluated; of the output in `out`.
same_members() {
    local k
    for k in 1 2 3; do
        part "$1.jsonl" $k >part.jsonl
        same_facts alone-$k.jsonl part.jsonl $EPOCHS || fail "member $k of $1: $(cat out)"
        says "^member $k  seed $((k + 3)) .* $(grep sha256 alone-$k.txt)\$"
    done
    [ "$(tail -n 1 "$1.jsonl" | grep -c '^{"event":"ensemble","members":3,')" = 1 ] || fail "no ensemble in $1.jsonl"
    grep '^Ensemble of 3: test' out | sed 's/;.*//' >ensemble.txt
    cmp expected.txt ensemble.txt || fail "$1: $(cat out)"
}

for k in 1 2 3; do
    ends 0 "$exe" train --epochs $EPOCHS --seed $((k + 3)) --checkpoint-dir alone-$k --metrics alone-$k.jsonl
    cp out alone-$k.txt
done
"$exe" evaluate alone-1 alone-2 alone-3 >out
sed -n '/^Ensemble/,$s/.*images 40, loss \([0-9.]*\), accuracy \([0-9.]*\).*/\1 \2/p' out |
    awk '{ printf "Ensemble of 3: test accuracy %.4f, test loss %.4f\n", $2, $1 }' >expected.txt

# Any number of ranks: as many groups at a time as pay, one after another on one rank.
for ranks in 1 2 3 5; do
    ends 0 ensemble $ranks p$ranks --seed 4
    same_members p$ranks
done
says "^member 3  seed 6, 5 processes, 8 logical ranks"
for k in 1 2; do says "^member $k  Epoch $EPOCHS/$EPOCHS  loss"; done
"$exe" evaluate p1 >out
says "^Ensemble of 3"
ends 0 "$exe" train --members 2 --epochs 2 --validation 100 --checkpoint-dir v --seed 9
says "^Ensemble of 2: test accuracy .*; val_accuracy 0"

# Killed: a rank in the first round, then everything while the second member trains.
MNIST_DIST_FAULT=kill:1:20 ends killed ensemble 2 kill --checkpoint-every 5 --seed 4
ends 0 ensemble 3 kill --seed 4 --resume auto
says "^member 2  seed 5, .*; resumed from kill/member-02/ckpt-00000015.h5: epoch 1, step 15"
same_members kill
"$exe" train --members 3 --epochs $EPOCHS --checkpoint-dir late --metrics late.jsonl --checkpoint-every 1 --seed 4 \
    --keep 0 >out 2>&1 &
wait_for 30 test -e late/member-02/ckpt-00000005.h5 || fail "no second member: $(cat out)"
kill -KILL $!
wait $! || true
ends 0 ensemble 2 late --seed 4 --resume required
same_members late
ends 0 ensemble 1 late --seed 4 --resume auto # finished: nothing is trained
same_members late

# One rank gets a signal: all members stop with a checkpoint, and the command exits with 75.
launch_ranks 2 "$exe" train --members 2 --epochs 100000 --checkpoint-dir stop --metrics stop.jsonl --keep 1 >out 2>&1 &
mpirun=$!
wait_for 30 test -e stop/member-01/latest -a -e stop/member-02/latest || fail "not begun: $(cat out)"
for pid in $(pgrep -f "^$exe train --members 2 --epochs 100000"); do
    [ "$pid" = "$mpirun" ] || rank=$pid
done
! "$exe" train --members 2 --epochs 1 --checkpoint-dir other --metrics stop.jsonl >second 2>&1 || fail "metrics of two"
grep -q "stop.jsonl: another run is writing its metrics there" second || fail "metrics of two: $(cat second)"
kill -TERM "$rank"
code=0
wait $mpirun || code=$?
[ $code = 75 ] || fail "stopped: exit $code: $(cat out)"
says "stopped by SIGTERM; every member that has begun is saved in stop"
for k in 1 2; do
    epoch=$("$exe" evaluate stop/member-0$k | sed -n '1s/.*: epoch \([0-9]*\),.*/\1/p')
    part stop.jsonl $k | grep '"event":"epoch"' | sed 's/.*"epoch":\([0-9]*\),.*/\1/' >epochs
    seq 1 "$epoch" | cmp - epochs || fail "member $k: $(cat out)"
done

# An error in one member ends the job and names it; the others are saved.
pair() { launch_ranks 2 "$exe" train --members 2 --epochs 100000 --checkpoint-dir "$@"; }
MNIST_DIST_FAULT=nan:1:30 ends 1 pair nan
says "error: member 2: the loss became NaN or infinite in epoch 3, step 30, on rank 1"
[ -e nan/member-01/latest ] || fail "member 1 was not saved: $(cat out)"
# A stuck or stopped rank that has a member for itself.
MNIST_DIST_FAULT=hang:1:10 ends 1 pair hang --stall-timeout 2
says "watchdog: rank 1 on host .* is stuck for"
MNIST_DIST_FAULT=stop:1:10 ends 1 pair hang --stall-timeout 2
says "watchdog: rank 1 on host .* gives no sign of life"

# A smaller ensemble, then a single run, in the folder of another: what was there is set aside.
ends 0 "$exe" train --members 2 --epochs 1 --checkpoint-dir p1 --metrics p1.jsonl
says "the checkpoints of member 3 of an earlier one were moved to p1/member-03/earlier-1"
says "member 1: a new run: the checkpoints of an earlier one were moved to p1/member-01/earlier-1"
says "the metrics of another run were moved to earlier-1/p1.jsonl"
"$exe" evaluate p1 >out
says "^Ensemble of 2"
ends 0 "$exe" train --epochs 1 --checkpoint-dir p1 --resume auto
says "p1 holds an ensemble of 2, too: from now on evaluate and predict take the folder for this single run"
ends 0 "$exe" train --members 1 --epochs 2 --checkpoint-dir p1 --resume auto
! grep -q "holds an ensemble" out || fail "told twice: $(cat out)"
ends 0 "$exe" train --members 2 --epochs 1 --checkpoint-dir p1 --resume auto
says "the checkpoints of a single run were moved to p1/earlier-1"

# An ensemble that goes on with fewer members.
ends 0 "$exe" train --members 2 --epochs $EPOCHS --checkpoint-dir p2 --seed 4 --resume auto
says "p2/member-03 stays as it is: it is not one of these 2 members, but evaluate and predict take all"

# Metrics that cannot be written show before anything is trained.
: >file
mkfifo fifo
for path in file/m.jsonl p2; do
    ends 1 "$exe" train --members 2 --epochs 1 --checkpoint-dir unwritten --metrics $path
    says "error: $path: cannot"
    [ ! -e unwritten/member-01 ] || fail "trained without metrics: $(cat out)"
done
ends 2 "$exe" train --members 2 --checkpoint-dir unwritten --metrics unwritten/member-02/metrics.jsonl
says "member 2 has its own metrics there"
ends 1 "$exe" train --members 2 --epochs 1 --checkpoint-dir unread --metrics fifo
says "no process reads this FIFO"
# Of what is not a file, only the end is written, and once.
"$exe" train --members 2 --epochs 1 --checkpoint-dir stdout --metrics /dev/stdout | grep -c '^{' >lines
[ "$(cat lines)" = 9 ] || fail "metrics to /dev/stdout: $(cat lines) lines, not 9"
# What is in the way of one member's folder is that member's error.
mkdir blocked
: >blocked/member-02
ends 1 launch_ranks 2 "$exe" train --members 2 --epochs 1 --checkpoint-dir blocked --metrics blocked.jsonl
says "error: member 2: blocked/member-02: cannot create the folder"

ends 2 "$exe" train --members 0
ends 2 "$exe" train --members 2 --checkpoint-dir none
says "needs --checkpoint-dir"
ends 2 "$exe" train --members 2 --checkpoint-dir p1 --resume p1/member-01/latest
says "--resume auto or required only"
ends 1 "$exe" train --members 2 --checkpoint-dir nothing --resume required
says "no member has a valid checkpoint in nothing"
ends 1 "$exe" train --members 2 --checkpoint-dir p2 --metrics p2.jsonl --resume auto --seed 7
says "member 1: .*p2/member-01.* was written with --seed 4"
echo "members: all passed"
