#!/usr/bin/env bash
# mnist_dist show: what it says of a data file drawn by the program, and of MNIST where it is there.
set -uo pipefail
exe=$(realpath "$1")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

says() { grep -qE -- "$1" out || fail "no '$1' in: $(cat out)"; }

refused() {
    local want=$1 words=$2 code=0
    shift 2
    "$exe" show "$@" >out 2>err || code=$?
    [ "$code" = "$want" ] || fail "show $*: exit code $code instead of $want: $(cat err)"
    [ "$(wc -l <err)" = 1 ] || fail "show $*: not one line: $(cat err)"
    grep -q -- "$words" err || fail "show $*: '$(cat err)' does not say '$words'"
}

"$exe" synth -o a.h5 --images 300 --test-images 40 --seed 3 >out || fail "synth"
"$exe" show --data a.h5 >out 2>err || fail "$(cat err)"
[ ! -s err ] || fail "not silent: $(cat err)"
says '^x_train +\(300, 28, 28\) +uint8 +min 0, max 2[0-9][0-9]$'
says '^y_train +\(300,\) +uint8 +min 0, max 9$'
says '^train image 0: label [0-9]$'
says '^one-hot: \[([01], ){9}[01]\]$'
total=$(awk '/^ +[0-9] +[0-9]+  #/ { n++; sum += $2 } END { print n, sum }' out)
[ "$total" = "10 300" ] || fail "the classes do not add up: $total"
! grep -q $'\x1b' out || fail "colours, and no terminal"
"$exe" show --data a.h5 --color always >out || fail "--color always"
grep -q $'\x1b\[' out || fail "no colours with --color always"

# The numbers, the label and its one-hot form are those of the file, as Python sees them.
MNIST_DIST_DATA=a.h5 "$exe" show --split test --index 39 --numbers >out || fail "test image 39"
says '^x_test +\(40, 28, 28\)'
[ "$(tail -n 28 out | wc -w)" = 784 ] || fail "not 784 numbers"
if /usr/bin/python3 -c 'import h5py' 2>/dev/null; then
    /usr/bin/python3 - <<'EOF' || fail "Python sees something else"
import re
import h5py
import numpy as np

text = open("out").read()
with h5py.File("a.h5") as f:
    image, label, x = f["x_test"][39], int(f["y_test"][39]), f["x_test"][:]
lines = text.rstrip("\n").split("\n")
assert (np.array([[int(v) for v in line.split()] for line in lines[-28:]]) == image).all()
assert f"test image 39: label {label}\n" in text
assert "one-hot: " + str(np.eye(10, dtype=int)[label].tolist()) in text
assert re.search(rf"x_test .* min {x.min()}, max {x.max()}\n", text)
EOF
fi

"$exe" show --check --data a.h5 >out || fail "check"
says '^a.h5: right, sha256 [0-9a-f]{64}$'
cp a.h5 b.h5
printf '\001\002\003' | dd of=b.h5 bs=1 seek=100000 conv=notrunc status=none
refused 1 "b.h5: damaged" --check --data b.h5
refused 2 "--index: 40 is not between 0 and 39" --data a.h5 --split test --index 40
refused 2 "--index: -1 is not between" --data a.h5 --index -1
refused 2 "'valid' is not one of train|test" --data a.h5 --split valid
refused 1 "nothing.h5: No such file" --data nothing.h5
refused 1 "out: is not an HDF5 file\|out: is empty" --data out
head -c 50000 a.h5 >c.h5
refused 1 "c.h5: damaged or truncated" --data c.h5

# The image as the epochs of a run see it: 4 pictures in two rows, with lines of one pixel between.
parts=rotate:12,scale:0.12,shear:0.15,shift:2,elastic:1.2,erase:4
"$exe" show --data a.h5 --index 7 >plain || fail "image 7"
"$exe" show --data a.h5 --index 7 --augment none >out || fail "--augment none"
diff plain out >&2 || fail "--augment none is not as without"
sheet=(show --data a.h5 --index 7 --augment "$parts" --draws 3 --columns 2)
"$exe" "${sheet[@]}" --png a.png >sheet 2>err || fail "$(cat err)"
[ ! -s err ] || fail "not silent: $(cat err)"
grep -q '^as it is, and in 3 epochs of a run with --seed 1:$' sheet || fail "$(cat sheet)"
size=$(od -An -tu1 -j16 -N8 a.png | tr -s ' ')
[ "$size" = " 0 0 0 57 0 0 0 57" ] || fail "a.png has the size$size"
# The first picture is the image itself, the others differ from it and from each other.
tail -n 57 sheet >rows
diff <(tail -n 28 plain | sed 's/ *$//') <(head -n 28 rows | cut -c 1-56 | sed 's/ *$//') >&2 ||
    fail "the first picture is not the image"
for part in 1,1-56 1,59-114 30,1-56 30,59-114; do
    tail -n "+${part%,*}" rows | head -n 28 | cut -c "${part#*,}" | sha256sum
done >pictures
[ "$(sort -u pictures | wc -l)" = 4 ] || fail "pictures are the same: $(cat rows)"
"$exe" "${sheet[@]}" | cmp - sheet || fail "the same again is something else"
! "$exe" "${sheet[@]}" --seed 2 | tail -n 57 | cmp -s - rows || fail "--seed changes nothing"
refused 2 "'blur' is not one of rotate" --data a.h5 --augment blur:3
refused 2 "which contradicts --split test" --data a.h5 --augment "$parts" --split test
refused 2 "which contradicts --numbers" --data a.h5 --augment "$parts" --numbers
refused 2 "which contradicts --check" --data a.h5 --augment "$parts" --check
refused 2 "erase:29 is larger than the images of 28 x 28" --data a.h5 --augment erase:29
refused 1 "/dev/null/a.png" --data a.h5 --augment "$parts" --png /dev/null/a.png

# Results that cannot be written are no success.
if [ -w /dev/full ]; then
    code=0
    "$exe" show --data a.h5 >/dev/full 2>err || code=$?
    [ "$code" = 1 ] || fail "/dev/full: exit code $code"
    grep -q "cannot write to standard output: No space left" err || fail "/dev/full: $(cat err)"
fi

# The tutorials' images: training image 7777 is an 8, test image 4444 is a 9.
data=$MND_SOURCE_DIR/data/mnist.h5
if [ -f "$data" ]; then
    "$exe" show --check --data "$data" >out || fail "$data"
    says 'sha256 06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16'
    "$exe" show --data "$data" --index 7777 >out || fail "$data"
    says '^x_train +\(60000, 28, 28\) +uint8 +min 0, max 255$'
    says '^ +0 +5923  #+$'
    says '^ +1 +6742  #{40}$'
    says '^train image 7777: label 8$'
    says '^one-hot: \[0, 0, 0, 0, 0, 0, 0, 0, 1, 0\]$'
    "$exe" show --data "$data" --split test --index 4444 >out || fail "$data"
    says '^test image 4444: label 9$'
fi
echo "show: all passed"
