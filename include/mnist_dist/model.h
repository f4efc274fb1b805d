/*
 * model.h - a network of layers built from a one-line spec, and its gradient over a batch. One
 * process: nothing here communicates.
 *
 * Spec: layers separated by commas, arguments by colons; n and k are positive integers.
 *   dense:n                      fully connected, n outputs              (k) -> (n)
 *   conv:n:k[:sS][:same|:valid]  n filters of k x k (or HxW: "3x5"), stride S (1), padding (valid)
 *                                                                        (h, w, c) -> (h', w', n)
 *   maxpool:k[:sS][:same|:valid] window k x k, stride S (k), padding (valid): it is no maximum and
 *   avgpool:k[:sS][:same|:valid] does not count in a mean                (h, w, c) -> (h', w', c)
 *   globalavgpool                mean over all pixels                    (h, w, c) -> (c)
 *   flatten                                                              (h, w, c) -> (h*w*c)
 *   lstm:n                       the image read as a sequence of h rows of w*c features; the last
 *                                hidden state                            (h, w, c) -> (n)
 *   dropout:r                    0 <= r < 1; in training only, inverted (scaled by 1 / (1 - r))
 *   relu  sigmoid  tanh          element by element
 *   leakyrelu[:slope]            element by element: x where x > 0, else slope * x; slope 0.3 as in
 *                                Keras (PyTorch: 0.01)
 *   residual(layers)             y = x + f(x), f the layers, which keep the shape; may be nested
 *                                (He et al., CVPR 2016)                  (...) -> (...)
 *   batchnorm[:m][:sync]         each channel (or feature): beta + gamma (x - mean) /
 *                                sqrt(variance + 1e-3) (Ioffe and Szegedy, ICML 2015). Training:
 *                                statistics of each group of the batch (mnd_batch), or of all of
 *                                it (sync); else running ones, which keep m (0.9) in each step
 * Softmax with cross-entropy on the outputs of the last layer is the loss and needs no layer. A
 * preset (mlp16, mlp512, cnn, cnn2) stands for a spec whose last dense layer has one output per
 * class. "same" pads as TensorFlow does: ceil(in / S) outputs, an odd pixel of padding at the end.
 *
 * Layout: activations are row-major (batch, h, w, c), channels last, as Keras' default; kernels of
 * dense layers (in, out), of convolutions (kh, kw, in, out). Convolution is cross-correlation, as
 * in every deep-learning library.
 */
#ifndef MNIST_DIST_MODEL_H
#define MNIST_DIST_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/status.h"

#define MND_MAX_LAYERS 128
#define MND_LAYER_TEXT 64 /* longest layer in a spec, with its terminating zero */

/* Shape of one sample: (features), or (height, width, channels). */
typedef struct mnd_shape {
    int ndim; /* 1 or 3 */
    int dim[3];
} mnd_shape;

/* Elements of one sample. */
size_t mnd_shape_size(const mnd_shape *shape);

/*
 * How the gradient of a batch is summed over its rows. Segment s is rows [start[s], start[s + 1]),
 * possibly empty; within a segment rows are added in ascending order. Subtree t is the sum over
 * its n segments, [subtree[t], subtree[t + 1]), in the binary tree that splits n consecutive ones
 * after the largest power of two below n. A batch has one gradient buffer per subtree.
 */
typedef struct mnd_segments {
    int n_seg;
    const int *start; /* (n_seg + 1), borrowed */
    int n_subtree;
    const int *subtree; /* (n_subtree + 1), borrowed */
} mnd_segments;

/* Initial value of an array. */
typedef enum mnd_init {
    MND_INIT_ZEROS,
    MND_INIT_ONES,
    MND_INIT_GLOROT, /* uniform in +-sqrt(6 / (fan_in + fan_out)): Glorot, Bengio, AISTATS 2010 */
    MND_INIT_HE,     /* normal, deviation sqrt(2 / fan_in): He et al., ICCV 2015 */
    MND_INIT_ORTHOGONAL, /* (m, n), m <= n: random orthonormal rows: Saxe et al., ICLR 2014 */
    MND_INIT_FORGET      /* an LSTM's bias: 1 for the forget gate, the second quarter, else 0 */
} mnd_init;

typedef struct mnd_model mnd_model; /* opaque */

/* Writes the spec that a preset stands for, or the spec itself; MND_USAGE if longer than size. */
MND_CHECKED mnd_status mnd_model_spec(const char *name_or_spec, int classes, char *out,
                                      size_t size);

typedef struct mnd_model_options {
    int max_rows;  /* of a batch or an inference; 0: check the spec and count only */
    int max_seg;   /* segments of a batch; 1 for inference */
    int max_group; /* groups of a batch; 0: as many as segments */
    bool training; /* reserve workspace for the backward pass */
    bool plain;    /* products by cblas and no layers fused: the reference */
    int threads;   /* 1 or more */
} mnd_model_options;

/*
 * Builds and checks the network and allocates its workspace. Every error of a spec is found here:
 * MND_USAGE with the layer that is wrong; also for an input of more than 2^28 elements and for
 * classes beyond 1 to 256. MND_NO_MEMORY.
 */
MND_CHECKED mnd_status mnd_model_create(const char *spec, const mnd_shape *input, int classes,
                                        const mnd_model_options *options, mnd_model **out);
/* NULL-safe; sets *model to NULL. */
void mnd_model_destroy(mnd_model **model);

/* The largest n_value for which the model calls mnd_batch.sum; 0: it never does. */
int mnd_model_sum_values(const mnd_model *model);

/* Elements of all arrays together. */
size_t mnd_model_n_param(const mnd_model *model);
/* Bytes of workspace. */
size_t mnd_model_workspace(const mnd_model *model);
/* The spec, presets written out; borrowed. */
const char *mnd_model_text(const mnd_model *model);

/* One row of the summary: layer i of the spec. residual(...) has a row where it begins and one
   where it ends, "residual(" and ")". */
typedef struct mnd_layer_info {
    const char *kind;          /* "dense" */
    char text[MND_LAYER_TEXT]; /* "dense:128", as in the spec */
    mnd_shape out;
    size_t n_param;
    int depth;        /* how many residual(...) enclose it */
    int group_values; /* values of a row in a statistic of each group (mnd_batch); 0: has none */
} mnd_layer_info;
int mnd_model_n_layer(const mnd_model *model);
mnd_layer_info mnd_model_layer(const mnd_model *model, int i);

/* One array of the model, named as Keras does. Arrays lie one after another, in model order. */
typedef struct mnd_array_info {
    int layer;        /* index in the spec */
    const char *kind; /* of the layer */
    const char *name; /* "kernel", "bias" */
    int ndim;
    int64_t dim[4];
    size_t offset, count; /* in elements */
    bool trained;         /* by the optimizer; else see mnd_array in layer.h */
} mnd_array_info;
int mnd_model_n_array(const mnd_model *model);
mnd_array_info mnd_model_array(const mnd_model *model, int i);

/*
 * Lends the model its arrays (n_param floats) and its gradients (that of subtree t at grad + t *
 * grad_stride; NULL without training). Both are aligned to 64 bytes and live as long as the model
 * uses them. May be called again between batches.
 */
void mnd_model_bind(mnd_model *model, float *param, float *grad, size_t grad_stride);

/*
 * Writes initial values into the bound arrays: those that their layers declare, with `kernels`
 * (MND_INIT_GLOROT or MND_INIT_HE) for kernels. The same for the same seed.
 */
void mnd_model_initialize(mnd_model *model, mnd_init kernels, uint64_t seed);

/* Input of the next call, (max_rows, input): owned by the model, filled by the caller. */
float *mnd_model_input(mnd_model *model);

/* What a training step needs besides the input. All pointers are borrowed. */
typedef struct mnd_batch {
    const mnd_segments *seg;
    const uint8_t *label;   /* (rows) */
    const uint32_t *sample; /* (rows) index in the training set: selects the dropout mask */
    uint64_t seed;
    uint32_t epoch;
    float scale;     /* weight of one sample in the gradient: 1 / samples of the global batch */
    float smoothing; /* of the labels: see mnd_smooth_labels in loss.h; 0: none */
    /*
     * Rows whose statistics belong together (batchnorm): group g is rows [group[g], group[g + 1]),
     * possibly none. A segment is one or several groups. NULL: every segment is a group.
     */
    const int *group; /* (n_group + 1) */
    int n_group;
    /*
     * Writes to value[0 .. n_value) the sum over all groups of the global batch, where value
     * (n_group, n_value) holds what those here contribute. Every part of the batch calls it equally
     * often and with the same n_value, at most mnd_model_sum_values. NULL: all groups are here;
     * they are added in the tree of mnd_segments.
     */
    void (*sum)(void *context, int n_value, double *value);
    void *sum_context;
} mnd_batch;

/*
 * Forward pass, loss, backward pass: writes the gradient of `scale` * (sum of the samples' losses),
 * one buffer per subtree. loss_sum (n_seg) gets the sum of losses of each segment, correct (n_seg)
 * its number of right answers (the first largest output is the answer). Allocates nothing. With the
 * fast kernels the bits of a row depend on no row of another group, those of a segment on no other
 * segment (but for sums over all groups: batchnorm:sync).
 */
void mnd_model_gradient(mnd_model *model, const mnd_batch *batch, double *loss_sum,
                        int64_t *correct);

/* Inference on the first n rows of the input: (n, classes) outputs, valid until the next call. */
const float *mnd_model_forward(mnd_model *model, int n);

/* Index of the first array whose gradient in subtree 0 holds a NaN or infinity, or -1. */
int mnd_model_bad_array(const mnd_model *model);

#endif
