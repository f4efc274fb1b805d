/*
 * group_sum.h - sums over all groups of a batch, that is over all logical ranks, for layers that
 * need statistics of the whole batch (mnd_batch.sum in model.h: batchnorm:sync).
 */
#ifndef MNIST_DIST_TRAIN_GROUP_SUM_H
#define MNIST_DIST_TRAIN_GROUP_SUM_H

#include "mnist_dist/comm.h"
#include "mnist_dist/model.h"
#include "mnist_dist/watchdog.h"

typedef struct mnd_group_sum {
    mnd_comm *comm;    /* borrowed */
    mnd_watchdog *dog; /* borrowed, may be NULL */
    int logical;
    size_t *bytes;     /* (processes) what each contributes; owned */
    double *all;       /* (logical, most values), owned */
    double *column;    /* (logical), owned */
    mnd_status status; /* of the first call that failed: from then on sums are wrong */
} mnd_group_sum;

/* For the sums that `model` asks for. Zero `sum` before; free it in any case. Not collective. */
MND_CHECKED mnd_status mnd_group_sum_open(mnd_comm *comm, mnd_watchdog *dog, int logical,
                                          const mnd_model *model, mnd_group_sum *sum);
void mnd_group_sum_free(mnd_group_sum *sum);

/*
 * mnd_batch.sum, with a mnd_group_sum as its context: gathers the values of all logical ranks and
 * adds them in the tree (logical.h), the same on every process. Collective.
 */
void mnd_group_sum_add(void *context, int n_value, double *value);

#endif
