#!/usr/bin/env bash
# train and evaluate on data files that are missing, damaged or unfit, on 1 and 3 ranks: one clear
# line (not one a rank), exit code 1, no hang, nothing trained and no checkpoint written.
set -uo pipefail
exe=$(realpath "$1")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

launch() {
    local np=$1
    shift
    if [ "$np" = 1 ]; then timeout 60 "$exe" "$@"; else timeout 60 "${MPIEXEC:-mpiexec}" -n "$np" "$exe" "$@"; fi
}

# refused WORDS FILE: train says so on any number of ranks.
refused() {
    local words=$1 file=$2 np code
    for np in 1 3; do
        code=0
        launch "$np" train --data "$file" --model mlp16 --epochs 1 --checkpoint-dir ckpt >out 2>err || code=$?
        [ "$code" = 1 ] || fail "$file on $np ranks: exit code $code: $(cat err)"
        [ "$(grep -c 'mnist_dist: .*error: ' err)" = 1 ] || fail "$file on $np ranks: not one line: $(cat err)"
        grep -q "error: .*$words" err || fail "$file on $np ranks: '$(cat err)' does not say '$words'"
        # What the launcher adds is its own; without one nothing else is said.
        [ "$np" != 1 ] || [ "$(wc -l <err)" = 1 ] || fail "$file: more than one line: $(cat err)"
        [ ! -e ckpt ] || [ -z "$(ls -A ckpt)" ] || fail "$file on $np ranks: a checkpoint was written"
    done
}

"$exe" synth -o good.h5 --images 400 --test-images 50 --seed 1 >out || fail "synth"
for np in 1 3; do
    launch "$np" train --data good.h5 --model mlp16 --epochs 1 --checkpoint-dir none >out 2>err ||
        fail "the good file on $np ranks: $(cat err)"
done

refused "missing.h5: No such file or directory; data/fetch.sh" missing.h5
mkdir folder.h5
refused "folder.h5: is a folder" folder.h5
: >empty.h5
refused "empty.h5: is empty" empty.h5
head -c 200000 good.h5 >cut.h5
refused "cut.h5: damaged or truncated" cut.h5
printf '\0\0\010\003\0\0\0\1' >idx.h5
refused "idx.h5: is an IDX file, not HDF5" idx.h5
# A flipped bit in the object header of x_train.
cp good.h5 flipped.h5
at=$(grep -abo OHDR good.h5 | sed -n 2p | cut -d: -f1)
printf '\377' | dd of=flipped.h5 bs=1 seek=$((at + 40)) conv=notrunc status=none
refused "flipped.h5: " flipped.h5
if /usr/bin/python3 -c 'import h5py' 2>/dev/null; then
    /usr/bin/python3 - <<'EOF' || fail "h5py"
import h5py
import numpy as np

rng = np.random.default_rng(1)
good = {
    "x_train": rng.integers(0, 256, (300, 28, 28), dtype=np.uint8),
    "y_train": (np.arange(300) % 10).astype(np.uint8),
    "x_test": rng.integers(0, 256, (50, 28, 28), dtype=np.uint8),
    "y_test": (np.arange(50) % 10).astype(np.uint8),
}


def write(name, attributes=None, drop=None, options=None, **other):
    with h5py.File(name, "w") as f:
        for key, value in {**good, **other}.items():
            if key != drop:
                f.create_dataset(key, data=value, **(options or {}))
        f.attrs.update(attributes or {})


write("h5py.h5")
write("absent.h5", drop="y_test")
write("packed.h5", options={"compression": "gzip"})
write("float.h5", x_train=(good["x_train"] / 255).astype(np.float32))
write("wide.h5", y_train=good["y_train"].astype(np.int64))
write("unequal.h5", y_train=good["y_train"][:-1])
write("shapes.h5", x_test=good["x_test"][:, :14])
write("swapped.h5", x_train=good["y_train"], y_train=good["x_train"])
# Out of range near the end only: only the last of three ranks reads it.
labels = good["y_train"].copy()
labels[297] = 77
write("label.h5", {"classes": 10}, y_train=labels)
labels = good["y_test"].copy()
labels[49] = 10
write("test_label.h5", {"classes": 10}, y_test=labels)
EOF
    for np in 1 3; do
        launch "$np" train --data h5py.h5 --model mlp16 --epochs 1 --checkpoint-dir none >out 2>err ||
            fail "h5py's file on $np ranks: $(cat err)"
    done
    refused "absent.h5: holds no /y_test" absent.h5
    refused "packed.h5: /x_train is stored in chunks, compressed" packed.h5
    refused "float.h5: /x_train is not of type uint8" float.h5
    refused "wide.h5: /y_train is not of type uint8" wide.h5
    refused "unequal.h5: 300 images in /x_train but 299 labels" unequal.h5
    refused "shapes.h5: training images are 28 x 28 x 1, test images 14 x 28 x 1" shapes.h5
    refused "swapped.h5: /x_train has 1 dimensions" swapped.h5
    refused "label.h5: label 297 of /y_train is 77, but there are only 10 classes" label.h5
    refused "test_label.h5: label 49 of /y_test is 10, but there are only 10 classes" test_label.h5
fi

# Unreadable for this user. Root reads everything.
if [ "$(id -u)" -ne 0 ]; then
    cp good.h5 secret.h5 && chmod 000 secret.h5
    refused "secret.h5: Permission denied" secret.h5
fi
echo "data: all passed"
