#!/bin/bash
# speed.sh - the table of speeds in docs/results.md: training on one and on two processes beside
# Debian's PyTorch in one thread: same network, batch and optimizer (Adam), data in memory on both
# sides, evaluation left out of images/s. The sides take turns; what is printed are medians over the
# rounds, and of ratios within a round. (bench/peers/run.sh compares with current releases at their best settings.)
#   [NAME=VALUE...] bench/speed.sh      ROUNDS=5  EPOCHS=3  MODELS='mlp512 cnn'  BATCH=128
#     BINARY=build/release/mnist_dist   DATA=data/mnist.h5   PYTHON=/usr/bin/python3
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${BINARY:-build/release/mnist_dist}
data=${DATA:-data/mnist.h5}
python=${PYTHON:-/usr/bin/python3}
batch=${BATCH:-128}
epochs=${EPOCHS:-3}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_rmaps_base_oversubscribe=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# field KEY FILE - the value of a key in the last epoch's line
field() { grep '"epoch"' "$2" | grep -o "\"$1\": *[0-9.e+]*" | tail -1 | sed 's/.*: *//'; }

# ours RANKS MODEL - images/s of the last epoch, and the CPU seconds of an epoch: those of everything
# from start to end, evaluation and start-up included, by the number of epochs
ours() {
    local launch=()
    [ "$1" -eq 1 ] || launch=(mpirun -np "$1" --bind-to core)
    rm -f "$work/m.jsonl"
    { TIMEFORMAT='%U %S' && time "${launch[@]}" "$binary" train --model "$2" --data "$data" \
        --batch-size "$batch" --epochs "$epochs" --checkpoint-dir none --progress never \
        --metrics "$work/m.jsonl" >"$work/log" 2>&1; } 2>"$work/cpu" || {
        cat "$work/log" >&2
        exit 1
    }
    echo "$(field images_per_second "$work/m.jsonl") $(awk -v n="$epochs" '{ print ($1 + $2) / n }' "$work/cpu")"
}

# torch MODEL - the same; its CPU seconds are those of the training alone
torch() {
    "$python" bench/peers/pytorch_ddp.py --model "$1" --data "$data" --batch-size "$batch" \
        --epochs "$epochs" --threads 1 --step foreach >"$work/torch"
    echo "$(field images_per_second "$work/torch") $(field cpu_seconds "$work/torch")"
}

median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
column() { awk -v c="$1" '{ print $c }' "$work/rounds" | median; }
ratio() { awk -v a="$1" -v b="$2" '{ print $a / $b }' "$work/rounds" | median; }

load() { cut -d' ' -f1 /proc/loadavg; }
before=$(load)
echo '| network | | ours, 1 rank | ours, 2 ranks | PyTorch, 1 thread | 1 rank / PyTorch | 2 ranks / 1 rank |'
echo '| --- | --- | ---: | ---: | ---: | ---: | ---: |'
for model in ${MODELS:-mlp512 cnn}; do
    : >"$work/rounds"
    for ((round = 0; round < ${ROUNDS:-5}; round++)); do
        echo "$(ours 1 "$model") $(torch "$model") $(ours 2 "$model")" >>"$work/rounds"
    done
    printf '| %s | images/s | %.0f | %.0f | %.0f | **%.2f** | %.2f |\n' "$model" \
        "$(column 1)" "$(column 5)" "$(column 3)" "$(ratio 1 3)" "$(ratio 5 1)"
    printf '| | CPU seconds an epoch | %.2f | %.2f | %.2f | **1 / %.2f** | %.2f |\n' \
        "$(column 2)" "$(column 6)" "$(column 4)" "$(ratio 4 2)" "$(ratio 6 2)"
done
echo
echo "Batch $batch, medians of ${ROUNDS:-5} rounds; PyTorch $("$python" -c 'import torch; print(torch.__version__)');" \
    "load average $before at the start, $(load) at the end."
