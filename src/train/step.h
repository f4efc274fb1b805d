/* step.h - one step of training on this process, and where its time goes. */
#ifndef MNIST_DIST_TRAIN_STEP_H
#define MNIST_DIST_TRAIN_STEP_H

#include "group_sum.h"
#include "loader.h"
#include "mnist_dist/train.h"
#include "update.h"

typedef struct mnd_step {
    mnd_loader *loader;       /* borrowed */
    mnd_model *model;         /* borrowed */
    mnd_updater update;       /* with the exchange and the optimizer */
    mnd_group_sum *sum;       /* for the model; borrowed */
    double data, compute;     /* seconds so far */
    mnd_exchange_times begin; /* of the exchange when the clocks were set to zero */
} mnd_step;

/* Binds the model to the exchange of `update`. All pointers are borrowed. */
void mnd_step_open(mnd_step *st, mnd_loader *loader, mnd_model *model, const mnd_updater *update,
                   mnd_group_sum *sum);

/*
 * Step s of the epoch up to this process' gradient; mnd_updater_step does the rest of it. loss
 * (n_seg) and correct (n_seg) as in mnd_model_gradient. Fails only where a layer needs sums over
 * the whole batch (mnd_group_sum): MND_COMM. Then collective.
 */
MND_CHECKED mnd_status mnd_step_gradient(mnd_step *st, int64_t s, double *loss, int64_t *correct);
/* Seconds since the clocks were set to zero, on this process. */
mnd_time_split mnd_step_time(const mnd_step *st);
void mnd_step_reset(mnd_step *st);
/* Adds factor * time to *sum, for means over processes. */
void mnd_time_add(mnd_time_split *sum, const mnd_time_split *time, double factor);

#endif
