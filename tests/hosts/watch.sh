#!/usr/bin/env bash
# usage: watch.sh PROGRAM — the watchdog on hosts with equal names, many interfaces, IPv6 only, and without UDP:
# a run that goes on is never ended, and one that does not is.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/hosts.sh
. "$here/../support/hosts.sh"
isolate "$@"
program=$(realpath "$1")
cd "$work"
for i in 1 2; do host_up "h$i" "$i" 4; done

"$program" synth -o data.h5 --images 1024 --test-images 64 --seed 1 >synth.log 2>&1 || fail "no data"
timeout=1
# go_on NAME: a run without end in the background, until it has gone on for longer than any limit.
go_on() {
    name=$1
    host_mpirun h1:1,h2:1 "$program" train --data data.h5 --model mlp16 --epochs 1000000 --checkpoint-dir none \
        --progress never --stall-timeout "$timeout" --metrics "$name.jsonl" >"$name.log" 2>&1 </dev/null &
    job=$!
    wait_for 30 grep -qs '"epoch":2' "$name.jsonl" || fail "$name: no second epoch: $(cat "$name.log")"
    sleep $((timeout + 1))
    if ! kill -0 "$job" 2>/dev/null || grep 'error' "$name.log"; then
        fail "$name: a healthy run was ended: $(cat "$name.log")"
    fi
}
ended() { ! kill -0 "$job" 2>/dev/null; }
# heard: rank 0 hears rank 1 (else it warns), and the run is not needed any more.
heard() {
    ! grep 'hears nothing' "$name.log" || fail "$name: is not heard"
    host_signal h1 KILL
    host_signal h2 KILL
    wait_for 30 ended || fail "$name: is still there"
    passed "$name"
}

for i in 1 2; do nsenter -t "$(<"$work/host/h$i.pid")" -u hostname node; done
go_on "equal names, many interfaces"
heard

for i in 1 2; do host_no_udp "h$i" -4 || { echo "no rules by protocol in this kernel" && exit 0; }; done
if [ -e /proc/net/if_inet6 ]; then
    go_on "IPv6 only"
    heard
    for i in 1 2; do host_no_udp "h$i" -6; done
fi

go_on "no UDP"
grep -q 'warning: the watchdog hears nothing of 1 of 2.*UDP' "$name.log" || fail "$name: no warning"
host_signal h2 STOP "${program##*/}"
wait_for 30 ended || fail "$name: the job still runs although rank 1 is stopped"
code=0
wait "$job" || code=$?
[ "$code" -ne 0 ] || fail "$name: exit 0"
grep -q "watchdog: rank 1 on host node, pid [0-9]*, was never heard, and no step has ended.*UDP" "$name.log" ||
    fail "$name: $(cat "$name.log")"
passed "$name"
