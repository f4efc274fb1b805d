/*
 * layer_dropout.c - dropout (Srivastava et al., JMLR 2014), inverted: in training each element is
 * zero with probability `rate` and scaled by 1 / (1 - rate) otherwise. The mask depends on (seed,
 * epoch, sample, layer) alone: Philox blocks with counters {block, epoch, sample, purpose | layer
 * << 8} give 16 random bits per element, so the rate is a multiple of 2^-16.
 */
#include <math.h>
#include <string.h>

#include "layer_kinds.h"
#include "mnist_dist/parallel.h"
#include "mnist_dist/rng.h"
#include "mnist_dist/vector.h"

typedef struct dropout {
    float rate;
} dropout;

static size_t blocks_of(const mnd_layer *layer) { return (mnd_shape_size(&layer->in) + 7) / 8; }

static mnd_status plan(mnd_layer *layer, const mnd_plan *p) {
    mnd_status status = MND_OK;
    dropout *const self = layer->self;
    double rate = 0.0;
    MND_TRY(mnd_layer_real(layer, 0, "rate", &rate));
    MND_TRY(mnd_layer_args(layer, 1));
    if (!(rate >= 0.0 && rate < 1.0))
        return mnd_layer_fail(layer, "the rate must be at least 0 and below 1, not '%s'",
                              layer->args.word[0]);
    self->rate = (float)fmin(round(rate * 65536.0) / 65536.0, 65535.0 / 65536.0);
    layer->out = layer->in;
    layer->state_size = (size_t)p->rows * blocks_of(layer) * 4 * sizeof(uint32_t);
cleanup:
    return status;
}

/* `blocks` Philox blocks with counters {0, 1, ...; c1; c2; c3}: word w of block b at out[w * blocks
   + b]. The same numbers as mnd_philox, one block per vector lane. */
MND_EACH_WIDTH static void random_words(size_t blocks, const uint32_t counter[3], uint64_t key,
                                        uint32_t *restrict out) {
    const uint32_t c1 = counter[0], c2 = counter[1], c3 = counter[2];
    for (size_t b = 0; b < blocks; b++) {
        uint32_t a0 = (uint32_t)b, a1 = c1, a2 = c2, a3 = c3;
        uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
#pragma GCC unroll 10
        for (int round = 0; round < 10; round++) {
            const uint64_t p0 = (uint64_t)a0 * UINT32_C(0xD2511F53);
            const uint64_t p1 = (uint64_t)a2 * UINT32_C(0xCD9E8D57);
            const uint32_t n0 = (uint32_t)(p1 >> 32) ^ a1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ a3 ^ k1;
            a1 = (uint32_t)p1;
            a3 = (uint32_t)p0;
            a0 = n0;
            a2 = n2;
            k0 += UINT32_C(0x9E3779B9);
            k1 += UINT32_C(0xBB67AE85);
        }
        out[b] = a0;
        out[blocks + b] = a1;
        out[2 * blocks + b] = a2;
        out[3 * blocks + b] = a3;
    }
}

MND_EACH_WIDTH static void mask(size_t n, const uint16_t *restrict random, float rate,
                                const float *restrict x, float *restrict y) {
    const uint32_t threshold = (uint32_t)(rate * 65536.0F);
    const float scale = 1.0F / (1.0F - rate);
    for (size_t i = 0; i < n; i++) y[i] = random[i] >= threshold ? x[i] * scale : 0.0F;
}

typedef struct job {
    const mnd_layer *layer;
    const mnd_batch *batch; /* NULL: the random numbers are those of the forward pass */
    const float *x;
    float *y;
} job;

static void mask_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const dropout *self = j->layer->self;
    const size_t size = mnd_shape_size(&j->layer->in), blocks = blocks_of(j->layer);
    (void)thread;
    for (int i = first; i < last; i++) {
        uint32_t *random = (uint32_t *)j->layer->state + (size_t)i * blocks * 4;
        if (j->batch != NULL)
            random_words(
                blocks,
                (const uint32_t[]){j->batch->epoch, j->batch->sample[i],
                                   (uint32_t)MND_RNG_DROPOUT | (uint32_t)j->layer->index << 8},
                j->batch->seed, random);
        mask(size, (const uint16_t *)random, self->rate, j->x + (size_t)i * size,
             j->y + (size_t)i * size);
    }
}

static void forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    const dropout *self = layer->self;
    if (pass->batch == NULL || self->rate <= 0.0F) {
        memcpy(y, x, (size_t)pass->rows * mnd_shape_size(&layer->in) * sizeof *y);
        return;
    }
    job j = {.layer = layer, .batch = pass->batch, .x = x, .y = y};
    mnd_parallel(pass->workers->threads, pass->rows, 1, mask_range, &j);
}

static void backward(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                     float *dy, float *dx) {
    const dropout *self = layer->self;
    (void)x;
    (void)y;
    if (dx == NULL) return;
    if (self->rate <= 0.0F) {
        memcpy(dx, dy, (size_t)pass->rows * mnd_shape_size(&layer->in) * sizeof *dx);
        return;
    }
    job j = {.layer = layer, .x = dy, .y = dx};
    mnd_parallel(pass->workers->threads, pass->rows, 1, mask_range, &j);
}

const mnd_layer_ops mnd_layer_dropout = {.kind = "dropout",
                                         .usage = "dropout:r",
                                         .self_size = sizeof(dropout),
                                         .plan = plan,
                                         .forward = forward,
                                         .backward = backward};
