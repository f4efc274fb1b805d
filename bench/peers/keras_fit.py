#!/usr/bin/env python3
"""The same training job in Keras 3: model.fit on arrays that lie in memory, one process.

Prints the same JSON lines as pytorch_ddp.py; an epoch's time is that of its training steps here
too.

    keras_fit.py --model cnn --threads 2
    keras_fit.py --model mlp16 --backend jax --input tfdata
"""

import argparse
import os
import sys
import time

import peer_data


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--data", default="data/mnist.h5")
    p.add_argument("--model", choices=("mlp16", "mlp512", "cnn"), default="cnn")
    p.add_argument("--batch-size", type=int, default=128)
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--backend", choices=("tensorflow", "jax"), default="tensorflow")
    p.add_argument("--jit", choices=("on", "off", "auto"), default="auto", help="XLA")
    p.add_argument("--steps-per-execution", type=int, default=1)
    p.add_argument("--input", choices=("arrays", "tfdata"), default="arrays")
    p.add_argument("--no-onednn", action="store_true")
    p.add_argument("--no-pin", action="store_true", help="leave the choice of cores to the kernel")
    p.add_argument("--core", type=int, default=0, help="first core to bind to")
    p.add_argument("--on-demand", action="store_true",
                   help="after --epochs, read numbers of further epochs from stdin")
    p.add_argument("--first-step", action="store_true",
                   help="say when the first step is done, then wait for the end of stdin")
    return p.parse_args()


def environment(opt):
    """Settings that are read when the libraries are loaded."""
    os.environ["KERAS_BACKEND"] = opt.backend
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0" if opt.no_onednn else "1"
    os.environ["OMP_NUM_THREADS"] = str(opt.threads)
    if opt.threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"


def network(keras, name):
    layers = keras.layers
    if name == "cnn":
        stack = [layers.Conv2D(28, 3), layers.MaxPooling2D(2), layers.Flatten(),
                 layers.Dense(128, activation="relu"), layers.Dropout(0.2), layers.Dense(10)]
        shape = (28, 28, 1)
    else:
        width = 16 if name == "mlp16" else 512
        stack = [layers.Dense(width, activation="relu"), layers.Dense(width, activation="relu"),
                 layers.Dense(10)]
        shape = (784,)
    return keras.Sequential([keras.Input(shape)] + stack), shape


def train(opt):
    if opt.backend == "tensorflow" or opt.input == "tfdata":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(opt.threads)
        tf.config.threading.set_inter_op_parallelism_threads(opt.threads)
    import keras

    keras.utils.set_random_seed(opt.seed)
    net, shape = network(keras, opt.model)
    net.compile(optimizer=keras.optimizers.Adam(opt.lr, epsilon=1e-8),
                loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                metrics=["accuracy"], steps_per_execution=opt.steps_per_execution,
                jit_compile={"on": True, "off": False, "auto": "auto"}[opt.jit])
    x, y = peer_data.load(opt.data, "train")
    x_test, y_test = peer_data.load(opt.data, "test")
    x, x_test = x.reshape((-1,) + shape), x_test.reshape((-1,) + shape)
    y, y_test = y.astype("int32"), y_test.astype("int32")
    n = len(x)

    class Clock(keras.callbacks.Callback):
        """Training only: from the epoch's begin to the begin of the evaluation."""

        def __init__(self):
            super().__init__()
            self.speeds = []
            self.until = opt.epochs

        def on_epoch_begin(self, epoch, logs=None):
            self.start, self.cpu = time.perf_counter(), time.process_time()

        def on_test_begin(self, logs=None):
            self.seconds = time.perf_counter() - self.start
            self.cpu = time.process_time() - self.cpu

        def on_epoch_end(self, epoch, logs=None):
            self.accuracy = logs["val_accuracy"]
            if epoch > 0 or opt.epochs == 1:
                self.speeds.append(n / self.seconds)
            peer_data.say(event="epoch", epoch=epoch + 1, seconds=self.seconds,
                          cpu_seconds=self.cpu, images_per_second=n / self.seconds,
                          val_accuracy=self.accuracy,
                          since_launch=time.time() - peer_data.launch_time())
            if epoch + 1 == self.until:
                more = int(sys.stdin.readline() or 0) if opt.on_demand else 0
                self.until += more
                self.model.stop_training = more == 0

    class FirstStep(keras.callbacks.Callback):
        """Asked for on its own: a callback on every batch would slow the epochs down."""

        def on_train_batch_end(self, batch, logs=None):
            peer_data.say(event="first_step", seconds=time.time() - peer_data.launch_time())
            sys.stdin.read()
            os._exit(0)

    if opt.input == "tfdata":
        order = tf.data.Dataset.range(n).shuffle(n).batch(opt.batch_size)
        tx, ty = tf.constant(x), tf.constant(y)
        batches = {"x": order.map(lambda i: (tf.gather(tx, i), tf.gather(ty, i))).prefetch(2)}
    else:
        batches = {"x": x, "y": y, "batch_size": opt.batch_size}
    if opt.first_step:
        net.fit(**batches, epochs=1, verbose=0, callbacks=[FirstStep()])
        raise SystemExit("keras_fit.py: the first step never ended")
    clock = Clock()
    net.fit(**batches, epochs=10**6, verbose=0, callbacks=[clock],
            validation_data=(x_test, y_test), validation_batch_size=1000)
    import importlib.metadata as packages

    engine = "tensorflow-cpu" if opt.backend == "tensorflow" else "jax"
    peer_data.say(event="end", images_per_second=peer_data.median(clock.speeds),
                  test_accuracy=clock.accuracy,
                  version=f"Keras {keras.__version__} on {engine} {packages.version(engine)}")


def main():
    opt = options()
    environment(opt)
    if not opt.no_pin:
        peer_data.pin(opt.core, opt.threads)
    train(opt)
    return 0


if __name__ == "__main__":
    sys.exit(main())
