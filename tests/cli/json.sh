#!/usr/bin/env bash
# predict --json, predict --top and evaluate --json: what a script reads, against what the same command
# prints as text; and a folder in place of a checkpoint.
set -euo pipefail
# shellcheck source=tests/support/cli.sh
. "$(dirname "${BASH_SOURCE[0]}")/../support/cli.sh"

"$exe" synth -o d.h5 --images 600 --test-images 40 --seed 3 >out
"$exe" train --data d.h5 --model mlp16 --epochs 2 --batch-size 50 --checkpoint-dir runs/a/ck >out 2>&1 ||
    fail "$(cat out)"
ckpt=runs/a/ck/ckpt-00000024.h5
[ -f "$ckpt" ] || fail "no $ckpt: $(ls -R runs)"

# A folder is its newest checkpoint, also without the link.
"$exe" evaluate "$ckpt" --data d.h5 >file.txt
"$exe" evaluate runs/a/ck/ --data d.h5 >folder.txt
rm runs/a/ck/latest
"$exe" evaluate runs/a/ck/latest --data d.h5 >latest.txt
for other in folder latest; do cmp file.txt $other.txt || fail "$(cat $other.txt)"; done
"$exe" train --data d.h5 --model mlp16 --epochs 3 --batch-size 50 --checkpoint-dir none \
    --resume runs/a/ck >out 2>&1 || fail "$(cat out)"
grep -q "^Resumed from $ckpt: epoch 2" out || fail "$(cat out)"
code=0
"$exe" evaluate runs --data d.h5 >out 2>err || code=$?
[ "$code" = 1 ] || fail "a folder without checkpoints: exit $code"
grep -q "runs: has no valid checkpoint" err || fail "$(cat err)"

# Ranks that read different files (hosts with copies of their own) must not mix them.
mkdir w0 w1
cp runs/a/ck/ckpt-00000012.h5 w0/c.h5
cp "$ckpt" w1/c.h5
code=0
# shellcheck disable=SC2016 # each rank expands its own
"$MPIEXEC" -n 2 sh -c 'cd "w${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" && exec "$@"' - \
    "$exe" evaluate c.h5 --data "$dir/d.h5" >out 2>err || code=$?
[ "$code" = 1 ] || fail "two checkpoints on two ranks: exit $code: $(cat out)"
grep -q "c.h5 on .* is not the file that rank 0 reads" err || fail "$(cat err)"

"$exe" evaluate runs/a/ck --data d.h5 --json >evaluate.json
"$MPIEXEC" -n 2 "$exe" evaluate runs/a/ck --data d.h5 --json >evaluate2.json
cmp evaluate.json evaluate2.json || fail "--json on two ranks: $(cat evaluate2.json)"
"$exe" predict "$ckpt" --index 7 --data d.h5 >index.txt
"$exe" predict runs/a/ck --index 7 --data d.h5 --json >index.json
"$exe" predict "$ckpt" --index 7 --data d.h5 --top 3 >top.txt
"$exe" predict "$ckpt" --index 7 --data d.h5 --json --top 3 >top.json
"$exe" show --data d.h5 --split test --index 7 --png 'new/a "b".png' >out
code=0
"$exe" predict "$ckpt" 'new/a "b".png' none.png 'new/a "b".png' --json >pictures.json 2>err || code=$?
[ "$code" = 1 ] || fail "a missing picture: exit $code"
[ "$(wc -l <pictures.json)" = 3 ] || fail "not a line for each picture: $(cat pictures.json)"
[ "$(grep -cE '^ *[0-9]  0' top.txt)" = 3 ] || fail "--top 3: $(cat top.txt)"
for k in 0 -1 ten; do
    code=0
    "$exe" predict "$ckpt" --index 7 --data d.h5 --top $k >out 2>err || code=$?
    [ "$code" = 2 ] || fail "--top $k: exit $code"
done

python=/usr/bin/python3
[ -x "$python" ] || { echo "json: passed but for the content, which needs python3"; exit 0; }
"$python" - <<'PY'
import json, re
one = lambda name: json.loads(open(name).read())
e, text = one("evaluate.json"), open("file.txt").read()
assert e["checkpoint"].endswith("ckpt-00000024.h5") and e["epoch"] == 2 and e["step"] == 24, e
assert e["images"] == 40 and e["split"] == "test" and e["data"] == "d.h5"
assert f"accuracy {e['accuracy']:.4f} ({e['correct']} right)" in text and f"loss {e['loss']:.6f}" in text
c = e["confusion"]
assert len(c) == len(e["classes"]) == 10 and sum(map(sum, c)) == 40
assert sum(c[i][i] for i in range(10)) == e["correct"] == round(e["accuracy"] * 40)
for i, k in enumerate(e["classes"]):
    answered = sum(row[i] for row in c)
    assert k["class"] == i and k["name"] == str(i) and k["images"] == sum(c[i])
    assert k["precision"] == (c[i][i] / answered if answered else None)
    assert k["recall"] == (c[i][i] / sum(c[i]) if sum(c[i]) else None)

p, text = one("index.json"), open("index.txt").read()
shown = {int(a): float(b) for a, b in re.findall(r"^ *(\d)  ([01]\.\d{6})", text, re.M)}
listed = [(t["class"], t["probability"]) for t in p["top"]]
assert len(listed) == 10 and listed == sorted(listed, key=lambda t: -t[1])
assert all(abs(shown[k] - v) < 1e-6 for k, v in listed) and abs(sum(v for _, v in listed) - 1) < 1e-5
assert p["class"] == listed[0][0] and p["probability"] == listed[0][1] and p["answer"] == str(p["class"])
assert re.search(rf"^answer: {p['answer']} ", text, re.M) and f"actual: {p['label']}," in text
assert p["right"] == (p["label"] == p["class"]) and p["index"] == 7 and p["split"] == "test"
assert one("top.json")["top"] == p["top"][:3]
top = [int(k) for k in re.findall(r"^ *(\d)  [01]\.\d{6}", open("top.txt").read(), re.M)]
assert top == [k for k, _ in listed[:3]], top

a, b, again = map(json.loads, open("pictures.json"))
assert a == again and a["file"] == 'new/a "b".png' and "label" not in a and len(a["top"]) == 10
assert b["file"] == "none.png" and "No such file" in b["error"] and "answer" not in b
PY
echo "json: all passed"
