#!/usr/bin/env bash
# --resume FILE goes back: newer checkpoints and metrics are set aside whole, and --resume auto goes on
# with the new branch, also when that was killed, on any number of ranks.
set -euo pipefail
# shellcheck source=tests/support/cli.sh
. "$(dirname "${BASH_SOURCE[0]}")/../support/cli.sh"
run=(train --data s.h5 --model mlp16 --batch-size 50 --epochs 6 --logical-ranks 3 --progress never)
train() { "$exe" "${run[@]}" "$@" >out 2>&1; }
files() { find "$1" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort | tr '\n' ' '; }

"$exe" synth -o s.h5 --images 500 --test-images 100 --seed 1 >out
train --checkpoint-dir old --metrics old.jsonl --keep 0 || fail "$(cat out)"
cp -r old kept && cp old.jsonl kept.jsonl
# The new branch, undisturbed, in a folder of its own: it begins with the checkpoint it goes on from.
train --lr 0.01 --resume old/ckpt-00000030.h5 --checkpoint-dir new --metrics new.jsonl || fail "$(cat out)"
[ "$(files new)" = "best ckpt-00000040.h5 ckpt-00000050.h5 ckpt-00000060.h5 latest " ] || fail "new: $(files new)"
[ "$(facts new.jsonl | grep -c epoch)" = 6 ] || fail "a branch without the epochs before it: $(cat new.jsonl)"

for np in 1 2 3; do
    rm -rf c c.jsonl*
    cp -r kept c && cp kept.jsonl c.jsonl
    # Only begun, then killed in its second epoch, then to the end.
    branch=("$exe" "${run[@]}" --lr 0.01 --keep 2 --checkpoint-dir c --metrics c.jsonl)
    "$MPIEXEC" -n "$np" "${branch[@]}" --epochs 3 --resume c/ckpt-00000030.h5 >out 2>&1 || fail "$(cat out)"
    [ "$(files c/earlier-1)" = "ckpt-00000040.h5 ckpt-00000050.h5 ckpt-00000060.h5 " ] || fail "aside: $(files c/earlier-1)"
    for step in 40 50 60; do cmp kept/ckpt-000000$step.h5 c/earlier-1/ckpt-000000$step.h5; done
    cmp kept.jsonl c.jsonl.earlier-1 || fail "the metrics of the old branch are not kept"
    [ "$(readlink c/latest) $(readlink c/best)" = "ckpt-00000030.h5 ckpt-00000030.h5" ] || fail "links: $(ls -l c)"
    MNIST_DIST_FAULT=kill:0:45 "${branch[@]}" --resume auto >out 2>&1 || true
    grep -q '^Resumed from c/ckpt-00000030.h5' out || fail "auto did not take the new branch: $(cat out)"
    "$MPIEXEC" -n "$np" "${branch[@]}" --resume auto >out 2>&1 || fail "$(cat out)"
    grep -q '^Resumed from c/ckpt-00000040.h5' out || fail "auto did not take the new branch: $(cat out)"
    cmp <(facts c.jsonl) <(facts new.jsonl) || fail "$np ranks: another branch: $(cat c.jsonl)"
    files c | grep -q 'ckpt-00000050.h5 ckpt-00000060.h5 earlier-1 latest' || fail "--keep 2 keeps $(files c)"
    [ "$(ls c.jsonl*)" = "$(printf 'c.jsonl\nc.jsonl.earlier-1')" ] || fail "metrics: $(ls c.jsonl*)"
done

# A branch into a folder that holds another run: that is set aside, and auto finds the branch at once.
MNIST_DIST_FAULT=kill:0:41 train --resume kept/ckpt-00000040.h5 --checkpoint-dir c --metrics c.jsonl && fail "not killed"
[ "$(readlink c/latest)" = ckpt-00000040.h5 ] || fail "the branch has no beginning: $(ls -l c)"
files c/earlier-2 | grep -q 'ckpt-00000060.h5 latest' || fail "the other run was not set aside: $(files c/earlier-2)"
train --resume auto --checkpoint-dir c --metrics c.jsonl || fail "$(cat out)"
cmp <(facts c.jsonl) <(facts old.jsonl) || fail "the old branch gives something else: $(cat c.jsonl)"

# A damaged newest checkpoint is passed over, and is no longer in the way.
printf x | dd of=c/ckpt-00000060.h5 bs=1 seek=5000 conv=notrunc 2>/dev/null
MNIST_DIST_FAULT=kill:0:51 train --resume auto --checkpoint-dir c --metrics c.jsonl && fail "not killed"
[ -f c/earlier-3/ckpt-00000060.h5 ] || fail "the damaged checkpoint stays: $(files c)"
train --resume auto --checkpoint-dir c --metrics c.jsonl || fail "$(cat out)"
cmp <(facts c.jsonl) <(facts old.jsonl) || fail "another result after a damaged checkpoint"

# Back to where the best epoch is no longer at hand: no link rather than a wrong one, and it is said.
rm c/ckpt-00000050.h5
train --resume auto --epochs 7 --lr 0 --checkpoint-dir c --metrics c.jsonl || fail "$(cat out)"
! grep -q "'best' returns" out || fail "the best is the last: $(cat out)"
rm c/ckpt-00000060.h5
train --resume auto --epochs 8 --lr 0 --checkpoint-dir c --metrics c.jsonl || fail "$(cat out)"
grep -q "c does not have the checkpoint of the best epoch so far, 6: the link 'best' returns" out || fail "$(cat out)"
[ ! -L c/best ] || fail "a link to $(readlink c/best)"
echo "go_back: all passed"
