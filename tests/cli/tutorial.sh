#!/usr/bin/env bash
# usage: tutorial.sh PROGRAM — types every command of docs/tutorial.md in a folder of its own and
# compares what it prints with what the page shows. Training is made cheap: one epoch on a few drawn
# digits. What depends on no training (show, summary, convert) must be the same, line by line, where the
# real data are there; of the rest the shape must be. Without data/mnist the digits are drawn ones.
set -euo pipefail
export MND_PROGRAM=$1
root=${MND_SOURCE_DIR:?}
page=$root/docs/tutorial.md
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=/usr/bin/python3
[ -x "$python" ] || python=python3
bad=0 n_exact=0 n_shape=0 n_skipped=0
complain() {
    printf 'docs/tutorial.md: %s\n' "$*"
    bad=1
}

mkdir "$work/bin" "$work/box"
cd "$work/box"
mkdir data docs
cp "$root"/data/fetch.sh "$root"/data/*.sha256 data/
cp "$root"/docs/*.png docs/

# The last of several options wins. Images of other shapes than 28 x 28 are few as they are.
cat >"$work/bin/mnist_dist" <<'END'
#!/bin/sh
case "$*" in
train*data/own.h5* | train*data/cifar10.h5*) exec "$MND_PROGRAM" "$@" --epochs 1 ;;
train*) exec "$MND_PROGRAM" "$@" --epochs 1 --data data/small.h5 ;;
*) exec "$MND_PROGRAM" "$@" ;;
esac
END
printf '#!/bin/sh\nexec "%s" "$@"\n' "$(command -v "${MPIEXEC:-mpirun}")" >"$work/bin/mpirun"
chmod +x "$work"/bin/*
PATH=$work/bin:$PATH
export MND_MIRRORS=
for name in $(env | sed -n 's/^\(MNIST_DIST_[A-Z_]*\)=.*/\1/p'); do unset "$name"; done
mnist_dist synth -o data/small.h5 --images 600 --test-images 100 >"$work/out"

# absent: what to leave out, as a pattern. Files of MNIST that are there cost no download.
real=1 absent=
for set in mnist fashion-mnist; do
    if [ -f "$root/data/$set/train-images-idx3-ubyte" ]; then
        cp -rsL "$root/data/$set" "data/$set"
    else
        [ "$set" = fashion-mnist ] || real=0
        absent+="|fetch.sh $set|convert data/$set|show .*data/$set"
        mnist_dist synth -o "data/$set.h5" --images 8000 --test-images 5000 >"$work/out"
    fi
done
if [ -d data/mnist ]; then
    mkdir data/emnist
    for file in data/mnist/*-ubyte*; do cp "$file" "data/emnist/emnist-letters-${file##*/}"; done
else
    absent+="|data/emnist"
fi
if "$python" -c 'import h5py, numpy' 2>/dev/null; then
    "$python" - <<'END'
import os
os.mkdir("cifar-10-batches-bin")
for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
    with open(f"cifar-10-batches-bin/{name}.bin", "wb") as f:
        for i in range(40):
            f.write(bytes([i % 10]) + os.urandom(3072))
END
else
    python=
    absent+="|data/own|own/|cifar10"
fi

# holds SHOWN PRINTED: whether the text is what is shown, '...' lines standing for any lines.
holds() {
    local rest=$'\n'$2$'\n' chunk=$'\n' line anchored=1
    while IFS= read -r line; do
        if [ "$line" != ... ]; then
            chunk+=$line$'\n'
            continue
        fi
        if [ "$anchored" = 1 ]; then [[ $rest == "$chunk"* ]] || return 1; fi
        [[ $rest == *"$chunk"* ]] || return 1
        rest=$'\n'${rest#*"$chunk"} chunk=$'\n' anchored=0
    done <<<"$1"
    if [ "$anchored" = 1 ]; then [ "$rest" = "$chunk" ]; else [[ $rest == *"$chunk" ]]; fi
}

# What may differ between two machines, away.
plain() {
    sed -E 's/ +$//; s/ \([0-9.]+ s\)$//; /checksums right/ s/ \([^()]*\)$//' | sed "s#$PWD/##g"
}

# What depends on the training, away: numbers to N, pictures, bars and verdicts.
shape() {
    grep -vE '^[ .:=+*#%@-]*$' | sed -E 's/^(Data:) [^,]*,/\1 @,/; s/(exchange) [a-z]+,/\1 @,/
        s/(native|openblas) [^ ]+$/\1/; s/  best$//; s/ +#+$//; s/^(answer:) .* \(/\1 @ (/
        s/: (right|wrong)$//; s/(process|host|thread|rank)(es|s)?\>/\1/g; s/[0-9a-f]{64}/N/g
        s/"(seconds|[a-z_]*loss|[a-z_]*accuracy)":[^,}]*/"\1":N/g
        s/(^|[^a-z0-9_.])[0-9][0-9.,]*(e-[0-9]+)?/\1N/g; s/ - / N /g; s/ -$/ N/; s/ckpt-[0-9]+/ckpt-N/
        s/^ +//; s/ +/ /g' | sort -u || true
}

# check COMMAND SHOWN
check() {
    local command=$1 shown=$2 printed code=0
    if [ -n "$absent" ] && [[ $command =~ ${absent#|} ]]; then
        n_skipped=$((n_skipped + 1))
        return
    fi
    bash -c "$command" >"$work/out" 2>&1 </dev/null || code=$?
    if grep -q '^mnist_dist: ' <<<"$shown"; then
        [ "$code" -ne 0 ] || complain "'$command' does not fail"
    elif [ "$code" -ne 0 ]; then
        complain "'$command' ends with $code: $(cat "$work/out")"
        return
    fi
    [ -n "$shown" ] || return 0
    shown=$(plain <<<"$shown")
    printed=$(plain <"$work/out")
    case $command in
    data/* | mnist_dist\ summary* | mnist_dist\ convert* | mnist_dist\ show*)
        if [ "$real" = 1 ] || [[ $command == *summary* ]]; then
            n_exact=$((n_exact + 1))
            holds "$shown" "$printed" || complain "'$command' prints
$printed"
            return
        fi
        [[ $command != *show* ]] || return 0
        ;;
    esac
    n_shape=$((n_shape + 1))
    shape <<<"$shown" >"$work/shown"
    shape <<<"$printed" >"$work/printed"
    sed -i '/^\.\.\.$/d' "$work/shown"
    if comm -23 "$work/shown" "$work/printed" | grep . >"$work/only"; then
        complain "'$command' prints no line like
$(cat "$work/only")
but
$(cat "$work/out")"
    fi
}

# script LANGUAGE TEXT: a block without output; the table of the trials follows theirs.
script() {
    local language=$1 text=$2 code=0
    [[ $text != *scripts/setup.sh* ]] || return 0
    if { [ -n "$absent" ] && [[ $text =~ ${absent#|} ]]; } || { [ "$language" = python ] && [ -z "$python" ]; }; then
        n_skipped=$((n_skipped + 1))
        return
    fi
    case $language in
    python) "$python" -c "$text" >"$work/out" 2>&1 || code=$? ;;
    *) bash -euc "$text" >"$work/out" 2>&1 </dev/null || code=$? ;;
    esac
    [ "$code" -eq 0 ] || complain "this ends with $code:
$text
$(cat "$work/out")"
    if [[ $text == *'| architecture |'* ]]; then
        cut -d'|' -f1-4 "$work/out" | diff <(grep -E '^\| (architecture|784-.*|---) \|.*\|.*\|.*\|$' "$page" |
            grep -A999 architecture | cut -d'|' -f1-4) - || complain "the trials are not those of the table"
        if grep -E '\| *\|$' "$work/out"; then complain "trials without an accuracy"; fi
    fi
    n_shape=$((n_shape + 1))
}

block='' text='' command='' inside=0
while IFS= read -r line; do
    if [ "$inside" = 0 ]; then
        if [[ $line == '```'* ]]; then inside=1 block=${line#'```'} text='' command=''; fi
    elif [ "$line" = '```' ]; then
        inside=0
        case $block in
        console) [ -z "$command" ] || check "$command" "${text%$'\n'}" ;;
        sh | python) script "$block" "$text" ;;
        *) complain "a block of the kind '$block', which no test runs" ;;
        esac
    elif [ "$block" = console ] && [[ $line == '$ '* ]]; then
        [ -z "$command" ] || check "$command" "${text%$'\n'}"
        command=${line#'$ '} text=''
    else
        text+=$line$'\n'
    fi
done <"$page"

[ $((n_exact + n_shape + n_skipped)) -ge 25 ] || complain "only $((n_exact + n_shape)) commands found"
echo "tutorial: $n_exact outputs compared line by line, $n_shape in shape, $n_skipped left out"
exit "$bad"
