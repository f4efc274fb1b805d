/*
 * layer_convpool.c - convolution, relu if there is one, and 2x2 max-pooling in one: the outputs of
 * the convolution never leave the registers, and the backward pass works on the largest of each
 * window alone. Same bits as the layers that it stands for. It has no input gradient, so it is only
 * ever the first layer with parameters.
 */
#include <string.h>

#include "layer_kinds.h"
#include "mnist_dist/tree.h"

typedef struct convpool {
    mnd_conv shape;
    size_t arg; /* offset in the state: (rows, out) bytes, see mnd_kernels.convpool_forward */
} convpool;

static mnd_status plan(mnd_layer *layer, const mnd_plan *p) {
    convpool *const self = layer->self;
    mnd_conv *const s = &self->shape;
    const mnd_status status = mnd_conv_read(layer, s);
    if (status != MND_OK) return status;
    if (s->stride != 1 || s->oh != s->h - s->kh + 1 || s->ow != s->w - s->kw + 1 || s->oh < 2 ||
        s->ow < 2 || s->kh * s->kw * s->c > MND_CONVPOOL_TAPS || s->n < MND_CONVPOOL_FILTERS)
        return mnd_fail(MND_UNSUPPORTED, "this convolution is not fused with pooling");
    layer->out = (mnd_shape){.ndim = 3, .dim = {s->oh / 2, s->ow / 2, s->n}};
    mnd_layer_params(layer, 4, (const int64_t[]){s->kh, s->kw, s->c, s->n});
    const size_t params = (size_t)(s->kh * s->kw * s->c + 1) * (size_t)s->n;
    layer->scratch = p->kernels->conv_scratch(s);
    self->arg = (size_t)mnd_tree_depth(p->max_seg) * params * sizeof(float);
    layer->state_size = self->arg + (size_t)p->rows * mnd_shape_size(&layer->out);
    return MND_OK;
}

static uint8_t *arg_of(const mnd_layer *layer) {
    const convpool *self = layer->self;
    return (uint8_t *)layer->state + self->arg;
}

static void convolve(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y, bool relu) {
    const convpool *self = layer->self;
    pass->kernels->convpool_forward(pass->workers, &(mnd_convolution){.shape = &self->shape,
                                                                      .rows = pass->rows,
                                                                      .x = x,
                                                                      .w = layer->array[0].value,
                                                                      .bias = layer->array[1].value,
                                                                      .relu = relu,
                                                                      .y = y,
                                                                      .arg = arg_of(layer)});
}

typedef struct sum {
    const mnd_layer *layer;
    const mnd_pass *pass;
    const float *x;
    float *y;
    const float *dy;
    bool relu;
} sum;

static void leaf(void *context, int s, float *out) {
    const sum *g = context;
    const mnd_layer *l = g->layer;
    const convpool *self = l->self;
    const ptrdiff_t first = g->pass->seg->start[s];
    const ptrdiff_t in = first * (ptrdiff_t)mnd_shape_size(&l->in);
    const ptrdiff_t at = first * (ptrdiff_t)mnd_shape_size(&l->out);
    memset(out, 0, (l->array[0].count + l->array[1].count) * sizeof *out);
    g->pass->kernels->convpool_weight_grad(
        g->pass->workers, &(mnd_convolution){.shape = &self->shape,
                                             .rows = g->pass->seg->start[s + 1] - (int)first,
                                             .x = g->x + in,
                                             .relu = g->relu,
                                             .y = g->y + at,
                                             .arg = arg_of(l) + at,
                                             .dy = g->dy + at,
                                             .dw = out,
                                             .dbias = out + l->array[0].count});
}

static void sum_gradient(mnd_layer *layer, const mnd_pass *pass, sum *g) {
    mnd_tree_sum_segments(pass->seg, layer->array[0].count + layer->array[1].count, leaf, g,
                          layer->state, layer->array[0].grad, pass->grad_stride);
}

static void forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    convolve(layer, pass, x, y, false);
}

static void forward_relu(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    convolve(layer, pass, x, y, true);
}

static void backward(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                     float *dy, float *dx) {
    (void)y;
    (void)dx;
    sum_gradient(layer, pass,
                 &(sum){.layer = layer, .pass = pass, .x = x, .y = layer->y, .dy = dy});
}

static void backward_relu(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                          float *dy, float *dx) {
    (void)y;
    (void)dx;
    sum_gradient(
        layer, pass,
        &(sum){.layer = layer, .pass = pass, .x = x, .y = layer->y, .dy = dy, .relu = true});
}

const mnd_layer_ops mnd_layer_convpool = {.kind = "conv+maxpool",
                                          .self_size = sizeof(convpool),
                                          .plan = plan,
                                          .forward = forward,
                                          .backward = backward};
const mnd_layer_ops mnd_layer_convpool_relu = {.kind = "conv+relu+maxpool",
                                               .self_size = sizeof(convpool),
                                               .plan = plan,
                                               .forward = forward_relu,
                                               .backward = backward_relu};
