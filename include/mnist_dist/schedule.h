/* schedule.h - the learning rate over the steps of a run. */
#ifndef MNIST_DIST_SCHEDULE_H
#define MNIST_DIST_SCHEDULE_H

#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/status.h"

typedef enum mnd_schedule_kind { MND_CONSTANT, MND_STEP, MND_COSINE } mnd_schedule_kind;

typedef struct mnd_schedule {
    mnd_schedule_kind kind;
    double lr;             /* the peak */
    int64_t warmup;        /* steps in which the rate rises linearly from lr/warmup to lr */
    int64_t period;        /* step: steps between two drops */
    double gamma;          /* step: factor of a drop */
    int64_t total;         /* cosine: steps of the whole run */
    double final_fraction; /* cosine: the last rate as a fraction of lr */
} mnd_schedule;

/* MND_USAGE unless name is constant, step or cosine. */
MND_CHECKED mnd_status mnd_schedule_kind_of(const char *name, mnd_schedule_kind *out);

/*
 * The rate of step t = 0, 1, ...:
 *   t < warmup   lr (t + 1) / warmup  (Goyal et al., "Accurate, large minibatch SGD", 2017)
 *   constant     lr
 *   step         lr gamma^floor(t / period)
 *   cosine       lr (f + (1 - f) (1 + cos(pi s)) / 2), s = (t - warmup) / (total - warmup), at most
 * 1 (Loshchilov and Hutter, "SGDR", ICLR 2017)
 */
double mnd_schedule_rate(const mnd_schedule *schedule, int64_t t);

/* All that matters, as text: two runs agree if and only if these do. */
void mnd_schedule_text(const mnd_schedule *schedule, char *out, size_t size);

#endif
