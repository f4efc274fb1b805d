#!/usr/bin/env bash
# mnist_dist predict (and show --png) through the binary: --index against evaluate, pictures against
# --index, pictures as users have them, and every refusal.
set -euo pipefail
exe=$1
dir=$(mktemp -d predict.XXXXXX)
trap 'rm -rf "$dir"' EXIT
# Open MPI cannot start like this: nothing here may start it.
no_mpi=(env OMPI_MCA_pml=none_such)

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

predict() { "${no_mpi[@]}" "$exe" predict "$@"; }

# A refusal: the wanted exit code, exactly one line on stderr that has the word.
refused() {
    local want=$1 word=$2 code=0
    shift 2
    predict "$@" >"$dir/out" 2>"$dir/err" || code=$?
    [ "$code" = "$want" ] || fail "predict $*: exit $code, not $want: $(cat "$dir/err")"
    [ "$(wc -l <"$dir/err")" = 1 ] || fail "predict $*: stderr: $(cat "$dir/err")"
    grep -q -e "$word" "$dir/err" || fail "predict $*: no '$word' in: $(cat "$dir/err")"
}

# class probability, the ten lines of an answer
table() { grep -E '^ *[0-9]  [01]\.[0-9]{6}' "$1" | awk '{ print $1, $2 }'; }

images=60
"$exe" synth -o "$dir/data.h5" --images 6000 --test-images "$images" --seed 3 >"$dir/out"
"$exe" train --data "$dir/data.h5" --model mlp16 --optimizer adam --lr 0.003 --epochs 4 \
    --batch-size 64 --checkpoint-dir "$dir/ckpt" >"$dir/out" 2>&1 || fail "train: $(cat "$dir/out")"
ckpt=$dir/ckpt/latest

# Each test image by itself adds up to what evaluate says of all of them.
right=0
for ((i = 0; i < images; i++)); do
    predict "$ckpt" --index "$i" --data "$dir/data.h5" >"$dir/out" 2>"$dir/err"
    [ ! -s "$dir/err" ] || fail "index $i: $(cat "$dir/err")"
    table "$dir/out" >"$dir/table"
    best=$(awk '{ sum += $2; if ($2 > most) { most = $2; best = $1 } }
        END { if (NR != 10 || sum < 0.99999 || sum > 1.00001) best = "wrong sum " sum; print best }' \
        "$dir/table")
    grep -q "^answer: $best (" "$dir/out" || fail "index $i: not $best: $(tail -2 "$dir/out")"
    label=$(sed -n 's/^actual: \([0-9]\), one-hot .*/\1/p' "$dir/out")
    one_hot=$(for k in 0 1 2 3 4 5 6 7 8 9; do [ "$k" = "$label" ] && echo 1 || echo 0; done |
        paste -sd, | sed 's/,/, /g')
    verdict=wrong
    [ "$best" != "$label" ] || verdict=right
    grep -qF "one-hot [$one_hot]: $verdict" "$dir/out" || fail "index $i: $(tail -2 "$dir/out")"
    [ "$verdict" = wrong ] || right=$((right + 1))
done
"$exe" evaluate "$ckpt" --data "$dir/data.h5" >"$dir/out"
grep -q "($right right)" "$dir/out" || fail "$right right one by one, but $(grep right "$dir/out")"
[ "$right" -gt $((images / 3)) ] || fail "only $right of $images right"

# An image written as a picture is read as the same image, in every digit of every probability.
for i in 0 1 2 3 4; do
    "${no_mpi[@]}" "$exe" show --data "$dir/data.h5" --split test --index "$i" \
        --png "$dir/$i.png" >"$dir/shown"
    predict "$ckpt" --index "$i" --data "$dir/data.h5" >"$dir/out"
    table "$dir/out" >"$dir/by-index"
    predict "$ckpt" "$dir/$i.png" >"$dir/out"
    table "$dir/out" | diff "$dir/by-index" - || fail "picture $i differs from the image"
    # Both draw the same picture.
    diff <(grep -E '^[ .:=+*#%@-]{56}$' "$dir/shown") <(grep -E '^[ .:=+*#%@-]{56}$' "$dir/out") ||
        fail "picture $i is drawn differently"
done

# Large, dark on light, off-centre, in colour, in front of transparency: the answer stays.
cat >"$dir/vary.py" <<'EOF'
import struct, sys, zlib

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

def write(path, width, height, kind, rows):
    raw = b"".join(b"\0" + bytes(row) for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw))
                + chunk(b"IEND", b""))

def read(path):  # 28 x 28 grey of 8 bits, as show --png writes it
    data = open(path, "rb").read()
    at, packed = 8, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        packed += data[at + 8:at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    raw, rows, above = zlib.decompress(packed), [], [0] * 28
    for y in range(28):
        kind, line, row = raw[y * 29], raw[y * 29 + 1:y * 29 + 29], []
        for x, v in enumerate(line):
            a, b = row[x - 1] if x else 0, above[x]
            c = above[x - 1] if x else 0
            p = a + b - c
            paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            row.append((v + [0, a, b, (a + b) // 2, paeth][kind]) % 256)
        rows.append(row)
        above = row
    return rows

folder, name = sys.argv[1:]
digit = read(f"{folder}/{name}.png")
zoom, height, width, top, left = 9, 420, 330, 130, 40
ink = [[0] * width for _ in range(height)]
for y in range(28 * zoom):
    for x in range(28 * zoom):
        ink[top + y][left + x] = digit[y // zoom][x // zoom]
write(f"{folder}/{name}-dark.png", width, height, 0, [[255 - v for v in r] for r in ink])
write(f"{folder}/{name}-light.png", width, height, 0, ink)
# Blue ink on yellowish paper.
write(f"{folder}/{name}-colour.png", width, height, 2,
      [[c for v in r for c in (250 - v * 230 // 255, 245 - v * 200 // 255, 200 - v * 60 // 255)]
       for r in ink])
# Black ink on nothing at all.
write(f"{folder}/{name}-clear.png", width, height, 6, [[c for v in r for c in (0, 0, 0, v)] for r in ink])
write(f"{folder}/blank.png", 40, 30, 0, [[200] * 40] * 30)
EOF
if command -v python3 >/dev/null; then
    for i in 0 1 2 3 4; do
        python3 "$dir/vary.py" "$dir" "$i"
        predict "$ckpt" "$dir/$i.png" "$dir/$i"-{dark,light,colour,clear}.png >"$dir/out"
        grep -c "^$dir/.*330 x 420 pixels, seen as" "$dir/out" | grep -qx 4 || fail "$(cat "$dir/out")"
        [ "$(grep '^answer' "$dir/out" | awk '{ print $2 }' | sort -u | wc -l)" = 1 ] ||
            fail "picture $i: $(grep -E '^answer|png' "$dir/out")"
    done
    refused 1 "blank.png: the picture is empty" "$ckpt" "$dir/blank.png"
else
    echo "skipped for want of python3: pictures of other sizes and kinds"
fi

# One bad picture is explained; the others are still answered.
head -c 90 "$dir/1.png" >"$dir/cut.png"
code=0
predict "$ckpt" "$dir/0.png" "$dir/cut.png" "$dir/2.png" >"$dir/out" 2>"$dir/err" || code=$?
[ "$code" = 1 ] || fail "a bad picture: exit $code"
[ "$(grep -c ^answer "$dir/out")" = 2 ] || fail "a bad picture: $(cat "$dir/out")"
grep -c "cut.png: damaged PNG" "$dir/err" | grep -qx 1 ||
    fail "a bad picture: $(cat "$dir/err")"

printf 'not a picture' >"$dir/text.png"
head -c 3000 "$dir/ckpt/latest" >"$dir/cut.h5"
refused 1 "nothing.png" "$ckpt" "$dir/nothing.png"
refused 1 "text.png: not a PNG" "$ckpt" "$dir/text.png"
refused 1 "$dir" "$ckpt" "$dir"
refused 1 "nothing.h5" "$dir/nothing.h5" "$dir/0.png"
refused 1 "cut.h5" "$dir/cut.h5" "$dir/0.png"
refused 1 "data.h5" "$dir/data.h5" "$dir/0.png"
refused 1 "nothing.h5" "$ckpt" --index 0 --data "$dir/nothing.h5"
refused 1 "latest" "$ckpt" --index 0 --data "$ckpt"
refused 2 "needs CKPT" --index 0
refused 2 "either" "$ckpt"
refused 2 "either" "$ckpt" "$dir/0.png" --index 0
refused 2 "0 to $((images - 1))" "$ckpt" --index "$images" --data "$dir/data.h5"
refused 2 "not between" "$ckpt" --index -1 --data "$dir/data.h5"
refused 2 "not one of" "$ckpt" --index 0 --split valid --data "$dir/data.h5"
refused 2 "not a valid option" "$ckpt" --picture
if [ -w /dev/full ]; then
    code=0
    predict "$ckpt" "$dir/0.png" >/dev/full 2>"$dir/err" || code=$?
    [ "$code" = 1 ] || fail "a full disk: exit $code"
fi

# Colours on a terminal and on demand, not in a file and not where NO_COLOR asks for none.
colours() { grep -q $'\x1b\[' "$1"; }
predict "$ckpt" "$dir/0.png" >"$dir/out"
! colours "$dir/out" || fail "colours in a file"
predict "$ckpt" "$dir/0.png" --color always >"$dir/out"
colours "$dir/out" || fail "--color always without colours"
grep -q '▀' "$dir/out" || fail "--color always without a picture"
grep -q '█' "$dir/out" || fail "--color always without bars"
if command -v script >/dev/null; then
    command="'$exe' predict '$ckpt' '$dir/0.png'"
    TERM=xterm NO_COLOR='' script -qec "$command" /dev/null >"$dir/out" </dev/null
    colours "$dir/out" || fail "no colours on a terminal"
    TERM=xterm NO_COLOR=1 script -qec "$command" /dev/null >"$dir/out" </dev/null
    ! colours "$dir/out" || fail "colours in spite of NO_COLOR"
fi
echo "predict: all passed ($right of $images right)"
