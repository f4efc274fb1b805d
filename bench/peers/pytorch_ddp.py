#!/usr/bin/env python3
"""The same training job in PyTorch: one process, or DistributedDataParallel over gloo.

The data lies in memory as float32 tensors before the clock of an epoch starts; a step takes its
batch by an index permutation, with no data loader. Prints JSON lines: one "epoch" each (training
steps only, the evaluation that follows is left out), "end" with the median over the epochs after
the first, which is the warm-up.

    pytorch_ddp.py --model cnn --threads 2
    pytorch_ddp.py --model cnn --processes 2
"""

import argparse
import math
import os
import socket
import subprocess
import sys
import time

import peer_data
import torch_network

def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    job = p.add_argument_group("the job, named as mnist_dist names it")
    job.add_argument("--data", default="data/mnist.h5")
    job.add_argument("--model", default="cnn", help="mlp16, mlp512, cnn or layers")
    job.add_argument("--batch-size", type=int, default=128, help="global, over all processes")
    job.add_argument("--epochs", type=int, default=3)
    job.add_argument("--optimizer", choices=("adam", "adamw", "sgd"), default="adam")
    job.add_argument("--lr", type=float, default=1e-3)
    job.add_argument("--momentum", type=float, default=0.9)
    job.add_argument("--nesterov", action="store_true")
    job.add_argument("--beta1", type=float, default=0.9)
    job.add_argument("--beta2", type=float, default=0.999)
    job.add_argument("--label-smoothing", type=float, default=0)
    job.add_argument("--augment", help="as of mnist_dist, without erase")
    job.add_argument("--weight-decay", type=float)
    job.add_argument("--epsilon", type=float, default=1e-8)
    job.add_argument("--schedule", choices=("constant", "cosine", "onecycle"),
                     default="constant")
    job.add_argument("--warmup-epochs", type=float, default=0)
    job.add_argument("--final-lr", type=float, default=0.01, help="cosine: as a fraction of --lr")
    job.add_argument("--init", choices=("glorot", "he"), default="glorot")
    job.add_argument("--seed", type=int, default=1)
    job.add_argument("--target-accuracy", type=float, default=2,
                     help="stop after the epoch that reaches it on the test images")
    how = p.add_argument_group("how PyTorch does it")
    how.add_argument("--processes", type=int, default=1, help="more than 1: DDP over gloo")
    how.add_argument("--threads", type=int, default=1, help="per process")
    how.add_argument("--step", choices=("plain", "foreach", "fused"), default="fused",
                     help="implementation of the optimizer")
    how.add_argument("--compile", choices=("off", "default", "max-autotune"), default="off")
    how.add_argument("--channels-last", action="store_true")
    how.add_argument("--no-mkldnn", action="store_true", help="do not use oneDNN")
    how.add_argument("--gather", choices=("batch", "epoch"), default="batch",
                     help="permute each batch, or the whole epoch at once")
    how.add_argument("--bucket-mb", type=float, default=25)
    how.add_argument("--no-static-graph", action="store_true")
    how.add_argument("--no-pin", action="store_true", help="leave the cores to the kernel")
    bench = p.add_argument_group("for the comparison")
    bench.add_argument("--on-demand", action="store_true",
                       help="after --epochs, read numbers of further epochs from stdin")
    bench.add_argument("--first-step", action="store_true",
                       help="say when the first step is done, then wait for the end of stdin")
    opt = p.parse_args()
    if opt.batch_size % opt.processes:
        p.error("--batch-size must be a multiple of --processes: DDP averages over processes")
    return opt


def launch(opt):
    """Start the processes of a DDP job by hand and end them all when one of them fails."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = dict(os.environ, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
               WORLD_SIZE=str(opt.processes), PEERS_T0=repr(peer_data.launch_time()),
               GLOO_SOCKET_IFNAME="lo", OMP_NUM_THREADS=str(opt.threads))
    ranks = []
    status = 0
    try:
        for r in range(opt.processes):
            quiet = {} if r == 0 else {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
            ranks.append(subprocess.Popen([sys.executable] + sys.argv, env=dict(env, RANK=str(r)),
                                          **quiet))
        while not status and any(p.poll() is None for p in ranks):
            status = any(p.returncode for p in ranks)
            time.sleep(0.05)
        status = any(p.returncode for p in ranks)
    finally:
        for p in ranks:
            if p.poll() is None:
                p.kill()
            p.wait()
    return int(status)


def optimizer_of(torch, opt, parameters):
    kind = {"lr": opt.lr}
    if opt.optimizer == "sgd":
        kind.update(momentum=opt.momentum, weight_decay=opt.weight_decay or 0,
                    nesterov=opt.nesterov)
    else:
        kind.update(eps=opt.epsilon, betas=(opt.beta1, opt.beta2))
        if opt.optimizer == "adamw" and opt.weight_decay is not None:
            kind.update(weight_decay=opt.weight_decay)
    kind.update({"plain": {"foreach": False}, "foreach": {"foreach": True},
                 "fused": {"fused": True}}[opt.step])
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW,
            "sgd": torch.optim.SGD}[opt.optimizer](parameters, **kind)


def rate(opt, t, steps):
    """mnist_dist's schedule: linear warm-up, then constant or a half cosine; or one cycle, as
    OneCycleLR without its change of momentum."""
    warmup, total = round(opt.warmup_epochs * steps), opt.epochs * steps

    def cosine(begin, end, part):
        return end + (begin - end) * 0.5 * (1 + math.cos(math.pi * part))

    if opt.schedule == "onecycle":
        top = 0.3 * total - 1
        if t <= top:
            return cosine(opt.lr / 25, opt.lr, t / top)
        return cosine(opt.lr, opt.lr / 25e4, (t - top) / (total - 1 - top))
    if t < warmup:
        return opt.lr * (t + 1) / warmup
    if opt.schedule == "constant":
        return opt.lr
    return cosine(opt.lr, opt.lr * opt.final_lr, min(1.0, (t - warmup) / max(1, total - warmup)))


def train(opt, rank, world):
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(opt.threads)
    torch.set_num_interop_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(opt.seed)
    torch.backends.mkldnn.enabled = not opt.no_mkldnn

    net, image = torch_network.network(torch, opt.model, opt.init)
    x, y = (torch.from_numpy(a) for a in peer_data.load(opt.data, "train", rank, world))
    x = x.reshape(image)
    if opt.channels_last:
        net = net.to(memory_format=torch.channels_last)
    adam = optimizer_of(torch, opt, net.parameters())

    trained = net
    n_global = x.shape[0]
    if world > 1:
        import torch.distributed as dist

        dist.init_process_group("gloo", rank=rank, world_size=world)
        trained = torch.nn.parallel.DistributedDataParallel(
            net, gradient_as_bucket_view=True, static_graph=not opt.no_static_graph,
            bucket_cap_mb=opt.bucket_mb)
        count = torch.tensor([n_global])
        dist.all_reduce(count)
        n_global = int(count)
        torch.manual_seed(opt.seed + rank)  # another order and other dropout masks on each

    def loss_of(xb, yb):
        return F.cross_entropy(trained(xb), yb, label_smoothing=opt.label_smoothing)

    if opt.compile != "off":
        from torch._inductor import config as inductor

        inductor.cpp.threads = opt.threads
        mode = "default" if opt.compile == "default" else "max-autotune-no-cudagraphs"
        loss_of = torch.compile(loss_of, dynamic=False, mode=mode)

    augment = torch_network.augment_of(torch, opt.augment) if opt.augment else None

    # Every process takes the same number of steps, or the others would wait forever.
    n, batch = x.shape[0], opt.batch_size // world
    steps = -(-n_global // opt.batch_size)
    annealed = opt.schedule != "constant" or opt.warmup_epochs > 0
    taken = 0

    def one_epoch(stop_after_first=False):
        nonlocal taken
        if world > 1:
            dist.barrier()
        start, cpu = time.perf_counter(), time.process_time()
        order = torch.randperm(n)
        if opt.gather == "epoch":
            xs, ys = x[order], y[order]
        for step in range(steps):
            rows = slice(step * batch, min(n, (step + 1) * batch))
            if opt.gather == "epoch":
                xb, yb = xs[rows], ys[rows]
            else:
                xb, yb = x.index_select(0, order[rows]), y.index_select(0, order[rows])
            if augment:
                xb = augment(xb)
            if opt.channels_last:
                xb = xb.contiguous(memory_format=torch.channels_last)
            if annealed:
                adam.param_groups[0]["lr"] = rate(opt, taken, steps)
            adam.zero_grad(set_to_none=True)
            loss_of(xb, yb).backward()
            adam.step()
            taken += 1
            if stop_after_first:
                break
        if world > 1:
            dist.barrier()
        return time.perf_counter() - start, time.process_time() - cpu

    def test_accuracy(x_test, y_test):
        net.eval()
        right = 0
        with torch.inference_mode():
            for xb, yb in zip(x_test.split(1000), y_test.split(1000)):
                right += int((net(xb).argmax(1) == yb).sum())
        net.train()
        return right / len(y_test)

    def agree(number):
        """Rank 0's number, on all processes."""
        if world == 1:
            return number
        shared = torch.tensor([float(number)])
        dist.broadcast(shared, 0)
        return shared.item()

    if opt.first_step:
        one_epoch(stop_after_first=True)
        if rank == 0:
            peer_data.say(event="first_step", seconds=time.time() - peer_data.launch_time())
            sys.stdin.read()
        agree(0)
        return

    if rank == 0:
        x_test, y_test = (torch.from_numpy(a) for a in peer_data.load(opt.data, "test"))
        x_test = x_test.reshape(image)
    speeds, accuracy, epoch, until = [], 0.0, 0, opt.epochs
    while epoch < until:
        epoch += 1
        seconds, cpu = one_epoch()
        if rank == 0:
            accuracy = test_accuracy(x_test, y_test)
            if epoch > 1 or opt.epochs == 1:
                speeds.append(n_global / seconds)
            peer_data.say(event="epoch", epoch=epoch, seconds=seconds, cpu_seconds=cpu,
                          images_per_second=n_global / seconds, val_accuracy=accuracy,
                          since_launch=time.time() - peer_data.launch_time())
        if agree(accuracy) >= opt.target_accuracy:
            break
        if opt.on_demand and epoch == until:
            until += int(agree(int(sys.stdin.readline() or 0) if rank == 0 else 0))
    if rank == 0:
        # Where the first epoch is also the last there is none after the warm-up.
        peer_data.say(event="end",
                      images_per_second=peer_data.median(speeds or [n_global / seconds]),
                      test_accuracy=accuracy, version="PyTorch " + torch.__version__)
    if world > 1:
        dist.destroy_process_group()


def main():
    opt = options()
    if opt.processes > 1 and "RANK" not in os.environ:
        return launch(opt)
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if not opt.no_pin:
        peer_data.pin(rank * opt.threads, opt.threads)
    train(opt, rank, world)
    return 0


if __name__ == "__main__":
    sys.exit(main())
