/*
 * run.h - a training run: its parts, and where it is. Set up by setup.c and resume.c, trained by
 * loop.c, saved by save.c, told by report.c; train.c calls them in this order.
 */
#ifndef MNIST_DIST_TRAIN_RUN_H
#define MNIST_DIST_TRAIN_RUN_H

#include "fault.h"
#include "loader.h"
#include "mnist_dist/checkpoint.h"
#include "mnist_dist/evaluate.h"
#include "mnist_dist/exchange.h"
#include "mnist_dist/metrics.h"
#include "mnist_dist/train.h"
#include "mnist_dist/watchdog.h"
#include "step.h"
#include "stopping.h"

typedef struct mnd_run {
    const mnd_train_config *config;
    const mnd_train_observer *observer;
    mnd_train_result *result;
    mnd_comm *comm;
    int rank, size;
    double started; /* mnd_now */

    mnd_dataset *data;     /* open during set-up only */
    mnd_dataset_info info; /* the training images without those held out */
    int64_t held_out;      /* training images after those of info: --validation */
    mnd_shape input;
    int logical, first, n_logical; /* logical ranks [first, first + n_logical) are here */
    mnd_loader loader;
    mnd_model *model;
    mnd_exchange *exchange;
    mnd_step stepper;     /* what one step works on */
    mnd_group_sum groups; /* for layers that need sums over the whole batch */
    float *average; /* (n_param) with --ema: all of the averaged weights, as mnd_run_weights found
                       them; owned */
    mnd_evaluator *evaluator; /* of val_* */
    mnd_evaluator *test; /* of the test images at the end of the run; NULL: val_* are of them */
    mnd_watchdog *dog;
    mnd_fault fault; /* for tests: MNIST_DIST_FAULT */
    mnd_schedule schedule;
    char schedule_text[128];

    /* Where the run is. */
    int64_t steps_per_epoch;
    int64_t epoch, step, step_in_epoch; /* finished epochs; steps taken, in all and in this epoch */
    int64_t first_step;                 /* `step` at this start */
    double *loss_sum, *step_loss;       /* (n_logical) of the epoch so far, of one step; owned */
    int64_t *correct, *step_correct;    /* (n_logical), owned */
    double *loss_all;                   /* (logical), owned */
    int64_t *correct_all;               /* (logical), owned */
    size_t *logical_bytes;              /* (size) 8 bytes per logical rank, owned */
    double rate;                        /* learning rate of the current step */
    double best_accuracy, best_loss;    /* of the best epoch */
    int64_t best_epoch;
    double train_seconds;      /* of all starts, epochs only */
    mnd_epoch_record *history; /* (history_capacity), owned */
    int64_t n_history, history_capacity;
    bool stopping; /* a process was asked to stop */

    /* Rank 0. */
    mnd_metrics *metrics; /* NULL: none */
    char aside[4096];     /* where the checkpoints of an earlier run were moved; "" nowhere */
    int folder_lock;      /* keeps other runs out of the checkpoint folder while open; or -1 */
    mnd_checkpoint saved; /* filled once, then only its figures change */
    float *slot_all[MND_MAX_SLOTS]; /* whole slots, owned */
} mnd_run;

/* A sentence for the user, on rank 0. */
void mnd_run_warn(const mnd_run *r, const char *format, ...) MND_PRINTF(2, 3);

/* Data, model, exchange, state and files, from the start or from a checkpoint. Collective. */
MND_CHECKED mnd_status mnd_run_set_up(mnd_run *r);
void mnd_run_free(mnd_run *r);

/*
 * data_check.c. mnd_comm_agree; where only some processes failed, the error line begins with the
 * rank and the host of one that did. Collective.
 */
MND_CHECKED mnd_status mnd_run_agree(const mnd_run *r, mnd_status mine);
/*
 * Sets info.data_sha256 to the checksum of the content, read by one process of each node:
 * MND_MISMATCH names a host whose file holds other data. Collective.
 */
MND_CHECKED mnd_status mnd_run_check_data(mnd_run *r);

/*
 * resume.c. Whether config->resume, which is not NULL, asks for the newest checkpoint, not a FILE.
 */
bool mnd_run_picks_newest(const mnd_run *r);
/*
 * Picks and reads the checkpoint that config->resume names: rank 0 chooses, every process
 * reads. *found is false for a fresh start. Collective.
 */
MND_CHECKED mnd_status mnd_run_read_checkpoint(mnd_run *r, mnd_checkpoint *ckpt, char path[4096],
                                               bool *found);
/* MND_MISMATCH unless the options continue the run of the checkpoint; the same on every process. */
MND_CHECKED mnd_status mnd_run_check_resume(const mnd_run *r, const mnd_checkpoint *ckpt,
                                            const char *path);
/* Where the run was. */
void mnd_run_take_progress(mnd_run *r, const mnd_checkpoint *ckpt);
/* Parameters and optimizer state: from the seed, or from ckpt if it is not NULL. Collective. */
MND_CHECKED mnd_status mnd_run_fill_state(mnd_run *r, const mnd_checkpoint *ckpt);

/* save.c. Seconds to wait for a run that was just killed. */
double mnd_run_lock_timeout(const mnd_run *r);
/* Takes the checkpoint folder for this run, on rank 0, if it exists already. */
MND_CHECKED mnd_status mnd_run_lock_folder(mnd_run *r);
/*
 * Makes the folder and everything that never changes in a checkpoint, on rank 0. Checkpoints that
 * are not of this run, and those that are newer than `from`, which was read from `path`, are set
 * aside. *missing: the folder does not hold `from`. from is NULL for a fresh start.
 */
MND_CHECKED mnd_status mnd_run_prepare_saving(mnd_run *r, const mnd_checkpoint *from,
                                              const char *path, bool *missing);
/* Brings the state to rank 0, which writes it. Collective. */
MND_CHECKED mnd_status mnd_run_save(mnd_run *r);
/* The checkpoint of the best epoch; "" if the run is at that step, or there is no such file. */
void mnd_run_best_checkpoint(const mnd_run *r, char *path, size_t size);
/* MND_MISMATCH if memory has lost what the last step wrote. Not collective. */
MND_CHECKED mnd_status mnd_run_check_memory(mnd_run *r);

/* validation.c. Takes the images to hold out from r->info. MND_USAGE if there are too few. */
MND_CHECKED mnd_status mnd_run_hold_out(mnd_run *r);
/* The evaluators; reads their images. Not collective. */
MND_CHECKED mnd_status mnd_run_open_evaluators(mnd_run *r);
/* Whether the run is at its end. The same on every process. */
mnd_finish mnd_run_finished(const mnd_run *r);
/* Which of the finished epochs is the best. */
void mnd_run_take_best(mnd_run *r);
/* Test loss and accuracy of the weights at the end, into r->result. Collective. */
MND_CHECKED mnd_status mnd_run_test(mnd_run *r);

/* average.c. The weights that are evaluated and saved as the model: the parameters, or with --ema
   their average, brought together from all processes. Collective. */
MND_CHECKED mnd_status mnd_run_weights(mnd_run *r, float **out);
/* mnd_evaluate with those weights. Collective. */
MND_CHECKED mnd_status mnd_run_evaluate(mnd_run *r, mnd_evaluator *evaluator, mnd_evaluation *out);
/* The average of this process' slice: that of ckpt, or where it has none, or is NULL, the
   parameters. Not collective. */
MND_CHECKED mnd_status mnd_run_begin_average(mnd_run *r, const mnd_checkpoint *ckpt);

/* loop.c. Trains all epochs that are left. Collective. */
MND_CHECKED mnd_status mnd_run_epochs(mnd_run *r);

/* report.c. On rank 0: an error if another run writes to the metrics file, a warning at a resume.
 */
MND_CHECKED mnd_status mnd_run_check_metrics(mnd_run *r);
/* Opens the metrics file and writes the first lines, on rank 0; tells the observer. */
MND_CHECKED mnd_status mnd_run_report_start(mnd_run *r, const mnd_train_setup *setup);
void mnd_run_report_progress(const mnd_run *r, double begin, int64_t first_step);
/* The record of the finished epoch; `seconds` it took, `steps` of it in this start. Collective. */
MND_CHECKED mnd_status mnd_run_report_epoch(mnd_run *r, const mnd_epoch_record *record,
                                            int64_t images, double evaluate_seconds);
/* Fills r->result. Collective. */
MND_CHECKED mnd_status mnd_run_report_end(mnd_run *r);

#endif
