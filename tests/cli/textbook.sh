#!/usr/bin/env bash
# The textbook path, --textbook: every model, optimizer and option on 1 to 8 ranks, with batches that
# the ranks do not divide and a short last batch. Each run agrees with the fast path: the losses of an
# epoch to 1e-3. With MND_LONG=1 also 2 epochs of cnn on MNIST: test accuracies within 0.3 points.
set -euo pipefail
# shellcheck source=tests/support/cli.sh
. "$(dirname "${BASH_SOURCE[0]}")/../support/cli.sh"
mnist=$MND_SOURCE_DIR/data/mnist.h5

# figures FILE: the epochs' losses and accuracies, a line each
figures() {
    grep '"event":"epoch"' "$1" | sed 's/.*"loss":\([^,]*\),.*"val_loss":\([^,]*\),.*/\1 \2/'
}

# train NP NAME OPTION...: leaves NAME.jsonl
train() {
    local np=$1 name=$2
    shift 2
    rm -f "$name.jsonl"
    "$MPIEXEC" -n "$np" "$exe" train --checkpoint-dir none --progress never --metrics "$name.jsonl" "$@" \
        >out 2>&1 || fail "np $np $*: $(cat out)"
}

# 250 images in batches of 67: no number of ranks but 1 divides 67, and the last batch has 49.
"$exe" synth -o d.h5 --images 250 --test-images 60 --seed 5 >out
runs=0
agree() {
    local np=$1
    shift
    # Sanitized programs take many times as long: they do without the runs of many ranks.
    [ -z "${MND_SANITIZE:-}" ] || [ "$np" -le 3 ] || return 0
    local options=(--data d.h5 --batch-size 67 --epochs 2 --seed 4 "$@")
    train "$np" book --textbook "${options[@]}"
    grep -q 'exchange mpi, OpenBLAS' out || fail "np $np $*: not the textbook path: $(cat out)"
    train 1 fast "${options[@]}"
    figures book.jsonl >book
    figures fast.jsonl >fast
    [ "$(wc -l <book)" = 2 ] || fail "np $np $*: not two epochs: $(cat book.jsonl)"
    paste -d ' ' book fast | awk '
        function off(a, b) { return a > b ? a - b : b - a }
        { if (!(off($1, $3) <= 1e-3 * $3 && off($2, $4) <= 1e-3 * $4)) bad = 1 }
        END { exit bad }' || fail "np $np $*: $(paste -d ' ' book fast) (textbook, fast: loss and val_loss)"
    runs=$((runs + 1))
}

for np in 1 2 3 8; do agree $np --model mlp16; done
for np in 4 5; do agree $np --model mlp512; done
for np in 2 7; do agree $np --model cnn; done
agree 6 --model cnn2
agree 3 --model conv:6:3:same,relu,maxpool:2,conv:8:3:s2,tanh,dropout:0.3,avgpool:2,flatten,dense:24,sigmoid,dense:10
agree 2 --model conv:16:3:s2:same,relu,conv:17:3:same,relu,conv:16:3,avgpool:2,flatten,dense:10
agree 2 --model conv:6:3,leakyrelu,maxpool:3:s2:same,conv:12:3,leakyrelu:0.1,avgpool:2:same,globalavgpool,dense:10
agree 3 --model lstm:40,dense:10
residual='conv:6:3:same,batchnorm,relu,maxpool:2,residual(conv:6:3:same,batchnorm:sync,relu,conv:6:3:same),'
for np in 1 3; do agree $np --model "${residual}flatten,dense:16,batchnorm:0.5,relu,dense:10" --logical-ranks 8; done
agree 2 --model mlp16 --optimizer sgd
agree 3 --model mlp16 --optimizer sgd --momentum 0 --weight-decay 0.01 --schedule step --step-epochs 1
agree 4 --model mlp16 --optimizer adamw --schedule cosine --warmup-epochs 0.5
agree 5 --model mlp16 --optimizer rmsprop --init he
agree 2 --model mlp16 --optimizer sgd --nesterov --schedule onecycle
agree 3 --model mlp16 --optimizer adamw --beta1 0.8 --beta2 0.99 --schedule exponential --step-epochs 1
agree 3 --model mlp16 --clip-norm 0.1
agree 2 --model mlp16 --label-smoothing 0.2 --ema 0.9
agree 3 --model mlp16 --ema 0.99 --clip-norm 0.5
agree 2 --model flatten,dense:16,batchnorm:sync,relu,dense:10 --ema 0.9
agree 2 --model mlp16 --threads 2
agree 2 --model mlp16 --check-every 2 --stall-timeout 60

# Its state is that of any run: a checkpoint of 3 ranks goes on with 2, and on the fast path.
"$MPIEXEC" -n 3 "$exe" train --textbook --data d.h5 --model mlp16 --epochs 1 --checkpoint-dir ckpt >out 2>&1 ||
    fail "$(cat out)"
for path in --textbook --products=native; do
    train 2 resumed "$path" --data d.h5 --model mlp16 --epochs 2 --resume ckpt/latest
    grep -q 'Resumed from ckpt/latest: epoch 1' out || fail "$path: not resumed: $(cat out)"
done

if [ "${MND_LONG:-}" = 1 ] && [ -f "$mnist" ]; then
    accuracy() { sed -n 's/^Test accuracy \([0-9.]*\),.*/\1/p' out; }
    train 2 fast --data "$mnist" --model cnn --epochs 2
    fast=$(accuracy)
    train 2 book --data "$mnist" --model cnn --epochs 2 --textbook
    book=$(accuracy)
    awk -v a="$fast" -v b="$book" 'BEGIN { d = a - b; exit !(a > 0.9 && d < 0.003 && d > -0.003) }' ||
        fail "cnn after 2 epochs: test accuracy $fast, textbook $book"
    echo "cnn after 2 epochs: test accuracy $fast, textbook $book"
fi
echo "textbook: $runs runs agree with the fast path"
