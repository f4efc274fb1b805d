# shellcheck shell=bash
# What shell tests of whole runs share.

skip() {
    echo "SKIPPED: $*"
    exit 77
}

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# need PROGRAM...: skips unless all are installed.
need() {
    local program missing=()
    for program in "$@"; do command -v "$program" >/dev/null || missing+=("$program"); done
    [ ${#missing[@]} -eq 0 ] || skip "${missing[*]} not installed; 'scripts/setup.sh test' does that"
}

# wait_for SECONDS COMMAND...: until the command succeeds; false when it does not in time.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

passed() { echo "passed: $*"; }

# facts METRICS: what two runs of the same must have equal to the last digit: the figures of all epochs,
# in the order of the file, and the weights at the end.
facts() {
    sed -n -e '/"event":"epoch"/s/,"seconds".*//p' \
        -e '/"event":"end"/s/.*\("weights_sha256":"[0-9a-f]*"\).*/\1/p' "$1"
}

# same_facts EXPECTED METRICS EPOCHS: false, and the first differences on stderr, unless the facts are
# the same and there are so many epochs and one end.
same_facts() {
    local differences
    differences=$(diff <(facts "$1") <(facts "$2")) || {
        echo "differences between $1 and $2:" >&2
        head -n 20 <<<"$differences" >&2
        return 1
    }
    [ "$(facts "$2" | wc -l)" -eq $(($3 + 1)) ] || {
        echo "$2 does not hold $3 epochs and one end" >&2
        return 1
    }
}

# launch_ranks N COMMAND...: mpirun of the MPI library at hand; its output goes to a log of the caller's.
launch_ranks() { "${MPIEXEC:-mpirun}" -np "$@"; }
