#!/usr/bin/env python3
"""Reads a checkpoint in Python: h5py finds the documented layout, and all checksums are equal to those
computed from their description in mnist_dist/checkpoint.h.

Usage: checkpoint_h5py.py TEST_CHECKPOINT (the program that writes the sample with --write DIR)
Exit code 77: skipped, h5py is not installed.
"""
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile

try:
    import h5py
    import numpy as np
except ImportError as error:
    print(f"skipped: {error} (Debian: apt-get install python3-h5py)")
    sys.exit(77)

STEP = 938
N_CONV, N_DENSE = 3 * 3 * 4, 36 * 10
N_PARAM = N_CONV + 4 + N_DENSE + 10


def check_block(path):
    data = open(path, "rb").read()
    lines = data[:512].rstrip(b"\0").decode().splitlines()
    assert lines == [
        "mnist_dist checkpoint 1",
        f"bytes {len(data)}",
        f"sha256 {hashlib.sha256(data[512:]).hexdigest()}",
    ], lines


def value_bytes(value):
    return bytes(value) if isinstance(value, bytes) else np.asarray(value).tobytes()


def root_sha256(file):
    objects = {"/": file}
    file.visititems(lambda name, item: objects.__setitem__("/" + name, item))
    digest = hashlib.sha256()
    for path in sorted(objects):
        item = objects[path]
        if isinstance(item, h5py.Dataset):
            digest.update(path.encode() + b"\0" + np.array(item.shape, "<i8").tobytes())
        for name in sorted(item.attrs):
            if (path, name) != ("/", "sha256"):
                value = value_bytes(item.attrs[name])
                digest.update(f"{path}@{name}".encode() + b"\0" + value + b"\0")
    return digest.hexdigest()


def check_datasets(file):
    count = 0

    def visit(name, item):
        nonlocal count
        if isinstance(item, h5py.Dataset):
            count += 1
            expected = hashlib.sha256(item[...].tobytes()).hexdigest()
            assert item.attrs["sha256"].decode() == expected, name
            assert item.chunks is None and item.dtype.str[0] == "<", name

    file.visititems(visit)
    assert count == 4 + 2 + 3, count


def check_content(file):
    assert sorted(file) == ["model", "optimizer", "progress"]
    assert file.attrs["format"] == b"mnist_dist checkpoint 1"

    model = file["model"]
    assert model.attrs["spec"] == b"conv:4:3,maxpool:2,flatten,dense:10"
    assert model.attrs["classes"] == 10 and list(model.attrs["input"]) == [8, 8, 1]
    assert model.attrs["weights_sha256"] == b"a" * 64
    assert model.attrs["blas"] == b"OpenBLAS 0.3.21 Haswell"
    assert sorted(model) == ["00_conv", "03_dense"]
    param = ((np.arange(N_PARAM) - 100) / 64 + STEP).astype(np.float32)
    start = 0
    for index, (name, shape) in enumerate(
        [("00_conv/kernel", (3, 3, 1, 4)), ("00_conv/bias", (4,)),
         ("03_dense/kernel", (36, 10)), ("03_dense/bias", (10,))]):
        size = int(np.prod(shape))
        assert model[name].dtype == np.float32 and model[name].shape == shape, name
        assert model[name].attrs["index"] == index, name
        assert np.array_equal(model[name][...].ravel(), param[start:start + size]), name
        start += size

    optimizer = file["optimizer"]
    assert optimizer.attrs["name"] == b"adam" and optimizer.attrs["n_update"] == STEP
    assert np.array_equal(optimizer.attrs["setting"], 0.1 * np.arange(8))
    assert sorted(optimizer) == ["m", "v"]
    assert optimizer["m"].attrs["index"] == 0 and optimizer["v"].attrs["index"] == 1
    i = np.arange(N_PARAM, dtype=np.float32)
    assert np.array_equal(optimizer["m"][...], i / 2)
    assert np.array_equal(optimizer["v"][...], i * i)

    progress = file["progress"]
    expected = {
        "epoch": 2, "step": STEP, "step_in_epoch": 7, "seed": 2**64 - 2, "logical_ranks": 3,
        "batch_size": 128, "planned_epochs": 10, "best_accuracy": 0.95, "best_epoch": 2,
        "train_seconds": 4.75, "data_sha256": b"b" * 64,
        "schedule": "cosine, warm-up 100 steps \u2192".encode(),
    }
    assert dict(progress.attrs) == expected, dict(progress.attrs)
    assert sorted(progress) == ["correct", "history", "loss_sum"]
    assert np.array_equal(progress["loss_sum"][...], 0.1 * np.arange(1, 4))
    assert np.array_equal(progress["correct"][...], [100, 101, 102])
    assert progress["history"].attrs["columns"].decode().split() == [
        "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"]
    assert np.array_equal(progress["history"][...], [[1, 0.5, 0.85, 0.4, 0.875, 2.5],
                                                     [2, 0.25, 0.925, 0.2, 0.95, 2.25]])


def check_h5dump(path):
    if shutil.which("h5dump") is None:
        print("h5dump: skipped, not installed")
        return
    text = subprocess.run(["h5dump", "-a", "/model/spec", path], check=True, text=True,
                          capture_output=True).stdout
    assert "conv:4:3,maxpool:2,flatten,dense:10" in text, text
    text = subprocess.run(["h5dump", "-d", "/progress/correct", path], check=True, text=True,
                          capture_output=True).stdout
    assert "100, 101, 102" in text, text
    print("h5dump: opens it")


def main():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.argv[1], "--write", folder], check=True)
        path = os.path.join(folder, "latest")
        assert os.readlink(path) == "ckpt-00000938.h5"
        check_block(path)
        with h5py.File(path, "r") as file:
            check_content(file)
            check_datasets(file)
            assert file.attrs["sha256"].decode() == root_sha256(file)
        check_h5dump(path)
    print(f"h5py {h5py.__version__}: layout, values and all checksums are as documented")


if __name__ == "__main__":
    main()
