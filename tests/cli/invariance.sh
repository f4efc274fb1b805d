#!/usr/bin/env bash
# One run, on any processes: with --logical-ranks 8 the weights and the epochs' figures are the same to
# the bit on 1 to 8 processes, with every exchange, with 1 and 2 threads, on every kind of vector unit
# the CPU has, and however often and on whatever number of processes it was resumed, also from the
# middle of an epoch.
set -euo pipefail
exe=$1
dir=$(mktemp -d invariance.XXXXXX)
trap 'rm -rf "$dir"' EXIT

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# 1,010 images in batches of 100: 8 divides neither, and the last batch is short.
"$exe" synth -o "$dir/data.h5" --images 1010 --test-images 300 --seed 5 >"$dir/out"
deep=conv:16:3:s2:same,relu,conv:17:3:same,relu,maxpool:2,conv:12:3:s2,tanh,dropout:0.3,avgpool:2,flatten,dense:24,sigmoid,dense:10
wide=conv:16:3,leakyrelu,maxpool:3:s2:same,conv:24:3,leakyrelu:0.1,avgpool:2:same,globalavgpool,dense:10
runs=0

# train NP OPTIONS...: leaves "hash" and the epochs' loss and accuracy in $dir/figures
train() {
    local np=$1
    shift
    rm -f "$dir/m.jsonl"
    timeout 240 "$MPIEXEC" -n "$np" "$exe" train --data "$dir/data.h5" --batch-size 100 --seed 11 \
        --metrics "$dir/m.jsonl" --progress never "$@" >"$dir/out" 2>&1 ||
        fail "np $np $*: $(cat "$dir/out")"
    {
        grep -o '"weights_sha256":"[0-9a-f]*"' "$dir/m.jsonl"
        grep '"event":"epoch"' "$dir/m.jsonl" |
            grep -o '"epoch":[0-9]*\|"\(val_\)\?\(loss\|accuracy\)":[^,]*'
    } >"$dir/figures"
    runs=$((runs + 1))
}

same() { # as $dir/wanted
    diff "$dir/wanted" "$dir/figures" >&2 || fail "$* differs"
}

# Further layers: every way to run them once.
for model in "$wide" conv:9:3,maxpool:2,lstm:40,relu,dense:10; do
    common=(--model "$model" --epochs 2 --logical-ranks 8 --checkpoint-dir none)
    train 1 "${common[@]}"
    mv "$dir/figures" "$dir/wanted"
    for np in 2 3 8; do
        train "$np" "${common[@]}"
        same "$model on $np processes"
    done
    train 2 "${common[@]}" --threads 2 --exchange tree
    same "$model on 2 processes with 2 threads"
    MNIST_DIST_KERNELS=avx2 train 2 "${common[@]}"
    if grep -q '"arithmetic":"fma-' "$dir/m.jsonl"; then same "$model by AVX2"; fi
    # From a checkpoint in the middle of an epoch that 3 processes wrote, on 2.
    rm -rf "$dir/ckpt"
    resumed=(--model "$model" --epochs 2 --logical-ranks 8 --checkpoint-dir "$dir/ckpt")
    train 3 "${resumed[@]}" --checkpoint-every 4 --keep 9
    train 2 "${resumed[@]}" --resume "$dir/ckpt/ckpt-00000016.h5"
    grep -q "Resumed from .*: epoch 1, step 16" "$dir/out" || fail "$model: $(cat "$dir/out")"
    grep -qf <(grep weights_sha256 "$dir/figures") "$dir/wanted" || fail "$model, resumed: other weights"
done

for model in mlp512 cnn "$deep"; do
    common=(--model "$model" --epochs 2 --logical-ranks 8 --checkpoint-dir none)
    train 1 "${common[@]}"
    grep -c '"epoch":' "$dir/figures" | grep -qx 2 || fail "$model: $(cat "$dir/figures")"
    mv "$dir/figures" "$dir/wanted"
    for np in 2 3 4 5 6 7 8; do
        train "$np" "${common[@]}"
        same "$model on $np processes"
    done
    for exchange in tree shared; do
        train 3 "${common[@]}" --exchange "$exchange"
        same "$model, exchange $exchange"
    done
    train 1 "${common[@]}" --threads 2
    same "$model with 2 threads"
    train 2 "${common[@]}" --threads 2
    same "$model on 2 processes with 2 threads"
    for stream in 0 1; do
        MND_TEST_STREAM=$stream train 2 "${common[@]}"
        same "$model on 2 processes, streaming stores: $stream"
    done
    MNIST_DIST_KERNELS=avx2 train 2 "${common[@]}"
    if grep -q '"arithmetic":"fma-' "$dir/m.jsonl"; then same "$model by AVX2"; fi
    # The plain reference keeps the claim for one BLAS kernel.
    if [ "$model" != cnn ]; then
        train 1 "${common[@]}" --products openblas
        cp "$dir/figures" "$dir/plain"
        train 3 "${common[@]}" --products openblas
        diff "$dir/plain" "$dir/figures" >&2 || fail "$model by OpenBLAS on 3 processes differs"
    fi
    # Another number of logical ranks is another run: the test would see a difference.
    train 2 "${common[@]}" --logical-ranks 7
    ! diff -q "$dir/wanted" "$dir/figures" >/dev/null || fail "$model: 7 logical ranks look like 8"
done

# Clipping needs the norm of the whole gradient: another sum over all ranks.
clipped=(--model "$deep" --epochs 2 --logical-ranks 8 --checkpoint-dir none --clip-norm 0.5)
train 1 "${clipped[@]}"
! diff -q "$dir/wanted" "$dir/figures" >/dev/null || fail "--clip-norm 0.5 changes nothing"
mv "$dir/figures" "$dir/wanted"
for np in 2 3 5 8; do
    for exchange in tree shared; do
        train "$np" "${clipped[@]}" --exchange "$exchange"
        same "clipped, exchange $exchange on $np processes"
    done
done

# What an image gets is a matter of its number and the epoch.
parts=rotate:12,scale:0.12,shear:0.15,shift:2,elastic:1.2,erase:5
augmented=(--model "$deep" --epochs 2 --logical-ranks 8 --checkpoint-dir none --augment "$parts")
train 1 "${augmented[@]}"
! diff -q "$dir/wanted" "$dir/figures" >/dev/null || fail "--augment $parts changes nothing"
grep -q "\"augment\":\"$parts\"" "$dir/m.jsonl" || fail "the metrics do not tell the augmentation"
mv "$dir/figures" "$dir/wanted"
for np in 2 3 8; do
    train "$np" "${augmented[@]}"
    same "augmented on $np processes"
done
train 2 "${augmented[@]}" --threads 2
same "augmented on 2 processes with 2 threads"

# The average of the weights and running statistics, smoothed labels, Nesterov momentum and one cycle.
averaged=(--model "${deep/relu/batchnorm,relu}" --epochs 2 --logical-ranks 8 --checkpoint-dir none --ema 0.9 --lr 0.05
    --label-smoothing 0.1 --optimizer sgd --nesterov --schedule onecycle)
train 1 "${averaged[@]}"
mv "$dir/figures" "$dir/wanted"
for run in "2 shared 1 1" "2 shared 2 0" "3 tree 1 0" "5 shared 1 0" "8 shared 1 0" "8 tree 1 0"; do
    read -r np exchange threads stream <<<"$run"
    MND_TEST_STREAM=$stream train "$np" "${averaged[@]}" --exchange "$exchange" --threads "$threads"
    same "averaged, exchange $exchange on $np processes with $threads threads, streaming: $stream"
done
train 2 "${averaged[@]}" --ema 0
! diff -q "$dir/wanted" "$dir/figures" >/dev/null || fail "--ema 0.9 changes nothing"

# Resume, each time on another number of processes and from the middle of an epoch.
stopped=0
for chain in "cnn 8 3 5" "mlp512 5 8 2 --augment $parts --ema 0.98 --label-smoothing 0.1"; do
    read -r model first second third options <<<"$chain"
    read -ra resumed <<<"--model $model --epochs 6 --logical-ranks 8 $options"
    train 2 "${resumed[@]}" --checkpoint-dir none
    mv "$dir/figures" "$dir/wanted"
    rm -rf "$dir/ckpt" "$dir/r.jsonl"
    for turn in "$first 15" "$second 28" "$third 49"; do
        read -r np step <<<"$turn"
        # The fault kills a rank in the middle of the run; what the last checkpoint holds goes on.
        code=0
        MNIST_DIST_FAULT=kill:1:$step timeout 240 "$MPIEXEC" -n "$np" "$exe" train \
            --data "$dir/data.h5" --batch-size 100 --seed 11 --progress never "${resumed[@]}" \
            --checkpoint-dir "$dir/ckpt" --checkpoint-every 4 --resume auto --metrics "$dir/r.jsonl" \
            >"$dir/out" 2>&1 || code=$?
        [ "$code" != 0 ] || fail "$model: the run on $np processes was not killed"
        stopped=$((stopped + 1))
    done
    timeout 240 "$exe" train --data "$dir/data.h5" --batch-size 100 --seed 11 --progress never \
        "${resumed[@]}" --checkpoint-dir "$dir/ckpt" --checkpoint-every 4 --resume auto \
        --metrics "$dir/r.jsonl" >"$dir/out" 2>&1 || fail "$model: resume on 1: $(cat "$dir/out")"
    grep -q "Resumed from .*: epoch 4, step 48" "$dir/out" ||
        fail "$model: resumed elsewhere: $(cat "$dir/out")"
    {
        grep -o '"weights_sha256":"[0-9a-f]*"' "$dir/r.jsonl"
        grep '"event":"epoch"' "$dir/r.jsonl" |
            grep -o '"epoch":[0-9]*\|"\(val_\)\?\(loss\|accuracy\)":[^,]*'
    } >"$dir/figures"
    same "$model, killed on $first, $second and $third processes and finished on 1"
done

[ "$stopped" = 6 ] || fail "only $stopped runs were killed"
[ "$runs" -ge 40 ] || fail "only $runs runs"
echo "$runs runs agree where they must"
