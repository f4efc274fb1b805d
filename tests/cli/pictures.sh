#!/usr/bin/env bash
# mnist_dist predict on pictures as users have them: what the network was trained on decides what is
# done to a picture; digits beside lines and frames; JPEG; several digits in one picture.
set -euo pipefail
exe=$1
dir=$(mktemp -d pictures.XXXXXX)
trap 'rm -rf "$dir"' EXIT
python=$(PATH=/usr/bin:$PATH command -v python3) || {
    echo "skipped for want of python3"
    exit 77
}

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

predict() { "$exe" predict "$@" --color never; }
table() { grep -E '^ *[0-9]  [01]\.[0-9]{6}' | awk '{ print $1, $2 }'; }
says() { grep -q -e "$1" "$dir/out" || fail "no '$1' in: $(cat "$dir/out")"; }

# Three data sets: bars on black, the same on white, and cut so that ink runs to the border.
"$python" - "$dir" <<'PY'
import os, random, struct, sys
random.seed(1)
side = 16
def image(label):
    rows = [[0] * side for _ in range(side)]
    at = 3 + label + random.randrange(2)
    for y in range(3, 13):
        for x in range(at, at + 2): rows[y][x] = 255 - random.randrange(40)
    for x in range(3, 13): rows[4 + label][x] = 200
    return rows
for name in "black", "white", "full":
    os.mkdir(f"{sys.argv[1]}/{name}")
for split, n in ("train", 400), ("t10k", 40):
    labels = [i % 6 for i in range(n)]
    images = [image(label) for label in labels]
    for name in "black", "white", "full":
        cut = range(4, 12) if name == "full" else range(side)
        flat = bytes(r[x] for i in images for r in (i[y] for y in cut) for x in cut)
        if name == "white": flat = bytes(255 - v for v in flat)
        path = f"{sys.argv[1]}/{name}/{split}"
        open(f"{path}-images-idx3-ubyte", "wb").write(
            struct.pack(">IIII", 0x803, n, len(cut), len(cut)) + flat)
        open(f"{path}-labels-idx1-ubyte", "wb").write(struct.pack(">II", 0x801, n) + bytes(labels))
PY
for name in black white full; do
    "$exe" convert "$dir/$name" -o "$dir/$name.h5" >"$dir/out"
    "$exe" train --data "$dir/$name.h5" --model mlp16 --epochs 4 --batch-size 32 --progress never \
        --checkpoint-dir "$dir/c-$name" >"$dir/out" 2>&1 || fail "$name: $(cat "$dir/out")"
    for i in 0 1 2 3 4 5; do
        "$exe" show --data "$dir/$name.h5" --split test --index $i --png "$dir/p.png" >"$dir/out"
        predict "$dir/c-$name/latest" --data "$dir/$name.h5" --index $i | table >"$dir/by-index"
        predict "$dir/c-$name/latest" "$dir/p.png" >"$dir/out"
        says 'taken as it is'
        table <"$dir/out" | diff "$dir/by-index" - || fail "$name: picture $i differs from the image"
    done
done
# The picture of the other shade is inverted, unless it is to be taken as it is.
"$exe" show --data "$dir/white.h5" --split test --index 1 --png "$dir/p.png" >"$dir/out"
predict "$dir/c-black/latest" --data "$dir/black.h5" --index 1 | table >"$dir/by-index"
predict "$dir/c-black/latest" "$dir/p.png" >"$dir/out"
says 'light and dark exchanged'
table <"$dir/out" | diff "$dir/by-index" - || fail "an inverted image differs"
predict "$dir/c-black/latest" "$dir/p.png" --as-is >"$dir/out"
says 'taken as it is'
! table <"$dir/out" | diff -q "$dir/by-index" - >"$dir/difference" || fail "--as-is inverts"

# Few images are measured as exactly as many.
for n in 7 11 100 209; do
    "$exe" synth -o "$dir/few.h5" --images $n --test-images 5 >"$dir/out"
    "$exe" train --data "$dir/few.h5" --model mlp16 --epochs 1 --batch-size 7 --logical-ranks 1 --progress never \
        --checkpoint-dir "$dir/c-$n" >"$dir/out" 2>&1 || fail "$n images: $(cat "$dir/out")"
done

# Digits of the program's own, in a frame, on squared paper, on a clear canvas, and three in a row.
"$exe" synth -o "$dir/data.h5" --images 6000 --test-images 20 --seed 3 >"$dir/out"
"$exe" train --data "$dir/data.h5" --model mlp16 --lr 0.003 --epochs 3 --batch-size 64 \
    --checkpoint-dir "$dir/ckpt" --progress never >"$dir/out" 2>&1 || fail "$(cat "$dir/out")"
for i in 0 1 2; do
    "$exe" show --data "$dir/data.h5" --split test --index $i --numbers | tail -28 >"$dir/$i.txt"
done
"$python" - "$dir" <<'PY'
import struct, sys, zlib
folder = sys.argv[1]
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
def write(name, rows, kind=0):
    height, width = len(rows), len(rows[0])
    raw = b"".join(b"\0" + (bytes(r) if kind == 0 else bytes(v for p in r for v in (255, 255, 255, p)))
                   for r in rows)
    open(f"{folder}/{name}.png", "wb").write(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))
digit = [[[int(v) for v in line.split()] for line in open(f"{folder}/{i}.txt")] for i in range(3)]
def page(of, width, margin=24, lines=lambda y, x: 0):
    rows = [[lines(y, x) for x in range(width)] for y in range(160)]
    for k, d in enumerate(of):
        for y in range(112):
            for x in range(112):
                at = rows[margin + y]
                at[margin + k * 120 + x] = max(at[margin + k * 120 + x], d[y // 4][x // 4])
    return rows
def dark(rows): return [[255 - v for v in r] for r in rows]
for i in range(3):
    write(f"plain-{i}", dark(page([digit[i]], 160)))
    write(f"frame-{i}", dark(page([digit[i]], 160, lines=lambda y, x: 230 * (min(y, x, 159 - y, 159 - x) < 3))))
    write(f"squared-{i}", dark(page([digit[i]], 160, lines=lambda y, x: 60 * (y % 32 == 0 or x % 32 == 0))))
    write(f"clear-{i}", page([digit[i]], 160), 6)
write("row", dark(page(digit, 420)))
PY
answers=()
for i in 0 1 2; do
    predict "$dir/ckpt/latest" "$dir"/{plain,frame,squared,clear}-$i.png >"$dir/out"
    answer=$(sed -n 's/^answer: \([0-9]\).*/\1/p' "$dir/out" | sort -u)
    [ "${#answer}" = 1 ] || fail "picture $i: $(grep -E '^answer|png|^\(' "$dir/out")"
    answers+=("$answer")
done
says '4 ruled lines removed'
says 'light ink on dark'
predict "$dir/ckpt/latest" "$dir/row.png" >"$dir/out"
says '3 digits in one picture? --split'
for split in --split '--split digits'; do
    # shellcheck disable=SC2086 # two words
    predict "$dir/ckpt/latest" $split "$dir/row.png" >"$dir/out"
    says "^read from left to right: ${answers[*]}\$"
    [ "$(grep -c ^answer "$dir/out")" = 3 ] || fail "$(cat "$dir/out")"
done
predict "$dir/ckpt/latest" --split --json "$dir/row.png" >"$dir/out"
[ "$(grep -c '"digits":3,"digit":[123],' "$dir/out")" = 3 ] || fail "--json: $(cat "$dir/out")"
code=0
predict "$dir/ckpt/latest" --index 0 --split >"$dir/out" 2>&1 || code=$?
[ "$code" = 2 ] || fail "--index with --split: exit $code"

# A JPEG that a camera wrote on its side is read as the PNG picture that it was made of.
predict "$dir/ckpt/latest" "$MND_SOURCE_DIR/tests/cli/files/three-on-its-side.jpg" >"$dir/out"
says '240 x 320 pixels'
predict "$dir/ckpt/latest" "$MND_SOURCE_DIR/docs/own-three.png" >"$dir/png"
[ "$(sed -n 's/^answer: \([0-9]\).*/\1/p' "$dir/out")" = "$(sed -n 's/^answer: \([0-9]\).*/\1/p' "$dir/png")" ] ||
    fail "JPEG and PNG differ: $(tail -1 "$dir/out") $(tail -1 "$dir/png")"
head -c 3000 "$MND_SOURCE_DIR/tests/cli/files/three-on-its-side.jpg" >"$dir/cut.jpg"
code=0
predict "$dir/ckpt/latest" "$dir/cut.jpg" >"$dir/out" 2>&1 || code=$?
[ "$code" = 1 ] || fail "a cut JPEG: exit $code"
says 'cut.jpg: damaged JPEG'
mkdir -p "$dir/named/0"
cp "$MND_SOURCE_DIR/tests/cli/files/three-on-its-side.jpg" "$dir/named/0/a.png"
code=0
"$exe" convert "$dir/named" -o "$dir/named.h5" >"$dir/out" 2>&1 || code=$?
[ "$code" = 1 ] || fail "a JPEG named .png: exit $code"
says 'a.png: is a JPEG file, not PNG'
echo "pictures: all passed"
