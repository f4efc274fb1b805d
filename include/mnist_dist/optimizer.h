/*
 * optimizer.h - optimizer steps on any range of parameters. Stateless: the caller keeps the slots.
 * Every element is computed by itself, so slices give the same bits as the whole.
 */
#ifndef MNIST_DIST_OPTIMIZER_H
#define MNIST_DIST_OPTIMIZER_H

#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/status.h"

/* id, name, slots, description */
#define MND_OPTIMIZER_TABLE(X)                                                                     \
    X(ADAM, "adam", 2, "Kingma and Ba, ICLR 2015, algorithm 1")                                    \
    X(ADAMW, "adamw", 2, "Loshchilov and Hutter, ICLR 2019: decoupled weight decay")               \
    X(RMSPROP, "rmsprop", 1, "Tieleman and Hinton 2012, epsilon inside the root as in Keras 3")    \
    X(SGD, "sgd", 1, "with momentum as in PyTorch: v = momentum v + g, w -= lr v")

typedef enum mnd_optimizer_kind {
#define MND_OPTIMIZER_ENUM(id, name, slots, text) MND_##id,
    MND_OPTIMIZER_TABLE(MND_OPTIMIZER_ENUM)
#undef MND_OPTIMIZER_ENUM
        MND_N_OPTIMIZERS
} mnd_optimizer_kind;

#define MND_MAX_SLOTS 2

typedef struct mnd_optimizer {
    mnd_optimizer_kind kind;
    double lr;           /* before the schedule */
    double beta1, beta2; /* adam, adamw */
    double rho;          /* rmsprop */
    double momentum;     /* sgd */
    double epsilon;
    double weight_decay; /* adamw: decoupled; sgd: added to the gradient */
} mnd_optimizer;

/*
 * Defaults: adam 0.001, 0.9, 0.999, 1e-8; adamw the same with weight decay 0.01; rmsprop 0.001, rho
 * 0.9, 1e-7; sgd 0.01, momentum 0.9. MND_USAGE for an unknown name, listing the known ones.
 */
MND_CHECKED mnd_status mnd_optimizer_default(const char *name, mnd_optimizer *out);
const char *mnd_optimizer_name(mnd_optimizer_kind kind);
int mnd_optimizer_slots(mnd_optimizer_kind kind);
const char *mnd_optimizer_slot_name(mnd_optimizer_kind kind, int slot); /* "m", "v" */

/* As the eight numbers of a checkpoint's `setting`, and back. */
void mnd_optimizer_pack(const mnd_optimizer *opt, double setting[8]);
void mnd_optimizer_unpack(const double setting[8], mnd_optimizer *opt);

/*
 * Step number t (1, 2, ...) with learning rate `lr` on n parameters:
 *   adam     m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;
 *            w -= lr/(1-b1^t) * m / (sqrt(v)/sqrt(1-b2^t) + epsilon)
 *   adamw    w *= 1 - lr * weight_decay, then as adam
 *   rmsprop  v = rho v + (1-rho) g^2;  w -= lr * g / sqrt(v + epsilon)
 *   sgd      g += weight_decay w;  v = momentum v + g (v = g at t = 1);  w -= lr v
 * slot[0], slot[1] are the state of just these n parameters. Buffers must not overlap.
 */
void mnd_optimizer_step(const mnd_optimizer *opt, double lr, int64_t t, size_t n, float *param,
                        const float *grad, float *const slot[MND_MAX_SLOTS]);

/*
 * The words (their bits as unsigned integers, modulo 2^32) of parameters and slots, added up before
 * and after an update: what one step left behind must be what the next one finds. One flipped bit
 * anywhere changes the sum, and it costs next to nothing, for the words are at hand.
 */
typedef struct mnd_word_sum {
    uint32_t before, after;
} mnd_word_sum;
/* The same sum of n words that lie still. */
uint32_t mnd_word_total(size_t n, const float *x);

/* The same in two parts, for a caller that updates range after range: what hangs on lr and t, once;
 */
typedef struct mnd_optimizer_rates {
    mnd_optimizer_kind kind;
    float a, a1, b, b1; /* decay of the slots, and one less it */
    float step, root, epsilon, keep;
} mnd_optimizer_rates;
void mnd_optimizer_begin(const mnd_optimizer *opt, double lr, int64_t t, mnd_optimizer_rates *out);
/*
 * then any number of ranges, each spread over up to `threads` threads (at most 256) where that
 * pays. Their words are added to *sum.
 */
void mnd_optimizer_apply(const mnd_optimizer_rates *rates, int threads, size_t n, float *param,
                         const float *grad, float *const slot[MND_MAX_SLOTS], mnd_word_sum *sum);

#endif
