/*
 * layer_residual.c - residual(f): y = x + f(x) (He et al., CVPR 2016). Two layers enclose those of
 * f. "residual(" passes x on, ")" adds it to what they made of it. In the backward pass ")" keeps
 * dy, which goes on through f, and "residual(" adds it to what comes out.
 */
#include <stdio.h>
#include <string.h>

#include "layer_kinds.h"
#include "mnist_dist/loops.h"
#include "mnist_dist/parallel.h"
#include "mnist_dist/vector.h"

static mnd_status plan_begin(mnd_layer *layer, const mnd_plan *p) {
    (void)p;
    layer->out = layer->in;
    return mnd_layer_args(layer, 0);
}

static void shape_text(const mnd_shape *shape, char *out, size_t size) {
    if (shape->ndim == 1)
        snprintf(out, size, "(%d)", shape->dim[0]);
    else
        snprintf(out, size, "(%d, %d, %d)", shape->dim[0], shape->dim[1], shape->dim[2]);
}

static mnd_status plan_end(mnd_layer *layer, const mnd_plan *p) {
    const mnd_shape *from = &layer->partner->in, *to = &layer->in;
    bool same = from->ndim == to->ndim;
    for (int i = 0; same && i < from->ndim; i++) same = from->dim[i] == to->dim[i];
    if (!same) {
        char text[2][64];
        shape_text(from, text[0], sizeof text[0]);
        shape_text(to, text[1], sizeof text[1]);
        return mnd_layer_fail(layer->partner,
                              "its layers make %s of %s; a sum needs the same shape", text[1],
                              text[0]);
    }
    layer->out = layer->in;
    if (p->training) layer->state_size = (size_t)p->rows * mnd_shape_size(to) * sizeof(float);
    return MND_OK;
}

/* y = a + b; y = a without b. */
typedef struct job {
    size_t size;
    const float *a, *b;
    float *y;
} job;

MND_EACH_WIDTH static void sum(size_t n, const float *restrict a, const float *restrict b,
                               float *restrict y) {
    for (size_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

static void sum_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const size_t at = (size_t)first * j->size, n = (size_t)(last - first) * j->size;
    (void)thread;
    if (j->b == NULL)
        memcpy(j->y + at, j->a + at, n * sizeof *j->y);
    else if (j->y == j->a)
        mnd_add(n, j->b + at, j->y + at);
    else
        sum(n, j->a + at, j->b + at, j->y + at);
}

static void each_row(const mnd_layer *layer, const mnd_pass *pass, job j) {
    j.size = mnd_shape_size(&layer->in);
    mnd_parallel(pass->workers->threads, pass->rows, 1, sum_range, &j);
}

static void forward_end(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    each_row(layer, pass, (job){.a = x, .b = layer->partner->y, .y = y});
}

static void backward_end(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                         float *dy, float *dx) {
    (void)x;
    (void)y;
    (void)dx; /* it is dy */
    each_row(layer, pass, (job){.a = dy, .y = layer->state});
}

static void backward_begin(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                           float *dy, float *dx) {
    (void)x;
    (void)y;
    each_row(layer, pass, (job){.a = dy, .b = layer->partner->state, .y = dx});
}

static const mnd_layer_ops end = {.kind = ")",
                                  .usage = ")",
                                  .plan = plan_end,
                                  .forward = forward_end,
                                  .backward = backward_end,
                                  .in_place = true};

const mnd_layer_ops mnd_layer_residual = {.kind = "residual",
                                          .usage = "residual(layers)",
                                          .plan = plan_begin,
                                          .backward = backward_begin,
                                          .in_place = true,
                                          .end = &end};
