#!/bin/bash
# results.sh - the accuracies of docs/results.md: trains the tutorials' networks on 1, 2, 4 and 8
# processes at the same global batch and prints one Markdown row a run.
#   bench/results.sh [RANKS...]      (default 1 2 4 8; needs data/mnist.h5 and data/fashion-mnist.h5)
set -euo pipefail
cd "$(dirname "$0")/.."
binary=build/release/mnist_dist
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
ranks=("$@")
[ ${#ranks[@]} -gt 0 ] || ranks=(1 2 4 8)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# value KEY FILE - the last value of a key in a JSON lines file
value() { grep -o "\"$1\":[^,}]*" "$2" | tail -1 | cut -d: -f2 | tr -d '"'; }

run() { # NAME DATA OPTIONS...
    local name=$1 data=$2
    shift 2
    for np in "${ranks[@]}"; do
        rm -f "$work/m.jsonl"
        mpirun -np "$np" "$binary" train --data "$data" --metrics "$work/m.jsonl" --seed 1 \
            --checkpoint-dir none --progress never "$@" > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
        printf '| %s | %s | %d | %.4f | %.4f | %d | %.12s |\n' "$name" "$*" "$np" \
            "$(value test_accuracy "$work/m.jsonl")" "$(value best_accuracy "$work/m.jsonl")" \
            "$(value best_epoch "$work/m.jsonl")" "$(value weights_sha256 "$work/m.jsonl")"
    done
}

echo '| network, data | options | ranks | last | best | in epoch | weights_sha256 |'
echo '| --- | --- | ---: | ---: | ---: | ---: | --- |'
run 'mlp16, MNIST' data/mnist.h5 --model mlp16 --optimizer rmsprop --epochs 4 --batch-size 32
run 'mlp512, MNIST' data/mnist.h5 --model mlp512 --optimizer rmsprop --epochs 5 --batch-size 128
run 'cnn, MNIST' data/mnist.h5 --model cnn --optimizer adam --epochs 10 --batch-size 128
run 'cnn, Fashion-MNIST' data/fashion-mnist.h5 --model cnn --optimizer adam --epochs 10 --batch-size 128
