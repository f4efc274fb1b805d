#!/usr/bin/env bash
# The exchanges between hosts at a distance, on one machine: network namespaces joined by a hub that
# delays every frame, optionally over slow cables. Needs root and Open MPI.
#
# usage: bench/exchange_hosts.sh [BUILD] [REPEATS]
#   BUILD     the build folder (build/release)
#   MND_DELAYS="100 1000"   microseconds one way    MND_RATES="none 1gbit"   of each host's cable
#   MND_REALTIME=1          runs at real-time priority, out of the way of what else the machine does
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tests/support/hosts.sh
. "$root/tests/support/hosts.sh"
isolate "$@"
build=${1:-$root/build/release} repeats=${2:-30}
priority() { if [ -n "${MND_REALTIME:-}" ]; then echo "chrt -f $1"; fi; }

for i in 1 2 3 4; do host_up "h$i" "$i"; done
for delay in ${MND_DELAYS:-100 1000}; do
    # shellcheck disable=SC2046
    hosts_apart "$build/tests/mpi/delay_hub" "$delay" h1 h2 h3 h4
    pid=$(<"$work/host/hub")
    [ -z "${MND_REALTIME:-}" ] || chrt -f -p 20 "$pid"
    for rate in ${MND_RATES:-none 1gbit}; do
        for i in 1 2 3 4; do
            host_run "h$i" tc qdisc del dev eth0 root 2>/dev/null || true
            [ "$rate" = none ] ||
                host_run "h$i" tc qdisc add dev eth0 root tbf rate "$rate" burst 256kb latency 500ms
        done
        for hosts in h1:2,h2:2 h1:1,h2:1,h3:1,h4:1 h1:2,h2:2,h3:2,h4:2; do
            echo "== $delay us apart, rate of cables: $rate, ranks on $hosts"
            # shellcheck disable=SC2046
            host_mpirun "$hosts" $(priority 10) "$build/bench/bench_exchange" "$repeats" \
                13002 669706 2>"$work/err" || fail "$(tail -n 5 "$work/err")"
        done
    done
done
