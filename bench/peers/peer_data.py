"""What both peer scripts need: the data, the clock that starts at launch, and one JSON line."""

import json
import os
import sys
import time

import h5py
import numpy as np


def launch_time():
    """Wall-clock time of the launch: given by the launcher, or this process' start."""
    given = os.environ.get("PEERS_T0")
    if given:
        return float(given)
    with open("/proc/self/stat", encoding="ascii") as f:
        ticks = int(f.read().rsplit(")", 1)[1].split()[19])
    with open("/proc/uptime", encoding="ascii") as f:
        uptime = float(f.read().split()[0])
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")


def pin(first, count):
    """Bind this process to `count` cores from `first` on, as mpirun binds ranks; wraps around."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[(first + i) % len(cores)] for i in range(count)})


def load(path, split, part=0, parts=1):
    """Images as float32 in [0, 1], shape (n, 28, 28), and labels (n): part `part` of `parts`."""
    with h5py.File(path, "r") as f:
        n = f["x_" + split].shape[0]
        rows = slice(n * part // parts, n * (part + 1) // parts)
        x = f["x_" + split][rows].astype(np.float32)
        x *= np.float32(1 / 255)
        y = f["y_" + split][rows].astype(np.int64)
    return x, y


def say(**fields):
    """One JSON line on stdout. Times are rounded to microseconds."""
    for key, value in fields.items():
        if isinstance(value, float):
            fields[key] = round(value, 6)
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def median(values):
    values = sorted(values)
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2
