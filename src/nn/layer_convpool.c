/*
 * layer_convpool.c - convolution, relu if there is one, and 2x2 max-pooling in one: the outputs of
 * the convolution never leave the registers, and the backward pass works on the largest of each
 * window alone. Same bits as the layers that it stands for. It has no input gradient, so it is only
 * ever the first layer with parameters.
 */
#include "layer_kinds.h"

typedef struct convpool {
    mnd_conv shape; /* first: mnd_conv_plan writes it at layer->self */
    bool relu;
    size_t arg; /* offset in the state: (rows, out) bytes, see mnd_kernels.convpool_forward */
} convpool;

static mnd_status plan(mnd_layer *layer, const mnd_plan *p) {
    convpool *const self = layer->self;
    const mnd_conv *const s = &self->shape;
    const mnd_status status = mnd_conv_plan(layer, p);
    if (status != MND_OK) return status;
    if (s->stride != 1 || s->oh != s->h - s->kh + 1 || s->ow != s->w - s->kw + 1 || s->oh < 2 ||
        s->ow < 2 || s->kh * s->kw * s->c > MND_CONVPOOL_TAPS || s->n < MND_CONVPOOL_FILTERS)
        return mnd_fail(MND_UNSUPPORTED, "this convolution is not fused with pooling");
    layer->out = (mnd_shape){.ndim = 3, .dim = {s->oh / 2, s->ow / 2, s->n}};
    self->arg = layer->state_size;
    layer->state_size += (size_t)p->rows * mnd_shape_size(&layer->out);
    return MND_OK;
}

static mnd_status plan_relu(mnd_layer *layer, const mnd_plan *p) {
    ((convpool *)layer->self)->relu = true;
    return plan(layer, p);
}

static mnd_convolution convolution(const mnd_layer *layer, const mnd_pass *pass, const float *x) {
    const convpool *self = layer->self;
    return (mnd_convolution){.shape = &self->shape,
                             .rows = pass->rows,
                             .x = x,
                             .w = layer->array[0].value,
                             .bias = layer->array[1].value,
                             .relu = self->relu,
                             .y = layer->y,
                             .arg = (uint8_t *)layer->state + self->arg};
}

static void forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    const mnd_convolution p = convolution(layer, pass, x);
    (void)y; /* layer->y */
    pass->kernels->convpool_forward(pass->workers, &p);
}

static void backward(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                     float *dy, float *dx) {
    mnd_convolution p = convolution(layer, pass, x);
    (void)y;
    (void)dx;
    p.dy = dy;
    mnd_conv_weight_grad(layer, pass, &p, pass->kernels->convpool_weight_grad);
}

const mnd_layer_ops mnd_layer_convpool = {.kind = "conv+maxpool",
                                          .self_size = sizeof(convpool),
                                          .plan = plan,
                                          .forward = forward,
                                          .backward = backward};
const mnd_layer_ops mnd_layer_convpool_relu = {.kind = "conv+relu+maxpool",
                                               .self_size = sizeof(convpool),
                                               .plan = plan_relu,
                                               .forward = forward,
                                               .backward = backward};
