/* train: the main job. */
#include <float.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "display.h"
#include "mnist_dist/log.h"
#include "mnist_dist/logical.h"
#include "options.h"

/* Options as they are given; -1 and NULL where the default hangs on another option. */
typedef struct choices {
    const char *optimizer, *schedule, *init, *products, *progress;
    double lr, momentum, weight_decay, epsilon;
    int64_t seed, logical_ranks, threads, keep;
} choices;

static mnd_status settle(const choices *k, mnd_train_config *c) {
    mnd_status status = mnd_optimizer_default(k->optimizer, &c->optimizer);
    if (status != MND_OK) return status;
    if (k->lr >= 0.0) c->optimizer.lr = k->lr;
    if (k->momentum >= 0.0) c->optimizer.momentum = k->momentum;
    if (k->weight_decay >= 0.0) c->optimizer.weight_decay = k->weight_decay;
    if (k->epsilon >= 0.0) c->optimizer.epsilon = k->epsilon;
    status = mnd_schedule_kind_of(k->schedule, &c->schedule);
    if (status != MND_OK) return status;
    c->init = strcmp(k->init, "he") == 0 ? MND_INIT_HE : MND_INIT_GLOROT;
    c->plain = strcmp(k->products, "openblas") == 0;
    c->seed = (uint64_t)k->seed;
    c->logical_ranks = (int)k->logical_ranks;
    c->threads = (int)k->threads;
    c->keep = (int)k->keep;
    if (c->checkpoint_dir != NULL && strcmp(c->checkpoint_dir, "none") == 0)
        c->checkpoint_dir = NULL;
    if (c->resume != NULL && strcmp(c->resume, "none") == 0) c->resume = NULL;
    return MND_OK;
}

static void print_result(const mnd_train_result *r) {
    printf("\nTest accuracy %.4f, test loss %.4f; best %.4f in epoch %lld; %.2f s\n",
           r->test_accuracy, r->test_loss, r->best_accuracy, (long long)r->best_epoch, r->seconds);
    printf("weights_sha256 %s\n", r->weights_sha256);
    if (r->checkpoint[0] != '\0') printf("checkpoint %s\n", r->checkpoint);
}

int cmd_train(int argc, char **argv) {
    mnd_train_config c = {.data = "data/mnist.h5",
                          .model = "cnn",
                          .step_epochs = 5.0,
                          .step_gamma = 0.5,
                          .final_fraction = 0.01,
                          .batch_size = 128,
                          .epochs = 10,
                          .exchange = "auto",
                          .stall_timeout = 300.0,
                          .checkpoint_dir = "checkpoints",
                          .target_accuracy = 2.0,
                          .keep_signals = true};
    choices k = {.optimizer = "adam",
                 .schedule = "constant",
                 .init = "glorot",
                 .products = "native",
                 .progress = "auto",
                 .lr = -1.0,
                 .momentum = -1.0,
                 .weight_decay = -1.0,
                 .epsilon = -1.0,
                 .seed = 1,
                 .threads = 1,
                 .keep = 3};
    const option_row rows[] = {
        {"data", OPTION_TEXT, &c.data, "FILE", 0, 0, "HDF5 data file (data/mnist.h5)"},
        {"model", OPTION_TEXT, &c.model, "NAME|SPEC", 0, 0,
         "mlp16, mlp512, cnn, cnn2, or layers: conv:28:3,relu,maxpool:2,flatten,dense:10 (cnn)"},
        {"optimizer", OPTION_CHOICE, &k.optimizer, "adam|adamw|rmsprop|sgd", 0, 0, "(adam)"},
        {"lr", OPTION_REAL, &k.lr, "X", 0, 1e6, "learning rate (0.001; sgd 0.01)"},
        {"momentum", OPTION_REAL, &k.momentum, "X", 0, 1, "of sgd (0.9)"},
        {"weight-decay", OPTION_REAL, &k.weight_decay, "X", 0, 1e6,
         "of adamw and sgd (adamw 0.01, sgd 0)"},
        {"epsilon", OPTION_REAL, &k.epsilon, "X", 0, 1, "of adam, adamw (1e-8), rmsprop (1e-7)"},
        {"schedule", OPTION_CHOICE, &k.schedule, "constant|step|cosine", 0, 0,
         "learning rate over the run (constant)"},
        {"warmup-epochs", OPTION_REAL, &c.warmup_epochs, "X", 0, 1e6,
         "epochs of linear warm-up, may be a fraction (0)"},
        {"step-epochs", OPTION_REAL, &c.step_epochs, "X", 0, 1e6,
         "schedule step: epochs between drops (5)"},
        {"step-gamma", OPTION_REAL, &c.step_gamma, "X", 0, 1, "schedule step: factor (0.5)"},
        {"final-lr", OPTION_REAL, &c.final_fraction, "X", 0, 1,
         "schedule cosine: last rate as a fraction of --lr (0.01)"},
        {"init", OPTION_CHOICE, &k.init, "glorot|he", 0, 0, "initial kernels (glorot)"},
        {"batch-size", OPTION_INT, &c.batch_size, "N", 1, 1 << 30,
         "global: over all processes together (128)"},
        {"epochs", OPTION_INT, &c.epochs, "N", 1, 1000000, "(10)"},
        {"target-accuracy", OPTION_REAL, &c.target_accuracy, "X", 0, 2,
         "stop after the epoch that reaches it on the test images"},
        {"seed", OPTION_INT, &k.seed, "N", 0, 9e15, "(1)"},
        {"logical-ranks", OPTION_INT, &k.logical_ranks, "V", 0, MND_MAX_LOGICAL,
         "the run's bits hang on V, not on how many processes host it (as many as processes)"},
        {"exchange", OPTION_TEXT, &c.exchange, "NAME", 0, 0,
         "auto, allreduce, shared or hierarchical (auto)"},
        {"threads", OPTION_INT, &k.threads, "T", 1, 256, "threads of each process (1)"},
        {"products", OPTION_CHOICE, &k.products, "native|openblas", 0, 0,
         "own kernels, or the plain reference by OpenBLAS (native)"},
        {"checkpoint-dir", OPTION_TEXT, &c.checkpoint_dir, "DIR", 0, 0,
         "where checkpoints go, 'none' for none (checkpoints)"},
        {"checkpoint-every", OPTION_INT, &c.checkpoint_every, "N", 0, 9e15,
         "also every N steps (0: each epoch's end only)"},
        {"keep", OPTION_INT, &k.keep, "K", 0, 1 << 30, "newest checkpoints to keep, 0 all (3)"},
        {"resume", OPTION_TEXT, &c.resume, "auto|FILE", 0, 0,
         "go on from the newest valid checkpoint, if there is one, or from FILE"},
        {"stall-timeout", OPTION_REAL, &c.stall_timeout, "SECONDS", 0, 1e7,
         "name a process that is stuck or gone for so long, and end the job; 0 is off (300)"},
        {"check-every", OPTION_INT, &c.check_every, "N", 0, 9e15,
         "compare the replicas every N steps too (0: each epoch's end only)"},
        {"metrics", OPTION_TEXT, &c.metrics, "FILE.jsonl", 0, 0, "JSON lines of the run"},
        {"progress", OPTION_CHOICE, &k.progress, "auto|always|never", 0, 0,
         "the live line on stderr (auto: on a terminal)"},
    };
    static const command_usage usage = {
        .name = "train",
        .arguments = "",
        .text =
            "Trains a model on all processes that mpirun or srun started, evaluates on the test\n"
            "images after each epoch and writes checkpoints."};
    char **argument;
    int n_argument;
    bool helped;
    mnd_comm *comm = NULL;
    mnd_status status = options_parse(&usage, rows, OPTION_COUNT(rows), argc, argv, &argument,
                                      &n_argument, &helped);
    if (helped) return EXIT_DONE;
    if (status == MND_OK) status = settle(&k, &c);
    status = command_join(status, &comm);
    if (status != MND_OK) return command_leave(status, &comm);

    display d;
    display_start(&d, k.progress);
    const mnd_train_observer observer = display_observer(&d);
    mnd_train_result result;
    status = mnd_train(&c, comm, &observer, &result);
    if (status == MND_OK && mnd_comm_rank(comm) == 0) print_result(&result);
    return command_leave(status, &comm);
}
