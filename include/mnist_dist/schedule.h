/* schedule.h - the learning rate over the steps of a run. */
#ifndef MNIST_DIST_SCHEDULE_H
#define MNIST_DIST_SCHEDULE_H

#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/status.h"

typedef enum mnd_schedule_kind {
    MND_CONSTANT,
    MND_STEP,
    MND_EXPONENTIAL,
    MND_COSINE,
    MND_ONECYCLE,
    MND_N_SCHEDULE
} mnd_schedule_kind;

typedef struct mnd_schedule {
    mnd_schedule_kind kind;
    double lr;             /* the peak */
    int64_t warmup;        /* steps in which the rate rises: the last of them has lr */
    int64_t period;        /* step: steps between two drops; exponential: of the factor gamma */
    double gamma;          /* step, exponential: factor of a drop */
    int64_t total;         /* cosine, onecycle: steps of the whole run */
    double final_fraction; /* cosine, onecycle: the last rate as a fraction of lr */
} mnd_schedule;

/* For onecycle: the part of the run that is warm-up, and the first and the last rate as fractions
   of lr, where nothing else is given: those of PyTorch's OneCycleLR. */
#define MND_ONECYCLE_WARMUP 0.3
#define MND_ONECYCLE_FIRST (1.0 / 25.0)
#define MND_ONECYCLE_FINAL (1.0 / 25.0 / 1e4)

/* MND_USAGE unless name is constant, step, exponential, cosine or onecycle. */
MND_CHECKED mnd_status mnd_schedule_kind_of(const char *name, mnd_schedule_kind *out);

/*
 * The rate of step t = 0, 1, ...:
 *   t < warmup   lr (t + 1) / warmup, except with onecycle (Goyal et al., "Accurate, large
 * minibatch SGD", 2017) constant     lr step         lr gamma^floor(t / period) exponential  lr
 * gamma^((t - warmup) / period): Keras' ExponentialDecay; PyTorch's ExponentialLR where the period
 * is an epoch, but changing with every step cosine       lr (f + (1 - f) (1 + cos(pi s)) / 2), s =
 * (t - warmup) / (total - warmup), at most 1 (Loshchilov and Hutter, "SGDR", ICLR 2017) onecycle
 * from lr MND_ONECYCLE_FIRST at t = 0 to lr at t = warmup - 1, then to lr f at t = total - 1, each
 * by half a cosine (Smith and Topin, "Super-convergence", 2018; as PyTorch's OneCycleLR with
 * pct_start = warmup / total; momentum stays as it is)
 */
double mnd_schedule_rate(const mnd_schedule *schedule, int64_t t);

/* All that matters, as text: two runs agree if and only if these do. */
void mnd_schedule_text(const mnd_schedule *schedule, char *out, size_t size);

#endif
