/*
 * layer_globalavgpool.c - global average pooling: (h, w, c) -> (c), the mean of each channel over
 * all pixels (Lin, Chen, Yan, "Network in network", ICLR 2014). Pixels are added row by row.
 */
#include <string.h>

#include "layer_kinds.h"
#include "mnist_dist/parallel.h"
#include "mnist_dist/vector.h"

typedef struct job {
    size_t pixels, channels;
    const float *in;
    float *out;
} job;

static mnd_status plan(mnd_layer *layer, const mnd_plan *p) {
    (void)p;
    if (layer->in.ndim != 3) return mnd_layer_fail(layer, "needs an image, not flat input");
    layer->out = (mnd_shape){.ndim = 1, .dim = {layer->in.dim[2]}};
    return mnd_layer_args(layer, 0);
}

/* y (channels) = the mean of x (pixels, channels) */
MND_EACH_WIDTH static void mean(size_t pixels, size_t channels, const float *restrict x,
                                float *restrict y) {
    const float weight = 1.0F / (float)pixels;
    memset(y, 0, channels * sizeof *y);
    for (size_t p = 0; p < pixels; p++, x += channels)
        for (size_t c = 0; c < channels; c++) y[c] += x[c];
    for (size_t c = 0; c < channels; c++) y[c] *= weight;
}

MND_EACH_WIDTH static void mean_backward(size_t pixels, size_t channels, const float *restrict dy,
                                         float *restrict dx) {
    const float weight = 1.0F / (float)pixels;
    for (size_t p = 0; p < pixels; p++, dx += channels)
        for (size_t c = 0; c < channels; c++) dx[c] = dy[c] * weight;
}

static void forward_range(void *context, int thread, int first, int last) {
    const job *j = context;
    (void)thread;
    for (size_t i = (size_t)first; i < (size_t)last; i++)
        mean(j->pixels, j->channels, j->in + i * j->pixels * j->channels, j->out + i * j->channels);
}

static void backward_range(void *context, int thread, int first, int last) {
    const job *j = context;
    (void)thread;
    for (size_t i = (size_t)first; i < (size_t)last; i++)
        mean_backward(j->pixels, j->channels, j->in + i * j->channels,
                      j->out + i * j->pixels * j->channels);
}

static void run(const mnd_layer *layer, const mnd_pass *pass, mnd_range_fn *range, const float *in,
                float *out) {
    job j = {.pixels = (size_t)layer->in.dim[0] * (size_t)layer->in.dim[1],
             .channels = (size_t)layer->in.dim[2],
             .in = in,
             .out = out};
    mnd_parallel(pass->workers->threads, pass->rows, 1, range, &j);
}

static void forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    run(layer, pass, forward_range, x, y);
}

static void backward(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                     float *dy, float *dx) {
    (void)x;
    (void)y;
    if (dx != NULL) run(layer, pass, backward_range, dy, dx);
}

const mnd_layer_ops mnd_layer_globalavgpool = {.kind = "globalavgpool",
                                               .usage = "globalavgpool",
                                               .plan = plan,
                                               .forward = forward,
                                               .backward = backward};
