/*
 * update.h - what happens to parameters once their gradient is summed: clipping by the global norm,
 * the optimizer, array by array, their moving average, and a check that memory has kept what the
 * last step wrote.
 *
 * The exponential moving average (Polyak and Juditsky, 1992, average uniformly) of all arrays,
 * untrained ones such as running means included, so that statistics fit the averaged weights:
 *
 *     average = average + (1 - d) (w - average),    d = min(ema, (1 + t) / (10 + t))
 *
 * after step t = 1, 2, ..., as TensorFlow's ExponentialMovingAverage with num_updates = t: early in
 * a run, where the weights change fast, it covers about the last tenth of the steps. The caller
 * sets its first value, the initial parameters.
 */
#ifndef MNIST_DIST_TRAIN_UPDATE_H
#define MNIST_DIST_TRAIN_UPDATE_H

#include <stdbool.h>
#include <stdint.h>

#include "mnist_dist/exchange.h"
#include "mnist_dist/model.h"
#include "mnist_dist/optimizer.h"
#include "mnist_dist/parallel.h"

typedef struct mnd_updater {
    /* Set by the caller; borrowed. */
    const mnd_model *model;
    mnd_exchange *exchange;
    const mnd_optimizer *optimizer;
    double clip_norm; /* largest norm of the whole gradient; 0: no limit */
    double ema;       /* see above; 0: no average. Else it is the slot after the optimizer's. */
    int threads;
    /* Of the current step. */
    mnd_step_size step;
    float clip; /* factor of the gradient */
    float take; /* 1 - d of the average */
    mnd_bit_sum sum[MND_MAX_THREADS];
    /* Of the last step. */
    uint32_t last_sum; /* checksum of what it wrote */
    bool last_known;
    bool damaged; /* a step has found other bits than the one before it wrote */
} mnd_updater;

/*
 * Step t = 1, 2, ... with learning rate lr: sums the gradients of all processes and updates the
 * parameters. Flags as in mnd_exchange_step. Collective.
 */
MND_CHECKED mnd_status mnd_updater_step(mnd_updater *u, double lr, int64_t t, uint32_t flags,
                                        uint32_t *all_flags);

/*
 * Whether parameters and slots that this process steps are what its last step wrote, and were so
 * before every step. For the moment before they are saved or called a result.
 */
bool mnd_updater_intact(mnd_updater *u);

/* Numbers per block that mnd_exchange_options.n_value must allow for. */
int mnd_updater_n_value(double clip_norm);
/* Slots of the exchange. */
int mnd_updater_n_slot(const mnd_optimizer *optimizer, double ema);

#endif
