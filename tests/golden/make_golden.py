#!/usr/bin/python3
"""Makes golden.h: small networks, losses, optimizer steps and clipped gradients computed by PyTorch in float64.

    make_golden.py            writes golden.h beside this script
    make_golden.py --check    computes everything again and compares it with golden.h

Exit codes: 0 done, 1 the numbers differ, 77 PyTorch or NumPy is not installed.

PyTorch keeps kernels as (out, in, ...) and pictures channels first; the program keeps kernels
(kh, kw, in, out) and pictures channels last, as Keras does. The functions at the top translate.
Inputs and parameters are rounded to float32 first, so that both sides start from the same numbers;
what comes out is rounded to float32 once, at the end.
"""
import os
import re
import sys

try:
    import numpy as np
    import torch
    import torch.nn.functional as F
except ImportError as missing:
    print(f"make_golden.py: skipped, {missing}", file=sys.stderr)
    sys.exit(77)

sys.dont_write_bytecode = True  # no folder of it among the sources
from golden_head import HEAD  # noqa: E402

torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))
HEADER = os.path.join(HERE, "golden.h")
MARGIN = 1e-4  # no rectifier or maximum may depend on less than this: float32 could decide otherwise

# name, spec, input, classes, rows, what the picture is made of
CASES = [
    ("dense", "dense:3", (5,), 3, 4, "noise"),
    ("dense_deep", "dense:7,dense:6,dense:4", (9,), 4, 5, "noise"),
    ("dense_one_class", "dense:4,tanh,dense:1", (3,), 1, 2, "noise"),
    ("relu", "dense:8,relu,dense:6,relu,dense:4", (6,), 4, 6, "noise"),
    ("sigmoid", "dense:8,sigmoid,dense:5,sigmoid,dense:4", (6,), 4, 6, "noise"),
    ("tanh", "dense:8,tanh,dense:5,tanh,dense:4", (6,), 4, 6, "noise"),
    ("activation_first", "tanh,dense:6,sigmoid,relu,dense:3", (7,), 3, 3, "noise"),
    ("flatten", "flatten,dense:5,relu,dense:3", (3, 4, 2), 3, 3, "noise"),
    ("dropout_zero", "dense:8,relu,dropout:0,dense:4", (6,), 4, 3, "noise"),
    ("conv", "conv:3:3,flatten,dense:3", (6, 6, 1), 3, 3, "noise"),
    ("conv_one_by_one", "conv:4:1,flatten,dense:3", (3, 3, 2), 3, 2, "noise"),
    ("conv_channels", "conv:3:3,conv:4:2,flatten,dense:3", (6, 5, 3), 3, 3, "noise"),
    ("conv_whole", "conv:4:5,flatten,dense:3", (5, 5, 2), 3, 3, "noise"),
    ("conv_stride", "conv:3:3:s2,flatten,dense:3", (8, 9, 2), 3, 2, "noise"),
    ("conv_stride_wide", "conv:3:2:s3,flatten,dense:3", (8, 7, 1), 3, 3, "noise"),
    ("conv_same", "conv:3:3:same,flatten,dense:3", (5, 4, 2), 3, 3, "noise"),
    ("conv_same_even", "conv:3:4:same,conv:2:2:same,flatten,dense:3", (5, 6, 2), 3, 3, "noise"),
    ("conv_same_stride", "conv:3:3:s2:same,conv:2:3:s2:same,flatten,dense:3", (8, 7, 2), 3, 3,
     "noise"),
    ("conv_same_stride_gap", "conv:3:2:s3:same,flatten,dense:3", (7, 8, 1), 3, 3, "noise"),
    ("conv_oblong", "conv:3:3x5,conv:2:2x1,flatten,dense:3", (6, 8, 2), 3, 2, "noise"),
    ("conv_oblong_same", "conv:3:2x5:s2:same,conv:2:4x1:same,flatten,dense:3", (5, 9, 1), 3, 3,
     "noise"),
    ("conv_larger_than_image", "conv:3:5:same,flatten,dense:3", (3, 2, 2), 3, 3, "noise"),
    ("maxpool", "conv:3:3,maxpool:2,flatten,dense:3", (8, 8, 1), 3, 3, "noise"),
    ("maxpool_first", "maxpool:2,conv:3:2,flatten,dense:3", (7, 6, 2), 3, 3, "noise"),
    ("maxpool_odd", "conv:3:2,maxpool:2,flatten,dense:3", (8, 6, 2), 3, 3, "noise"),
    ("maxpool_overlap", "conv:3:2,maxpool:3:s2,flatten,dense:3", (9, 8, 1), 3, 3, "noise"),
    ("maxpool_overlap_one", "conv:3:2,maxpool:2:s1,flatten,dense:3", (5, 6, 1), 3, 2, "noise"),
    ("maxpool_gap", "conv:3:2,maxpool:2:s3,flatten,dense:3", (10, 9, 1), 3, 3, "noise"),
    ("maxpool_three", "conv:2:1,maxpool:3,flatten,dense:3", (8, 10, 1), 3, 3, "noise"),
    ("maxpool_blank", "conv:4:3,maxpool:2,flatten,dense:3", (10, 10, 1), 3, 3, "blob"),
    ("avgpool", "conv:3:3,avgpool:2,flatten,dense:3", (8, 8, 1), 3, 3, "noise"),
    ("avgpool_odd", "conv:3:2,avgpool:3:s2,flatten,dense:3", (9, 7, 2), 3, 3, "noise"),
    ("avgpool_gap", "avgpool:2:s3,conv:3:2,flatten,dense:3", (9, 10, 2), 3, 2, "noise"),
    ("avgpool_global", "conv:4:3,relu,avgpool:4,flatten,dense:3", (6, 6, 1), 3, 3, "noise"),
    ("conv_relu", "conv:3:3,relu,flatten,dense:3", (6, 6, 1), 3, 3, "noise"),
    ("conv_relu_pool", "conv:3:3,relu,maxpool:2,flatten,dense:3", (8, 7, 2), 3, 3, "noise"),
    ("conv_pool_relu", "conv:3:3,maxpool:2,relu,flatten,dense:3", (8, 7, 1), 3, 3, "noise"),
    ("conv_relu_pool_blank", "conv:3:3,relu,maxpool:2,flatten,dense:3", (10, 10, 1), 3, 3, "blob"),
    ("conv_tanh_pool", "conv:3:3,tanh,maxpool:2,flatten,dense:3", (8, 7, 1), 3, 3, "noise"),
    ("conv_sigmoid_avgpool", "conv:3:3:same,sigmoid,avgpool:2,flatten,dense:3", (6, 6, 2), 3, 3,
     "noise"),
    ("cnn_small", "conv:4:3,maxpool:2,flatten,dense:6,relu,dropout:0,dense:10", (10, 10, 1), 10, 3,
     "blob"),
    ("lenet_small", "conv:4:3:same,relu,maxpool:2,conv:5:3,relu,maxpool:2,flatten,dense:8,relu,"
     "dense:4", (12, 12, 1), 4, 2, "blob"),
    ("vgg_small", "conv:3:3:same,relu,conv:4:3:same,relu,maxpool:2,conv:3:3:same,relu,avgpool:2,"
     "flatten,dense:5", (8, 8, 3), 5, 2, "noise"),
    ("strided_deep", "conv:3:5:s2:same,relu,conv:4:3:s2:same,tanh,conv:4:3,flatten,dense:7",
     (13, 11, 1), 7, 3, "noise"),
    ("many_classes", "dense:6,relu,dense:47", (8,), 47, 5, "noise"),
    ("maxpool_same", "conv:3:2,maxpool:2:same,flatten,dense:3", (8, 6, 2), 3, 3, "noise"),
    ("maxpool_same_overlap", "conv:2:1,maxpool:3:s2:same,flatten,dense:3", (6, 7, 1), 3, 3, "noise"),
    ("avgpool_same", "conv:3:2,avgpool:3:s2:same,flatten,dense:3", (7, 9, 2), 3, 3, "noise"),
    ("globalavgpool", "conv:4:3,relu,globalavgpool,dense:3", (6, 7, 2), 3, 3, "noise"),
    ("lstm", "lstm:5,dense:3", (4, 3, 2), 3, 4, "noise"),
    ("lstm_one_step", "lstm:3", (1, 4, 1), 3, 3, "noise"),
    ("lstm_after_conv", "conv:3:2,tanh,lstm:4,dense:3", (7, 5, 1), 3, 3, "noise"),
    ("leakyrelu", "dense:8,leakyrelu,dense:6,leakyrelu:0.01,dense:4", (6,), 4, 6, "noise"),
    ("residual", "dense:6,residual(dense:6,relu,residual(tanh,dense:6)),relu,dense:4", (7,), 4, 5,
     "noise"),
    ("residual_conv", "residual(conv:2:3:same,relu,conv:2:3:same),relu,flatten,dense:3", (5, 6, 2),
     3, 3, "noise"),
    ("batchnorm", "tanh,batchnorm,dense:8,batchnorm:0.5,relu,dense:4", (6,), 4, 9, "noise"),
    ("batchnorm_conv", "conv:5:3,batchnorm:0.8,relu,maxpool:2,flatten,dense:3",
     (9, 8, 2), 3, 4, "noise"),
    ("resnet_small", "conv:4:3:same,batchnorm,relu,residual(conv:4:3:same,batchnorm,relu,"
     "conv:4:3:same,batchnorm),relu,globalavgpool,dense:3", (7, 6, 2), 3, 4, "noise"),
]

# name, program's name, settings, lr
OPTIMIZERS = [
    ("adam", "adam", dict(beta1=0.9, beta2=0.999, epsilon=1e-8), 0.05),
    ("adam_default", "adam", dict(beta1=0.9, beta2=0.999, epsilon=1e-8), 0.001),
    ("adam_large_epsilon", "adam", dict(beta1=0.8, beta2=0.99, epsilon=1e-2), 0.1),
    ("adamw", "adamw", dict(beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.1), 0.05),
    ("adamw_default", "adamw", dict(beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.01),
     0.001),
    ("rmsprop", "rmsprop", dict(rho=0.9, epsilon=1e-7), 0.05),
    ("rmsprop_large_epsilon", "rmsprop", dict(rho=0.7, epsilon=1e-2), 0.1),
    ("sgd", "sgd", dict(momentum=0.9), 0.1),
    ("sgd_plain", "sgd", dict(momentum=0.0), 0.1),
    ("sgd_decay", "sgd", dict(momentum=0.9, weight_decay=0.05), 0.1),
    ("sgd_nesterov", "sgd", dict(momentum=0.9, weight_decay=0.05, nesterov=1.0), 0.1),
]
STEPS = 3
OPTIMIZER_N = 37  # not a multiple of any vector width


class TooClose(Exception):
    """A rectifier or a maximum depends on less than MARGIN; take another seed."""


def f32(a):
    return np.asarray(a, dtype=np.float64).astype(np.float32)


def short(a):
    """Three decimals are as random as nine and make the header smaller."""
    return f32(np.round(a, 3))


def kernel_size(text):
    h, _, w = text.partition("x")
    return int(h), int(w or h)


def same_padding(size, kernel, stride):
    """TensorFlow's: ceil(size / stride) outputs, the odd pixel at the end."""
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class Net:
    """The program's spec, by PyTorch's functions, from parameters in the program's layout."""

    def __init__(self, spec, shape, random):
        self.layers = []  # (kind, arguments, [parameter indices])
        self.arrays = []  # numpy, float32, the program's layout, in the program's order
        self.moved = {}  # what a step adds to running statistics, by their index
        for text in re.findall(r"[^,()]+\(|\)|[^,()]+", spec):
            kind, *args = text.split(":")
            stride = next((int(a[1:]) for a in args[1:] if re.fullmatch(r"s\d+", a)), None)
            same = "same" in args
            used = []
            if kind == "dense":
                n = int(args[0])
                (fan_in,) = shape
                used = self.add(random, (fan_in, n), fan_in)
                shape = (n,)
                opts = ()
            elif kind == "conv":
                n, (kh, kw), stride = int(args[0]), kernel_size(args[1]), stride or 1
                h, w, c = shape
                used = self.add(random, (kh, kw, c, n), kh * kw * c)
                if same:
                    pad = same_padding(h, kh, stride) + same_padding(w, kw, stride)
                else:
                    pad = (0, 0, 0, 0)
                shape = ((h + pad[0] + pad[1] - kh) // stride + 1,
                         (w + pad[2] + pad[3] - kw) // stride + 1, n)
                opts = (stride, pad)
            elif kind in ("maxpool", "avgpool"):
                k = int(args[0])
                stride = stride or k
                h, w, c = shape
                pad = same_padding(h, k, stride) + same_padding(w, k, stride) if same else (0,) * 4
                shape = ((h + pad[0] + pad[1] - k) // stride + 1,
                         (w + pad[2] + pad[3] - k) // stride + 1, c)
                opts = (k, stride, pad)
            elif kind == "lstm":
                n, k = int(args[0]), shape[1] * shape[2]
                used = self.add(random, (k, 4 * n), k + n)
                self.arrays.insert(used[1], short(random.uniform(-1.5, 1.5, (n, 4 * n)) /
                                                  np.sqrt(k + n)))
                used.append(used[1] + 1)
                shape = (n,)
                opts = (n,)
            elif kind == "batchnorm":
                c = shape[-1]
                used = [len(self.arrays) + i for i in range(4)]
                for low, high in ((0.5, 1.5), (-0.5, 0.5), (-0.5, 0.5), (0.5, 1.5)):
                    self.arrays.append(short(random.uniform(low, high, c)))
                opts = (float(args[0]) if args else 0.9,)
            elif kind == "globalavgpool":
                shape = shape[2:]
                opts = ()
            elif kind == "leakyrelu":
                opts = (float(args[0]) if args else 0.3,)
            elif kind == "flatten":
                shape = (int(np.prod(shape)),)
                opts = ()
            else:
                assert kind in ("relu", "sigmoid", "tanh", "residual(", ")") or (kind, args) == ("dropout", ["0"])
                opts = ()
            self.layers.append((kind, opts, used))

    def add(self, random, shape, fan_in):
        self.arrays.append(short(random.uniform(-1.5, 1.5, shape) / np.sqrt(fan_in)))
        self.arrays.append(short(random.uniform(-0.5, 0.5, shape[-1])))
        return [len(self.arrays) - 2, len(self.arrays) - 1]

    def forward(self, x, param, training):
        """x (rows, features) or (rows, h, w, c), torch; param: torch, the program's layout."""
        kept = []
        if x.ndim == 4:
            x = x.permute(0, 3, 1, 2)
        for kind, opts, used in self.layers:
            if kind == "dense":
                x = x @ param[used[0]] + param[used[1]]
            elif kind == "conv":
                stride, (top, bottom, left, right) = opts
                weight = param[used[0]].permute(3, 2, 0, 1)
                x = F.conv2d(F.pad(x, (left, right, top, bottom)), weight, param[used[1]], stride)
            elif kind == "maxpool":
                k, stride, (top, bottom, left, right) = opts
                x = F.pad(x, (left, right, top, bottom), value=-1e30)
                windows = x.unfold(2, k, stride).unfold(3, k, stride).flatten(4)
                best = windows.detach().sort(-1, descending=True)[0]
                if best.shape[-1] > 1:
                    gap = best[..., :-1] - best[..., 1:]
                    if ((gap[..., 0] != 0) & (gap[..., 0] < MARGIN)).any():
                        raise TooClose
                x = F.max_pool2d(x, k, stride)
            elif kind == "avgpool":
                k, stride, (top, bottom, left, right) = opts
                share = F.pad(torch.ones_like(x), (left, right, top, bottom))
                x = F.pad(x, (left, right, top, bottom))
                x = F.avg_pool2d(x, k, stride) / F.avg_pool2d(share, k, stride)
            elif kind == "lstm":  # the gates' order of PyTorch, i f g o, is Keras' too
                kernel, recurrent, bias = (param[i] for i in used)
                x = x.permute(0, 2, 3, 1).flatten(2)
                zero = torch.zeros(1, len(x), opts[0], dtype=torch.float64)
                weights = [kernel.T, recurrent.T, bias, torch.zeros_like(bias)]
                x = torch._VF.lstm(x, (zero, zero), weights, True, 1, 0.0, True, False, True)[1][0]
            elif kind == "batchnorm":  # the program's running variance is the biased one, as Keras'
                gamma, beta, mean, variance = (param[i] for i in used)
                mean, variance = mean.detach(), variance.detach()
                over = [0] if x.ndim == 2 else [0, 2, 3]
                if training:
                    now = x.detach().mean(over), x.detach().var(over, unbiased=False)
                    for i, running, new in zip(used[2:], (mean, variance), now):
                        self.moved[i] = (1 - opts[0]) * (new - running)
                x = F.batch_norm(x, None if training else mean, None if training else variance,
                                 gamma, beta, training, eps=1e-3)
            elif kind == "residual(":
                kept.append(x)
            elif kind == ")":
                x = x + kept.pop()
            elif kind == "globalavgpool":
                x = x.mean((2, 3))
            elif kind == "leakyrelu":
                if (x.detach().abs() < MARGIN).any():
                    raise TooClose
                x = F.leaky_relu(x, *opts)
            elif kind == "flatten":
                x = x.permute(0, 2, 3, 1).flatten(1)
            elif kind == "relu":
                if (x.detach().abs() < MARGIN).any():
                    raise TooClose
                x = torch.relu(x)
            elif kind == "sigmoid":
                x = torch.sigmoid(x)
            elif kind == "tanh":
                x = torch.tanh(x)
        return x


def picture(random, kind, rows, shape):
    x = random.uniform(-1, 1, (rows,) + shape)
    if kind == "blob":  # ink in the middle of an exactly black background, as a digit has it
        h, w, _ = shape
        ink = np.zeros((rows,) + shape)
        for i in range(rows):
            top, left = random.randint(2, h // 2), random.randint(2, w // 2)
            ink[i, top:top + h // 3, left:left + w // 3] = 1
        x = np.abs(x) * ink
    return short(x)


def network_case(number, case):
    name, spec, shape, classes, rows, kind = case
    for attempt in range(1000):
        random = np.random.RandomState(1000 * (number + 1) + attempt)
        net = Net(spec, shape, random)
        x = picture(random, kind, rows, shape)
        label = random.randint(0, classes, rows).astype(np.int64)
        param = [torch.tensor(a.astype(np.float64), requires_grad=True) for a in net.arrays]
        try:
            trained = net.forward(torch.tensor(x.astype(np.float64)), param, True)
            logits = net.forward(torch.tensor(x.astype(np.float64)), param, False)
        except TooClose:
            continue
        loss = F.cross_entropy(trained, torch.tensor(label), reduction="sum")
        (loss / rows).backward()
        flat = np.concatenate([a.ravel() for a in net.arrays])
        grad = np.concatenate([(net.moved[i] if i in net.moved else p.grad).numpy().ravel()
                               for i, p in enumerate(param)])
        correct = int((trained.detach().numpy().argmax(1) == label).sum())
        logits = f32(logits.detach().numpy())
        return dict(x=x.ravel(), label=label, param=flat, logits=logits.ravel(), grad=f32(grad),
                    loss=float(loss.detach()), correct=correct)
    raise SystemExit(f"make_golden.py: {name}: no seed keeps clear of the kinks")


LOSSES = [
    # name, logits (rows, classes), labels
    ("ordinary", [[0.5, -1.25, 2.0], [0.0, 0.0, 0.0], [-3.0, 4.0, 1.5]], [0, 1, 1]),
    ("extreme", [[1e4, -1e4, 0.0], [1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4],
                 [1e4, 1e4, -1e4], [-1e4, -1e4, 1e4]], [0, 1, 2, 0, 1, 0]),
    ("beyond_expf", [[89.0, 0.0], [0.0, 89.0], [104.0, -104.0], [-745.0, 710.0]], [0, 0, 1, 0]),
    ("huge", [[3e38, 0.0, -3e37], [-3e38, -3e38, -3e38]], [0, 2]),
    ("shifted", [[10000.5, 9999.0, 10001.0], [-9999.5, -10001.0, -9999.0]], [0, 2]),
    ("one_class", [[3.0], [-7.0]], [0, 0]),
]


SMOOTHED = [
    # name, label_smoothing, standard deviation of the logits, rows, classes
    ("slightly", 0.1, 3.0, 5, 10),
    ("strongly", 0.75, 30.0, 4, 47),
]


def smoothed_case(number, smoothing, deviation, rows, classes, scale):
    random = np.random.RandomState(99000 + number)
    logits = short(random.normal(0, deviation, (rows, classes)))
    label = random.randint(0, classes, rows)
    z = torch.tensor(logits.astype(np.float64), requires_grad=True)
    loss = F.cross_entropy(z, torch.tensor(label), reduction="sum", label_smoothing=smoothing)
    (loss * scale).backward()
    return dict(logits=logits.ravel(), label=label, d=f32(z.grad.numpy()).ravel(),
                loss=f32([float(loss.detach())]))


def loss_case(logits, label, scale):
    z = torch.tensor(f32(logits).astype(np.float64), requires_grad=True)
    each = F.cross_entropy(z, torch.tensor(label), reduction="none")
    (each.sum() * scale).backward()
    return dict(logits=f32(logits).ravel(), label=np.asarray(label), softmax=f32(
        torch.softmax(z.detach(), 1).numpy()).ravel(), d=f32(z.grad.numpy()).ravel(),
        loss=float(each.sum().detach()),
        correct=int((z.detach().numpy().argmax(1) == np.asarray(label)).sum()))


def optimizer_case(number, name, opts, lr):
    random = np.random.RandomState(77000 + number)
    n = OPTIMIZER_N
    start = short(random.uniform(-1, 1, n))
    grads = [f32([f"{g:.3g}" for g in random.normal(0, 1, n) * 10.0 ** random.uniform(-3, 1, n)])
             for _ in range(STEPS)]
    for g in grads:
        g[5] = 0.0  # a parameter that never gets a gradient
    grads[1][6] = 0.0
    start[7] = 0.0
    w = torch.tensor(start.astype(np.float64), requires_grad=True)
    if name in ("adam", "adamw"):
        kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
        opt = kind([w], lr=lr, betas=(opts["beta1"], opts["beta2"]), eps=opts["epsilon"],
                   weight_decay=opts.get("weight_decay", 0.0))
    elif name == "sgd":
        opt = torch.optim.SGD([w], lr=lr, momentum=opts["momentum"],
                              weight_decay=opts.get("weight_decay", 0.0),
                              nesterov=opts.get("nesterov", 0.0) > 0)
    else:
        opt = None  # PyTorch adds epsilon outside the root: Keras' form is written out below
    v = torch.zeros(n, dtype=torch.float64)
    params, slots = [], []
    for g in grads:
        w.grad = torch.tensor(g.astype(np.float64))
        if opt is not None:
            opt.step()
            state = opt.state[w]
            if name == "sgd":
                buffer = state.get("momentum_buffer")
                # Without momentum PyTorch keeps no buffer; it would be the decayed gradient.
                slots.append([buffer if buffer is not None else None])
            else:
                slots.append([state["exp_avg"], state["exp_avg_sq"]])
        else:
            with torch.no_grad():
                v = opts["rho"] * v + (1 - opts["rho"]) * w.grad**2
                w -= lr * w.grad / torch.sqrt(v + opts["epsilon"])
            slots.append([v])
        params.append(f32(w.detach().numpy()))
        slots[-1] = [None if s is None else f32(s.numpy()) for s in slots[-1]]
    n_slot = 0 if slots[0][0] is None else len(slots[0])
    state = [np.concatenate([slots[t][s] for t in range(STEPS)]) for s in range(n_slot)]
    return dict(start=start, grad=np.concatenate(grads), param=np.concatenate(params),
                slot=state, n_slot=n_slot)


CLIPS = [
    # name, largest norm, sizes of the arrays of dense:7,relu,dense:3 on 5 inputs
    ("clip_below", 0.5, [35, 7, 21, 3]),
    ("clip_far_below", 1e-3, [35, 7, 21, 3]),
    ("clip_above", 100.0, [35, 7, 21, 3]),
]


def clip_case(number, limit, sizes):
    random = np.random.RandomState(88000 + number)
    grad = f32(random.normal(0, 1, sum(sizes)))
    arrays = []
    for part in np.split(grad, np.cumsum(sizes)[:-1]):
        arrays.append(torch.zeros(len(part), dtype=torch.float64, requires_grad=True))
        arrays[-1].grad = torch.tensor(part.astype(np.float64))
    torch.nn.utils.clip_grad_norm_(arrays, limit)
    return dict(grad=grad, clipped=f32(np.concatenate([a.grad.numpy() for a in arrays])))


def number(v):
    """A C constant."""
    text = str(np.float32(f"{v:.8g}"))  # the shortest that reads back to the same float32
    assert abs(np.float32(text) - v) <= 1e-7 * abs(v)
    return text.replace("0.", ".", 1) + "F" if text.startswith(("0.", "-0.")) else text + "F"


class Writer:
    def __init__(self):
        self.lines = []
        self.values = {}  # name -> list of floats: what --check compares

    def floats(self, name, values):
        values = [float(v) for v in np.asarray(values, dtype=np.float32)]
        self.values[name] = values
        self.array(f"static const float {name}[{len(values)}] = {{", [number(v) for v in values])

    def bytes(self, name, values):
        self.values[name] = [float(v) for v in values]
        words = [str(int(v)) for v in values]
        self.array(f"static const uint8_t {name}[{len(values)}] = {{", words)

    def array(self, head, words):
        self.lines.append(head)
        line = "   "
        for word in words:
            if len(line) + len(word) + 2 > 100:
                self.lines.append(line)
                line = "   "
            line += " " + word + ","
        self.lines += [line, "};"]


def build():
    w = Writer()
    table = []
    for i, case in enumerate(CASES):
        name, spec, shape, classes, rows, _ = case
        r = network_case(i, case)
        w.floats(f"{name}_x", r["x"])
        w.bytes(f"{name}_label", r["label"])
        w.floats(f"{name}_param", r["param"])
        w.floats(f"{name}_logits", r["logits"])
        w.floats(f"{name}_grad", r["grad"])
        w.values[f"{name}_loss"] = [r["loss"]]
        dims = ", ".join(str(d) for d in shape)
        table.append(f'    {{"{name}",\n     "{spec}",\n'
                     f'     {{{len(shape)}, {{{dims}}}}}, {classes}, {rows}, {len(r["param"])}, '
                     f'{r["loss"]!r}, {r["correct"]}, GOLDEN_ARRAYS({name})}},')
    w.lines += ["static const golden_network golden_networks[] = {"] + table + ["};", ""]

    table = []
    losses = list(LOSSES)
    random = np.random.RandomState(99)
    losses.append(("letters", short(random.normal(0, 3, (4, 47))), random.randint(0, 47, 4)))
    for name, logits, label in losses:
        scale = 1.0 / 8.0
        r = loss_case(logits, label, scale)
        name = "loss_" + name
        for part in ("logits", "softmax", "d"):
            w.floats(f"{name}_{part}", r[part])
        w.bytes(f"{name}_label", r["label"])
        w.values[f"{name}_loss"] = [r["loss"]]
        rows = len(label)
        classes = len(r["logits"]) // rows
        table.append(f'    {{"{name}", {rows}, {classes}, {scale}F, {r["loss"]!r}, '
                     f'{r["correct"]},\n'
                     f'     {name}_logits, {name}_label, {name}_softmax, {name}_d}},')
    w.lines += ["static const golden_loss golden_losses[] = {"] + table + ["};", ""]

    table = []
    for i, (name, smoothing, deviation, rows, classes) in enumerate(SMOOTHED):
        scale = 1.0 / 8.0
        r = smoothed_case(i, smoothing, deviation, rows, classes, scale)
        name = "smoothed_" + name
        for part in ("logits", "d", "loss"):
            w.floats(f"{name}_{part}", r[part])
        w.bytes(f"{name}_label", r["label"])
        table.append(f'    {{"{name}", {rows}, {classes}, {smoothing}F, {scale}F, {name}_loss,\n'
                     f'     {name}_logits, {name}_label, {name}_d}},')
    w.lines += ["static const golden_smoothed golden_smoothed_losses[] = {"] + table + ["};", ""]

    table = []
    for i, (name, kind, opts, lr) in enumerate(OPTIMIZERS):
        r = optimizer_case(i, kind, opts, lr)
        name = "opt_" + name
        for part in ("start", "grad", "param"):
            w.floats(f"{name}_{part}", r[part])
        for s in range(r["n_slot"]):
            w.floats(f"{name}_slot{s}", r["slot"][s])
        slots = ", ".join([f"{name}_slot{s}" for s in range(r["n_slot"])] +
                          ["NULL"] * (2 - r["n_slot"]))
        fields = ", ".join(str(opts.get(key, 0.0)) for key in (
            "beta1", "beta2", "rho", "momentum", "epsilon", "weight_decay", "nesterov"))
        table.append(f'    {{"{name}", "{kind}", {lr}, {fields},\n     {name}_start, {name}_grad,\n'
                     f'     {name}_param, {{{slots}}}}},')
    w.lines += ["static const golden_optimizer golden_optimizers[] = {"] + table + ["};", ""]

    table = []
    for i, (name, limit, sizes) in enumerate(CLIPS):
        r = clip_case(i, limit, sizes)
        w.floats(f"{name}_grad", r["grad"])
        w.floats(f"{name}_clipped", r["clipped"])
        table.append(f'    {{"{name}", {limit}, {len(r["grad"])}, {name}_grad, {name}_clipped}},')
    w.lines += ["static const golden_clip golden_clips[] = {"] + table + ["};"]
    return w


def read_header():
    with open(HEADER, encoding="ascii") as f:
        text = f.read()
    values = {}
    for name, body in re.findall(r"static const (?:float|uint8_t) (\w+)\[\d+\] = \{(.*?)\};", text,
                                 re.S):
        values[name] = [float(word.rstrip("F")) for word in body.replace("\n", " ").split(",")
                        if word.strip()]
    for name, loss in re.findall(r'\{"(\w+)",[^{]*?\{\d[^}]*\}\}, \d+, \d+, \d+, ([-+.e\d]+), \d+',
                                 text):
        values[name + "_loss"] = [float(loss)]
    for name, loss in re.findall(r'\{"(loss_\w+)", \d+, \d+, [.\d]+F, ([-+.e\d]+), \d+', text):
        values[name + "_loss"] = [float(loss)]
    return values


def check():
    made, kept = build().values, read_header()
    bad = sorted(set(made) ^ set(kept))
    for name in bad:
        print(f"make_golden.py: {name}: only {'computed' if name in made else 'in golden.h'}")
    worst = 0.0
    for name in sorted(set(made) & set(kept)):
        a, b = np.asarray(made[name]), np.asarray(kept[name])
        if a.shape != b.shape:
            print(f"make_golden.py: {name}: {len(a)} numbers computed, {len(b)} in golden.h")
            bad.append(name)
            continue
        size = max(float(np.abs(b).max()), 1e-30)
        error = float(np.abs(a - b).max()) / size
        worst = max(worst, error)
        if not error <= 1e-6:
            print(f"make_golden.py: {name}: differs by {error:.3g} relative to its largest number")
            bad.append(name)
    if bad:
        return 1
    total = sum(len(v) for v in made.values())
    print(f"make_golden.py: {total} numbers in {len(made)} arrays agree, "
          f"largest difference {worst:.2g}")
    return 0


def main():
    if sys.argv[1:] == ["--check"]:
        sys.exit(check())
    if sys.argv[1:]:
        sys.exit("usage: make_golden.py [--check]")
    w = build()
    version = torch.__version__.split("+")[0]
    with open(HEADER, "w", encoding="ascii") as f:
        f.write(HEAD.format(version=version, steps=STEPS, n=OPTIMIZER_N))
        f.write("\n".join(w.lines))
        f.write("\n\n#endif\n")
    print(f"make_golden.py: wrote {sum(len(v) for v in w.values.values())} numbers, "
          f"{os.path.getsize(HEADER)} bytes")


main()
