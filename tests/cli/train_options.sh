#!/usr/bin/env bash
# Options of training: which optimizer has which, what has no effect, what the metrics say of them, and
# that a resume compares them.
set -euo pipefail
# shellcheck source=tests/support/cli.sh
. "$(dirname "${BASH_SOURCE[0]}")/../support/cli.sh"

"$exe" synth -o d.h5 --images 410 --test-images 100 --seed 5 >out
run=(train --data d.h5 --model mlp16 --batch-size 40 --epochs 2 --progress never --metrics m.jsonl)

# trains OPTION...: from the start
trains() {
    rm -f m.jsonl
    "$exe" "${run[@]}" "$@" >out 2>err || fail "$*: $(cat err)"
}
quiet() { [ ! -s err ] || fail "$*: $(cat err)"; }
warned() { # PATTERN
    [ "$(grep -c "warning: .*$1" err) $(wc -l <err)" = "1 1" ] || fail "not one warning, '$1': $(cat err)"
}
refused() { # PATTERN OPTION...
    local code=0 pattern=$1
    shift
    "$exe" "${run[@]}" --checkpoint-dir none "$@" >out 2>err || code=$?
    [ $code = 2 ] || fail "$*: exit $code: $(cat err)"
    grep -q -e "$pattern" err || fail "$*: no '$pattern' in $(cat err)"
}
started() { # MEMBER...: of the start line
    local member
    for member in "$@"; do
        head -n 1 m.jsonl | grep -qF -e "$member" || fail "no $member in $(head -n 1 m.jsonl)"
    done
}
sha() { sed -n 's/^weights_sha256 //p' out; }

# Settings of optimizers.
refused "optimizer adam has no nesterov" --nesterov
refused "optimizer sgd has no beta1" --optimizer sgd --beta1 0.8
refused "optimizer adamw has no rho" --optimizer adamw --rho 0.8
refused "beta2: 1 is not between 0 and" --beta2 1
trains --checkpoint-dir none --optimizer adamw --beta1 0.85 --beta2 0.99 --weight-decay 0.05 --epsilon 1e-7
quiet adamw
started '"settings":{"beta1":0.85,"beta2":0.99,"epsilon":1e-07,"weight_decay":0.05}'
trains --checkpoint-dir none --optimizer rmsprop --rho 0.95
started '"settings":{"rho":0.95,"epsilon":1e-07}'
trains --checkpoint-dir none --optimizer sgd --nesterov --momentum 0
warned "--nesterov does nothing with --momentum 0"

# What a checkpoint keeps of them is compared, also a setting that not every optimizer has.
trains --checkpoint-dir none --optimizer sgd
plain=$(sha)
trains --checkpoint-dir ck --optimizer sgd --nesterov
quiet nesterov
started '"nesterov":1'
[ "$(sha)" != "$plain" ] || fail "--nesterov changes nothing"
run+=(--resume ck/latest --checkpoint-dir none)
trains --epochs 3 --optimizer sgd --nesterov
quiet "resume with the same"
trains --epochs 3 --optimizer sgd
warned "optimizer settings differ"
unset 'run[-1]' 'run[-1]' 'run[-1]' 'run[-1]'

# Label smoothing: the training loss has it, what evaluate prints has not.
trains --checkpoint-dir smooth --label-smoothing 0.4 --lr 0.01 --epochs 3
quiet "label smoothing"
started '"label_smoothing":0.4'
grep '"event":"epoch","epoch":3' m.jsonl | sed 's/.*"loss":\([^,]*\),.*"val_loss":\([^,]*\),.*/\1 \2/' >losses
awk '{ exit !($1 > $2 + 0.2) }' losses || fail "loss and val_loss: $(cat losses)"
"$exe" evaluate smooth/latest --data d.h5 --json >json
grep -qF "\"loss\":$(cut -d ' ' -f 2 losses | cut -c 1-14)" json || fail "val_loss $(cat losses), but $(cat json)"
run+=(--resume smooth/latest --checkpoint-dir none)
trains --lr 0.01 --epochs 4
warned "label smoothing or"
unset 'run[-1]' 'run[-1]' 'run[-1]' 'run[-1]'
refused "label-smoothing: 1 is not between 0 and" --label-smoothing 1

# The average of the weights: training is as without, what is evaluated is another set of weights, which
# the checkpoint has as its model; it goes on from the other set, also without an average.
trains --checkpoint-dir none --lr 0.01 --epochs 3
raw=$(sha)
facts m.jsonl | grep -o '"loss":[^,]*' >losses
trains --checkpoint-dir average --keep 0 --lr 0.01 --epochs 3 --ema 0.95
quiet average
started '"ema":0.95'
averaged=$(sha)
[ "$averaged" != "$raw" ] || fail "--ema changes nothing"
facts m.jsonl | grep -o '"loss":[^,]*' | diff losses - || fail "--ema changes the training"
for epoch in 1 2 3; do
    value=$(sed -n "s/.*\"epoch\",\"epoch\":$epoch,.*\"val_loss\":\([^,]*\),.*/\1/p" m.jsonl)
    "$exe" evaluate average/ckpt-000000$((11 * epoch)).h5 --data d.h5 --json >json
    grep -qF "\"loss\":${value:0:14}" json || fail "epoch $epoch: val_loss $value, but $(cat json)"
done
again=(--resume average/ckpt-00000022.h5 --checkpoint-dir none --lr 0.01 --epochs 3)
trains "${again[@]}" --ema 0.95
quiet "resume of an average"
[ "$(sha)" = "$averaged" ] || fail "resumed: $(sha), not $averaged"
trains "${again[@]}"
warned "--ema 0.95, this run has 0: it goes on with the trained weights, without"
[ "$(sha)" = "$raw" ] || fail "resumed without an average: $(sha), not $raw"
trains --checkpoint-dir none --resume ck/latest --optimizer sgd --nesterov --epochs 3 --ema 0.5
warned "--ema 0, this run has 0.5: the average begins with the weights of the checkpoint"
refused "ema: 1 is not between 0 and" --ema 1

# Schedules: the first and the last rate, from the metrics of epochs.
rates() { grep '"event":"epoch"' m.jsonl | sed 's/.*"lr":\([^,]*\),.*/\1/' | tr '\n' ' '; }
trains --checkpoint-dir none --schedule onecycle --lr 0.01
quiet onecycle
started '"schedule":"onecycle lr=0.01 warmup=7 total=22 final=4e-06"'
[[ $(rates) == *" 4e-08 " ]] || fail "onecycle ends at $(rates)"
trains --checkpoint-dir none --schedule onecycle --lr 0.01 --warmup-epochs 1 --final-lr 0.001
[ "$(rates)" = "0.01 1e-05 " ] || fail "onecycle: $(rates)"
trains --checkpoint-dir none --schedule exponential --lr 0.01 --step-epochs 1 --step-gamma 0.1 --epochs 3
quiet exponential
started '"schedule":"exponential lr=0.01 warmup=0 period=11 gamma=0.1"'
rates | awk '{ exit !($1 > 1.2e-3 && $1 < 1.24e-3 && $3 > 1.2e-5 && $3 < 1.24e-5) }' || fail "$(rates)"
trains --checkpoint-dir none --schedule cosine --step-gamma 0.1
warned "--step-epochs and --step-gamma do nothing without --schedule step or exponential"
echo "train_options: all passed"
