#!/usr/bin/env bash
# The same set-up as scripts/run.sh, then every check and every test: one line a stage, and at the
# end how many passed and failed. The exit code is 0 when none failed.
#
# usage: scripts/test.sh [--long] [--only STAGE]... [--list]
#   --long    the long form of the tests that have one (MND_LONG=1 in their environment)
#   --only    just this stage, after the set-up; may be given several times
#   --list    the stages and what they do
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"
cd "$root"

# Every stage is a function stage_NAME whose output goes to build/log/NAME.log. A file NAME.note
# says more on the stage's line; NAME.count holds "passed failed" of the tests it ran.
stages=(
    "setup     Debian packages, as scripts/setup.sh test"
    "format    clang-format, on all C files"
    "layers    modules: includes, words, kinds"
    "shell     syntax of all shell scripts, and shellcheck"
    "tree      nothing unfinished and nothing large in git"
    "build     the release build by gcc, warnings as errors"
    "data      fetch and convert MNIST"
    "test      all tests of the release build"
    "run       scripts/run.sh, twice"
    "clang     build by clang, warnings as errors, and unit tests"
    "asan      AddressSanitizer and UBSan: unit, MPI and quick command-line tests"
    "mpich     the same program on MPICH: MPI and quick command-line tests"
    "valgrind  unit tests under valgrind"
    "fuzz      every libFuzzer target for some seconds"
    "tidy      clang-tidy, on all C files"
    "sizes     lines of files; lines, parameters and nesting of functions"
)

only=() long=OFF
while [ $# -gt 0 ]; do
    case $1 in
    --long)
        long=ON
        export MND_LONG=1 MND_FUZZ_SECONDS=${MND_FUZZ_SECONDS:-600}
        ;;
    --only)
        [ $# -gt 1 ] || die "--only needs the name of a stage; see --list"
        printf '%s\n' "${stages[@]}" | grep -q "^$2 " || die "'$2' is not a stage; see --list"
        only+=("$2")
        shift
        ;;
    --list)
        printf '%s\n' "${stages[@]}"
        exit 0
        ;;
    -h | --help)
        sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit 0
        ;;
    *)
        echo "test.sh: '$1' is not an option; see --help" >&2
        exit 2
        ;;
    esac
    shift
done

# A user's own settings of the program must not reach its tests.
unset "${!MNIST_DIST_@}"

jobs=$(nproc)
logs=$root/build/log
mkdir -p "$logs"

# run_ctest PRESET [OPTION...]: the tests of a preset, counted.
run_ctest() {
    local preset=$1 status=0
    shift
    rm -f "$logs/$preset.xml"
    ctest --preset "$preset" -j "$jobs" --output-junit "$logs/$preset.xml" "$@" || status=$?
    awk -v note="$logs/$stage.note" '
        function number(name) {
            return match($0, " " name "=\"[0-9]+\"") ? \
                substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 4) : 0
        }
        { gsub(/\t/, " ") }
        /<testsuite/ { inside = 1 }
        inside {
            if (number("tests")) tests = number("tests")
            failures += number("failures"); skipped += number("skipped") + number("disabled")
        }
        />/ && inside { exit }
        END {
            print tests - failures - skipped, failures + 0
            printf "%d tests%s\n", tests, skipped ? ", " skipped " of them skipped" : "" >note
        }' "$logs/$preset.xml" >"$logs/$stage.count"
    return "$status"
}

# build PRESET [OPTION...]
build() {
    cmake --preset "$@" -DMND_LONG=$long
    cmake --build --preset "$1"
}

c_files() { git ls-files --cached --others --exclude-standard '*.c' '*.h'; }

stage_setup() { scripts/setup.sh test; }

stage_format() { c_files | xargs clang-format --dry-run -Werror; }

stage_layers() { scripts/check_layers.sh; }

stage_shell() {
    local scripts
    mapfile -t scripts < <(git ls-files --cached --others --exclude-standard '*.sh' '*.sbatch' .ci/run)
    local script
    for script in "${scripts[@]}"; do bash -n "$script"; done
    shellcheck -x -S warning "${scripts[@]}"
    echo "${#scripts[@]} scripts" >"$logs/shell.note"
}

stage_tree() {
    local found=0
    # Written apart, so that this line does not find itself.
    git grep -nIwE 'TO''DO|FIX''ME|X''XX|HA''CK' -- '*.[ch]' '*.sh' '*.py' '*.txt' '*.cmake' && found=1
    git ls-files -z | xargs -0 -r du -k | awk '$1 > 1024 { print $2 " is large: " $1 " KiB"; bad = 1 }
        END { exit bad }' || found=1
    [ "$found" -eq 0 ]
}

stage_build() {
    build release -DMND_WERROR=ON
}

stage_data() {
    if ! fetch_mnist "$root/build/release/mnist_dist"; then
        echo "no source of MNIST answers: the tests on real images are skipped" >"$logs/data.note"
    fi
}

stage_test() { run_ctest release; }

stage_run() {
    local first second scratch
    scratch=$(mktemp -d)
    # shellcheck disable=SC2064 # the folder of now is meant
    trap "rm -rf '$scratch'" EXIT
    run_once() {
        scripts/run.sh --model mlp16 --epochs 1 --checkpoint-dir "$scratch/$1" --seed 7 \
            2> >(tee "$scratch/$1.err" >&2) | tee "$scratch/$1.out"
    }
    run_once first
    run_once second
    first=$(grep -oE '[0-9a-f]{64}' "$scratch/first.out" | tail -n 1)
    second=$(grep -oE '[0-9a-f]{64}' "$scratch/second.out" | tail -n 1)
    [ -n "$first" ] && [ "$first" = "$second" ]
    if grep 'set-up' "$scratch/second.err"; then
        echo "the second call did set-up work again"
        return 1
    fi
}

stage_clang() {
    build clang
    run_ctest clang
}

stage_asan() {
    build asan
    run_ctest asan
}

stage_mpich() {
    build mpich
    run_ctest mpich
}

stage_valgrind() {
    build valgrind
    run_ctest valgrind
}

stage_fuzz() {
    build fuzz
    run_ctest fuzz
}

stage_tidy() {
    cmake --preset clang # for its compile commands
    c_files | grep '\.c$' | grep -vE '^(tests/consumer|tests/fuzz|bench)/' |
        xargs -n 1 -P "$jobs" clang-tidy -p build/clang --quiet && return
    printf '\nIn short:\n'
    grep ': error: ' "$logs/tidy.log" | sort -u
    return 1
}

stage_sizes() { scripts/check_sizes.sh; }

passed=0 failed=0
begin=$SECONDS
for row in "${stages[@]}"; do
    stage=${row%% *}
    if [ ${#only[@]} -gt 0 ] && [[ $stage != setup && " ${only[*]} " != *" $stage "* ]]; then
        continue
    fi
    rm -f "$logs/$stage.note" "$logs/$stage.count"
    start=$SECONDS
    # Not in a condition, where set -e would be off inside.
    set +e
    (
        set -e
        "stage_$stage"
    ) </dev/null >"$logs/$stage.log" 2>&1
    status=$?
    set -e
    good=0 bad=0
    [ ! -s "$logs/$stage.count" ] || read -r good bad <"$logs/$stage.count"
    # A stage counts as its tests, or as one where it has none or failed besides them.
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
    elif [ "$status" -eq 0 ] && [ $((good + bad)) -eq 0 ]; then
        good=1
    fi
    passed=$((passed + good)) failed=$((failed + bad))
    note=$(cat "$logs/$stage.note" 2>/dev/null || true)
    if [ "$bad" -eq 0 ]; then
        printf '%-9s ok     %5d s  %s\n' "$stage" $((SECONDS - start)) "$note"
    else
        printf '%-9s FAILED %5d s  %s (build/log/%s.log)\n' "$stage" $((SECONDS - start)) "$note" "$stage"
        # What ctest says of the failed ones comes before its list of them.
        tail -n 60 "$logs/$stage.log" | sed 's/^/    /'
    fi
    # Without its packages or its program nothing further can be said.
    if [ "$bad" -gt 0 ] && { [ "$stage" = setup ] || [ "$stage" = build ]; }; then break; fi
done
printf '\n%d s; the logs are in build/log/\n' $((SECONDS - begin))
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
