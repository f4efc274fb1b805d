"""mnist_dist's one-line models and its augmentation, in PyTorch."""

import math
import re

PRESETS = {
    "mlp16": "flatten,dense:16,relu,dense:16,relu,dense:10",
    "mlp512": "flatten,dense:512,relu,dense:512,relu,dense:10",
    "cnn": "conv:28:3,maxpool:2,flatten,dense:128,relu,dropout:0.2,dense:10",
}


def split(spec):
    """The layers of a spec: commas inside parentheses do not count."""
    layers, depth, text = [], 0, ""
    for c in spec:
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            layers.append(text)
            text = ""
        else:
            text += c
    return [*layers, text]


def residual_of(torch):
    class Residual(torch.nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    return Residual


def pool_of(torch, name, args):
    stride = next((int(a[1:]) for a in args[1:] if re.fullmatch("s[0-9]+", a)), int(args[0]))
    kind = {"maxpool": torch.nn.MaxPool2d, "avgpool": torch.nn.AvgPool2d}[name]
    return kind(int(args[0]), stride, ceil_mode="same" in args[1:])


def conv_of(torch, args, channels):
    if not all(re.fullmatch("s[0-9]+|same|valid", a) for a in args[2:]):
        raise SystemExit(f"pytorch_ddp.py: a convolution has no argument of {args[2:]}")
    stride = next((int(a[1:]) for a in args[2:] if re.match("s[0-9]", a)), 1)
    return torch.nn.Conv2d(channels, int(args[0]), int(args[1]), stride,
                           "same" if "same" in args[2:] else "valid")


def initialize(nn, layer, init):
    if not isinstance(layer, (nn.Linear, nn.Conv2d)):
        return
    if init == "he":
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    else:
        nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)


def layer_of(torch, text, shape, init):
    """One layer of a spec, for inputs of this shape."""
    nn = torch.nn
    plain = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "flatten": nn.Flatten,
             "globalavgpool": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())}
    if text.startswith("residual(") and text.endswith(")"):
        return residual_of(torch)(*layers_of(torch, text[len("residual("):-1], shape, init)[0])
    name, *args = text.split(":")
    if name in plain:
        return plain[name]()
    if name in ("maxpool", "avgpool"):
        return pool_of(torch, name, args)
    if name == "dropout":
        return nn.Dropout(float(args[0]))
    if name == "leakyrelu":
        return nn.LeakyReLU(float(args[0]))
    if name == "batchnorm":
        return (nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d)(shape[0])
    if name == "dense":
        linear = nn.Linear(math.prod(shape), int(args[0]))
        return linear if len(shape) == 1 else nn.Sequential(nn.Flatten(), linear)
    if name == "conv":
        return conv_of(torch, args, shape[0])
    raise SystemExit(f"pytorch_ddp.py: layer '{text}' is not one that this script knows")


def layers_of(torch, spec, shape, init):
    """The layers of a spec, and the shape of what the last one gives."""
    layers = []
    for text in split(spec):
        layer = layer_of(torch, text, shape, init)
        with torch.no_grad():
            shape = tuple(layer.eval()(torch.zeros((1,) + shape)).shape[1:])
        for part in layer.train().modules():
            initialize(torch.nn, part, init)
        layers.append(layer)
    return layers, shape


def network(torch, spec, init):
    """The layers of mnist_dist's one-line form, with Keras' initial values as on all sides; and the
    shape of a batch of images."""
    layers, _ = layers_of(torch, PRESETS.get(spec, spec), (1, 28, 28), init)
    if isinstance(layers[0], torch.nn.Flatten):
        return torch.nn.Sequential(*layers[1:]), (-1, 784)  # the images come flat already
    return torch.nn.Sequential(*layers), (-1, 1, 28, 28)


def augment_of(torch, text):
    """A function that moves the images of a batch as --augment TEXT does: rotation in degrees, scale,
    shear, shift in pixels, and elastic displacements of a 4 x 4 grid, in one bilinear resampling."""
    most = {"rotate": 0.0, "scale": 0.0, "shear": 0.0, "shift": 0.0, "elastic": 0.0}
    for part in text.split(","):
        name, value = part.split(":")
        if name not in most:
            raise SystemExit(f"pytorch_ddp.py: augmentation '{name}' is not one it knows")
        most[name] = float(value)
    functional = torch.nn.functional

    def augment(x):
        n, _, height, width = x.shape

        def draw(limit):
            return (2 * torch.rand(n) - 1) * limit

        angle, shear = torch.deg2rad(draw(most["rotate"])), draw(most["shear"])
        scale_y, scale_x = 1 + draw(most["scale"]), 1 + draw(most["scale"])
        sine, cosine = torch.sin(angle), torch.cos(angle)
        matrix = torch.stack([
            torch.stack([cosine * scale_x, shear - sine, draw(2 * most["shift"] / width)], 1),
            torch.stack([sine, cosine * scale_y, draw(2 * most["shift"] / height)], 1)], 1)
        grid = functional.affine_grid(matrix, x.shape, align_corners=False)
        if most["elastic"] > 0:
            moved = torch.randn(n, 2, 4, 4) * (2 * most["elastic"] / width)
            moved = functional.interpolate(moved, (height, width), mode="bicubic",
                                           align_corners=True)
            grid = grid + moved.permute(0, 2, 3, 1)
        return functional.grid_sample(x, grid, padding_mode="zeros", align_corners=False)

    return augment
