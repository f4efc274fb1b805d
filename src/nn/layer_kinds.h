/* layer_kinds.h - the built-in kinds, one file each. */
#ifndef MND_NN_LAYER_KINDS_H
#define MND_NN_LAYER_KINDS_H

#include "mnist_dist/layer.h"

extern const mnd_layer_ops mnd_layer_dense, mnd_layer_conv, mnd_layer_maxpool, mnd_layer_avgpool,
    mnd_layer_globalavgpool, mnd_layer_flatten, mnd_layer_dropout, mnd_layer_relu,
    mnd_layer_leakyrelu, mnd_layer_sigmoid, mnd_layer_tanh, mnd_layer_lstm, mnd_layer_residual,
    mnd_layer_batchnorm;

/* Combinations that fuse.c puts in place of several layers; no spec names them. */
extern const mnd_layer_ops mnd_layer_dense_relu, mnd_layer_conv_relu, mnd_layer_convpool,
    mnd_layer_convpool_relu, mnd_layer_batchnorm_relu;

/* The forward pass of a dense layer or a convolution, with a relu on the outputs if asked for. */
void mnd_dense_forward(const mnd_layer *layer, const mnd_pass *pass, const float *x, float *y,
                       bool relu);
void mnd_conv_forward(const mnd_layer *layer, const mnd_pass *pass, const float *x, float *y,
                      bool relu);
/* Plans a convolution on layer->in; layer->self begins with its mnd_conv. */
MND_CHECKED mnd_status mnd_conv_plan(mnd_layer *layer, const mnd_plan *plan);
/* The gradients of kernel and bias: of each segment by `weight_grad`, added in the tree. */
void mnd_conv_weight_grad(const mnd_layer *layer, const mnd_pass *pass, const mnd_convolution *all,
                          mnd_convolution_fn *weight_grad);

/* MND_USAGE that lists the kinds there are. */
mnd_status mnd_layer_unknown(const mnd_layer *layer, const char *kind);

#endif
