/*
 * layer_relu_fused.c - a dense layer or a convolution with the relu that follows it: negative
 * outputs become 0 while they are in registers. Same bits as the two layers.
 */
#include "layer_kinds.h"
#include "mnist_dist/loops.h"

static mnd_status plan_dense(mnd_layer *layer, const mnd_plan *plan) {
    return mnd_layer_dense.plan(layer, plan);
}

static mnd_status plan_conv(mnd_layer *layer, const mnd_plan *plan) {
    return mnd_layer_conv.plan(layer, plan);
}

static void forward_dense(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    mnd_dense_forward(layer, pass, x, y, true);
}

static void forward_conv(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    mnd_conv_forward(layer, pass, x, y, true);
}

static void mask(const mnd_layer *layer, const mnd_pass *pass, const float *y, float *dy) {
    mnd_relu_backward((size_t)pass->rows * mnd_shape_size(&layer->out), y, dy);
}

static void backward_dense(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                           float *dy, float *dx) {
    mask(layer, pass, y, dy);
    mnd_layer_dense.backward(layer, pass, x, y, dy, dx);
}

static void backward_conv(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                          float *dy, float *dx) {
    mask(layer, pass, y, dy);
    mnd_layer_conv.backward(layer, pass, x, y, dy, dx);
}

const mnd_layer_ops mnd_layer_dense_relu = {
    .kind = "dense+relu", .plan = plan_dense, .forward = forward_dense, .backward = backward_dense};

const mnd_layer_ops mnd_layer_conv_relu = {.kind = "conv+relu",
                                           .self_size = sizeof(mnd_conv),
                                           .plan = plan_conv,
                                           .forward = forward_conv,
                                           .backward = backward_conv};
