/*
 * convpool.c - convolution, relu and 2x2 max-pooling by one step after the other: the base entries,
 * which the fast ones are tested against.
 */
#include <string.h>

#include "tables.h"

static int pooled_positions(const mnd_conv *g) { return (g->oh / 2) * (g->ow / 2); }

/* The output of the convolution that is element q of pooling window p, in floats from its first. */
static ptrdiff_t element(const mnd_conv *g, int p, int q) {
    const int width = g->ow / 2, y = 2 * (p / width) + q / 2, x = 2 * (p % width) + q % 2;
    return ((ptrdiff_t)y * g->ow + x) * g->n;
}

static void pool(const mnd_conv *g, const float *full, float *y, uint8_t *arg) {
    for (int p = 0; p < pooled_positions(g); p++, y += g->n, arg += g->n)
        for (int c = 0; c < g->n; c++) {
            arg[c] = 0;
            y[c] = full[element(g, p, 0) + c];
            for (int q = 1; q < 4; q++) {
                const float value = full[element(g, p, q) + c];
                if (!(value > y[c])) continue;
                y[c] = value;
                arg[c] = (uint8_t)q;
            }
        }
}

/* The outputs of one image lie in the scratch memory after what the convolution itself uses. */
static float *full_outputs(const mnd_workers *workers, const mnd_conv *g) {
    return mnd_scratch(workers, 0) + (size_t)(g->oh * g->ow) * (size_t)(g->kh * g->kw * g->c);
}

/* Image i alone, with outputs or their gradient at `full`. */
static mnd_convolution image(const mnd_convolution *p, int i, float *full) {
    const mnd_conv *g = p->shape;
    mnd_convolution one = *p;
    one.rows = 1;
    one.x += (size_t)i * (size_t)(g->h * g->w * g->c);
    one.y = full;
    one.dy = full;
    return one;
}

void mnd_convpool_forward(const mnd_workers *workers, const mnd_convolution *p) {
    const mnd_conv *g = p->shape;
    const size_t pooled = (size_t)pooled_positions(g) * (size_t)g->n;
    float *const full = full_outputs(workers, g);
    for (int i = 0; i < p->rows; i++) {
        const mnd_convolution one = image(p, i, full);
        mnd_kernels_blas.conv_forward(workers, &one);
        pool(g, full, p->y + (size_t)i * pooled, p->arg + (size_t)i * pooled);
    }
}

void mnd_convpool_weight_grad(const mnd_workers *workers, const mnd_convolution *p) {
    const mnd_conv *g = p->shape;
    const size_t outputs = (size_t)(g->oh * g->ow * g->n);
    const size_t pooled = (size_t)pooled_positions(g) * (size_t)g->n;
    float *const full = full_outputs(workers, g);
    for (int i = 0; i < p->rows; i++) {
        const float *dy = p->dy + (size_t)i * pooled, *y = p->y + (size_t)i * pooled;
        const uint8_t *arg = p->arg + (size_t)i * pooled;
        memset(full, 0, outputs * sizeof *full);
        for (int o = 0; o < pooled_positions(g); o++, dy += g->n, y += g->n, arg += g->n)
            for (int c = 0; c < g->n; c++)
                if (!p->relu || y[c] > 0.0F) full[element(g, o, arg[c]) + c] = dy[c];
        const mnd_convolution one = image(p, i, full);
        mnd_kernels_blas.conv_weight_grad(workers, &one);
    }
}
