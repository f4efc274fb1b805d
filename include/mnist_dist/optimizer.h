/*
 * optimizer.h - optimizer steps on any range of parameters. Stateless: the caller keeps the slots
 * (moments, velocities). An element's step depends on that element alone, so that slices give the
 * same bits as the whole. For those who add an optimizer (docs/extending.md): it is one file with
 * one mnd_optimizer_ops, and one row in the table of optimizer.c or one call of
 * mnd_optimizer_register.
 */
#ifndef MNIST_DIST_OPTIMIZER_H
#define MNIST_DIST_OPTIMIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "mnist_dist/status.h"

enum { MND_MAX_SLOTS = 2, MND_MAX_SETTINGS = 6, MND_MAX_FACTORS = 8 };

/* A number with a default; some have an option in cmd_train.c (--momentum, --epsilon, ...). Saved
   in checkpoints by name: letters, digits and underscores. */
typedef struct mnd_setting {
    const char *name; /* "weight_decay" */
    double value;     /* default */
} mnd_setting;

/* An optimizer with its settings. */
typedef struct mnd_optimizer {
    const struct mnd_optimizer_ops *ops;
    double lr;                        /* learning rate, before the schedule */
    double setting[MND_MAX_SETTINGS]; /* in the order of ops->setting */
} mnd_optimizer;

/* What depends on settings, learning rate and step number alone, computed once per step; what each
   factor is, says the optimizer. */
typedef struct mnd_step_size {
    float factor[MND_MAX_FACTORS];
} mnd_step_size;

/* Checksums of parameters and slots before and after a step: the sums of their bits as unsigned
   integers, modulo 2^32. A flipped bit changes them. */
typedef struct mnd_bit_sum {
    uint32_t before, after;
} mnd_bit_sum;

static inline uint32_t mnd_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Consecutive elements of one array, a block at most (not the slice of a process, which is longer
   and goes over all arrays), with their gradient and state. Buffers do not overlap. */
typedef struct mnd_slice {
    int array;                  /* of the model: mnd_model_array */
    size_t first, count;        /* of the array's elements */
    float *param;               /* (count) */
    const float *grad;          /* (count) */
    float *slot[MND_MAX_SLOTS]; /* (count) each */
    mnd_bit_sum *sum;           /* see mnd_optimizer_ops.sums_bits */
} mnd_slice;

typedef struct mnd_optimizer_ops {
    const char *name; /* "adam" */
    double lr;        /* default */
    int n_slot;
    const char *slot_name[MND_MAX_SLOTS]; /* in checkpoints: "m", "v" */
    int n_setting;
    mnd_setting setting[MND_MAX_SETTINGS];
    /* Step t = 1, 2, ... with learning rate lr. */
    void (*prepare)(const mnd_optimizer *opt, double lr, int64_t t, mnd_step_size *out);
    void (*apply)(const mnd_step_size *step, const mnd_slice *slice);
    /* Whether apply adds the checksums of the slice to *slice->sum, in the same loop; else the
       caller takes two passes of its own. Worth the lines in a loop that waits for memory. */
    bool sums_bits;
} mnd_optimizer_ops;

/* An optimizer with its defaults; MND_USAGE for an unknown name, listing the known ones. */
MND_CHECKED mnd_status mnd_optimizer_default(const char *name, mnd_optimizer *out);
/* MND_USAGE if it has no such setting. */
MND_CHECKED mnd_status mnd_optimizer_set(mnd_optimizer *opt, const char *name, double value);
/* A setting, or 0 if it has none of that name. */
double mnd_optimizer_get(const mnd_optimizer *opt, const char *name);
/* Known names, separated by `between`. */
void mnd_optimizer_names(const char *between, char *out, size_t size);

/*
 * Adds an optimizer, to be used by name from then on. `ops` is borrowed for the life of the
 * process. MND_USAGE when the name exists or there are too many. Not for several threads at once.
 */
MND_CHECKED mnd_status mnd_optimizer_register(const mnd_optimizer_ops *ops);

#endif
