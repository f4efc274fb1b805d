#!/usr/bin/python3
"""Runs a checkpoint's network over the images of the data file with NumPy alone, in float64, and
prints accuracy and loss: what anybody can do with the arrays that h5py shows.

    numpy_forward.py CKPT [--data FILE] [--split test|train]

Exit codes: 0 done, 1 the checkpoint contradicts itself, 77 NumPy or h5py is not installed.
"""
import argparse
import hashlib
import re
import sys

try:
    import h5py
    import numpy as np
except ImportError as missing:
    print(f"numpy_forward.py: skipped, {missing}", file=sys.stderr)
    sys.exit(77)

# of the arrays of a layer, in its order
NAMES = ("kernel", "recurrent_kernel", "bias",
         "gamma", "beta", "moving_mean", "moving_variance")
ROWS = 500  # images at a time


def windows(x, kh, kw, stride):
    """All windows of images x (n, h, w, c): (n, oh, ow, c, kh, kw)."""
    view = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), axis=(1, 2))
    return view[:, ::stride, ::stride]


def stride_of(arguments, default):
    return next((int(a[1:]) for a in arguments if a[0] == "s" and a[1:].isdigit()), default)


def same_padding(x, kh, kw, stride):
    """As TensorFlow's: ceil(in / stride) outputs, the odd pixel at the end."""
    pad = [max((-(-size // stride) - 1) * stride + k - size, 0)
           for size, k in ((x.shape[1], kh), (x.shape[2], kw))]
    return [(0, 0)] + [(p // 2, p - p // 2) for p in pad] + [(0, 0)]


def conv(x, arguments, kernel, bias):
    kh, kw = kernel.shape[:2]
    stride = stride_of(arguments, 1)
    if "same" in arguments:
        x = np.pad(x, same_padding(x, kh, kw, stride))
    seen = windows(x, kh, kw, stride).transpose(0, 1, 2, 4, 5, 3)
    return seen.reshape(*seen.shape[:3], -1) @ kernel.reshape(-1, kernel.shape[3]) + bias


def pool(x, arguments, reduce):
    size = int(arguments[0])
    stride = stride_of(arguments, size)
    if "same" in arguments:  # padding is no maximum and does not count in a mean
        x = np.pad(x, same_padding(x, size, size, stride), constant_values=np.nan)
    return reduce(windows(x, size, size, stride), axis=(-2, -1))


def lstm(x, kernel, recurrent, bias):
    """The last hidden state of sequences x (n, steps, features)."""
    hidden = cell = np.zeros((len(x), len(recurrent)))
    for step in x.transpose(1, 0, 2):
        i, f, g, o = np.split(step @ kernel + bias + hidden @ recurrent, 4, axis=1)
        i, f, o = (1 / (1 + np.exp(-z)) for z in (i, f, o))
        cell = f * cell + i * np.tanh(g)
        hidden = o * np.tanh(cell)
    return hidden


def layers(spec):
    """ "relu,residual(relu)" as "relu", "residual(", "relu", ")"."""
    return [layer for layer in re.findall(r"[^,()]*\(|\)|[^,()]+", spec) if layer]


def forward(spec, arrays, x):
    """Logits of images x (n, h, w, c). `arrays`: (kernel, bias) and the like by the layer's index."""
    kept = []
    for index, layer in enumerate(layers(spec)):
        kind, *arguments = layer.split(":")
        if kind == "dense":
            kernel, bias = arrays[index]
            x = x.reshape(len(x), -1) @ kernel + bias
        elif kind == "conv":
            x = conv(x, arguments[2:], *arrays[index])
        elif kind in ("maxpool", "avgpool"):
            x = pool(x, arguments, np.nanmax if kind == "maxpool" else np.nanmean)
        elif kind == "lstm":
            x = lstm(x.reshape(*x.shape[:2], -1), *arrays[index])
        elif kind == "globalavgpool":
            x = x.mean((1, 2))
        elif kind == "leakyrelu":
            x = np.where(x > 0, x, float(arguments[0] if arguments else 0.3) * x)
        elif kind == "batchnorm":
            gamma, beta, mean, variance = arrays[index]
            x = gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta
        elif kind == "residual(":
            kept.append(x)
        elif kind == ")":
            x = x + kept.pop()
        elif kind == "flatten":
            x = x.reshape(len(x), -1)
        elif kind == "relu":
            x = np.maximum(x, 0)
        elif kind == "sigmoid":
            x = 1 / (1 + np.exp(-x))
        elif kind == "tanh":
            x = np.tanh(x)
        elif kind != "dropout":  # which does nothing outside training
            sys.exit(f"numpy_forward.py: what is layer '{layer}'?")
    return x


def load(path):
    """Spec, arrays by layer, and input shape; checks weights_sha256 on the way."""
    with h5py.File(path, "r") as file:
        model = file["model"]
        spec = model.attrs["spec"].decode()
        arrays, ordered = {}, {}
        for name, group in model.items():
            index = int(name.split("_")[0])
            assert name.split("_")[1] == layers(spec)[index].split(":")[0], name
            arrays[index] = tuple(group[k][...].astype(np.float64) for k in NAMES if k in group)
            for data in group.values():
                ordered[int(data.attrs["index"])] = data[...].tobytes()
        digest = hashlib.sha256(b"".join(ordered[i] for i in range(len(ordered)))).hexdigest()
        if digest != model.attrs["weights_sha256"].decode():
            sys.exit(f"numpy_forward.py: {path}: weights_sha256 is not that of the arrays")
        return spec, arrays, tuple(model.attrs["input"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--data", default="data/mnist.h5")
    parser.add_argument("--split", choices=("test", "train"), default="test")
    options = parser.parse_args()
    spec, arrays, shape = load(options.checkpoint)
    right, loss = 0, 0.0
    with h5py.File(options.data, "r") as file:
        images, labels = file[f"x_{options.split}"], file[f"y_{options.split}"][...]
        for first in range(0, len(labels), ROWS):
            x = images[first:first + ROWS].astype(np.float64) / 255
            y = labels[first:first + ROWS]
            z = forward(spec, arrays, x.reshape(len(x), *shape))
            z -= z.max(axis=1, keepdims=True)
            loss += np.sum(np.log(np.sum(np.exp(z), axis=1)) - z[np.arange(len(y)), y])
            right += int(np.sum(z.argmax(axis=1) == y))
    print(f"images {len(labels)}, loss {loss / len(labels):.6f}, "
          f"accuracy {right / len(labels):.4f} ({right} right)")


if __name__ == "__main__":
    main()
