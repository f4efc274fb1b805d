#!/usr/bin/env bash
# mnist_dist convert of what users have: archives of IDX files, CSV, npz, PNG folders, CIFAR and HDF5 by
# h5py. The same 70 images in every format give the same bytes; what cannot be used is one line.
set -uo pipefail
# shellcheck source=tests/support/cli.sh
. "$(dirname "${BASH_SOURCE[0]}")/../support/cli.sh"
python=/usr/bin/python3
$python -c 'import h5py, numpy' 2>/dev/null || exit 77

# refused WORDS SRC [OPTION...]: one line with these words, and no file.
refused() {
    local words=$1 code=0
    shift
    "$exe" convert "$@" -o no.h5 >out 2>err || code=$?
    [ "$code" = 1 ] || fail "convert $*: exit code $code: $(cat out err)"
    [ "$(wc -l <err)" = 1 ] || fail "convert $*: not one line: $(cat err)"
    grep -q -- "$words" err || fail "convert $*: '$(cat err)' does not say '$words'"
    [ ! -e no.h5 ] || fail "convert $*: left a file"
}

# converts SRC [OPTION...] | says WORDS: the note on stderr.
converts() {
    "$exe" convert "$@" -o new.h5 >out 2>err || fail "convert $*: $(cat err)"
    [ "$(wc -l <out)" = 1 ] || fail "convert $*: $(cat out)"
}
# same SRC [OPTION...]: the images and labels of the reference.
same() {
    converts "$@"
    grep -q "sha256 $sum" out || fail "convert $*: other images or labels: $(cat out err)"
}
says() { grep -q -- "$1" err || fail "'$(cat err)' does not say '$1'"; }
silent() { [ ! -s err ] || fail "not silent: $(cat err)"; }
shape() { grep -q -- "$1" out || fail "'$(cat out)' does not say '$1'"; }

cat >make.py <<'EOP'
import gzip
import os
import struct
import zlib

import h5py
import numpy as np

rng = np.random.default_rng(1)
X, Y = rng.integers(0, 256, (70, 6, 6), dtype="u1"), (np.arange(70) % 10).astype("u1")
X[:, 0, 0], X[:, 5, 5] = 0, 255
SPLIT = {"train": slice(0, 60), "test": slice(60, 70)}


def idx(path, a, kind=8):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    raw = bytes([0, 0, kind, a.ndim]) + struct.pack(f">{a.ndim}I", *a.shape) + a.tobytes()
    with open(path, "wb") as f:
        f.write(raw if isinstance(a, np.ndarray) else a)
    return raw


def write(path, data):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


def pair(folder, x=X, y=Y, prefix="", ends=("idx3-ubyte", "idx1-ubyte"), kind=8):
    for s, rows in SPLIT.items():
        t = s if prefix else s.replace("test", "t10k")
        idx(f"{folder}/{prefix}{t}-images-{ends[0]}", x[rows])
        idx(f"{folder}/{prefix}{t}-labels-{ends[1]}", y[rows], kind)


pair("plain")
# Kaggle's archive, padded and multi-member gzip, QMNIST.
for s in "train", "t10k":
    for what in "images-idx3-ubyte", "labels-idx1-ubyte":
        raw = open(f"plain/{s}-{what}", "rb").read()
        os.makedirs(f"kaggle/{s}-{what}")
        write(f"kaggle/{s}-{what}/{s}-{what}", raw)
        write(f"kaggle/{s}-{what}".replace("-idx", ".idx"), raw)
        write(f"nested/{s}-{what}/{s}-{what}", raw)
        write(f"padded/{s}-{what}.gz", gzip.compress(raw) + bytes(70000))
        write(f"members/{s}-{what}.gz", gzip.compress(raw[:9]) + gzip.compress(raw[9:]))
        write(f"page/{s}-{what}.gz", b"<!DOCTYPE html><html></html>")
        write(f"swap/{s}-{what}", raw[:4] + np.frombuffer(raw[4 : 4 + 4 * raw[3]], ">u4").astype("<u4").tobytes()
              + raw[4 + 4 * raw[3] :])
        write(f"text/{s}-{what}", raw.replace(b"\n", b"\r\n"))
columns = np.zeros((70, 8), ">i4")
columns[:, 0] = Y
columns[:, 1] = 7
pair("qmnist", y=columns, prefix="qmnist-", ends=("idx3-ubyte", "idx2-int"), kind=0x0C)
pair("first", x=X[:, None], ends=("idx4-ubyte", "idx1-ubyte"))
# EMNIST: transposed, all sets in one folder; letters count from 1.
turned = np.ascontiguousarray(X.transpose(0, 2, 1))
pair("emnist", x=turned, prefix="emnist-digits-")
pair("emnist", x=turned, y=Y + 1, prefix="emnist-letters-")
write("emnist/emnist-letters-mapping.txt", b"".join(b"%d %d %d\n" % (i, 64 + i, 96 + i) for i in range(1, 11)))
# CSV.
header = "label," + ",".join(f"pixel{i}" for i in range(36))


def csv(path, x, y, head=header, last=False, end="\n", mark=""):
    rows = np.hstack([x.reshape(-1, 36), y[:, None]] if last else [y[:, None], x.reshape(-1, 36)])
    lines = ([head] if head else []) + [",".join(map(str, r)) for r in rows]
    write(path, (mark + end.join(lines) + end).encode())


for s, rows in SPLIT.items():
    csv(f"csv/mnist_{s}.csv", X[rows], Y[rows])
    csv(f"openml/{s}.csv", X[rows], Y[rows], header[6:] + ",class", True, "\r\n", "\ufeff")
    csv(f"bare/{s}.csv", X[rows], Y[rows], None)
csv("digits/train.csv", X, Y)
csv("digits/test.csv", X[:5], Y[:5], header[6:], True)
write("digits/test.csv", ("\n".join([header[6:]] + [",".join(map(str, x.ravel())) for x in X[:5]])).encode())
write("digits/sample_submission.csv", b"ImageId,Label\n1,0\n")
write("short.csv", b"label,a,b,c,d\n1,2,3,4\n")
write("word.csv", b"label,a,b,c,d\n1,2,3,4,5\n1,2,red,4,5\n")
# npz and HDF5.
four = {"x_train": X[:60], "y_train": Y[:60], "x_test": X[60:], "y_test": Y[60:]}
np.savez("keras.npz", **four)
np.savez_compressed("wide.npz", **{k: v.astype("f8" if k[0] == "x" else ">i8") for k, v in four.items()})
np.savez("other.npz", arr_0=X, names=Y)
write("cut.npz", open("keras.npz", "rb").read()[:-500])


def h5(name, options=None, attributes=None, **changed):
    with h5py.File(name, "w") as f:
        for k, v in {**four, **changed}.items():
            if v is not None:
                f.create_dataset(k, data=v, **(options or {}))
        f.attrs.update(attributes or {})


for way in "gzip", "lzf":
    h5(way + ".h5", {"compression": way, "chunks": True, "shuffle": True})
hot = np.eye(10)
h5("hot.h5", y_train=hot[Y[:60]], y_test=hot[Y[60:]].astype("i4"), x_train=X[:60, :, :, None], x_test=X[60:, :, :, None])
h5("unit.h5", {"chunks": True}, x_train=(X[:60] / 255).astype("f4"), x_test=(X[60:] / 255).astype("f4"),
   y_train=Y[:60].astype("i8"), y_test=Y[60:].astype("i8"), attributes={"class_names": list("abcdefghij")})
h5("grey.h5", x_train=X[:60, None].astype("f4"), x_test=X[60:, None].astype("f4"))
h5("symmetric.h5", x_train=X[:60] / 127.5 - 1, x_test=X[60:] / 127.5 - 1)
h5("mean.h5", x_train=(X[:60] - 33.0) / 78, x_test=(X[60:] - 33.0) / 78)
h5("deep.h5", x_train=X[:60].astype("u2") * 257, x_test=X[60:].astype("u2") * 257)
h5("black.h5", x_train=(X[:60] / 255).astype("u1"), x_test=(X[60:] / 255).astype("u1"))
bad = (X[:60] / 255).astype("f4")
bad[7, 2, 2] = np.nan
h5("nan.h5", x_train=bad)
h5("half.h5", y_train=hot[Y[:60]] / 2, y_test=hot[Y[60:]])
with h5py.File("named.h5", "w") as f:
    for s, rows in SPLIT.items():
        f[f"{s}/images"], f[f"{s}/labels"] = X[rows], Y[rows]
with h5py.File("set.h5", "w") as f:
    for s, rows in SPLIT.items():
        f[f"{s}_set_x"], f[f"{s}_set_y"] = X[rows], Y[rows][:, None]
with h5py.File("nothing.h5", "w") as f:
    f["weights"] = X
h5("own.h5", x_train=None, y_train=None, x_test=X[:9], y_test=Y[:9])
stray = Y.copy()
stray[33] = 255
h5("stray.h5", y_train=stray[:60])
h5("gap.h5", y_train=np.where(Y == 4, 3, Y)[:60], y_test=np.where(Y == 4, 3, Y)[60:])
h5("sets.h5", y_train=Y[:60] + 1, y_test=Y[60:] + 1)
# One folder of PNG files per class; CIFAR-10.


def chunk(t, b):
    return struct.pack(">I", len(b)) + t + b + struct.pack(">I", zlib.crc32(t + b))


def png(path, a):
    raw = b"".join(b"\0" + r.tobytes() for r in a)
    write(path, b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", a.shape[1], a.shape[0], 8, 0, 0, 0, 0))
          + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


for i, (x, y) in enumerate(zip(X, Y)):
    png(f"png/{'test' if i >= 60 else 'train'}/{y}/{i}.png", x)
    png(f"animals/{'cat' if y < 5 else 'dog'}/{i}.png", x)
write("animals/cat/notes.txt", b"text")
png("odd/a/1.png", X[0])
png("odd/b/1.png", X[0][:4])
colour = rng.integers(0, 256, (12, 3, 32, 32), dtype="u1")
records = np.hstack([np.arange(12, dtype="u1")[:, None] % 10, colour.reshape(12, -1)])
for i in range(5):
    write(f"cifar/data_batch_{i + 1}.bin", records[2 * i : 2 * i + 2].tobytes())
write("cifar/test_batch.bin", records[10:].tobytes())
write("cifar/batches.meta.txt", b"airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n")
np.save("colour.npy", colour)
for s in "first", "last":
    x = colour if s == "first" else colour.transpose(0, 2, 3, 1)
    h5(f"{s}.h5", x_train=x[:10], x_test=x[10:], y_train=records[:10, 0], y_test=records[10:, 0])
EOP
$python make.py || fail "make.py"

converts plain && silent
shape "60 training and 10 test images of 6 x 6, 10 classes"
sum=$(sed 's/.*sha256 \([0-9a-f]*\).*/\1/' out)

# IDX files: every archive gives the same, in silence.
for folder in kaggle nested padded members qmnist first; do same $folder && silent; done
same emnist --set digits && says "rows and columns of every image exchanged"
same emnist --set letters && says "labels 1 to 10 are stored as 0 to 9"
"$exe" show --data new.h5 --split test --index 3 --color never | grep -q "Dd" || fail "EMNIST's names"
converts emnist --set letters --as-is && says "no image of class 0" && shape "11 classes"
same emnist --set digits --as-is --transpose
refused "emnist-digits-train-images-idx3-ubyte and emnist-letters-.* fit; .* --set digits" emnist
refused "holds no train-images-idx3-ubyte (or .gz) of the set balanced" emnist --set balanced
refused "is a web page, not an IDX file" page
refused "its dimensions are little-endian" swap
refused "every LF became CR LF" text

# CSV.
for folder in csv openml bare; do same $folder && silent; done
converts digits && says "test.csv has no labels" && says "every 7th image" && shape "60 training and 10 test"
converts csv/mnist_train.csv --test-every 3 && shape "40 training and 20 test"
refused "short.csv: line 2, column 5 is missing" short.csv --test-every 1
refused "word.csv: line 3, column 3 is no number: red" word.csv --test-every 1

# npz and HDF5.
for file in keras.npz wide.npz gzip.h5 lzf.h5 hot.h5 grey.h5 named.h5 set.h5; do same $file && silent; done
same unit.h5 && says "pixels are 0 to 1: stored as 0 to 255"
"$exe" show --data new.h5 --split test --index 3 --color never | grep -q " d" || fail "names by h5py"
same symmetric.h5 && says "is stored as 0 to 255"
same deep.h5 --scale 0.00389105058
same sets.h5 --first-label 1 && silent
converts last.h5 && silent && cp out last.out
converts first.h5 && says "3 channels first"
diff <(cut -d' ' -f2-15 out) <(cut -d' ' -f2-15 last.out) >&2 ||
    fail "channels first and last differ"
converts first.h5 --channels last && shape "3 x 32 x 32"
refused "--scale 0.00389105 makes them 0 to 255" deep.h5
refused "as after subtracting the mean" mean.h5
refused "fractions 0 to 1 that were stored as uint8 are black" black.h5
converts black.h5 --scale 255 && silent
refused "training image 7 has a pixel that is not a number" nan.h5
refused "a row is not one-hot" half.h5
refused "found: names, arr_0\|found: arr_0, names" other.npz
refused "found: weights" nothing.h5
refused "archive is damaged or truncated" cut.npz

# PNG files and CIFAR-10.
converts png && says "stored as grey" && shape "60 training and 10 test images of 6 x 6, 10 classes"
converts animals && says "1 files that are not .png" && shape "60 training and 10 test images of 6 x 6, 2 classes"
"$exe" show --data new.h5 --color never | grep -q "cat\|dog" || fail "names of folders"
refused "odd/b/1.png: is 4 x 6, others are 6 x 6\|odd/a/1.png: is 6 x 6, others are 6 x 4" odd --test-every 2
converts cifar && silent && shape "10 training and 2 test images of 32 x 32 x 3, 10 classes"
"$exe" show --data new.h5 --split test --index 1 --color never | grep -q automobile || fail "CIFAR's names"

# Labels: gaps are said, a stray one is refused.
converts gap.h5 && says "no image of class 4" && shape "10 classes"
refused "1 of 70 labels is 255, but 245 classes below have no image.*--classes 256" stray.h5
converts stray.h5 --classes 256 && shape "256 classes"
converts sets.h5 && says "no image of class 0; if the labels count from 1, say --first-label 1"
refused "the labels go up to 9, too large for --classes 5" plain --classes 5
converts plain --classes 12 && says "no image of classes 10, 11" && shape "12 classes"

# Test sets of one's own: fewer classes than the network has, and test images only.
"$exe" train --data gzip.h5 --model mlp16 --epochs 1 --checkpoint-dir none >out 2>err && fail "gzip.h5 was trained on"
grep -q "mnist_dist convert FILE -o NEW.h5" err || fail "no way out: $(cat err)"
"$exe" convert gzip.h5 -o data.h5 >out || fail "$(cat err)"
"$exe" train --data data.h5 --model mlp16 --epochs 1 --checkpoint-dir ckpt >out 2>err || fail "train: $(cat err)"
converts own.h5 && says "no training images" && shape "0 training and 9 test"
for file in own.h5 new.h5; do
    "$exe" evaluate ckpt/latest --data $file >out 2>err || fail "evaluate $file: $(cat err)"
    grep -q "^Test images 9," out || fail "evaluate $file: $(cat out)"
    ! grep -qi nan out || fail "evaluate $file: $(cat out)"
    "$exe" predict ckpt/latest --data $file --index 8 >out 2>err || fail "predict $file: $(cat err)"
    "$exe" train --data $file --checkpoint-dir none >out 2>err && fail "trained on test images"
    grep -q "only test images: it serves 'evaluate --data', not training" err || fail "$(cat err)"
done
"$exe" evaluate ckpt/latest --data own.h5 --split train >out 2>err && fail "evaluate --split train"
mkdir t10k && cp plain/t10k-* t10k && converts t10k && shape "0 training and 10 test"
echo "convert_formats: all passed"
