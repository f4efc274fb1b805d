#!/usr/bin/env bash
# Time from process start to the end of the epoch that first reaches 98 % and 99 % of the test
# images, start-up and reading the data included: mnist_dist with its best recipe on two cores
# beside PyTorch with the same recipe.
#
# usage: [NAME=VALUE...] bench/time_to_accuracy.sh [98|99]...
#   MODEL_98 BATCH_98 RECIPE_98 (and _99)   a recipe: model, global batch and more options of
#                                           'mnist_dist train' that pytorch_ddp.py knows too
#   PEERS, REPEATS, DATA, BINARY, TORCH     as in bench/peers/run.sh; PEERS=none: ours alone
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# cnn2 spelt out, so that the peers build the same.
net=conv:16:3,relu,maxpool:2,conv:32:3,relu,maxpool:2,flatten,dropout:0.2,dense:128,relu,dropout:0.3,dense:10
MODEL_98=${MODEL_98:-$net}
BATCH_98=${BATCH_98:-64}
RECIPE_98=${RECIPE_98:---epochs 3 --lr 0.004 --schedule cosine --warmup-epochs 0.1}
MODEL_99=${MODEL_99:-$net}
BATCH_99=${BATCH_99:-64}
RECIPE_99=${RECIPE_99:---epochs 3 --lr 0.004 --schedule cosine --warmup-epochs 0.1}

case ${1:-} in
-h | --help)
    sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac
[ $# -gt 0 ] || set -- 98 99
for percent in "$@"; do
    case $percent in
    98 | 99) ;;
    *)
        echo "time_to_accuracy.sh: '$percent' is neither 98 nor 99" >&2
        exit 2
        ;;
    esac
    model=MODEL_$percent batch=BATCH_$percent recipe=RECIPE_$percent
    "$here/peers/run.sh" accuracy --target "0.$percent" --recipe-model "${!model}" \
        --batch-size "${!batch}" --recipe=" ${!recipe}"
done
