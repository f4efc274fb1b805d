/*
 * model.h - a network of layers from a one-line spec: parameters in one contiguous buffer,
 * gradients in another, forward and backward over a whole batch. Knows nothing of ranks.
 *
 * Spec: layers separated by commas, arguments by colons; n is a positive integer.
 *   dense:n            fully connected, n outputs                      (features) -> (n)
 *   conv:n:k[:sS][:same|:valid]  n filters of k (or HxW, "3x5"), stride S (1), padding (valid)
 *                                                                     (h, w, c) -> (h', w', n)
 *   maxpool:k[:sS]     window k, stride S (k), no padding              (h, w, c) -> (h', w', c)
 *   avgpool:k[:sS]
 *   flatten                                                           (h, w, c) -> (h*w*c)
 *   dropout:r          0 <= r < 1; in training only, scaled by 1/(1-r) (inverted dropout)
 *   relu  sigmoid  tanh
 * Softmax with cross-entropy on the last layer's outputs is the loss and needs no layer. Presets:
 * mlp16, mlp512, cnn, cnn2 (their last dense layer gets as many outputs as the data has classes).
 * "same" pads as TensorFlow does: ceil(in/S) outputs, the odd pixel of padding at the end.
 *
 * Layout: activations are row-major (batch, h, w, c), channels last, as Keras' default; kernels of
 * dense (in, out), of conv (kh, kw, in, out). Convolution is cross-correlation, as in every
 * deep-learning library.
 */
#ifndef MNIST_DIST_MODEL_H
#define MNIST_DIST_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/logical.h"
#include "mnist_dist/status.h"

#define MND_MAX_LAYERS 128

/* Shape of one sample: (features), or (height, width, channels). */
typedef struct mnd_shape {
    int ndim; /* 1 or 3 */
    int dim[3];
} mnd_shape;

/* Elements of one sample. */
size_t mnd_shape_size(const mnd_shape *shape);

/*
 * Which rows of a batch stand for which logical rank, and how their weight gradients are summed.
 * Segment s is rows [start[s], start[s+1]) (may be empty). Part p is the sum over segments
 * [part[p], part[p+1]) in the fixed binary tree: n consecutive segments split after the largest
 * power of two below n. One gradient buffer results for every part.
 */
typedef struct mnd_rows {
    int n_seg;
    const int *start; /* (n_seg + 1), borrowed */
    int n_part;
    const int *part; /* (n_part + 1), borrowed */
} mnd_rows;

typedef enum mnd_init { MND_INIT_GLOROT, MND_INIT_HE } mnd_init;

typedef struct mnd_model mnd_model; /* opaque */

/* Writes the spec a preset stands for, or the spec itself; MND_USAGE when it is longer than size.
 */
MND_CHECKED mnd_status mnd_model_spec(const char *name_or_spec, int classes, char *out,
                                      size_t size);

/*
 * The owner-computes rule. Processes that share memory need not each compute the whole weight
 * gradient of their own rows only to add them up: the owner of some rows of a dense layer's weights
 * can compute the gradient of just these from the inputs and output gradients of everybody's rows.
 * The work is the same, no partial gradient is written or read, and what is read instead is smaller
 * where the layer is larger than the batch: (rows of others) * (owned inputs + outputs) floats
 * instead of (others) * (owned weights). (Krizhevsky, "One weird trick for parallelizing
 * convolutional neural networks", 2014, cuts dense layers for the same reason.) A model picks the
 * layers for which it pays; their weights and biases are its owned ranges.
 *
 * In the same spirit, neighbours take the products of such layers together where that pays: each
 * does a range of the columns for the rows of all of them, and so reads a part of the weights
 * instead of all. It writes its columns into the others' rows. Layers with many inputs and few
 * columns, and those behind a layer whose columns can be dealt out, have outputs of two sums, over
 * half of the inputs each, on any number of processes; of these it does one, for the rows of two.
 * So does a convolution below such a layer with its positions. No sum is cut anywhere else, so no
 * bit changes.
 */
typedef struct mnd_peers {
    int count;     /* processes that share memory, with this one; below 2 for none */
    int rank;      /* of this one among them */
    int logical;   /* logical ranks of all */
    int64_t batch; /* most rows of a step of all */
    int max_rows;  /* the largest max_rows among them */
} mnd_peers;

/*
 * Builds and checks the network; every error of a spec is found here (MND_USAGE, with the layer
 * that is wrong). Reserves workspace for `max_rows` rows in at most `max_seg` segments; max_rows =
 * 0 only checks and counts. `plain` turns fused kernels off: each layer by its plain reference.
 * MND_USAGE also for an input of more than 2^28 elements and for classes beyond 1 to 256;
 * MND_NO_MEMORY.
 */
typedef struct mnd_model_options {
    int max_rows;
    int max_seg;   /* of this process; 1 for inference */
    bool training; /* reserve room for backward */
    bool plain;
    int threads; /* threads that the loops and products may use; 1 or more */
    mnd_peers peers;
} mnd_model_options;
MND_CHECKED mnd_status mnd_model_create(const char *spec, const mnd_shape *input, int classes,
                                        const mnd_model_options *options, mnd_model **out);
void mnd_model_destroy(mnd_model **model);

size_t mnd_model_n_param(const mnd_model *model);
/* Bytes of workspace that the model reserved. */
size_t mnd_model_workspace(const mnd_model *model);
/* The spec after presets, classes; borrowed. */
const char *mnd_model_text(const mnd_model *model);

/* One row of the summary. */
typedef struct mnd_layer_info {
    const char *kind; /* "dense" */
    const char *text; /* "dense:128", as in the spec */
    mnd_shape out;
    size_t n_param;
} mnd_layer_info;
int mnd_model_n_layer(const mnd_model *model);
mnd_layer_info mnd_model_layer(const mnd_model *model, int i);

/* One array of parameters: where it lies and how Keras would call it. */
typedef struct mnd_param_info {
    int layer;        /* index in the spec */
    const char *kind; /* of the layer */
    const char *name; /* "kernel" or "bias" */
    int ndim;
    int64_t dim[4];
    size_t offset, count; /* in floats, one array after another; see mnd_model_keep */
} mnd_param_info;
int mnd_model_n_array(const mnd_model *model);
mnd_param_info mnd_model_array(const mnd_model *model, int i);

/*
 * Lends the model its parameters (n_param floats) and gradients (part p at grad + p * grad_stride;
 * NULL without training). Both aligned to 64 bytes and alive as long as the model uses them. May be
 * called again between steps, with parameters that are kept the same way.
 */
void mnd_model_bind(mnd_model *model, float *param, float *grad, size_t grad_stride);

/*
 * The weights and biases of the layers that owners compute, a range for each part of them that is
 * dealt out (its unit: a row, the weights of one input or the bias; of a convolution whose
 * positions are dealt out: all), in ascending order as they are kept once memory is shared; returns
 * how many (at most MND_MAX_LAYERS).
 */
int mnd_model_owned(const mnd_model *model, mnd_owned *range);
/*
 * Among how many neighbours products are dealt out once memory is shared; 1: none. Weights are kept
 * in as many parts, of columns or of inputs. Part c of all of them is for the processes whose rank
 * leaves the remainder c.
 */
int mnd_model_groups(const mnd_model *model);
/* Bytes that every peer must lend for it; 0 if no range is owned. */
size_t mnd_model_shared_size(const mnd_model *model);
/*
 * From now on owners compute, and parameters and gradients are kept in another order: see
 * mnd_model_keep. Call it between mnd_model_bind and the first use of either. memory[p]: what peer
 * p lent, as all peers see it, aligned to 64 bytes (the array is borrowed, too). mnd_model_gradient
 * then leaves owned ranges out and calls meet(context), on all peers equally often: a barrier among
 * them after which each sees what the others wrote. This process is the owner of parameters [first,
 * first + count), which begin and end on units. Call it before mnd_model_input.
 */
typedef void mnd_meet_fn(void *context);
void mnd_model_share(mnd_model *model, char *const *memory, size_t first, size_t count,
                     mnd_meet_fn *meet, void *context);
/* Between steps: from now on what other peers read next goes by mnd_send, or not, as at first. */
void mnd_model_send(mnd_model *model, bool sends);
/*
 * What mnd_model_gradient has not done yet of the gradient of the owned ranges that are this
 * process', summed over all rows of all peers, into gradient part 0. All peers must be done with
 * the step's mnd_model_gradient, whose batch is still in use, and none may begin the next before
 * all are done with this.
 */
void mnd_model_owned_gradient(mnd_model *model);

/*
 * All parameters, or whatever there is one of for each (gradients, optimizer slots), from the order
 * that mnd_param_info describes to the one in which the model keeps them in memory, and back. The
 * two are the same, unless memory is shared: then weights that are dealt out are kept in parts, of
 * columns or of inputs, so that what a process uses most lies together, and is its own.
 */
void mnd_model_keep(const mnd_model *model, const float *described, float *kept);
void mnd_model_describe(const mnd_model *model, const float *kept, float *described);

/*
 * Initial values, into the bound parameters: kernels uniform in +-sqrt(6/(fan_in+fan_out)) (Glorot
 * and Bengio, AISTATS 2010) or normal with deviation sqrt(2/fan_in) (He et al., ICCV 2015), biases
 * zero. The same on every process for the same seed.
 */
void mnd_model_initialize(mnd_model *model, mnd_init init, uint64_t seed);

/*
 * Input of the next call: (max_rows, input), or the rows that mnd_model_reads tells of, at most
 * peers.batch; owned by the model, for the caller to fill.
 */
float *mnd_model_input(mnd_model *model);
/*
 * Whose rows mnd_model_gradient wants there once memory is shared: those of peers [*first, *last),
 * this process among them, in the order of their logical ranks. Rows of all where owners compute
 * weight gradients straight from the input, of two where these deal out a convolution: the input
 * is smaller at its source than what a model would lend of it.
 */
void mnd_model_reads(const mnd_model *model, int *first, int *last);

/* What a training step needs besides the input. All arrays are borrowed. */
typedef struct mnd_batch {
    const mnd_rows *rows;
    const uint8_t *label;   /* (rows) */
    const uint32_t *sample; /* (rows) index of each sample in the training set: keys its dropout */
    uint64_t seed;
    uint32_t epoch;
    const int *all_start; /* (logical ranks + 1) of all peers: rows of each in this step, counted
                             through over all; NULL without peers */
    float scale; /* weight of one sample in the gradient: 1 / samples in the global batch */
    /* The bytes of the input's rows, whose 255th parts are its values; they may lie anywhere.
       Floats are made of them as they are used, or the whole input, if the model cannot do without.
       NULL where the input was filled before. */
    const uint8_t *const *image;
} mnd_batch;

/*
 * Forward, loss, backward: writes the gradient of `scale` * sum of the samples' losses, one buffer
 * a part. loss_sum (n_seg) gets each segment's sum of losses, correct (n_seg) its number of right
 * answers (the first largest logit counts as the answer). Allocates nothing.
 * A row's bits depend on its own values, the parameters and its segment alone. Collective over
 * the peers after mnd_model_share; peers may then still read and write what this process lent,
 * until all are done with mnd_model_owned_gradient, and none may begin before all are done with
 * the mnd_model_owned_gradient or mnd_model_forward before it.
 */
void mnd_model_gradient(mnd_model *model, const mnd_batch *batch, double *loss_sum,
                        int64_t *correct);

/* Inference on the first n rows of the input: logits (n, classes), valid until the next call. */
const float *mnd_model_forward(mnd_model *model, int n);

/* Softmax of each row, in place: (n, classes), subtracting the row's maximum first. */
void mnd_softmax(float *logits, int n, int classes);

/*
 * Cross-entropy of softmax(logits) against labels for rows [0, n): returns the sum of losses,
 * log(sum exp(z - max)) - (z_label - max), and counts right answers into *correct. `d` (may be NULL
 * or logits itself) gets scale * (softmax - onehot). At most 256 classes; labels are below classes.
 */
double mnd_cross_entropy(const float *logits, const uint8_t *label, int n, int classes, float scale,
                         float *d, int64_t *correct);

/*
 * Index of the first parameter array whose gradient part 0 holds a NaN or infinity, or -1: names
 * the layer after a step went wrong. Of owned ranges a process sees its own share.
 */
int mnd_model_bad_array(const mnd_model *model);

/*
 * What does the products, for people: "native avx512" or "OpenBLAS 0.3.21 SkylakeX". Native kernels
 * need fused multiply-add (every x86-64 since 2013); MNIST_DIST_KERNELS=avx2, avx512 or openblas in
 * the environment chooses among those the CPU can run.
 */
const char *mnd_products_name(bool plain);
/*
 * What decides the bits: MND_NATIVE_ARITHMETIC for every native kernel, which all round alike; the
 * library, its version and kernel for OpenBLAS. Two runs can only agree bit by bit where this
 * agrees. The number counts the orders in which programs so far have summed.
 */
#define MND_NATIVE_ARITHMETIC "fma-2"
const char *mnd_arithmetic(bool plain);
/* Threads that OpenBLAS may use; 1 unless told. */
void mnd_blas_set_threads(int threads);

/* out (n) = in (n) / 255: from stored pixels to input. */
void mnd_pixels(size_t n, const uint8_t *in, float *out);

#endif
