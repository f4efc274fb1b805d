"""The beginning of golden.h: its types. make_golden.py fills in {version}, {steps} and {n}."""

HEAD = """\
/* golden.h - made by make_golden.py with PyTorch {version} in float64; do not edit. */
/* clang-format off */
#ifndef MND_GOLDEN_H
#define MND_GOLDEN_H

#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/model.h"

#define GOLDEN_STEPS {steps}
#define GOLDEN_OPTIMIZER_N {n}

/* A network: param and grad in model order, grad of the mean loss, loss the sum over the rows. */
typedef struct golden_network {{
    const char *name, *spec;
    mnd_shape input;
    int classes, rows;
    size_t n_param;
    double loss;
    int correct;
    const float *x;
    const uint8_t *label;
    const float *param, *logits, *grad;
}} golden_network;

#define GOLDEN_ARRAYS(name) name##_x, name##_label, name##_param, name##_logits, name##_grad

/* Cross-entropy alone: d is scale * (softmax - onehot), loss the sum over the rows. */
typedef struct golden_loss {{
    const char *name;
    int rows, classes;
    float scale;
    double loss;
    int correct;
    const float *logits;
    const uint8_t *label;
    const float *softmax, *d;
}} golden_loss;

/* Cross-entropy with smoothed labels: d as above, the sum of losses over the rows as float32. */
typedef struct golden_smoothed {{
    const char *name;
    int rows, classes;
    float smoothing, scale;
    const float *loss, *logits;
    const uint8_t *label;
    const float *d;
}} golden_smoothed;

/* Gradients, parameters and slots of the steps one after another; a slot may be unknown (NULL). */
typedef struct golden_optimizer {{
    const char *name, *kind;
    double lr, beta1, beta2, rho, momentum, epsilon, weight_decay, nesterov;
    const float *start, *grad, *param, *slot[2];
}} golden_optimizer;

/* Gradients before and after torch.nn.utils.clip_grad_norm_. */
typedef struct golden_clip {{
    const char *name;
    double max_norm;
    size_t n;
    const float *grad, *clipped;
}} golden_clip;

"""
