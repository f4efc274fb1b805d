/* cmd_train.c - trains a model. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "display.h"
#include "mnist_dist/log.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"
#include "options.h"

/* Options that are not stored in mnd_train_config directly. -1 and NULL: not given. */
typedef struct choices {
    const char *optimizer, *schedule, *init, *products, *progress, *exchange, *monitor, *augment;
    double lr, momentum, weight_decay, epsilon, beta1, beta2, rho;
    double warmup_epochs, step_epochs, step_gamma, final_fraction;
    int64_t seed, logical_ranks, threads, keep, members;
    bool nesterov, textbook;
} choices;

static mnd_status settle_optimizer(const choices *k, mnd_optimizer *opt) {
    mnd_status status = MND_OK;
    const mnd_setting option[] = {{"momentum", k->momentum}, {"nesterov", k->nesterov ? 1.0 : -1.0},
                                  {"beta1", k->beta1},       {"beta2", k->beta2},
                                  {"rho", k->rho},           {"weight_decay", k->weight_decay},
                                  {"epsilon", k->epsilon}};
    MND_TRY(mnd_optimizer_default(k->optimizer, opt));
    if (k->lr >= 0.0) opt->lr = k->lr;
    for (size_t i = 0; i < sizeof option / sizeof option[0]; i++)
        if (option[i].value >= 0.0)
            MND_TRY(mnd_optimizer_set(opt, option[i].name, option[i].value));
cleanup:
    return status;
}

/* --textbook is short for two other options; those may be given as well, but not otherwise. */
static mnd_status settle_textbook(const choices *k, mnd_train_config *c) {
    c->exchange = k->exchange != NULL ? k->exchange : "auto";
    c->plain = k->products != NULL && strcmp(k->products, "openblas") == 0;
    if (!k->textbook) return MND_OK;
    if (strcmp(c->exchange, "auto") != 0 && strcmp(c->exchange, "mpi") != 0)
        return mnd_fail(MND_USAGE,
                        "--textbook means --exchange mpi, which contradicts --exchange %s: leave "
                        "one of them out",
                        c->exchange);
    if (k->products != NULL && !c->plain)
        return mnd_fail(MND_USAGE,
                        "--textbook means --products openblas, which contradicts --products %s: "
                        "leave one of them out",
                        k->products);
    c->exchange = "mpi";
    c->plain = true;
    return MND_OK;
}

/* The largest value of what must be below 1. */
#define BELOW_1 0.999999

/* Options that are valid, but do nothing together with the others. */
static void warn_of_no_effect(const choices *k, const mnd_train_config *c) {
    const mnd_schedule_kind kind = c->schedule;
    if (k->lr == 0.0) mnd_log(MND_LOG_WARNING, "--lr 0: no parameter will change");
    if (k->nesterov && k->momentum == 0.0)
        mnd_log(MND_LOG_WARNING, "--nesterov does nothing with --momentum 0");
    if (kind != MND_STEP && kind != MND_EXPONENTIAL &&
        (k->step_epochs >= 0.0 || k->step_gamma >= 0.0))
        mnd_log(MND_LOG_WARNING, "--step-epochs and --step-gamma do nothing without "
                                 "--schedule step or exponential");
    if (k->final_fraction >= 0.0 && kind != MND_COSINE && kind != MND_ONECYCLE)
        mnd_log(MND_LOG_WARNING, "--final-lr does nothing without --schedule cosine or onecycle");
    if (c->warmup_epochs > (double)c->epochs)
        mnd_log(MND_LOG_WARNING,
                "--warmup-epochs %g is more than --epochs %lld: the learning rate will not reach "
                "its full value",
                c->warmup_epochs, (long long)c->epochs);
}

static mnd_status settle_schedule(const choices *k, mnd_train_config *c) {
    const mnd_status status = mnd_schedule_kind_of(k->schedule, &c->schedule);
    if (status == MND_OK && c->schedule == MND_ONECYCLE) {
        c->warmup_epochs = MND_ONECYCLE_WARMUP * (double)c->epochs;
        c->final_fraction = MND_ONECYCLE_FINAL;
    }
    if (k->warmup_epochs >= 0.0) c->warmup_epochs = k->warmup_epochs;
    if (k->step_epochs >= 0.0) c->step_epochs = k->step_epochs;
    if (k->step_gamma >= 0.0) c->step_gamma = k->step_gamma;
    if (k->final_fraction >= 0.0) c->final_fraction = k->final_fraction;
    return status;
}

/* Completes the configuration. */
static mnd_status settle(const choices *k, mnd_train_config *c) {
    mnd_status status = settle_optimizer(k, &c->optimizer);
    if (status != MND_OK) return status;
    status = settle_schedule(k, c);
    if (status != MND_OK) return status;
    c->init = strcmp(k->init, "he") == 0 ? MND_INIT_HE : MND_INIT_GLOROT;
    c->monitor = strcmp(k->monitor, "loss") == 0 ? MND_MONITOR_LOSS : MND_MONITOR_ACCURACY;
    if (c->validation >= 1.0 && c->validation != floor(c->validation))
        return mnd_fail(MND_USAGE,
                        "--validation %g: give a number of images, or a fraction below 1",
                        c->validation);
    status = settle_textbook(k, c);
    if (status != MND_OK) return status;
    status = mnd_augment_parse(k->augment, &c->augment);
    if (status != MND_OK) return status;
    c->seed = (uint64_t)k->seed;
    c->logical_ranks = (int)k->logical_ranks;
    c->threads = (int)k->threads;
    c->keep = (int)k->keep;
    c->members = (int)k->members;
    if (c->checkpoint_dir != NULL && strcmp(c->checkpoint_dir, "none") == 0)
        c->checkpoint_dir = NULL;
    if (c->resume != NULL && strcmp(c->resume, "none") == 0) c->resume = NULL;
    return MND_OK;
}

/*
 * The targets of the options, with their defaults. They are static so that the table below can
 * point to them; a process runs one command once.
 */
static mnd_train_config config = {.data = "data/mnist.h5",
                                  .model = "cnn",
                                  .step_epochs = 5.0,
                                  .step_gamma = 0.5,
                                  .final_fraction = 0.01,
                                  .batch_size = 128,
                                  .epochs = 10,
                                  .stall_timeout = 300.0,
                                  .checkpoint_dir = "checkpoints",
                                  .target_accuracy = 2.0,
                                  .keep_signals = true};

static choices given = {.optimizer = "adam",
                        .schedule = "constant",
                        .init = "glorot",
                        .progress = "auto",
                        .monitor = "accuracy",
                        .augment = "none",
                        .lr = -1.0,
                        .momentum = -1.0,
                        .weight_decay = -1.0,
                        .epsilon = -1.0,
                        .beta1 = -1.0,
                        .beta2 = -1.0,
                        .rho = -1.0,
                        .warmup_epochs = -1.0,
                        .step_epochs = -1.0,
                        .step_gamma = -1.0,
                        .final_fraction = -1.0,
                        .seed = 1,
                        .threads = 1,
                        .keep = 3,
                        .members = 1};

static const option_row rows[] = {
    {"data", OPTION_TEXT, &config.data, "FILE", 0, 0, "HDF5 data file (data/mnist.h5)"},
    {"model", OPTION_TEXT, &config.model, "NAME|SPEC", 0, 0,
     "mlp16, mlp512, cnn, cnn2, or layers: conv:28:3,relu,maxpool:2,flatten,dense:10 (cnn)"},
    {"optimizer", OPTION_TEXT, &given.optimizer, "NAME", 0, 0,
     "adam, adamw, rmsprop or sgd (adam)"},
    {"lr", OPTION_REAL, &given.lr, "X", 0, 1e6, "learning rate (0.001; sgd 0.01)"},
    {"momentum", OPTION_REAL, &given.momentum, "X", 0, 1, "of sgd (0.9)"},
    {"nesterov", OPTION_FLAG, &given.nesterov, "", 0, 0, "sgd: Nesterov's form of momentum"},
    {"beta1", OPTION_REAL, &given.beta1, "X", 0, BELOW_1, "of adam and adamw (0.9)"},
    {"beta2", OPTION_REAL, &given.beta2, "X", 0, BELOW_1, "of adam and adamw (0.999)"},
    {"rho", OPTION_REAL, &given.rho, "X", 0, BELOW_1, "of rmsprop (0.9)"},
    {"weight-decay", OPTION_REAL, &given.weight_decay, "X", 0, 1e6,
     "of adamw and sgd (adamw 0.01, sgd 0)"},
    {"epsilon", OPTION_REAL, &given.epsilon, "X", 0, 1, "of adam, adamw (1e-8), rmsprop (1e-7)"},
    {"clip-norm", OPTION_REAL, &config.clip_norm, "X", 0, 1e9,
     "scale the gradient down to this norm where it is larger; 0: never (0)"},
    {"ema", OPTION_REAL, &config.ema, "D", 0, BELOW_1,
     "evaluate and save the exponential moving average of the weights, 0.999 for instance (0)"},
    {"label-smoothing", OPTION_REAL, &config.label_smoothing, "X", 0, BELOW_1,
     "train towards 1 - X for the label and X shared by all classes; val_loss is without (0)"},
    {"schedule", OPTION_CHOICE, &given.schedule, "constant|step|exponential|cosine|onecycle", 0, 0,
     "learning rate over the run (constant)"},
    {"warmup-epochs", OPTION_REAL, &given.warmup_epochs, "X", 0, 1e6,
     "epochs of warm-up, may be a fraction (0; onecycle: 0.3 of all epochs)"},
    {"step-epochs", OPTION_REAL, &given.step_epochs, "X", 1e-6, 1e6,
     "schedule step: epochs between drops; exponential: for a fall by the factor (5)"},
    {"step-gamma", OPTION_REAL, &given.step_gamma, "X", 0, 1,
     "schedules step and exponential: the factor (0.5)"},
    {"final-lr", OPTION_REAL, &given.final_fraction, "X", 0, 1,
     "last rate as a fraction of --lr (cosine 0.01, onecycle 0.000004)"},
    {"init", OPTION_CHOICE, &given.init, "glorot|he", 0, 0, "initial kernels (glorot)"},
    {"batch-size", OPTION_INT, &config.batch_size, "N", 1, 1 << 30,
     "global: over all processes together (128)"},
    {"epochs", OPTION_INT, &config.epochs, "N", 1, 1000000, "(10)"},
    {"target-accuracy", OPTION_REAL, &config.target_accuracy, "X", 0, 1,
     "stop after the epoch whose val_accuracy reaches it; 0.98 is 98 %"},
    {"patience", OPTION_INT, &config.patience, "N", 0, 1000000,
     "stop after N epochs in a row without a better one; 0: never (0)"},
    {"monitor", OPTION_CHOICE, &given.monitor, "loss|accuracy", 0, 0,
     "the best epoch has the lowest val_loss, or the highest val_accuracy (accuracy)"},
    {"validation", OPTION_REAL, &config.validation, "N|FRACTION", 0, INT32_MAX,
     "hold out the last N training images for val_*; 0: the test images serve (0)"},
    {"augment", OPTION_TEXT, &given.augment, "PARTS", 0, 0,
     "distort training images anew in each epoch: rotate:DEGREES,scale:X,shear:X,shift:PIXELS,"
     "elastic:PIXELS,erase:PIXELS, each up to so much; see mnist_dist show --augment (none)"},
    {"seed", OPTION_INT, &given.seed, "N", 0, 9e15, "(1)"},
    {"members", OPTION_INT, &given.members, "K", 1, MND_MAX_MEMBERS,
     "an ensemble: K networks of the seeds S to S + K - 1, in DIR/member-01, ... (1)"},
    {"logical-ranks", OPTION_INT, &given.logical_ranks, "V", 0, MND_MAX_LOGICAL,
     "the bits of the run depend on V, not on the number of processes (8, or the processes)"},
    {"exchange", OPTION_TEXT, &given.exchange, "NAME", 0, 0,
     "auto, mpi, tree, shared or hierarchical (auto)"},
    {"threads", OPTION_INT, &given.threads, "T", 1, 256, "threads of each process (1)"},
    {"products", OPTION_CHOICE, &given.products, "native|openblas", 0, 0,
     "own kernels, or OpenBLAS (native)"},
    {"textbook", OPTION_FLAG, &given.textbook, "", 0, 0,
     "--products openblas --exchange mpi: OpenBLAS and MPI_Allreduce, easy to read"},
    {"checkpoint-dir", OPTION_TEXT, &config.checkpoint_dir, "DIR", 0, 0,
     "where checkpoints go, 'none' for none (checkpoints)"},
    {"checkpoint-every", OPTION_INT, &config.checkpoint_every, "N", 0, 9e15,
     "also every N steps (0: each epoch's end only)"},
    {"keep", OPTION_INT, &given.keep, "K", 0, 1 << 30,
     "newest checkpoints to keep besides the best, 0 all (3)"},
    {"resume", OPTION_TEXT, &config.resume, "auto|required|FILE", 0, 0,
     "continue from the newest valid checkpoint (auto: if there is one), or go back to FILE or "
     "folder"},
    {"stall-timeout", OPTION_REAL, &config.stall_timeout, "SECONDS", 0, 1e7,
     "end the job if a process makes no progress for so long, and name it; 0 is off (300)"},
    {"check-every", OPTION_INT, &config.check_every, "N", 0, 9e15,
     "compare the replicas every N steps too (0: each epoch's end only)"},
    {"metrics", OPTION_TEXT, &config.metrics, "FILE.jsonl", 0, 0, "JSON lines of the run"},
    {"progress", OPTION_CHOICE, &given.progress, "auto|always|never", 0, 0,
     "the live line on stderr (auto: on a terminal)"},
};

static void print_result(const mnd_train_result *r) {
    const bool loss = config.monitor == MND_MONITOR_LOSS;
    const char *what = loss ? "val_loss " : r->validation > 0 ? "val_accuracy " : "";
    printf("\nTest accuracy %.4f, test loss %.4f; best %s%.4f in epoch %lld; %.2f s\n",
           r->test_accuracy, r->test_loss, what, loss ? r->best_loss : r->best_accuracy,
           (long long)r->best_epoch, r->seconds);
    if (r->finished[0] != '\0') printf("finished: %s\n", r->finished);
    printf("weights_sha256 %s\n", r->weights_sha256);
    if (r->checkpoint[0] != '\0') printf("checkpoint %s\n", r->checkpoint);
    if (r->best_checkpoint[0] != '\0') printf("best checkpoint %s\n", r->best_checkpoint);
}

static void print_ensemble(const mnd_member_result *member, const mnd_ensemble_result *r) {
    printf("\n");
    for (int m = 0; m < config.members; m++)
        printf("member %d  seed %llu  test accuracy %.4f, test loss %.4f  weights_sha256 %s\n",
               m + 1, (unsigned long long)member[m].seed, member[m].test_accuracy,
               member[m].test_loss, member[m].weights_sha256);
    printf("\nEnsemble of %d: test accuracy %.4f, test loss %.4f", config.members, r->test_accuracy,
           r->test_loss);
    if (!isnan(r->val_loss))
        printf("; val_accuracy %.4f, val_loss %.4f", r->val_accuracy, r->val_loss);
    printf("; %.2f s\n", r->seconds);
    printf("%lld of %lld test images are misread by every member\n", (long long)r->misread,
           (long long)r->images);
    printf("checkpoints %s\n", config.checkpoint_dir);
}

static mnd_status train(mnd_comm *comm, const mnd_train_observer *observer) {
    mnd_status status = MND_OK;
    const bool first = mnd_comm_rank(comm) == 0;
    if (config.members == 1) {
        mnd_train_result result;
        status = mnd_train(&config, comm, observer, &result);
        if (status == MND_OK && first) print_result(&result);
        return status;
    }
    mnd_member_result *member;
    mnd_ensemble_result ensemble;
    MND_NEW_AGREED(comm, member, config.members, "the members");
    MND_TRY(mnd_train_members(&config, comm, observer, member, &ensemble));
    if (first) print_ensemble(member, &ensemble);
cleanup:
    mnd_free(member);
    return status;
}

static const command_usage usage = {
    .name = "train",
    .arguments = "",
    .text = "Trains a model on all processes that mpirun or srun started, evaluates on the test\n"
            "images (or those of --validation) after each epoch and writes checkpoints."};

int cmd_train(int argc, char **argv) {
    command_line line;
    mnd_comm *comm = NULL;
    mnd_status status = options_parse(&usage, rows, OPTION_COUNT(rows), argc, argv, &line);
    if (line.helped) return EXIT_DONE;
    if (status == MND_OK) status = settle(&given, &config);
    status = command_join(status, &comm);
    if (status != MND_OK) return command_leave(status, &comm);

    if (mnd_comm_rank(comm) == 0) warn_of_no_effect(&given, &config);
    display d;
    display_start(&d, given.progress);
    const mnd_train_observer observer = display_observer(&d);
    status = train(comm, &observer);
    return command_leave(status, &comm);
}
