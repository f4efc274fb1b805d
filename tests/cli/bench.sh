#!/usr/bin/env bash
# mnist_dist bench: its tables, and JSON whose figures fit together, on 1, 2 and 3 processes.
set -uo pipefail
exe=$(realpath "$1")
mpiexec=${MPIEXEC:-mpiexec}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

says() { grep -qE -- "$1" out || fail "no '$1' in: $(cat out)"; }

# run NP OPTIONS...: small, and no prior options from outside
run() {
    local np=$1
    shift
    "$mpiexec" -n "$np" "$exe" bench --model mlp16 --images 2000 --steps 8 --repeats 3 --messages 3 "$@" >out 2>err ||
        fail "np $np: exit code $?: $(cat err)"
    [ ! -s err ] || fail "np $np: not silent: $(cat err)"
}

check_json() {
    /usr/bin/python3 - "$1" "$2" <<'EOF' || fail "$2: figures that do not fit"
import json, statistics, sys

P, b = int(sys.argv[1]), json.load(open(sys.argv[2]))
counts = sorted({1 << k for k in range(20) if 1 << k < P} | {P})
close = lambda x, y, off: abs(x - y) <= off * abs(y)
assert b["ranks"] == P and b["repeats"] == 3 and b["n_param"] > 0, b
assert [r["ranks"] for r in b["rows"]] == counts * 2, b["rows"]
assert [r["scaling"] for r in b["rows"]] == ["strong"] * len(counts) + ["weak"] * len(counts)
one = b["rows"][0]
for r in b["rows"]:
    weak, p, time = r["scaling"] == "weak", r["ranks"], r["time"]
    assert r["batch_size"] == b["batch_size"] * (p if weak else 1), r
    assert len(r["turns"]) == b["repeats"] and r["images_per_second"] == statistics.median(r["turns"]), r
    ratios = [mine / (p * ones) for mine, ones in zip(r["turns"], one["turns"])]
    assert close(r["efficiency"], statistics.median(ratios), 1e-6), (r, ratios)
    assert close(r["step_seconds"], r["batch_size"] / r["images_per_second"], 1e-6), r
    assert r["exchange"] == ("local" if p == 1 else "shared"), r
    # Means over the ranks never exceed the slowest rank's total, and it accounts for most of its own
    # time; the others may be done long before it where ranks take turns on a CPU.
    total = sum(time.values())
    assert all(t >= 0 for t in time.values()) and time["compute"] > 0 and time["data"] > 0, r
    assert total <= 1.02 * r["step_seconds"], (total, r)
    assert p * total >= 0.5 * r["step_seconds"], (total, r)
    assert 0 <= r["slowest_rank"] < p and r["slowest_host"], r
    assert r["busy_seconds"] >= 0.999999 * r["busy_mean_seconds"] > 0, r
sizes = [1024 * 4**k for k in range(7)]
ways = ["mpi", "tree", "shared"]
for p in counts[1:]:
    for way in ways:
        got = [m for m in b["messages"] if m["ranks"] == p and m["exchange"] == way]
        assert [m["bytes"] for m in got] == sizes and all(m["seconds"] > 0 for m in got), got
        fit, = [f for f in b["fits"] if f["ranks"] == p and f["exchange"] == way]
        assert fit["points"] == len(sizes) and fit["alpha"] >= 0 and fit["beta"] >= 0, fit
        off = [(fit["alpha"] + fit["beta"] * m["bytes"]) / m["seconds"] - 1 for m in got]
        assert close(fit["error"], (sum(x * x for x in off) / len(off)) ** 0.5, 1e-4), (fit, off)
assert len(b["messages"]) == (len(counts) - 1) * len(ways) * len(sizes)
assert len(b["fits"]) == (len(counts) * len(ways) if P > 1 else 0), b["fits"]
known = {(r["scaling"], r["ranks"]): r for r in b["rows"]}
checked = 0
for p in b["predictions"]:
    assert p["ranks"] in [P, 2 * P, 4 * P, 8 * P, 16 * P] and p["step_seconds"] > 0, p
    assert close(p["efficiency"], p["images_per_second"] / (p["ranks"] * one["images_per_second"]), 1e-6)
    if p["measured"] is None:
        assert p["ranks"] > P and p["error"] is None, p
    else:
        checked += 1
        real = known[p["scaling"], p["ranks"]]["images_per_second"]
        assert p["measured"] == real and close(p["error"], p["images_per_second"] / real - 1, 1e-4), p
assert checked == (2 if P > 2 else 0), b["predictions"]
assert len(b["predictions"]) == (0 if P == 1 else 8 + checked), b["predictions"]
EOF
}

for np in 1 2 3; do
    run $np --batch-size 48 --json $np.json --plot $np.svg
    rows=$(grep -cE '^ +[0-9]+ +1  (local|shared) ' out)
    case $np in 1) want=2 ;; 2) want=4 ;; 3) want=6 ;; esac
    [ "$rows" = "$want" ] || fail "np $np: $rows rows instead of $want: $(cat out)"
    says '^Strong scaling: batch 48 over all processes$'
    says '^Weak scaling: batch 48 per process$'
    says "rank 0 on $(hostname) \\(\\+0.0%\\)$"
    if [ $np -gt 1 ]; then
        says "^Exchange alone on $np ranks"
        says "^ +4194304 +[0-9.]+ +[0-9.]+ +[0-9.]+$"
        says "^MPI_Allreduce +$np +[0-9.]+ +[0-9.]+ "
        says '^weak +'$((2 * np))' '
    else
        ! grep -q 'Exchange alone\|Expected of more' out || fail "one process exchanges: $(cat out)"
    fi
    /usr/bin/python3 -c 'import sys, xml.dom.minidom as m; d = m.parse(sys.argv[1])
assert d.documentElement.tagName == "svg" and len(d.getElementsByTagName("circle")) > 2' $np.svg ||
        fail "np $np: the picture is no SVG"
    ! grep -qiE 'nan|inf' $np.svg $np.json || fail "np $np: not a number"
    check_json $np $np.json
done
says '^strong +3 .* from 2 to 2 ranks; measured [0-9]+: off by [-+][0-9.]+%$'

# From a file, another exchange, two threads; one process without a launcher.
"$exe" synth -o d.h5 --images 500 --test-images 10 --seed 1 >out || fail "synth"
run 2 --data d.h5 --exchange tree --threads 2 --batch-size 50 --optimizer sgd --json f.json
says '500 images of d.h5'
says '^ +2 +1  tree '
MNIST_DIST_DATA=nothing.h5 run 1 --synthetic --batch-size 32
# Steps begin anew in the middle of a turn.
for model in mlp512 conv:28:3,maxpool:2,flatten,dense:128,relu,dense:10; do
    run 2 --model $model --images 600 --batch-size 128 --steps 8 --repeats 2
    says '^ +2 +1  shared '
done
"$exe" bench --model mlp16 --images 500 --steps 2 --repeats 1 --batch-size 20 >out 2>err || fail "$(cat err)"
says '^1 rank on 1 host, 1 thread each; .*; none; median of 1 turns of 2 steps$'

refused() {
    local want=$1 words=$2 code=0
    shift 2
    "$mpiexec" -n 2 "$exe" bench --model mlp16 --steps 1 --repeats 1 "$@" >out 2>err || code=$?
    [ "$code" = "$want" ] || fail "bench $*: exit code $code instead of $want: $(cat err)"
    # mpirun may add words of its own.
    [ "$(grep -c '^mnist_dist: ' err)" = 1 ] || fail "bench $*: not one line: $(cat err)"
    grep -q -- "$words" err || fail "bench $*: '$(cat err)' does not say '$words'"
}
refused 2 "weak scaling on 2 processes takes 600 images a step and there are 500" --data d.h5 --batch-size 300
refused 2 "--batch-size 1 leaves some of 2 processes without an image" --batch-size 1
refused 2 "'pigeons' is not an exchange" --exchange pigeons
refused 1 "cannot create the folder" --json d.h5/where.json # a file where a folder is needed
refused 1 "nothing.h5: No such file" --data nothing.h5
echo "bench: all passed"
