/*
 * Dropout (Srivastava et al., JMLR 2014), inverted: in training each element is zero with
 * probability `rate` and scaled by 1/(1 - rate) otherwise. The mask hangs on (seed, epoch, sample,
 * layer) alone: Philox blocks with counters {block, epoch, sample, purpose | layer << 8}, 16 bits
 * an element, so the rate is a multiple of 2^-16.
 */
#include <math.h>
#include <stdlib.h>

#include "layer.h"
#include "mnist_dist/rng.h"
#include "parallel.h"

static size_t blocks_of(const mnd_layer *layer) { return (mnd_shape_size(&layer->in) + 7) / 8; }

static mnd_status plan(mnd_layer *layer, const mnd_kernels *kernels, int rows, int max_seg,
                       mnd_need *need) {
    (void)kernels;
    (void)max_seg;
    char *end = NULL;
    if (layer->n_arg != 1) return mnd_layer_fail(layer, "needs one argument, the rate");
    const double rate = strtod(layer->arg[0], &end);
    if (end == layer->arg[0] || *end != '\0' || !(rate >= 0.0 && rate < 1.0))
        return mnd_layer_fail(layer, "the rate must be at least 0 and below 1, not '%s'",
                              layer->arg[0]);
    layer->rate = (float)(round(rate * 65536.0) / 65536.0);
    if (layer->rate >= 1.0F) layer->rate = 65535.0F / 65536.0F;
    layer->out = layer->in;
    layer->elementwise = true;
    layer->spoils = 1; /* where it puts a zero, no gradient comes back either */
    need->state = (size_t)rows * blocks_of(layer) * 4 * sizeof(uint32_t);
    return MND_OK;
}

typedef struct job {
    const mnd_layer *layer;
    const mnd_pass *pass;
    float *x;
    bool draw; /* forward draws the random bits, backward uses them again */
} job;

static void mask_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const mnd_batch *batch = j->pass->batch;
    const size_t size = mnd_shape_size(&j->layer->in), blocks = blocks_of(j->layer);
    const uint32_t threshold = (uint32_t)(j->layer->rate * 65536.0F);
    const float scale = 1.0F / (1.0F - j->layer->rate);
    (void)thread;
    for (int i = first; i < last; i++) {
        uint32_t *random = (uint32_t *)j->layer->state + (size_t)i * blocks * 4;
        if (j->draw)
            j->pass->kernels->random(blocks, batch->epoch, batch->sample[i],
                                     (uint32_t)MND_RNG_DROPOUT | (uint32_t)j->layer->index << 8,
                                     batch->seed, random);
        j->pass->kernels->mask(size, (const uint16_t *)random, threshold, scale,
                               j->x + (size_t)i * size);
    }
}

static void forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    (void)x;
    if (pass->batch == NULL || layer->rate <= 0.0F) return;
    job j = {.layer = layer, .pass = pass, .x = y, .draw = true};
    mnd_parallel(pass->threads, pass->rows, 1, mask_range, &j);
}

static void backward(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                     float *dy, float *dx) {
    (void)x;
    (void)y;
    (void)dx;
    if (layer->rate <= 0.0F) return;
    job j = {.layer = layer, .pass = pass, .x = dy, .draw = false};
    mnd_parallel(pass->threads, pass->rows, 1, mask_range, &j);
}

extern const mnd_layer_ops mnd_layer_dropout;
const mnd_layer_ops mnd_layer_dropout = {
    .kind = "dropout", .plan = plan, .forward = forward, .backward = backward};
