#!/usr/bin/env bash
# The same training job by mnist_dist, PyTorch and Keras, side by side on this machine, in one
# table. The first call installs the peers from PyPI into build/peers (not into the system).
#
# usage: [NAME=VALUE...] bench/peers/run.sh [all|speed|start|accuracy|tune] [compare.py's OPTIONS]
#   all    training speed, then time and memory from launch to the first step (default)
#   accuracy   time from launch to a test accuracy; bench/time_to_accuracy.sh calls it
#   tune   tries the peers' settings one by one, for the table of settings in compare.py
#
#   MODELS='mlp16 mlp512 cnn'   PEERS='pytorch pytorch-mkl debian keras' (or none)   REPEATS=5
#   DATA=data/mnist.h5   BINARY=build/release/mnist_dist   JSON=FILE (all figures)
#   TORCH=auto  cpu: the CPU build of download.pytorch.org; pypi: PyPI's build, which brings 5 GB of
#               CUDA libraries that a CPU run never uses; debian: only the python3-torch package;
#               auto: the first of the three that can be had
#   PEERS_DIR=build/peers       where the peers are installed
#
# pytorch-mkl is PyTorch with one wrong answer given to its matrix library: Intel's MKL uses AVX-512
# on Intel's own processors only, and a preloaded library makes it believe that this is one. It
# changes nothing else; on Intel machines the side is left out.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"

torch_version=2.15.0
keras_version=3.15.1
tensorflow_version=2.21.0
jax_version=0.10.2
python=/usr/bin/python3
[ -x "$python" ] || python=$(command -v python3) || die "python3 is needed"
dir=${PEERS_DIR:-$root/build/peers}
data=${DATA:-$root/data/mnist.h5}
binary=${BINARY:-$root/build/release/mnist_dist}
want=${TORCH:-auto}

case ${1:-} in
-h | --help)
    sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac

[ -n "${BINARY:-}" ] || build_preset release
[ -x "$binary" ] || die "no program '$binary'; build it or set BINARY"
[ -n "${DATA:-}" ] || fetch_mnist "$binary"
[ -f "$data" ] || die "no data file '$data'; see data/README.md"

# environment NAME PIP-ARGUMENT...: a virtual environment with just these packages, once.
environment() {
    local name=$1 at=$dir/$1
    shift
    [ ! -f "$at/done-$name" ] || return 0
    echo "set-up: installing $* into ${at#"$root/"}" >&2
    rm -rf "$at"
    "$python" -m venv "$at" >&2 || die "'python3 -m venv' failed; on Debian it needs python3-venv"
    "$at/bin/pip" install --quiet --disable-pip-version-check "$@" >&2 || return 1
    touch "$at/done-$name"
}

debian=
if "$python" -c 'import torch, h5py' 2>/dev/null; then debian=$python; fi

torch=
for kind in cpu pypi; do
    [ "${PEERS:-}" != none ] || break
    if [ "$want" != auto ] && [ "$want" != "$kind" ]; then continue; fi
    if [ -f "$dir/$kind/done-$kind" ]; then
        torch=$dir/$kind/bin/python
        break
    fi
    case $kind in
    cpu)
        index=https://download.pytorch.org/whl/cpu
        curl -sfI -m 10 -o /dev/null "$index/torch/" || continue
        environment cpu "torch==$torch_version+cpu" h5py numpy --extra-index-url "$index" ||
            continue
        ;;
    pypi)
        environment pypi "torch==$torch_version" h5py numpy || continue
        ;;
    esac
    torch=$dir/$kind/bin/python
    break
done
if [ -z "$torch" ] && [ "$want" != auto ] && [ "$want" != debian ]; then
    die "TORCH=$want cannot be installed here; try TORCH=auto"
fi

keras=
case " ${PEERS:-keras} " in
*" keras "*)
    if environment keras "tensorflow-cpu==$tensorflow_version" "keras==$keras_version" \
        "jax==$jax_version" h5py numpy; then
        keras=$dir/keras/bin/python
    fi
    ;;
esac

# Without a choice: all that can be had.
if [ -z "${PEERS:-}" ]; then
    PEERS=
    if [ -n "$torch" ]; then
        PEERS=pytorch
        grep -q GenuineIntel /proc/cpuinfo || PEERS="$PEERS pytorch-mkl"
    elif [ -n "$debian" ]; then
        PEERS=debian
    fi
    PEERS="$PEERS${keras:+ keras}"
fi
[ "$PEERS" != none ] || PEERS=
for peer in $PEERS; do
    case $peer in
    pytorch*) [ -n "$torch" ] || die "PyTorch $torch_version cannot be had; try PEERS=debian" ;;
    debian) [ -n "$debian" ] || die "python3-torch or python3-h5py is missing: scripts/setup.sh test" ;;
    keras) [ -n "$keras" ] || die "Keras cannot be installed from PyPI" ;;
    esac
done

unlock=
case " $PEERS " in
*" pytorch-mkl "*)
    unlock=$dir/mkl-unlock.so
    echo 'int mkl_serv_intel_cpu_true(void) { return 1; }' |
        "${CC:-cc}" -O1 -shared -fPIC -x c -o "$unlock" -
    ;;
esac

if [ -z "${MPIRUN:-}" ] && [ -f "$root/build/release/CMakeCache.txt" ]; then
    MPIRUN=$(sed -n 's/^MPIEXEC_EXECUTABLE:[^=]*=//p' "$root/build/release/CMakeCache.txt")
fi

"$python" "$root/bench/peers/compare.py" "${1:-all}" --binary "$binary" --data "$data" \
    --mpirun "${MPIRUN:-mpirun}" --torch "$torch" --debian "$debian" --keras "$keras" \
    --unlock "$unlock" --models "${MODELS:-mlp16 mlp512 cnn}" --peers "$PEERS" \
    --repeats "${REPEATS:-5}" ${JSON:+--json "$JSON"} "${@:2}"
