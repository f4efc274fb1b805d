#!/bin/bash
# speed.sh - the table of speeds in docs/results.md: training on one and on two processes beside
# Debian's PyTorch in one thread: same network, batch and optimizer (Adam), data in memory on both
# sides, evaluation left out. The sides take turns; what is printed are medians over the rounds, and of
# ratios within a round. (bench/peers/run.sh compares with current releases at their best settings.)
#   [NAME=VALUE...] bench/speed.sh      ROUNDS=5  MODELS='mlp512 cnn'  BATCH=128
#     BINARY=build/release/mnist_dist   DATA=data/mnist.h5   PYTHON=/usr/bin/python3
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${BINARY:-build/release/mnist_dist}
data=${DATA:-data/mnist.h5}
python=${PYTHON:-/usr/bin/python3}
batch=${BATCH:-128}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_rmaps_base_oversubscribe=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# field KEY FILE - the value of a key in the last epoch's line
field() { grep '"epoch"' "$2" | grep -o "\"$1\": *[0-9.e+]*" | tail -1 | sed 's/.*: *//'; }

# ours RANKS MODEL EPOCHS - images/s of the last epoch
ours() {
    rm -f "$work/m.jsonl"
    mpirun -np "$1" --bind-to core "$binary" train --model "$2" --data "$data" --batch-size "$batch" \
        --epochs "$3" --checkpoint-dir none --progress never --metrics "$work/m.jsonl" >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        exit 1
    }
    field images_per_second "$work/m.jsonl"
}

torch() { # MODEL EPOCHS
    "$python" bench/peers/pytorch_ddp.py --model "$1" --data "$data" --batch-size "$batch" \
        --epochs "$2" --threads 1 --step foreach >"$work/torch"
    field images_per_second "$work/torch"
}

median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
column() { awk -v c="$1" '{ print $c }' "$work/rounds" | median; }
ratio() { awk -v a="$1" -v b="$2" '{ print $a / $b }' "$work/rounds" | median; }

echo "PyTorch $("$python" -c 'import torch; print(torch.__version__)'); load $(cut -d' ' -f1-3 /proc/loadavg) at the start"
echo '| network | 1 rank, images/s | 2 ranks, images/s | PyTorch, 1 thread | 1 rank / PyTorch | 2 ranks / 1 rank |'
echo '| --- | ---: | ---: | ---: | ---: | ---: |'
for model in ${MODELS:-mlp512 cnn}; do
    : >"$work/rounds"
    for ((round = 0; round < ${ROUNDS:-5}; round++)); do
        echo "$(ours 1 "$model" 2) $(torch "$model" 2) $(ours 2 "$model" 2)" >>"$work/rounds"
    done
    # shellcheck disable=SC2016 # the quotes are of Markdown
    printf '| %s, batch %d | %.0f | %.0f | %.0f | %.2f | %.2f |\n' "$model" "$batch" \
        "$(column 1)" "$(column 3)" "$(column 2)" "$(ratio 1 2)" "$(ratio 3 1)"
done
echo "load $(cut -d' ' -f1-3 /proc/loadavg) at the end"
