# shellcheck shell=bash
# A real Slurm for tests: munged, slurmctld on the head, and one slurmd on each of several hosts
# (tests/support/hosts.sh). Call `isolate` first. All of it lies in $work/slurm.
: "${work=}"

# slurm_up N: hosts n1 to nN, two processors each.
slurm_up() {
    need slurmctld slurmd munged srun sbatch scontrol
    local dir=$work/slurm n=$1 i
    mkdir -p "$dir/munge" "$dir/state"
    chmod 755 "$dir" "$dir/munge"
    export SLURM_CONF=$dir/slurm.conf
    # A job that is put back starts no sooner than its credential has run out, hence cred_expire; and a
    # dead node is to be noticed soon, hence SlurmdTimeout.
    {
        cat <<EOF
ClusterName=test
SlurmctldHost=head(10.77.0.254)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket,cred_expire=5
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.%n.log
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool.%n
TmpFS=$dir/tmp.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
MailProg=/bin/true
KillWait=5
SlurmdTimeout=6
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=all Nodes=ALL Default=YES MaxTime=60 PriorityTier=10 PreemptMode=OFF
PartitionName=low Nodes=ALL MaxTime=60 PriorityTier=1 GraceTime=10
EOF
        for ((i = 1; i <= n; i++)); do
            echo "NodeName=n$i NodeAddr=10.77.0.$i CPUs=2 CoresPerSocket=2 RealMemory=4000"
        done
    } >"$SLURM_CONF"
    (
        umask 077
        head -c 1024 /dev/urandom >"$dir/munge/key"
    )
    munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" \
        --pid-file="$dir/munge/pid" --log-file="$dir/munge/log" --seed-file="$dir/munge/seed"
    slurmctld -f "$SLURM_CONF" -c
    for ((i = 1; i <= n; i++)); do
        mkdir -p "$dir/spool.n$i" "$dir/tmp.n$i"
        host_up "n$i" "$i"
        node_start "n$i"
    done
    wait_for 30 nodes_idle "$n" || {
        tail -n 20 "$dir"/*.log >&2
        fail "Slurm does not come up"
    }
}

node_start() { host_run "$1" slurmd -f "$SLURM_CONF" -N "$1"; }

nodes_idle() { [ "$(sinfo -h -N -t idle -o %N 2>/dev/null | sort -u | wc -l)" -eq "$1" ]; }

job_state() { scontrol show job "$1" | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p' | head -n 1; }

# in_state JOB STATE...: the job is in one of the states.
in_state() {
    local state
    state=$(job_state "$1")
    [[ " ${*:2} " == *" $state "* ]]
}

# job_ended JOB: it will not run any more.
job_ended() { in_state "$1" COMPLETED FAILED CANCELLED TIMEOUT NODE_FAIL BOOT_FAIL OUT_OF_MEMORY; }

job_restarts() { scontrol show job "$1" | sed -n 's/.*Restarts=\([0-9]*\).*/\1/p' | head -n 1; }

# What the tests of the batch scripts share: $program, the data, and the run that nobody disturbed.
# usage: prepare PROGRAM EPOCHS NODES
prepare() {
    program=$(realpath "$1") epochs=$2
    [ -x "$program" ] || fail "no program at '$program'"
    # shellcheck disable=SC2034 # for the tests
    jobs=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../jobs/slurm" && pwd)
    # What srun must speak, by the MPI library at hand.
    export MNIST_DIST=$program MPI_TYPE=pmix DATA=$work/data.h5
    "${MPIEXEC:-mpirun}" --version 2>&1 | grep -qE 'Open MPI|OpenRTE' || MPI_TYPE=pmi2
    cd "$work" || exit
    trap say_why EXIT
    "$program" synth -o "$DATA" --images 2048 --test-images 512 --seed 1 >synth.log 2>&1 ||
        fail "$(cat synth.log)"
    slurm_up "$3"
    # The same for every run; the number of ranks must not matter.
    arguments=(--model mlp16 --epochs "$epochs" --batch-size 128 --seed 5 --logical-ranks 8)
}

# held FAULT [LINE]: jobs from now on do not get beyond step 400, however fast the machine is, until
# let_go: rank 0 does FAULT there (hang or stop). So does a start after one that crashed on its own (see
# "MPI_Init" in jobs/slurm/README.md). LINE, of shell, goes before the program.
held() {
    cat >held <<END
#!/bin/sh
[ -e "let-go-\$SLURM_JOB_ID" ] || export MNIST_DIST_FAULT=$1:0:400
${2:-}
exec "$program" "\$@"
END
    chmod +x held
    export MNIST_DIST=$PWD/held
}

# let_go JOB: its next start is not held. came_back JOB: there has been one.
let_go() { job_restarts "$1" >"let-go-$1"; }
came_back() { [ "$(job_restarts "$1")" -gt "$(<"let-go-$1")" ]; }

# stopped_rank JOB: the process of the job that stands still (held stop).
stopped_rank() {
    local process
    for process in $(pgrep -f "^$program train .*run-$1/"); do
        ! grep -qs '^State:.T' "/proc/$process/status" || echo "$process"
    done
}

has_stopped() { [ -n "$(stopped_rank "$1")" ]; }

# until_stopped JOB: has come to where it is held.
until_stopped() { wait_for 180 has_stopped "$1" || fail "job $1 does not come to its 400th step"; }

# signal_waits JOB: its rank that stands still has a signal to take note of.
signal_waits() {
    local process
    process=$(stopped_rank "$1")
    [ -n "$process" ] && ! grep -qs '^ShdPnd:.0*$' "/proc/$process/status"
}

# What the jobs said, when a test fails.
# shellcheck disable=SC2317 # called by the trap
say_why() {
    local status=$? log
    [ "$status" -ne 0 ] || return 0
    for log in "$work"/*.log; do
        [ ! -s "$log" ] || printf '%s\n' "-- ${log##*/}:" "$(grep -v '^Epoch ' "$log" | tail -n 80)" >&2
    done
}

# reference: the undisturbed run, two ranks and no Slurm.
reference() {
    mkdir reference
    launch_ranks 2 "$program" train --data "$DATA" "${arguments[@]}" --progress never \
        --checkpoint-dir reference --metrics reference/metrics.jsonl >reference/log 2>&1 ||
        fail "the undisturbed run: $(cat reference/log)"
    grep -q '"event":"end"' reference/metrics.jsonl || fail "the undisturbed run has no end"
}

# same_as_reference JOB [RUN]
same_as_reference() {
    same_facts reference/metrics.jsonl "${2:-run-$1}/metrics.jsonl" "$epochs" ||
        fail "job $1: the run differs from one that was never disturbed"
}

# has_checkpoint RUN
has_checkpoint() { [ -n "$(find "$1" -name 'ckpt-*.h5' 2>/dev/null)" ]; }

# ends_as JOB STATE SECONDS
ends_as() {
    wait_for "$3" job_ended "$1" || {
        scontrol show job "$1" >&2
        fail "job $1 does not end within $3 s"
    }
    in_state "$1" "$2" || fail "job $1 ended as $(job_state "$1"), not as $2"
}
