# shellcheck shell=bash
# Several "hosts" on one machine, for tests: network, UTS, IPC and mount namespaces, joined by a bridge.
# A test that uses them begins with `isolate "$@"`: it then runs in namespaces of its own, where it may
# make what it likes, and when it ends, for whatever reason, the kernel takes all of it away, processes
# too. Needs root; without, the test is skipped.

# shellcheck source=tests/support/runs.sh
. "$(dirname "${BASH_SOURCE[0]}")/runs.sh"

# isolate ARGUMENTS: runs the calling script again inside, with the arguments, and sets `work`, a
# scratch folder that is removed afterwards.
isolate() {
    if [ -z "${MND_ISOLATED:-}" ]; then
        [ "$(id -u)" -eq 0 ] || skip "needs root, for namespaces and daemons"
        need unshare nsenter ip
        local flags=(--net --mount --pid --uts --ipc --fork --kill-child --mount-proc) status=0
        unshare "${flags[@]}" ip link add name br0 type bridge 2>/dev/null ||
            skip "this machine (a container?) does not allow new namespaces"
        work=$(mktemp -d)
        chmod 755 "$work"
        MND_ISOLATED=$work unshare "${flags[@]}" bash ${MND_TRACE:+-x} "$0" "$@" || status=$?
        if [ "$status" -ne 0 ] && [ "$status" -ne 77 ] && [ -n "${MND_KEEP:-}" ]; then
            echo "what is left of it: $work"
        else
            rm -rf "$work"
        fi
        exit "$status"
    fi
    work=$MND_ISOLATED
    hostname head
    mkdir "$work/host"
    echo "127.0.0.1 localhost" >"$work/host/names"
    mount -t tmpfs tmpfs /dev/shm
    ip link set lo up
    ip link add br0 type bridge
    ip link set br0 up
    ip addr add 10.77.0.254/24 dev br0
    echo "10.77.0.254 head" >>"$work/host/names"
    mount --bind "$work/host/names" /etc/hosts
}

# host_up NAME NUMBER [OTHERS]: a host with the addresses 10.77.0.NUMBER and fd77::NUMBER, after so many
# other interfaces, of networks that no other host is on.
host_up() {
    local name=$1 address=10.77.0.$2 pid other
    echo "$address $name" >>"$work/host/names"
    # shellcheck disable=SC2016
    unshare --net --uts --ipc --mount bash -c '
        hostname "$1"
        mount -t tmpfs tmpfs /dev/shm
        ip link set lo up
        : >"$2/$1.ready"
        exec sleep infinity' bash "$name" "$work/host" </dev/null &
    pid=$!
    disown "$pid"
    wait_for 20 test -e "$work/host/$name.ready" || fail "host $name does not come up"
    echo "$pid" >"$work/host/$name.pid"
    for other in $(seq "${3:-0}"); do
        nsenter -t "$pid" -n ip link add "other$other" type bridge
        nsenter -t "$pid" -n ip addr add "10.78.$2$other.1/24" dev "other$other"
        nsenter -t "$pid" -n ip link set "other$other" up
    done
    ip link add "v$name" type veth peer name eth0 netns "$pid"
    ip link set "v$name" master br0 up
    nsenter -t "$pid" -n ip addr add "$address/24" dev eth0
    nsenter -t "$pid" -n ip link set eth0 up
    # Not every kernel has IPv6. nodad: the address is usable at once.
    nsenter -t "$pid" -n ip addr add "fd77::$2/64" dev eth0 nodad 2>/dev/null || true
}

# host_run NAME COMMAND...: in the folder of now.
host_run() {
    local pid
    pid=$(<"$work/host/$1.pid")
    shift
    # shellcheck disable=SC2016
    nsenter -t "$pid" -n -u -i -m -- sh -c 'cd "$0" && exec "$@"' "$PWD" "$@"
}

# host_signal NAME SIGNAL [COMMAND]: to every process on that host, as when it hangs (STOP) or dies (KILL), or
# only to those with that command name.
host_signal() {
    local holder space process pids=()
    holder=$(<"$work/host/$1.pid")
    space=$(readlink "/proc/$holder/ns/uts")
    for process in /proc/[0-9]*; do
        [ "$(readlink "$process/ns/uts" 2>/dev/null)" = "$space" ] || continue
        [ -z "${3:-}" ] || [ "$(cat "$process/comm" 2>/dev/null)" = "$3" ] || continue
        [ "${process#/proc/}" = "$holder" ] || pids+=("${process#/proc/}")
    done
    [ ${#pids[@]} -eq 0 ] || kill -s "$2" "${pids[@]}" 2>/dev/null || true
}

# host_cut NAME, host_mend NAME: the cable out, and in again.
host_cut() { ip link set "v$1" down; }
host_mend() { ip link set "v$1" up; }

# host_no_udp NAME FAMILY: -4 or -6: no datagram leaves this host any more; false where the kernel cannot.
host_no_udp() {
    nsenter -t "$(<"$work/host/$1.pid")" -n ip "$2" rule add ipproto udp prohibit 2>/dev/null
}

# hosts_apart DELAY_HUB MICROSECONDS NAME...: from now on every frame between these hosts is that late.
# DELAY_HUB is the program tests/support/delay_hub.c; the bridge is out of use for them.
hosts_apart() {
    local hub=$1 delay=$2 name ports=()
    shift 2
    for name in "$@"; do
        ip link set "v$name" nomaster
        ports+=("v$name")
    done
    [ ! -e "$work/host/hub" ] || kill "$(<"$work/host/hub")" || true
    "$hub" "$delay" "${ports[@]}" &
    echo "$!" >"$work/host/hub"
    disown
    sleep 0.3 # until it listens
}

# host_mpirun HOST:RANKS,HOST:RANKS... OPTION... PROGRAM...: starts ranks over the hosts' network with
# MPIEXEC (mpirun), Open MPI's or MPICH's, from the first of them. "ssh" is a step into namespaces.
host_mpirun() {
    local list=$1 launcher=${MPIEXEC:-mpirun} agent=$work/host/agent
    shift
    cat >"$agent" <<AGENT
#!/usr/bin/env bash
while [[ \$1 == -* ]]; do shift; done
pid=\$(<"$work/host/\$1.pid")
shift
exec nsenter -t "\$pid" -n -u -i -m -- sh -c "cd '$PWD'; \$*"
AGENT
    chmod +x "$agent"
    if "$launcher" --version | grep -q "Open MPI\|OpenRTE"; then
        # Without --bind-to none the ranks of every host would share core 0.
        host_run "${list%%:*}" "$launcher" --allow-run-as-root --bind-to none \
            --mca mpi_yield_when_idle 1 --mca plm_rsh_agent "$agent" \
            --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 \
            -host "$list" "$@"
    else
        host_run "${list%%:*}" "$launcher" -launcher ssh -launcher-exec "$agent" -iface eth0 \
            -hosts "$list" "$@"
    fi
}
