#!/usr/bin/env bash
# usage: readme.sh PROGRAM — the commands that the documents show exists, and what they show of the
# program's output has the shape of what it prints.
set -euo pipefail
program=$1
root=${MND_SOURCE_DIR:?}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$root"
bad=0
complain() {
    echo "$*"
    bad=1
}

mapfile -t documents < <(git ls-files --cached --others --exclude-standard '*.md')
[ ${#documents[@]} -gt 2 ]

"$program" --help >"$work/help"
commands=$(sed -n '/^Commands:/,/^$/ s/^  \([a-z]*\) .*/\1/p' "$work/help")
for command in $commands; do "$program" "$command" --help >"$work/help.$command"; done

# check_line DOCUMENT LINE: a command that a document shows.
check_line() {
    local document=$1 line=$2 word command=train option
    line=${line%%  #*}
    for word in $line; do
        case $word in
        scripts/* | data/*.sh | bench/*.sh)
            [ -x "$word" ] || complain "$document: $word is no program ($line)"
            ;;
        esac
    done
    # The part that the program, or run.sh for it, gets to see.
    [[ $line =~ (^|[[:space:]/])(mnist_dist|scripts/run\.sh|train\.sbatch)([[:space:]]+(.*))?$ ]] || return 0
    line=${BASH_REMATCH[4]}
    line=${line%%[|>&;]*}
    set -f
    # shellcheck disable=SC2086 # words are wanted
    set -- $line
    set +f
    if [ $# -gt 0 ] && grep -qx -- "$1" <<<"$commands"; then
        command=$1
    elif [[ ${1:-} =~ ^[a-z]+$ ]]; then
        complain "$document: '$1' is no command of the program ($line)"
    fi
    for option in "$@"; do
        [[ $option == --[a-z]* ]] || continue
        option=${option%%=*}
        [ "$option" = --version ] || grep -qE -- "(^|[ ,])$option( |$)" "$work/help.$command" ||
            complain "$document: '$command' has no option $option"
    done
}

for document in "${documents[@]}"; do
    while read -r line; do
        check_line "$document" "$line"
    done < <(awk '/^```(sh|bash|console)$/ { console = /console/; inside = 1; next }
        /^```/ { inside = 0 }
        inside && console && !sub(/^\$ /, "") { next }
        inside { while (sub(/\\$/, "")) { getline more; sub(/^ +/, " ", more); $0 = $0 more } print }' "$document")
    # Links to files of the project.
    while read -r target; do
        [ -e "$(dirname "$document")/${target%%#*}" ] || complain "$document: link to $target, which is not there"
    done < <(grep -oE '\]\([^)#:]+[^):]*\)' "$document" | sed -E 's/^\]\(//; s/\)$//')
done

# The same command as in the README, on few images and with one epoch.
"$program" synth -o "$work/small.h5" --images 600 --test-images 100 --seed 1 >"$work/synth.out"
(cd "$work" && "$program" --data small.h5 --epochs 1 >"$work/run.out")

# Numbers and hashes to #, one blank for many; what may or may not be there, away.
shape() {
    sed -E 's/^(Data:) [^,]*,/\1 @,/; s/(exchange) [a-z]+,/\1 @,/; s/(native|openblas) [^ ]+$/\1/; s/  best$//
        s/(process|host|thread|rank)(es|s)?\>/\1/g; s/[0-9a-f]{64}/#/g; s/[0-9][0-9.,]*/#/g
        s/ +/ /g; s/ $//' | sort -u
}
awk '/^\$ scripts\/run.sh$/ { inside = 1; next } /^```/ { inside = 0 } inside && !/^(\+|set-up:|data\/|$)/' README.md |
    shape >"$work/shown"
shape <"$work/run.out" >"$work/printed"
[ "$(wc -l <"$work/shown")" -gt 10 ]
if ! comm -23 "$work/shown" "$work/printed" | diff - /dev/null; then
    complain "README.md shows the lines above; the program prints none of that shape:"
    cat "$work/printed"
fi

# The stages of the tests that CONTRIBUTING.md shows are those that exist.
awk '/^\$ scripts\/test.sh$/ { inside = 1; next } /^```/ { inside = 0 } inside && $2 == "ok" { print $1 }' \
    CONTRIBUTING.md >"$work/shown"
scripts/test.sh --list | awk '{ print $1 }' | diff "$work/shown" - ||
    complain "CONTRIBUTING.md: the stages of scripts/test.sh are others"
exit "$bad"
