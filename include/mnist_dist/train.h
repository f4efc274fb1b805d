/*
 * train.h - the training run: data, model, exchange, optimizer, checkpoints and metrics together.
 */
#ifndef MNIST_DIST_TRAIN_H
#define MNIST_DIST_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "mnist_dist/augment.h"
#include "mnist_dist/checkpoint.h"
#include "mnist_dist/comm.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/model.h"
#include "mnist_dist/optimizer.h"
#include "mnist_dist/schedule.h"

/* By what epochs are compared: the highest val_accuracy or the lowest val_loss is the best. */
typedef enum mnd_monitor { MND_MONITOR_ACCURACY, MND_MONITOR_LOSS } mnd_monitor;

/* All strings are borrowed for the time of the call. */
typedef struct mnd_train_config {
    const char *data;  /* HDF5 file */
    const char *model; /* preset or spec */
    mnd_init init;
    mnd_optimizer optimizer;
    mnd_schedule_kind schedule;
    double warmup_epochs;  /* of warm-up; may be a fraction */
    double step_epochs;    /* schedules step and exponential: epochs of a drop */
    double step_gamma;     /* schedules step and exponential: factor of a drop */
    double final_fraction; /* schedules cosine and onecycle: last rate over the highest */
    int64_t batch_size;    /* global, over all processes */
    int64_t epochs;
    uint64_t seed;
    double clip_norm;       /* largest norm of the whole gradient; 0: no limit */
    double ema;             /* decay of the moving average of the weights, below 1: the average
                               is evaluated and saved as the model; 0: the weights themselves */
    double label_smoothing; /* of the training loss, below 1 (mnd_smooth_labels in loss.h); val_*
                               and test figures are of the labels as they are; 0: none */
    mnd_augment augment;    /* of the training images; evaluation sees images as they are */
    int logical_ranks;      /* 0: as the checkpoint says, else mnd_train_logical_ranks */
    const char *exchange;   /* name from exchange.h, or "auto" */
    int threads;            /* of each process */
    bool plain;             /* products by OpenBLAS, no layers fused */
    const char *checkpoint_dir; /* NULL: no checkpoints */
    int64_t checkpoint_every;   /* steps, besides each epoch's end; 0: epochs only */
    int keep;                   /* checkpoints to keep; 0: all */
    const char *resume;         /* NULL, "auto", "required" or a file */
    double stall_timeout;       /* seconds until the watchdog ends a stuck job; 0: off */
    int64_t check_every; /* steps between replica checks, besides each epoch's end; 0: epochs */
    const char *metrics; /* JSONL file, or NULL */
    double validation;   /* training images held out for val_*, the last ones: below 1 a fraction of
                            all, otherwise how many; 0: none, val_* are of the test images */
    mnd_monitor monitor; /* which epoch is the best */
    int64_t patience;    /* stop after so many epochs in a row without a better one; 0: never */
    double target_accuracy; /* stop after the epoch whose val_accuracy reaches it; > 1: never */
    bool keep_signals;      /* the process ends with this run: see mnd_train */
    int members;            /* networks of an ensemble: see mnd_train_members; else 0 or 1 */
    int member;             /* set by mnd_train_members for each run: 1 to members; else 0 */
} mnd_train_config;

/* Logical ranks where the user does not say: 8, or as many as images if these are fewer; at least
   one per process. So one command gives the same weights on 1 to 8 processes. */
#define MND_LOGICAL_RANKS 8
int mnd_train_logical_ranks(int processes, int64_t images);

/* What a run is, once it is set up. Borrowed, valid during the run. */
typedef struct mnd_train_setup {
    const mnd_train_config *config;
    const mnd_dataset_info *data;
    const mnd_model *model;
    mnd_comm *comm;
    int logical_ranks, threads, nodes;
    const char *exchange;
    int64_t steps_per_epoch;
    int64_t validation;                  /* training images held out; `data` counts the others */
    int64_t resumed_epoch, resumed_step; /* where the run goes on; 0, 0 from the start */
    const char *resumed_from;            /* file, or NULL */
} mnd_train_setup;

/* How far the current epoch is, as rank 0 sees it from its own samples. */
typedef struct mnd_train_progress {
    int64_t epoch, epochs, step, steps;
    double loss, accuracy;    /* of the epoch so far */
    double images_per_second; /* global */
    double seconds;           /* of the epoch so far */
} mnd_train_progress;

/* Seconds of an epoch by what they went into: means over the processes. */
typedef struct mnd_time_split {
    double data, compute, exchange, optimizer, wait;
} mnd_time_split;

typedef struct mnd_train_epoch {
    mnd_epoch_record record;
    int64_t epochs, step;
    double images_per_second, evaluate_seconds, lr;
    mnd_time_split time;
    bool best; /* the best so far: see mnd_train_config.monitor */
} mnd_train_epoch;

typedef struct mnd_train_result {
    double test_accuracy, test_loss;
    double best_accuracy, best_loss; /* val_* of the best epoch; -1 if there is none */
    int64_t best_epoch, epochs, steps;
    int64_t validation; /* images held out; 0: val_* are of the test images */
    double seconds;     /* this start */
    char weights_sha256[MND_SHA256_HEX];
    char checkpoint[4096];      /* of the weights at the end, "" for none */
    char best_checkpoint[4096]; /* of the best epoch; "" if that is the last, or there is none */
    char finished[128];         /* why the run ended before its last epoch, or was at its end before
                                   it started; "" otherwise */
} mnd_train_result;

/* Called on rank 0 only. Any may be NULL. `warning` gets whole sentences. */
typedef struct mnd_train_observer {
    void *context;
    void (*setup)(void *context, const mnd_train_setup *setup);
    void (*progress)(void *context, const mnd_train_progress *progress);
    void (*epoch)(void *context, const mnd_train_epoch *epoch);
    void (*warning)(void *context, const char *text);
} mnd_train_observer;

/*
 * Trains. Returns the same status on every process: MND_OK; MND_STOPPED when a signal asked to stop
 * and the state is in a checkpoint; MND_NUMERIC when a loss or a parameter is not finite (the
 * last good checkpoint stays); otherwise what went wrong, with its explanation as mnd_error() on
 * every process. Catches SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 while it runs, each unless it
 * is ignored (a second SIGINT ends the process), and with keep_signals also after MND_OK and
 * MND_STOPPED: launchers send a signal to one process after the other, and one that gets it last,
 * while all leave, is not to die of it. After an error they are released, so that a process that
 * cannot leave can be ended. Collective.
 */
MND_CHECKED mnd_status mnd_train(const mnd_train_config *config, mnd_comm *comm,
                                 const mnd_train_observer *observer, mnd_train_result *result);

/*
 * What mnd_train_members made. Of each member: its weights at the end, from its newest checkpoint.
 */
typedef struct mnd_member_result {
    uint64_t seed;
    int64_t epochs;
    double test_accuracy, test_loss;
    char weights_sha256[MND_SHA256_HEX];
} mnd_member_result;

typedef struct mnd_ensemble_result {
    double test_accuracy, test_loss; /* of the mean of the members' probabilities: ensemble.h */
    double val_accuracy, val_loss;   /* of the images held out; NaN without --validation */
    int64_t images, misread;         /* test images; those that every member gets wrong */
    double seconds;                  /* this start */
} mnd_ensemble_result;

#define MND_MAX_MEMBERS 1000

/*
 * Trains an ensemble: config->members networks that differ in their seed only. Member k = 1, 2, ...
 * has the seed config->seed + k - 1 and the bits that mnd_train gives with this seed, the same
 * logical ranks (8 unless config says otherwise) and config->checkpoint_dir/member-<k, 2 digits>,
 * where its checkpoints are. `member` gets config->members results. Errors and MND_STOPPED as
 * mnd_train, but the line begins with "member <k>: ".
 *
 * The processes are split into groups of consecutive ranks, each of which trains a member; when all
 * groups have finished, they are split anew for the next members, until none is left. How many
 * groups there are in each of these rounds follows from the numbers of processes and members left
 * (mnd_members_groups). A group has at most as many processes as there are logical ranks; further
 * ones are idle, of which the observer gets a warning. When a member fails or is stopped by a
 * signal, the others are stopped after their next step, with a checkpoint. With `resume` auto or
 * required every member goes on from its newest checkpoint, finished ones are not trained;
 * MND_USAGE for a file, and without a checkpoint_dir.
 *
 * Metrics: each member's are in metrics.jsonl of its folder, written by its group as by mnd_train.
 * config->metrics is a copy of all of them, the lines of member 1 first, each with the number in
 * "member": rank 0 writes it anew after epochs of its own (at most every 5 s), after each round and
 * at the end, where a line "ensemble" is added, and replaces the file atomically. So nothing is
 * lost or doubled however a run ends: the next start makes the copy again. What is not a regular
 * file gets the lines at the end only.
 *
 * The observer is called on one process of each group, `progress` on rank 0 only; `setup` tells the
 * member (config->member), which is that of the following calls on this process. Collective.
 */
MND_CHECKED mnd_status mnd_train_members(const mnd_train_config *config, mnd_comm *comm,
                                         const mnd_train_observer *observer,
                                         mnd_member_result *member, mnd_ensemble_result *result);

/*
 * How many groups of `processes`, of at most `most` each, train the next of `members` that are
 * left: the choice for which the rounds take the least time in all, if a member takes 0.1 + 0.9 / n
 * on n processes (Amdahl's law) and a round as long as its smallest group. Groups have processes /
 * groups members or one more. Pure.
 */
int mnd_members_groups(int processes, int members, int most);

/* MND_MISMATCH unless every process has read the same weights from `path`. Collective. */
MND_CHECKED mnd_status mnd_checkpoint_agree(mnd_comm *comm, const char *path,
                                            const mnd_checkpoint *ckpt);

/*
 * Builds the model of a checkpoint for inference on up to max_rows rows; *param gets its parameters
 * (owned by the caller, mnd_free). Checks that the checkpoint's arrays are those of its spec. Not
 * collective.
 */
MND_CHECKED mnd_status mnd_model_from_checkpoint(const mnd_checkpoint *ckpt, int max_rows,
                                                 int threads, bool plain, mnd_model **out,
                                                 float **param);

#endif
