#!/usr/bin/env python3
"""Ours and the peers side by side: called by run.sh, which prepares what it needs.

Every peer process is started once per model and then trains a few epochs whenever it is asked to,
so that all sides take turns within minutes of one another; ours starts anew each time. A ratio is
the median over the rounds of the ratio within a round. Only the standard library is used.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
# Presets, and two networks of 3x3 convolutions, which Keras' side does not know.
MODELS = {
    "mlp16": "mlp16", "mlp512": "mlp512", "cnn": "cnn",
    "conv4": "conv:32:3:same,relu,conv:32:3:same,relu,maxpool:2,conv:64:3:same,relu,"
             "conv:64:3:same,relu,maxpool:2,flatten,dense:128,relu,dense:10",
    "record": "conv:32:5:same,relu,maxpool:2,batchnorm,residual(conv:32:3:same,relu),batchnorm,"
              "conv:64:3:same,relu,maxpool:2,batchnorm,residual(conv:64:3:same,relu),batchnorm,"
              "conv:128:3:same,relu,maxpool:2:same,batchnorm,residual(conv:128:3:same,relu),"
              "batchnorm,globalavgpool,dense:10",
}
DEEP = ("conv4", "record")
EPOCHS_PER_ROUND = {"mlp16": 4, "mlp512": 2, "cnn": 1, "conv4": 1, "record": 1}
# The deep networks train on fewer images, so that rounds stay short.
DEEP_IMAGES = 6000
# After the same epochs all sides must be as good as one another, or the times mean nothing.
TOLERANCE = {"mlp16": 0.015, "mlp512": 0.010, "cnn": 0.010, "conv4": 0.020, "record": 0.020}

# What was best for each peer; `run.sh tune` tries the alternatives below.
TORCH = {
    "mlp16": ["--step", "fused"],
    "mlp512": ["--step", "fused"],
    "cnn": ["--step", "fused", "--channels-last", "--compile", "default"],
    "conv4": ["--step", "fused", "--channels-last"],
    "record": ["--step", "fused", "--channels-last"],
}
TORCH_DDP = {  # torch.compile does not pay here: it cuts the graph where DDP hooks in
    "mlp16": ["--step", "fused"],
    "mlp512": ["--step", "fused"],
    "cnn": ["--step", "fused", "--channels-last"],
    "conv4": ["--step", "fused", "--channels-last"],
    "record": ["--step", "fused", "--channels-last"],
}
KERAS = {
    "mlp16": ["--backend", "jax", "--steps-per-execution", "16"],
    "mlp512": ["--backend", "jax", "--steps-per-execution", "16"],
    "cnn": ["--backend", "tensorflow", "--steps-per-execution", "16", "--jit", "off"],
}
# To the first step without a compiler in the way.
START = {"pytorch": ["--step", "fused"], "debian": ["--step", "foreach"],
         "keras": ["--backend", "tensorflow", "--jit", "off"]}
TUNE_TORCH = (
    [], ["--step", "plain"], ["--step", "foreach"], ["--gather", "epoch"], ["--channels-last"],
    ["--no-mkldnn"], ["--compile", "default"], ["--compile", "max-autotune"],
    ["--channels-last", "--compile", "default"],
)
TUNE_DDP = (
    [], ["--no-pin"], ["--bucket-mb", "1"], ["--no-static-graph"], ["--compile", "default"],
    ["--channels-last"], ["--channels-last", "--compile", "default"],
)
TUNE_KERAS = (
    [], ["--jit", "on"], ["--jit", "off"], ["--steps-per-execution", "16"],
    ["--steps-per-execution", "64"], ["--steps-per-execution", "16", "--jit", "off"],
    ["--steps-per-execution", "16", "--jit", "on"],
    ["--steps-per-execution", "16", "--jit", "off", "--input", "tfdata"],
    ["--steps-per-execution", "16", "--no-onednn"], ["--backend", "jax"],
    ["--backend", "jax", "--steps-per-execution", "16"],
)


def median(values):
    values = sorted(values)
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


def fail(text):
    raise SystemExit("compare.py: " + text)


class Side:
    """One way to train: ours or a peer's, with one choice of processes and threads."""

    def __init__(self, opt, name, label, processes=1, threads=1, peer=None, preload=None):
        self.opt, self.name, self.label = opt, name, label
        self.processes, self.threads, self.peer = processes, threads, peer
        self.preload = preload
        self.process = None
        self.version = ""

    # -- command lines

    def settings(self, model):
        if self.peer == "keras":
            return KERAS[model]
        if self.peer == "debian":  # 1.13 has neither a fused step on CPUs nor torch.compile there
            return ["--step", "foreach"]
        if self.peer:
            return TORCH_DDP[model] if self.processes > 1 else TORCH[model]
        return []

    def command(self, model, more):
        opt = self.opt
        threads = ["--threads", str(self.threads)]
        data = opt.short if model in DEEP else opt.data
        job = ["--data", data, "--model", MODELS.get(model, model),
               "--batch-size", str(opt.batch_size)]
        if self.peer is None:
            bind = "core" if self.threads == 1 and self.processes <= opt.cores else "none"
            return [opt.mpirun, "-np", str(self.processes), "--bind-to", bind, opt.binary, "train",
                    *job, *threads, "--optimizer", "adam", "--checkpoint-dir", "none", *more]
        if self.peer == "keras":
            return [opt.keras, HERE + "/keras_fit.py", *job, *threads, *more]
        python = opt.debian if self.peer == "debian" else opt.torch
        return [python, HERE + "/pytorch_ddp.py", *job, *threads,
                "--processes", str(self.processes), *more]

    def environment(self):
        env = dict(os.environ, PEERS_T0=repr(time.time()), OMP_NUM_THREADS=str(self.threads),
                   OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        if self.processes > self.opt.cores:
            env.update(OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_mpi_yield_when_idle="1")
        if self.preload:
            env["LD_PRELOAD"] = self.preload
        return env

    # -- a peer that stays up

    def start(self, model, epochs, settings=None):
        settings = self.settings(model) if settings is None else settings
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            self.command(model, ["--epochs", str(epochs), "--on-demand", *settings]),
            env=self.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.log, text=True)
        return self.epochs(epochs)

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            self.log.seek(0)
            fail(f"{self.label} ended early:\n{self.log.read()[-2000:]}")
        return json.loads(text)

    def epochs(self, count):
        return [self.line() for _ in range(count)]

    def more(self, count):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return self.epochs(count)

    def stop(self):
        if self.process is None:
            return
        try:
            self.process.stdin.close()
            self.version = self.line()["version"]
        finally:
            self.process.stdout.close()
            self.process.wait()
            self.process = None

    # -- ours, a run at a time

    def run(self, model, epochs):
        with tempfile.TemporaryDirectory() as folder:
            metrics = folder + "/m.jsonl"
            done = subprocess.run(
                self.command(model, ["--epochs", str(epochs), "--metrics", metrics]),
                env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                check=False)
            if done.returncode:
                fail(f"{self.label} failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
            with open(metrics, encoding="utf-8") as f:
                lines = [json.loads(text) for text in f]
        self.version = f"mnist_dist {lines[0]['version']}, {lines[0]['blas']}"
        return [line for line in lines if line["event"] == "epoch"]


def sides_of(opt, model=None):
    sides = [Side(opt, "ours-np2", "ours, 2 processes", 2, 1),
             Side(opt, "ours-t2", "ours, 1 process x 2 threads", 1, 2),
             Side(opt, "ours-t1", "ours, 1 process", 1, 1)]
    kinds = {"pytorch": ("PyTorch", "pytorch", None),
             "pytorch-mkl": ("PyTorch, MKL unlocked", "pytorch", opt.unlock),
             "debian": ("Debian's PyTorch", "debian", None)}
    for kind in opt.peers:
        if kind in kinds:
            label, peer, preload = kinds[kind]
            for threads in (1, 2):
                plural = "s" if threads > 1 else ""
                sides.append(Side(opt, f"{kind}-t{threads}",
                                  f"{label}, 1 process x {threads} thread{plural}",
                                  1, threads, peer, preload))
            sides.append(Side(opt, f"{kind}-ddp2", f"{label} DDP, 2 processes", 2, 1, peer,
                              preload))
        elif kind == "keras" and model not in DEEP:
            for threads in (1, 2):
                plural = "s" if threads > 1 else ""
                sides.append(Side(opt, f"keras-t{threads}",
                                  f"Keras, 1 process x {threads} thread{plural}", 1, threads,
                                  "keras"))
        elif kind != "keras":
            fail(f"PEERS: '{kind}' is not one of {' '.join(kinds)} keras")
    return sides


def shorten(opt, folder):
    """A data file with the first DEEP_IMAGES training images, for all sides."""
    arrays, data = folder + "/arrays.h5", folder + "/short.h5"
    code = ("import h5py, sys\n"
            "with h5py.File(sys.argv[1]) as a, h5py.File(sys.argv[2], 'w') as b:\n"
            "    for name in ('x_train', 'y_train', 'x_test', 'y_test'):\n"
            "        b[name] = a[name][:int(sys.argv[3])] if 'train' in name else a[name][:]\n")
    subprocess.run([opt.torch or opt.debian, "-c", code, opt.data, arrays, str(DEEP_IMAGES)],
                   check=True)
    subprocess.run([opt.binary, "convert", arrays, "-o", data], check=True, stdout=sys.stderr)
    return data


def load():
    return "load " + " ".join(f"{x:.1f}" for x in os.getloadavg())


def note(text):
    """What goes on, and how busy the machine is: figures of a busy one are worth little."""
    print(f"# {text}; {load()}", file=sys.stderr, flush=True)


def speed(epochs):
    return median([e["images_per_second"] for e in epochs])


def compare(opt, model):
    """One model: accuracy first, then the rounds. Returns the rows of its table."""
    sides = [s for s in sides_of(opt, model) if not opt.only or s.name in ("ours-np2", *opt.only)]
    per_round, warm = EPOCHS_PER_ROUND[model], opt.verify_epochs
    accuracy, speeds = {}, {s.name: [] for s in sides}
    try:
        for s in sides:
            note(f"{model}: {s.label} trains {warm} epochs")
            epochs = s.run(model, warm) if s.peer is None else s.start(model, warm)
            accuracy[s.name] = epochs[-1]["val_accuracy"]
        middle = median(accuracy.values())
        for s in sides:
            if abs(accuracy[s.name] - middle) > TOLERANCE[model]:
                fail(f"{model}: {s.label} reaches {accuracy[s.name]:.4f} after {warm} epochs, the "
                     f"middle of all sides is {middle:.4f}: they do not do the same job")
        for r in range(opt.repeats):
            note(f"{model}: round {r + 1} of {opt.repeats}")
            turn = sides[r % len(sides):] + sides[:r % len(sides)]
            for s in turn if r % 2 == 0 else turn[::-1]:
                if s.peer is None:
                    epochs = s.run(model, 1 + per_round)[1:]
                else:
                    epochs = s.more(per_round)
                speeds[s.name].append(speed(epochs))
    finally:
        for s in sides:
            if s.peer is not None:
                s.stop()
    ours = speeds["ours-np2"]
    rows = []
    for s in sides:
        ratios = [a / b for a, b in zip(ours, speeds[s.name])]
        rows.append({"model": model, "side": s.name, "label": s.label, "version": s.version,
                     "images_per_second": median(speeds[s.name]), "all": speeds[s.name],
                     "ratio": median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios),
                     "accuracy": accuracy[s.name],
                     "settings": " ".join(s.settings(model)) if s.peer else ""})
    return rows


def print_speeds(opt, rows):
    print(f"\nTraining speed: Adam, learning rate 0.001, batch {opt.batch_size}, data in memory; "
          f"medians of {opt.repeats} rounds.")
    print(f"Accuracy: on the test images after {opt.verify_epochs} epochs. 'Ours over it': ours "
          "with 2 processes, median (lowest to highest) of the ratios within a round.\n")
    print("| model | side | images/s | s per epoch | accuracy | ours over it | settings |")
    print("| --- | --- | ---: | ---: | ---: | ---: | --- |")
    for r in rows:
        print(f"| {r['model']} | {r['label']} | {r['images_per_second']:,.0f} | "
              f"{60000 / r['images_per_second']:.3f} | {r['accuracy']:.4f} | "
              f"{r['ratio']:.2f} ({r['ratio_min']:.2f} to {r['ratio_max']:.2f}) | "
              f"{'`' + r['settings'] + '`' if r['settings'] else ''} |")
    print()
    for model in dict.fromkeys(r["model"] for r in rows):
        single = [r for r in rows if r["model"] == model and not r["side"].startswith("ours")
                  and "ddp" not in r["side"]]
        if single:
            best = max(single, key=lambda r: r["images_per_second"])
            print(f"{model}: ours over the best single process ({best['label']}): "
                  f"{best['ratio']:.2f}")
    print("\nVersions: " + "; ".join(dict.fromkeys(r["version"] for r in rows)))


# -- from launch to the first step

def tree_of(pid):
    """pid and all below it, without the helpers that a launcher starts for itself."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8") as f:
                    parent = int(f.read().rsplit(")", 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(name))
    found = [pid]
    for p in found:
        found += children.get(p, [])
    return found


def memory_of(pids):
    """Sum of the peak resident sets, and of the sets that count a shared page once; in MB."""
    total = {"VmHWM": 0, "Pss": 0}
    for pid in pids:
        for name in (f"/proc/{pid}/status", f"/proc/{pid}/smaps_rollup"):
            try:
                with open(name, encoding="utf-8") as f:
                    for line in f:
                        key, _, rest = line.partition(":")
                        if key in total:
                            total[key] += int(rest.split()[0]) / 1024
            except (FileNotFoundError, ProcessLookupError):
                continue
    return total["VmHWM"], total["Pss"]


def first_step(side, model):
    """Starts it, waits for the end of the first step, and takes time and memory there."""
    start = time.time()
    if side.peer is None:
        # The live line on stderr is drawn first when the first step is done.
        p = subprocess.Popen(side.command(model, ["--epochs", "1", "--progress", "always"]),
                             env=side.environment(), stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        seen = b""
        while b"Epoch 1/1" not in seen:
            part = os.read(p.stderr.fileno(), 4096)
            if not part:
                fail(f"{side.label} ended before its first step: {seen.decode()}")
            seen += part
        seconds = time.time() - start
        memory = memory_of(tree_of(p.pid))
        p.terminate()
        p.stderr.read()
        p.wait()
        return seconds, memory
    copies = side.processes if side.peer == "keras" else 1
    running = []
    for i in range(copies):  # Keras has no processes of its own that work together on CPUs
        place = ["--core", str(i)] if side.peer == "keras" else []
        running.append(subprocess.Popen(
            side.command(model, ["--first-step", *START[side.peer], *place]),
            env=side.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL))
    try:
        for p in running:
            if b"first_step" not in p.stdout.readline():
                fail(f"{side.label} ended before its first step")
        seconds = time.time() - start
        memory = memory_of([pid for p in running for pid in tree_of(p.pid)])
    finally:
        for p in running:
            p.stdin.close()
        for p in running:
            p.wait()
    return seconds, memory


def start_up(opt, model):
    kinds = [("ours", None, "ours")]
    for kind in opt.peers:
        if kind == "pytorch":
            kinds.append(("pytorch", "pytorch", "PyTorch (DDP)"))
            if opt.debian and "debian" not in opt.peers:
                kinds.append(("debian", "debian", "Debian's PyTorch 1.13, a CPU-only build (DDP)"))
        elif kind == "debian":
            kinds.append(("debian", "debian", "Debian's PyTorch 1.13, a CPU-only build (DDP)"))
        elif kind == "keras":
            kinds.append(("keras", "keras", "Keras (processes side by side)"))
    rows = []
    for processes in opt.start_processes:
        sides = [Side(opt, name, label, processes, 1, peer) for name, peer, label in kinds]
        seen = {s.name: [] for s in sides}
        for r in range(opt.repeats):
            note(f"start-up, {processes} processes, round {r + 1} of {opt.repeats}")
            for s in sides if r % 2 == 0 else sides[::-1]:
                seen[s.name].append(first_step(s, model))
        for s in sides:
            ratios = [b[0] / a[0] for a, b in zip(seen["ours"], seen[s.name])]
            rows.append({"processes": processes, "side": s.name, "label": s.label,
                         "seconds": median([x[0] for x in seen[s.name]]),
                         "peak_rss_mb": median([x[1][0] for x in seen[s.name]]),
                         "pss_mb": median([x[1][1] for x in seen[s.name]]),
                         "ratio": median(ratios)})
    return rows


def print_start(opt, model, rows):
    print(f"\nFrom launch to the end of the first step, {model}; medians of {opt.repeats}. Memory "
          "of all processes together, the launcher's too:\npeak resident sets summed, and "
          "proportional sets (a page that processes share counts once).\n")
    print("| processes | side | seconds | over ours | peak RSS, MB | over ours | PSS, MB "
          "| over ours |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for r in rows:
        ours = next(x for x in rows if x["processes"] == r["processes"] and x["side"] == "ours")
        print(f"| {r['processes']} | {r['label']} | {r['seconds']:.2f} | {r['ratio']:.1f} | "
              f"{r['peak_rss_mb']:,.0f} | {r['peak_rss_mb'] / ours['peak_rss_mb']:.1f} | "
              f"{r['pss_mb']:,.0f} | {r['pss_mb'] / ours['pss_mb']:.1f} |")


# -- from launch to an accuracy

def time_to(side, opt, seed):
    """(seconds from launch to the end of the epoch that reaches the target, that epoch) or None,
    and the last accuracy."""
    recipe = [*opt.recipe, "--seed", str(seed), "--target-accuracy", str(opt.target)]
    command = side.command(opt.recipe_model, recipe)
    start = time.time()
    p = subprocess.Popen(command, env=side.environment(), stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    reached, last = None, 0.0
    for text in p.stdout:
        now = time.time() - start
        word = text.split()
        if side.peer is None and word and word[0] == "Epoch":
            epoch, last = int(word[1].split("/")[0]), float(word[word.index("val_accuracy") + 1])
        elif side.peer is not None and '"epoch"' in text:
            line = json.loads(text)
            epoch, last = line["epoch"], line["val_accuracy"]
        else:
            continue
        if last >= opt.target and reached is None:
            reached = (now, epoch)
    errors = p.stderr.read()
    if p.wait():
        fail(f"{side.label} failed: {errors[-1000:]}")
    return reached, last


def accuracy(opt):
    """Rounds with seeds 1, 2, ... on all sides: luck decides over an epoch more or less."""
    wanted = ("ours-np2", "ours-t2", "pytorch-t2", "pytorch-ddp2", "pytorch-mkl-t2", "debian-t2",
              "debian-ddp2")
    sides = [s for s in sides_of(opt) if s.name in (opt.only or wanted)]
    seen = {s.name: [] for s in sides}
    for r in range(opt.repeats):
        note(f"{opt.target}: round {r + 1} of {opt.repeats}")
        for s in sides if r % 2 == 0 else sides[::-1]:
            seen[s.name].append(time_to(s, opt, r + 1))
    print(f"\nFrom launch to the end of the epoch that first reaches {100 * opt.target:g} % on the "
          f"test images; seeds 1 to {opt.repeats}.\nRecipe, on all sides: "
          f"`--model {opt.recipe_model} --batch-size {opt.batch_size} {' '.join(opt.recipe)}`\n")
    print("| side | seconds, median | lowest to highest | epochs, median | reached | over ours |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    ours = None
    for s in sides:
        good = [x[0] for x in seen[s.name] if x[0] is not None]
        if not good:
            best = max(x[1] for x in seen[s.name])
            print(f"| {s.label} | never (at best {best:.4f}) | | | 0 of {opt.repeats} | |")
            continue
        seconds = median([x[0] for x in good])
        ours = seconds if ours is None else ours
        print(f"| {s.label} | {seconds:.2f} | {min(good)[0]:.2f} to {max(good)[0]:.2f} | "
              f"{median([x[1] for x in good]):g} | {len(good)} of {opt.repeats} | "
              f"{seconds / ours:.1f} |")


def tune(opt):
    """Each setting of each peer alone: seconds per epoch, and CPU seconds of the first process."""
    print("| model | peer | settings | s per epoch | CPU s per epoch |")
    print("| --- | --- | --- | ---: | ---: |")
    for model in opt.models:
        for s in sides_of(opt, model):
            if s.peer is None or opt.only and s.name not in opt.only:
                continue
            tries = TUNE_KERAS if s.peer == "keras" else TUNE_DDP if s.processes > 1 else TUNE_TORCH
            for settings in tries:
                text = " ".join(settings) or "none"
                if "--channels-last" in settings and model in ("mlp16", "mlp512"):
                    continue
                if opt.settings and text not in opt.settings:
                    continue
                try:
                    s.start(model, 1, settings)
                    epochs = [e for _ in range(opt.repeats) for e in s.more(1)]
                    s.stop()
                except SystemExit as e:
                    print(f"| {model} | {s.name} | `{text}` | "
                          f"{str(e).splitlines()[-1][:80]} | |", flush=True)
                    continue
                print(f"| {model} | {s.name} | `{text}` | "
                      f"{median([e['seconds'] for e in epochs]):.3f} | "
                      f"{median([e['cpu_seconds'] for e in epochs]):.3f} |", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("what", nargs="?", default="all",
                   choices=("all", "speed", "start", "accuracy", "tune"))
    p.add_argument("--binary", required=True)
    p.add_argument("--mpirun", default="mpirun")
    p.add_argument("--data", required=True)
    p.add_argument("--torch", default="")
    p.add_argument("--keras", default="")
    p.add_argument("--debian", default="")
    p.add_argument("--unlock", default="", help="library for LD_PRELOAD of side pytorch-mkl")
    p.add_argument("--models", type=str.split, default=["mlp16", "mlp512", "cnn"])
    p.add_argument("--peers", type=str.split, default=["pytorch", "keras"])
    p.add_argument("--only", type=str.split, default=[], help="these sides, such as pytorch-t2")
    p.add_argument("--settings", action="append", help="tune: this setting; may be given again")
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--verify-epochs", type=int, default=2)
    p.add_argument("--batch-size", type=int, default=128)
    p.add_argument("--start-processes", type=lambda t: [int(x) for x in t.split()],
                   default=[1, 2, 8])
    p.add_argument("--start-model", choices=MODELS, default="cnn")
    p.add_argument("--target", type=float, default=0.98, help="accuracy: what to reach")
    p.add_argument("--recipe-model", default="mlp512", help="accuracy: preset or layers")
    p.add_argument("--recipe", type=str.split, default=[], help="accuracy: more options of train")
    p.add_argument("--json", help="also write all figures here")
    opt = p.parse_args()
    opt.cores = len(os.sched_getaffinity(0))
    for model in opt.models:
        if model not in MODELS:
            fail(f"MODELS: '{model}' is not one of {' '.join(MODELS)}")
    with tempfile.TemporaryDirectory() as folder:
        opt.short = shorten(opt, folder) if set(opt.models) & set(DEEP) else None
        measure(opt)


def measure(opt):
    if opt.what in ("tune", "accuracy"):
        {"tune": tune, "accuracy": accuracy}[opt.what](opt)
        return
    result = {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "load": os.getloadavg()}
    if opt.what in ("all", "speed"):
        result["speed"] = [row for model in opt.models for row in compare(opt, model)]
    if opt.what in ("all", "start"):
        result["start"] = start_up(opt, opt.start_model)
    print(f"\n{result['date']}, {opt.cores} cores, {load()} at the end")
    if "speed" in result:
        print_speeds(opt, result["speed"])
    if "start" in result:
        print_start(opt, opt.start_model, result["start"])
    if opt.json:
        with open(opt.json, "w", encoding="utf-8") as f:
            json.dump(result, f, indent=1)


if __name__ == "__main__":
    main()
