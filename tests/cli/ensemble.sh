#!/usr/bin/env bash
# evaluate and predict with several checkpoints: the mean of their probabilities, against a mean that
# is taken here from what predict says of each network; the same bits on any number of ranks.
set -euo pipefail
# shellcheck source=tests/support/cli.sh
. "$(dirname "${BASH_SOURCE[0]}")/../support/cli.sh"

# refused WORDS COMMAND...: exit code 1, and the words in the error line.
refused() {
    local words=$1 code=0
    shift
    "$@" >out 2>err || code=$?
    [ "$code" = 1 ] || fail "exit $code, not 1: $*"
    grep -q "$words" err || fail "no '$words' from $*: $(cat err)"
}

"$exe" synth -o d.h5 --images 600 --test-images 20 --seed 3 >out
train() { "$exe" train --data d.h5 --batch-size 50 "$@" >out 2>&1 || fail "train $*: $(cat out)"; }
for seed in 1 2; do train --model mlp16 --epochs 2 --seed $seed --checkpoint-dir run/member-0$seed; done
train --model flatten,dense:20,tanh,dense:10 --epochs 3 --validation 100 --checkpoint-dir other
networks=(run/member-01 run/member-02 other/latest)

"$exe" evaluate "${networks[@]}" --data d.h5 --json --misread >all.json
for ranks in 2 3; do
    "$MPIEXEC" -n $ranks "$exe" evaluate "${networks[@]}" --data d.h5 --json --misread >ranks.json
    cmp all.json ranks.json || fail "$ranks ranks: $(cat ranks.json)"
done
"$exe" evaluate "${networks[@]}" --data d.h5 --misread >all.txt
i=0
for network in "${networks[@]}"; do
    i=$((i + 1))
    "$exe" evaluate "$network" --data d.h5 --json --misread >one.$i.json
    for index in {0..19}; do
        "$exe" predict "$network" --data d.h5 --index "$index" --json
    done >predict.$i.json
done
for index in {0..19}; do "$exe" predict "${networks[@]}" --data d.h5 --index "$index" --json; done >predict.json

# The folder of an ensemble is all its members; one of a run, with folders that look like members in it,
# is the run.
"$exe" evaluate run/member-01 run/member-02 --data d.h5 >members.txt
for folder in run run/; do
    "$exe" evaluate $folder --data d.h5 >folder.txt
    cmp members.txt folder.txt || fail "$folder: $(cat folder.txt)"
done
"$exe" predict run --data d.h5 --index 3 >out
grep -q "^answer: .*, the mean of 2 networks)" out || fail "$(cat out)"
"$exe" show --data d.h5 --split test --index 7 --png seven.png >out
"$exe" predict run other/latest seven.png --json >out
[ "$(grep -c '"file":"seven.png"' out)" = 1 ] || fail "a picture and three networks: $(cat out)"
cp -r other both
cp -r run/member-01 both/
"$exe" evaluate other --data d.h5 | sed 's/^other/both/' >other.txt
"$exe" evaluate both --data d.h5 | cmp - other.txt || fail "a run's own checkpoints come first"

# What does not belong together.
awk 'BEGIN {
    printf "label"; for (i = 0; i < 49; i++) printf ",p%d", i
    for (n = 0; n < 60; n++) { printf "\n%d", n % 10; for (i = 0; i < 49; i++) printf ",%d", (n * i) % 251 }
    print ""
}' >small.csv
"$exe" convert small.csv --test-every 3 -o small.h5 >out 2>&1 || fail "$(cat out)"
"$exe" train --data small.h5 --model mlp16 --epochs 1 --checkpoint-dir small >out 2>&1 || fail "$(cat out)"
refused "small.* takes images of 7 x 7.* run/member-01.* of 28 x 28" "$exe" evaluate run small --data d.h5
refused "only networks of the same images and classes" "$exe" predict run small --data d.h5 --index 1
refused "no-such" "$exe" evaluate run no-such --data d.h5
code=0
"$exe" evaluate other run --data d.h5 --split validation >out 2>err || code=$?
[ "$code" = 2 ] || fail "validation images of another run: exit $code"
grep -q "run/member-01.* was trained with --validation 0" err || fail "$(cat err)"

python=/usr/bin/python3
[ -x "$python" ] || { echo "ensemble: passed but for the figures, which need python3"; exit 0; }
"$python" - <<'PY'
import json, math
one = lambda name: json.loads(open(name).read())
lines = lambda name: [json.loads(l) for l in open(name)]
e, text = one("all.json"), open("all.txt").read()
single = [one(f"one.{i}.json") for i in (1, 2, 3)]
for a, b in zip(e["checkpoints"], single):
    assert all(a[k] == b[k] for k in ("checkpoint", "epoch", "step", "model", "correct", "accuracy", "loss"))
every = set(range(20))
for s in single:
    assert len(s["misread"]) == s["images"] - s["correct"]
    every &= set(s["misread"])
assert e["misread"] == sorted(every) and e["misread_by_all"] == len(every), e
assert f"{len(every)} images are misread by every network" in text
assert "Misread by every network: " + " ".join(map(str, sorted(every))) in text

each, mean = [lines(f"predict.{i}.json") for i in (1, 2, 3)], lines("predict.json")
loss, right, confusion = 0.0, 0, [[0] * 10 for _ in range(10)]
for i in range(20):
    p = [0.0] * 10
    for network in each:
        for t in network[i]["top"]:
            p[t["class"]] += t["probability"] / 3
    told = {t["class"]: t["probability"] for t in mean[i]["top"]}
    assert all(abs(told[k] - p[k]) < 1e-7 for k in range(10)), (i, p, told)
    answer, label = max(range(10), key=lambda k: p[k]), each[0][i]["label"]
    assert mean[i]["class"] == answer and len(mean[i]["checkpoints"]) == 3
    loss -= math.log(p[label])
    right += answer == label
    confusion[label][answer] += 1
assert e["images"] == 20 and e["correct"] == right and e["confusion"] == confusion, (e, right)
assert abs(e["loss"] - loss / 20) < 1e-6, (e["loss"], loss / 20)
assert f"Ensemble of 3, the mean of their probabilities\nTest images 20, loss {e['loss']:.6f}" in text
PY
echo "ensemble: all passed"
