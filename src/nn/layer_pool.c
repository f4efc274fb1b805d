/* Max- and average-pooling over images (batch, h, w, c), windows without padding. */
#include <string.h>

#include "layer.h"
#include "parallel.h"

static mnd_status plan(mnd_layer *layer, int rows, mnd_need *need, size_t cell) {
    int size = 0, stride = 0;
    mnd_status status = mnd_layer_int(layer, 0, "window size", &size);
    if (status != MND_OK) return status;
    stride = size;
    status = mnd_layer_window(layer, 1, &stride, NULL);
    if (status != MND_OK) return status;
    if (layer->in.ndim != 3) return mnd_layer_fail(layer, "needs an image, not flat input");
    const int h = layer->in.dim[0], w = layer->in.dim[1], c = layer->in.dim[2];
    if (size > h || size > w)
        return mnd_layer_fail(layer, "the window is larger than its input of %d x %d", h, w);
    if (size > 255) return mnd_layer_fail(layer, "the window is larger than 255");
    const int oh = (h - size) / stride + 1, ow = (w - size) / stride + 1;
    layer->geometry = (mnd_conv){.h = h,
                                 .w = w,
                                 .c = c,
                                 .kh = size,
                                 .kw = size,
                                 .stride = stride,
                                 .oh = oh,
                                 .ow = ow,
                                 .n = c};
    layer->out = (mnd_shape){.ndim = 3, .dim = {oh, ow, c}};
    need->state = (size_t)rows * mnd_shape_size(&layer->out) * cell;
    return MND_OK;
}

static mnd_status max_plan(mnd_layer *layer, const mnd_kernels *kernels, int rows, int max_seg,
                           mnd_need *need) {
    (void)kernels;
    (void)max_seg;
    return plan(layer, rows, need, sizeof(int32_t));
}

static mnd_status average_plan(mnd_layer *layer, const mnd_kernels *kernels, int rows, int max_seg,
                               mnd_need *need) {
    (void)kernels;
    (void)max_seg;
    return plan(layer, rows, need, 0);
}

typedef struct job {
    const mnd_layer *layer;
    const mnd_pass *pass;
    const float *in;
    float *out;
} job;

/* Which window element was the largest, the first of equals: (rows, oh, ow, c). */
static int32_t *arg_of(const mnd_layer *layer, int row) {
    return (int32_t *)layer->state + (size_t)row * mnd_shape_size(&layer->out);
}

static void max_forward_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const size_t in = mnd_shape_size(&j->layer->in), out = mnd_shape_size(&j->layer->out);
    (void)thread;
    for (int i = first; i < last; i++)
        j->pass->kernels->maxpool_forward(&j->layer->geometry, j->in + (size_t)i * in,
                                          j->out + (size_t)i * out, arg_of(j->layer, i));
}

static void max_backward_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const size_t in = mnd_shape_size(&j->layer->in), out = mnd_shape_size(&j->layer->out);
    (void)thread;
    for (int i = first; i < last; i++)
        j->pass->kernels->maxpool_backward(&j->layer->geometry, arg_of(j->layer, i),
                                           j->in + (size_t)i * out, j->out + (size_t)i * in);
}

static void average_forward_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const mnd_conv *g = &j->layer->geometry;
    const float weight = 1.0F / (float)(g->kh * g->kw);
    const size_t in = mnd_shape_size(&j->layer->in), out = mnd_shape_size(&j->layer->out);
    (void)thread;
    for (int i = first; i < last; i++) {
        float *restrict y = j->out + (size_t)i * out;
        for (int oy = 0; oy < g->oh; oy++)
            for (int ox = 0; ox < g->ow; ox++, y += g->c) {
                const float *corner =
                    j->in + (size_t)i * in +
                    ((ptrdiff_t)oy * g->stride * g->w + (ptrdiff_t)ox * g->stride) * g->c;
                memset(y, 0, (size_t)g->c * sizeof *y);
                for (int q = 0; q < g->kh * g->kw; q++) {
                    const float *restrict x = corner + (q / g->kw * g->w + q % g->kw) * g->c;
                    for (int c = 0; c < g->c; c++) y[c] += x[c];
                }
                for (int c = 0; c < g->c; c++) y[c] *= weight;
            }
    }
}

static void average_backward_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const mnd_conv *g = &j->layer->geometry;
    const float weight = 1.0F / (float)(g->kh * g->kw);
    const size_t in = mnd_shape_size(&j->layer->in), out = mnd_shape_size(&j->layer->out);
    (void)thread;
    for (int i = first; i < last; i++) {
        float *restrict dx = j->out + (size_t)i * in;
        const float *restrict dy = j->in + (size_t)i * out;
        memset(dx, 0, in * sizeof *dx);
        for (int oy = 0; oy < g->oh; oy++)
            for (int ox = 0; ox < g->ow; ox++, dy += g->c)
                for (int q = 0; q < g->kh * g->kw; q++) {
                    float *restrict d = dx + ((ptrdiff_t)(oy * g->stride + q / g->kw) * g->w +
                                              ox * g->stride + q % g->kw) *
                                                 g->c;
                    for (int c = 0; c < g->c; c++) d[c] += dy[c] * weight;
                }
    }
}

static void max_forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    job j = {.layer = layer, .pass = pass, .in = x, .out = y};
    mnd_parallel(pass->threads, pass->rows, 1, max_forward_range, &j);
}

static void max_backward(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                         float *dy, float *dx) {
    (void)x;
    (void)y;
    if (dx == NULL) return;
    job j = {.layer = layer, .pass = pass, .in = dy, .out = dx};
    mnd_parallel(pass->threads, pass->rows, 1, max_backward_range, &j);
}

static void average_forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    job j = {.layer = layer, .pass = pass, .in = x, .out = y};
    mnd_parallel(pass->threads, pass->rows, 1, average_forward_range, &j);
}

static void average_backward(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                             float *dy, float *dx) {
    (void)x;
    (void)y;
    if (dx == NULL) return;
    job j = {.layer = layer, .pass = pass, .in = dy, .out = dx};
    mnd_parallel(pass->threads, pass->rows, 1, average_backward_range, &j);
}

const mnd_layer_ops mnd_layer_maxpool = {
    .kind = "maxpool", .plan = max_plan, .forward = max_forward, .backward = max_backward};
const mnd_layer_ops mnd_layer_avgpool = {.kind = "avgpool",
                                         .plan = average_plan,
                                         .forward = average_forward,
                                         .backward = average_backward};
