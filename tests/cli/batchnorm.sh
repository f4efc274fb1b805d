#!/usr/bin/env bash
# batchnorm, batchnorm:sync and residual(...) in whole runs: the same bits on 1 to 8 ranks, with every
# exchange, with threads, by AVX2, and after kills in the middle of epochs; evaluation by the running
# statistics, which a checkpoint holds; predict, evaluate, summary and bench; wrong specs.
set -euo pipefail
# shellcheck source=tests/support/cli.sh
. "$(dirname "${BASH_SOURCE[0]}")/../support/cli.sh"

# 650 images in batches of 100: 8 divides neither, and the last batch is short.
"$exe" synth -o d.h5 --images 650 --test-images 120 --seed 5 >out
model='conv:6:3:same,batchnorm,relu,maxpool:2,residual(conv:6:3:same,batchnorm:0.8:sync,relu,'
model+='conv:6:3:same,batchnorm),relu,flatten,dense:12,batchnorm:0.5:sync,relu,dense:10'
runs=0

# train NP OPTIONS...: leaves m.jsonl
train() {
    local np=$1
    shift
    timeout 120 "$MPIEXEC" -n "$np" "$exe" train --data d.h5 --batch-size 100 --seed 11 --epochs 3 \
        --logical-ranks 8 --progress never --metrics m.jsonl "$@" >out 2>&1
}

# same OPTIONS...: as the run of `wanted`
same() {
    rm -f m.jsonl
    train "$@" --model "$model" --checkpoint-dir none || fail "$*: $(cat out)"
    same_facts wanted m.jsonl 3 || fail "$* differs"
    runs=$((runs + 1))
}

train 1 --model "$model" --checkpoint-dir ckpt || fail "$(cat out)"
mv m.jsonl wanted
for np in 2 3 8; do same $np; done
same 3 --exchange tree
same 1 --threads 2
same 2 --threads 2
MNIST_DIST_KERNELS=avx2 same 2
# The statistics of all ranks are other ones than those of each; so is a rank's share of the images.
for other in "${model//:sync/}" "${model//batchnorm,/batchnorm:sync,}"; do
    train 2 --model "$other" --checkpoint-dir none || fail "$other: $(cat out)"
    ! same_facts wanted m.jsonl 3 2>out || fail "$other looks like $model"
done

# Statistics of one row alone leave nothing of it: that is said, unless there is nothing to say.
few='layer 3 (batchnorm) takes mean and variance of 1 value: of a batch of 8 a logical rank has 1; give'
for norm in batchnorm batchnorm:sync; do
    train 2 --model "flatten,dense:4,$norm,relu,dense:10" --batch-size 8 --epochs 1 --checkpoint-dir none
    case $norm in
    batchnorm) grep -qF "$few" out || fail "no warning: $(cat out)" ;;
    *) ! grep -q 'takes mean' out || fail "a warning without reason: $(cat out)" ;;
    esac
done
rm -f m.jsonl
train 2 --model "$model" --batch-size 64 --epochs 1 --checkpoint-dir none
! grep -q 'takes mean' out || fail "a warning without reason: $(cat out)"

# Killed twice in the middle of an epoch, on other numbers of ranks, and finished on one.
rm -f m.jsonl
for turn in "3 6" "8 13"; do
    read -r np step <<<"$turn"
    ! MNIST_DIST_FAULT=kill:1:$step train "$np" --model "$model" --checkpoint-dir killed \
        --checkpoint-every 2 --resume auto || fail "the run on $np ranks was not killed"
done
train 1 --model "$model" --checkpoint-dir killed --resume auto || fail "resume: $(cat out)"
grep -q 'Resumed from .*: epoch 1, step 12' out || fail "resumed elsewhere: $(cat out)"
same_facts wanted m.jsonl 3 || fail "the resumed run differs"

# A rank that hangs is found while the others wait for its statistics.
code=0
MNIST_DIST_FAULT=hang:1:3 train 3 --model "$model" --checkpoint-dir none --stall-timeout 2 || code=$?
[ "$code" != 0 ] && [ "$code" != 124 ] || fail "a rank hung: $code: $(cat out)"
grep -q 'rank 1 .*is stuck' out || fail "the rank that hung is not named: $(cat out)"

# The running statistics are in the checkpoint, and evaluation uses them alone: the figures are those of
# the run, whatever is evaluated together.
loss=$(sed -n 's/.*"epoch":3,.*"val_loss":\([0-9.]*\),.*/\1/p' wanted)
"$exe" evaluate ckpt/latest --data d.h5 --json >answer
grep -q "\"loss\": *${loss:0:6}" answer || fail "evaluate: not the loss $loss: $(head -c 300 answer)"
"$exe" predict ckpt/latest --data d.h5 --index 7 >alone || fail "predict: $(cat alone)"
grep -q "^answer: " alone || fail "predict: $(cat alone)"
"$exe" summary --model "$model" >out || fail "summary: $(cat out)"
grep -qx '  batchnorm:0.8:sync     (None, 14, 14, 6)  *24' out || fail "summary: $(cat out)"
grep -qx ')                        (None, 14, 14, 6)  *0' out || fail "summary: $(cat out)"
grep -qx 'Of these not trained: 60' out || fail "summary: $(cat out)"
"$MPIEXEC" -n 2 "$exe" bench --data d.h5 --model "$model" --steps 3 --repeats 1 >out 2>&1 || fail "bench: $(cat out)"

# wrong SPEC MESSAGE
wrong() {
    ! "$exe" summary --model "$1" 2>out >/dev/null || fail "$1 is taken"
    grep -qF "$2" out || fail "$1: $(cat out)"
}
wrong 'flatten,batchnorm:1,dense:10' 'layer 2 (batchnorm:1): the momentum must be at least 0 and below 1'
wrong 'flatten,batchnorm:-0.1,dense:10' 'the momentum must be at least 0'
wrong 'flatten,batchnorm:x,dense:10' "the momentum must be a number, not 'x'"
wrong 'flatten,batchnorm:0.9:0.8,dense:10' "'0.8' is one argument too many: write batchnorm[:momentum][:sync]"
wrong 'flatten,batchnorm:sync:0.9,dense:10' "the momentum must be a number, not 'sync'"
wrong 'flatten,batchnorm:sync:sync,dense:10' "the momentum must be a number, not 'sync'"
wrong 'conv:8:3,residual(conv:16:3:same,batchnorm),flatten,dense:10' \
    'layer 2 (residual(...)): its layers make (26, 26, 16) of (26, 26, 8)'
wrong 'residual(batchnorm,flatten,dense:10' "layer 1 (residual(...)): its ')' is missing"
echo "batchnorm: $runs runs agree"
