#!/bin/bash
# results.sh - the accuracies of docs/results.md, one Markdown row a run: the tutorials' networks on 1,
# 2, 4 and 8 processes at the same global batch, Fashion-MNIST, and how well networks that saw only the
# program's own drawn digits read the real ones.
#   [NAME=VALUE...] bench/results.sh [RANKS...]      (default 1 2 4 8)
#     WHAT='mlp16 mlp512 cnn cnn2 lstm fashion drawn'   SEED=1   BINARY=build/release/mnist_dist
#     MNIST=data/mnist.h5   FASHION=data/fashion-mnist.h5
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${BINARY:-build/release/mnist_dist}
mnist=${MNIST:-data/mnist.h5}
fashion=${FASHION:-data/fashion-mnist.h5}
seed=${SEED:-1}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_hwloc_base_binding_policy=none
ranks=("$@")
[ ${#ranks[@]} -gt 0 ] || ranks=(1 2 4 8)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# value KEY FILE - the last value of a key in a JSON lines file
value() { grep -o "\"$1\":[^,}]*" "$2" | tail -1 | cut -d: -f2 | tr -d '"'; }

# train RANKS DATA OPTIONS... - leaves $work/m.jsonl and the checkpoint $work/ckpt/latest
train() {
    local np=$1 data=$2
    shift 2
    rm -rf "$work/m.jsonl" "$work/ckpt"
    mpirun -np "$np" "$binary" train --data "$data" --metrics "$work/m.jsonl" --seed "$seed" \
        --checkpoint-dir "$work/ckpt" --keep 1 --progress never "$@" >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        exit 1
    }
}

# row NAME DATA OPTIONS...
row() {
    local name=$1 data=$2 np
    shift 2
    for np in "${ranks[@]}"; do
        train "$np" "$data" "$@"
        printf '| %s | %d | %.4f | %.4f | %d | %.12s |\n' "$name" "$np" \
            "$(value test_accuracy "$work/m.jsonl")" "$(value best_accuracy "$work/m.jsonl")" \
            "$(value best_epoch "$work/m.jsonl")" "$(value weights_sha256 "$work/m.jsonl")"
    done
}

# drawn NAME OPTIONS... - trained on drawn digits, evaluated on the real test images
drawn() {
    local name=$1 own
    shift
    [ -f "$work/drawn.h5" ] ||
        "$binary" synth -o "$work/drawn.h5" --images 60000 --test-images 10000 --seed "$seed" >"$work/log"
    train 1 "$work/drawn.h5" "$@"
    own=$(value test_accuracy "$work/m.jsonl")
    "$binary" evaluate "$work/ckpt/latest" --data "$mnist" >"$work/log"
    printf '| %s, only drawn digits | 1 | %s of the real test images (%.4f of the drawn) | | | %.12s |\n' \
        "$name" "$(grep -o 'accuracy [0-9.]*' "$work/log" | head -1 | cut -d' ' -f2)" "$own" \
        "$(value weights_sha256 "$work/m.jsonl")"
}

echo '| run | ranks | last epoch | best epoch | which | weights_sha256 |'
echo '| --- | ---: | ---: | ---: | ---: | --- |'
for what in ${WHAT:-mlp16 mlp512 cnn cnn2 lstm fashion drawn}; do
    case $what in
    mlp16) row "mlp16" "$mnist" --model mlp16 --optimizer rmsprop --epochs 4 --batch-size 32 ;;
    mlp512) row "mlp512" "$mnist" --model mlp512 --optimizer rmsprop --epochs 5 --batch-size 128 ;;
    cnn) row "cnn" "$mnist" --model cnn --epochs 10 --batch-size 128 --lr 0.002 --schedule cosine ;;
    cnn2) row "cnn2" "$mnist" --model cnn2 --epochs 10 --batch-size 128 --lr 0.002 --schedule cosine ;;
    lstm) row "lstm:128,dense:10" "$mnist" --model lstm:128,dense:10 --epochs 10 --batch-size 128 --lr 0.003 --schedule cosine ;;
    fashion) row "cnn, Fashion-MNIST" "$fashion" --model cnn --epochs 10 --batch-size 128 --lr 0.002 --schedule cosine ;;
    drawn)
        drawn cnn --model cnn --epochs 5
        drawn mlp512 --model mlp512 --epochs 5
        ;;
    *)
        echo "results.sh: WHAT: '$what' is none of mlp16 mlp512 cnn cnn2 lstm fashion drawn" >&2
        exit 2
        ;;
    esac
done
