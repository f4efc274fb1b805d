/*
 * layer_conv.c - convolution of images (rows, h, w, c) with filters (kh, kw, c, n), as
 * cross-correlation, without padding ("valid") or with TensorFlow's "same" padding.
 */
#include <stdio.h>
#include <string.h>

#include "layer_kinds.h"
#include "mnist_dist/tree.h"

/* Reads "3" or "3x5". */
static bool read_size(const char *text, int *kh, int *kw) {
    int used = 0;
    if (strspn(text, "0123456789x") != strlen(text)) return false;
    if (sscanf(text, "%4dx%4d%n", kh, kw, &used) != 2) {
        if (sscanf(text, "%4d%n", kh, &used) != 1) return false;
        *kw = *kh;
    }
    return text[used] == '\0' && *kh >= 1 && *kw >= 1;
}

mnd_status mnd_conv_plan(mnd_layer *layer, const mnd_plan *p) {
    mnd_status status = MND_OK;
    bool same = false;
    mnd_conv s = {.h = layer->in.dim[0], .w = layer->in.dim[1], .c = layer->in.dim[2], .stride = 1};
    MND_TRY(mnd_layer_int(layer, 0, "number of filters", &s.n));
    if (layer->args.n < 2 || !read_size(layer->args.word[1], &s.kh, &s.kw))
        return mnd_layer_fail(layer, "the kernel size must be like 3 or 3x5: conv:28:3");
    MND_TRY(mnd_layer_window(layer, 2, &s.stride, &same));
    if (layer->in.ndim != 3) return mnd_layer_fail(layer, "needs an image, not flat input");
    if (!same && (s.kh > s.h || s.kw > s.w))
        return mnd_layer_fail(layer, "the kernel is larger than its input of %d x %d", s.h, s.w);
    s.oh = mnd_layer_outputs(s.h, s.kh, s.stride, same, &s.pad_top);
    s.ow = mnd_layer_outputs(s.w, s.kw, s.stride, same, &s.pad_left);
    /* Kernels count in ints: the elements of a padded image, those of a padded image of dy (spread
       by the stride), and the taps of a filter, over c, or over n where dx is computed. */
    const double pixels = ((double)s.h + s.kh) * ((double)s.w + s.kw);
    const double taps = (double)s.kh * s.kw * (s.c > s.n ? s.c : s.n);
    if (pixels * s.c > 1 << 29 || pixels * s.n > 1 << 30 || taps > 1 << 28)
        return mnd_layer_fail(layer, "the kernel is too large for its input of %d x %d x %d", s.h,
                              s.w, s.c);
    *(mnd_conv *)layer->self = s;
    layer->out = (mnd_shape){.ndim = 3, .dim = {s.oh, s.ow, s.n}};
    mnd_layer_params(layer, 4, (const int64_t[]){s.kh, s.kw, s.c, s.n});
    layer->scratch = p->kernels->conv_scratch(&s);
    layer->state_size = (size_t)mnd_tree_depth(p->max_seg) * sizeof(float) *
                        (size_t)(s.kh * s.kw * s.c + 1) * (size_t)s.n;
cleanup:
    return status;
}

void mnd_conv_forward(const mnd_layer *layer, const mnd_pass *pass, const float *x, float *y,
                      bool relu) {
    pass->kernels->conv_forward(pass->workers, &(mnd_convolution){.shape = layer->self,
                                                                  .rows = pass->rows,
                                                                  .x = x,
                                                                  .w = layer->array[0].value,
                                                                  .bias = layer->array[1].value,
                                                                  .relu = relu,
                                                                  .y = y});
}

static void forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    mnd_conv_forward(layer, pass, x, y, false);
}

/* One convolution of the whole batch, and the entry that sums its weight gradient. */
typedef struct sum {
    const mnd_layer *layer;
    const mnd_pass *pass;
    const mnd_convolution *all;
    mnd_convolution_fn *weight_grad;
} sum;

/* Kernel and bias of one segment: they lie one after the other, as the arrays do. */
static void leaf(void *context, int s, float *out) {
    const sum *g = context;
    const mnd_layer *l = g->layer;
    const int first = g->pass->seg->start[s];
    const size_t at = (size_t)first * mnd_shape_size(&l->out);
    mnd_convolution p = *g->all;
    p.rows = g->pass->seg->start[s + 1] - first;
    p.x += (size_t)first * mnd_shape_size(&l->in);
    p.dy += at;
    if (p.y != NULL) p.y += at;
    if (p.arg != NULL) p.arg += at;
    p.dw = out;
    p.dbias = out + l->array[0].count;
    memset(out, 0, (l->array[0].count + l->array[1].count) * sizeof *out);
    g->weight_grad(g->pass->workers, &p);
}

void mnd_conv_weight_grad(const mnd_layer *layer, const mnd_pass *pass, const mnd_convolution *all,
                          mnd_convolution_fn *weight_grad) {
    sum g = {.layer = layer, .pass = pass, .all = all, .weight_grad = weight_grad};
    mnd_tree_sum_segments(pass->seg, layer->array[0].count + layer->array[1].count, leaf, &g,
                          layer->state, layer->array[0].grad, pass->grad_stride);
}

static void backward(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                     float *dy, float *dx) {
    const mnd_convolution p = {.shape = layer->self,
                               .rows = pass->rows,
                               .x = x,
                               .w = layer->array[0].value,
                               .dy = dy,
                               .dx = dx};
    (void)y;
    mnd_conv_weight_grad(layer, pass, &p, pass->kernels->conv_weight_grad);
    if (dx != NULL) pass->kernels->conv_input_grad(pass->workers, &p);
}

const mnd_layer_ops mnd_layer_conv = {.kind = "conv",
                                      .usage = "conv:n:k[:sS][:same|:valid]",
                                      .self_size = sizeof(mnd_conv),
                                      .plan = mnd_conv_plan,
                                      .forward = forward,
                                      .backward = backward};
