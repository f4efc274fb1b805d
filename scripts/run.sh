#!/usr/bin/env bash
# From a fresh machine to a trained network: installs what is missing, builds, fetches MNIST,
# converts it and trains on all cores with mpirun. A second call does only what is not done yet.
#
# usage: [NP=ranks] scripts/run.sh [COMMAND] [OPTIONS]     COMMAND and OPTIONS are mnist_dist's
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"

case ${1:-} in
-h | --help)
    sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac

cores=$(core_count)
np=${NP:-$cores}
[[ $np =~ ^[1-9][0-9]{0,5}$ ]] || die "NP='$np' is not a number of ranks; try NP=$cores"

"$root/scripts/setup.sh" run
build_preset release
binary=$root/build/release/mnist_dist

# These need no data.
case ${1:-} in
convert | synth | summary | help | --version) exec "$binary" "$@" ;;
esac

if [ "${1:-}" != accept ] && [ -z "${MNIST_DIST_DATA:-}" ] && [[ " $* " != *" --data"[\ =]* ]]; then
    MNIST_DIST_DATA=$root/data/mnist.h5
    if ! fetch_mnist "$binary"; then
        MNIST_DIST_DATA=$root/data/synth.h5
        cat >&2 <<TEXT

*** MNIST could not be fetched from any source. The network will be trained on digits that the
*** program draws itself: its figures say NOTHING about MNIST. If you have the four files in a
*** folder, start again with 'MNIST_DIR=folder scripts/run.sh'.

TEXT
        [ -f "$MNIST_DIST_DATA" ] ||
            "$binary" synth -o "$MNIST_DIST_DATA" --images 60000 --test-images 10000 --seed 1
    fi
    # Shorter to read, and what the documentation shows.
    [ "$PWD" = "$root" ] && MNIST_DIST_DATA=${MNIST_DIST_DATA#"$root/"}
    export MNIST_DIST_DATA
fi

# And these no launcher.
case ${1:-} in
show | predict) exec "$binary" "$@" ;;
esac

[ "$PWD" = "$root" ] && binary=${binary#"$root/"}
launch "$np" "$cores" "$binary" "$@"
