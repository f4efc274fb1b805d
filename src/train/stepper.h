/*
 * stepper.h - one step of training on this process: batch, gradient, exchange, update, and where
 * the time went. What train and bench have in common.
 */
#ifndef MNIST_DIST_TRAIN_STEPPER_H
#define MNIST_DIST_TRAIN_STEPPER_H

#include "feed.h"
#include "mnist_dist/exchange.h"
#include "mnist_dist/model.h"
#include "mnist_dist/optimizer.h"
#include "mnist_dist/train.h"
#include "mnist_dist/watchdog.h"

/* All pointers are borrowed. */
typedef struct mnd_stepper {
    mnd_feed *feed;
    mnd_model *model;
    mnd_exchange *exchange;
    const mnd_optimizer *optimizer;
    int threads;
    mnd_watchdog *dog; /* told of waits within a step; NULL: nobody is */
    int64_t step;      /* which step it is told; set before each */
    int64_t staged;    /* the step of the feed's epoch whose pixels the peers have, or -1 */
    uint32_t staged_epoch, chosen_epoch; /* of what is staged; that sending was chosen for */
    double data, compute;                /* seconds so far */
    mnd_exchange_times begin;            /* of the exchange when the clocks were set to zero */
    mnd_optimizer_rates rates;
    mnd_word_sum sum; /* of the current step */
    uint32_t left;    /* what the step before left behind, if there was one */
    bool left_known;
    bool damaged; /* a step has found other words than the one before it left behind */
} mnd_stepper;

/*
 * Creates the exchange for the feed's logical ranks and binds the model to it, parameters not yet
 * set; feed, model, optimizer, threads and dog are set before, and `st` stays where it is. The
 * caller destroys the exchange. Collective.
 */
MND_CHECKED mnd_status mnd_stepper_join(mnd_stepper *st, mnd_comm *comm, const char *exchange);

/*
 * Step s of the epoch up to this process' gradient; loss and correct as in mnd_model_gradient.
 * Collective, though nothing tells of a process that does not come but the watchdog.
 */
void mnd_stepper_gradient(mnd_stepper *st, int64_t s, double *loss, int64_t *correct);
/*
 * The rest: sums the gradients of all processes and takes optimizer step t = 1, 2, ... at learning
 * rate lr. Flags as in mnd_exchange_step. Collective.
 */
MND_CHECKED mnd_status mnd_stepper_update(mnd_stepper *st, double lr, int64_t t, uint32_t flags,
                                          uint32_t *all_flags);

/*
 * Whether this process' parameters and slots are what its last step left behind, and have been
 * since the first. Each step looks by itself; this is for the moment before they are used
 * otherwise.
 */
bool mnd_stepper_intact(mnd_stepper *st);

/* Seconds since the clocks were set to zero, on this process. */
mnd_time_split mnd_stepper_time(const mnd_stepper *st);
void mnd_stepper_reset(mnd_stepper *st);

#endif
