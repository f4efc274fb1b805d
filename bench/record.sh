#!/usr/bin/env bash
# Ensembles of residual networks on MNIST: errors of the networks and of their mean, and the cost.
#
# usage: [NAME=VALUE...] bench/record.sh [choose|test] [SEED...]
#   choose   trains on the first 55,000 training images and counts errors on the other 5,000, by
#            which MODEL and RECIPE are chosen; the 10,000 test images are not in its data file
#   test     trains on all 60,000; the test images are read once, after the last epoch (the default)
#   SEED     the first seed of an ensemble of MEMBERS networks; one ensemble for each (1 101)
#
#   MODEL, RECIPE       the network, and more options of 'mnist_dist train'
#   MEMBERS=10  NP=2    networks of an ensemble; processes
#   WORK=build/record   checkpoints and metrics; the same command again goes on where it was ended
#   IDX=data/mnist  BINARY=build/release/mnist_dist
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"

residual() { echo "batchnorm,residual(conv:$1:3:same,relu),batchnorm"; }
network="conv:32:5:same,relu,maxpool:2,$(residual 32),conv:64:3:same,relu,maxpool:2,$(residual 64)"
network="$network,conv:128:3:same,relu,maxpool:2:same,$(residual 128),globalavgpool,dense:10"
MODEL=${MODEL:-$network}
RECIPE=${RECIPE:---epochs 6 --lr 0.002 --schedule cosine --warmup-epochs 0.5
    --augment rotate:12,scale:0.12,shear:0.15,shift:2,elastic:1.2}
members=${MEMBERS:-10}
ranks=${NP:-2}
work=${WORK:-$root/build/record}
idx=${IDX:-$root/data/mnist}
binary=${BINARY:-$root/build/release/mnist_dist}

what='test'
case ${1:-} in
choose | test)
    what=$1
    shift
    ;;
-h | --help)
    sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac
[ $# -gt 0 ] || set -- 1 101
for seed in "$@"; do [[ $seed =~ ^[0-9]+$ ]] || die "'$seed' is not a seed; see --help"; done

[ -n "${BINARY:-}" ] || build_preset release
[ -x "$binary" ] || die "no program '$binary'; build it or set BINARY"
[ -d "$idx" ] || "$root/data/fetch.sh" mnist "$idx"
mkdir -p "$work"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1

# be32 NUMBER...: four bytes each, the most significant first.
be32() { for n in "$@"; do printf '%b' "$(printf '\\x%02x' $((n >> 24 & 255)) $((n >> 16 & 255)) \
    $((n >> 8 & 255)) $((n & 255)))"; done; }

# The 60,000 training images as IDX files of 55,000 training and 5,000 test images.
hold_out() {
    local to=$1 x=$idx/train-images-idx3-ubyte y=$idx/train-labels-idx1-ubyte
    mkdir -p "$to"
    { be32 2051 55000 28 28; head -c $((16 + 55000 * 784)) "$x" | tail -c +17; } >"$to/train-images-idx3-ubyte"
    { be32 2049 55000; head -c 55008 "$y" | tail -c +9; } >"$to/train-labels-idx1-ubyte"
    { be32 2051 5000 28 28; tail -c $((5000 * 784)) "$x"; } >"$to/t10k-images-idx3-ubyte"
    { be32 2049 5000; tail -c 5000 "$y"; } >"$to/t10k-labels-idx1-ubyte"
}

data=$work/$what.h5
if [ ! -f "$data" ]; then
    from=$idx
    if [ "$what" = choose ]; then
        from=$work/held-out
        hold_out "$from"
    fi
    "$binary" convert "$from" -o "$data" >&2
fi

# Floating-point operations of one image's forward pass, by the direct sums of convolutions and dense
# layers, from the summary: 2 per weight and output pixel.
flop() {
    "$binary" summary --model "$MODEL" | awk '
        $1 ~ /^(conv|dense):/ {
            gsub(/[(),]/, "")
            pixels = $1 ~ /^conv/ ? $3 * $4 : 1
            sum += 2 * ($NF - $(NF - 1)) * pixels
        }
        END { printf "%.0f\n", sum }'
}

# numbers KEY FILE: all values of a key of a JSON file, one a line.
numbers() { grep -o "\"$1\":[0-9.e-]*" "$2" | cut -d: -f2; }

echo "$MODEL"
echo "$RECIPE"
forward=$(flop)
[ "$what" = test ] && images=60000 || images=55000
echo "$forward FLOP per image forward; TFLOP of training: three times that for each image"
echo
echo "| seeds | errors of each | mean and deviation, % | of their mean, % | misread by all | TFLOP | seconds |"
echo "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
for seed in "$@"; do
    at=$work/$what-$seed
    begin=$(date +%s)
    # shellcheck disable=SC2086 # RECIPE is a list of options
    mpirun -np "$ranks" "$binary" train --data "$data" --model "$MODEL" $RECIPE --seed "$seed" \
        --members "$members" --checkpoint-dir "$at" --keep 1 --metrics "$at.jsonl" --resume auto \
        --progress never </dev/null >"$at.log" 2>&1 || die "$(tail -n 3 "$at.log")"
    seconds=$(($(date +%s) - begin))
    "$binary" evaluate "$at" --data "$data" --json --misread >"$at.json"
    numbers correct "$at.json" | awk -v images="$(numbers images "$at.json" | head -n 1)" -v seed="$seed" \
        -v n="$members" -v all="$(numbers misread_by_all "$at.json")" -v seconds=$seconds \
        -v work="$forward" -v epochs="$(grep -c '"event":"epoch"' "$at.jsonl")" -v trained="$images" '
        NR <= n {
            wrong = images - $1
            list = list (NR > 1 ? " " : "") wrong
            sum += wrong
            squares += wrong * wrong
        }
        NR == n + 1 {
            mean = sum / n
            deviation = n > 1 ? sqrt((squares - n * mean * mean) / (n - 1)) : 0
            printf "| %d to %d | %s | %.3f +- %.3f | %.3f | %d | %.0f | %d |\n", seed, seed + n - 1, list,
                100 * mean / images, 100 * deviation / images, 100 * (images - $1) / images, all,
                3 * work * trained * epochs / 1e12, seconds
        }'
done
