#!/usr/bin/env bash
# usage: hosts.sh PROGRAM — runs over three hosts (namespaces with their own network) by TCP give the bits of
# one host; a host that is cut off or freezes is named, one that dies ends the job as well, and a restart
# without it goes on to the same bits.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/hosts.sh
. "$here/../support/hosts.sh"
isolate "$@"
program=$(realpath "$1")
cd "$work"
for i in 1 2 3; do host_up "h$i" "$i"; done
# shellcheck disable=SC2317 # called by the trap
say_why() {
    local status=$? log
    [ "$status" -ne 0 ] || return 0
    for log in "$work"/*.log; do
        [ ! -s "$log" ] || printf '%s\n' "-- ${log##*/}:" "$(tail -n 12 "$log")" >&2
    done
}
trap say_why EXIT

"$program" synth -o data.h5 --images 1024 --test-images 256 --seed 1 >synth.log 2>&1 || fail "no data"
# usage: arguments MODEL EPOCHS
arguments() {
    epochs=$2
    options=(--data data.h5 --model "$1" --epochs "$2" --batch-size 100 --seed 3 --logical-ranks 8
        --progress never)
}
# train NAME HOSTS [OPTION...]
train() {
    local name=$1 hosts=$2
    shift 2
    host_mpirun "$hosts" "$program" train "${options[@]}" --checkpoint-dir "$name" \
        --metrics "$name.jsonl" "$@" >>"$name.log" 2>&1 </dev/null
}

# The same bits as on one host, for every exchange.
arguments conv:4:3,relu,maxpool:2,flatten,dense:32,relu,dropout:0.2,dense:10 2
train one h1:2
same_facts one.jsonl one.jsonl "$epochs" || fail "the run on one host is not whole"
for exchange in auto tree hierarchical; do
    train "$exchange" h1:3,h2:3,h3:2 --exchange "$exchange"
    same_facts one.jsonl "$exchange.jsonl" "$epochs" || fail "$exchange over three hosts differs"
    grep -q '"event":"start".*"ranks":8[,}]' "$exchange.jsonl" || fail "not 8 ranks"
    passed "$exchange, 8 ranks on 3 hosts"
done

# A host is lost in the middle.
arguments mlp16 600
train whole h1:2
same_facts whole.jsonl whole.jsonl "$epochs" || fail "the run that is not disturbed is not whole"
timeout=4
has_checkpoint() { [ -e "$1/latest" ]; }
for how in cut frozen dead; do
    train "$how" h1:2,h2:2,h3:1 --stall-timeout "$timeout" &
    job=$!
    wait_for 60 has_checkpoint "$how" || fail "$how: no checkpoint"
    case $how in
    cut) host_cut h2 ;;
    frozen) host_signal h2 STOP ;;
    dead) host_signal h2 KILL ;;
    esac
    begin=$SECONDS
    ended() { ! kill -0 "$job" 2>/dev/null; }
    wait_for 90 ended || fail "$how: the job still runs 90 s after host h2 was lost"
    echo "$how: ended $((SECONDS - begin)) s after"
    code=0
    wait "$job" || code=$?
    [ "$code" -ne 0 ] || fail "$how: was over before the host was lost, or took no notice"
    # When its processes die their connections close, and MPI ends the job before the watchdog speaks.
    if [ "$how" != dead ]; then
        grep "watchdog: rank . on host h2" "$how.log" || fail "$how: host h2 is not named"
    fi
    # Whatever hung there is killed, as by a reset of the machine.
    host_signal h2 KILL
    host_mend h2
    train "$how" h1:2,h3:2 --resume auto
    same_facts whole.jsonl "$how.jsonl" "$epochs" || fail "$how: the run without h2 ends with other bits"
    grep -q '"event":"resume"' "$how.jsonl" || fail "$how: it began again"
    passed "$how: code $code; the other hosts went on to the same bits"
done
