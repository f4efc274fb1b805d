# shellcheck shell=bash
# What tests of the command line share: $exe is the program, and they run in a folder of their own, which
# is removed at the end.
# shellcheck source=tests/support/runs.sh
. "$(dirname "${BASH_SOURCE[0]}")/runs.sh"
# shellcheck disable=SC2034 # by the scripts that read this one
exe=$(realpath "$1")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit
