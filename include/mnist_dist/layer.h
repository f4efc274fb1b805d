/*
 * layer.h - what a kind of layer is. For those who add one (docs/extending.md): a kind is one file
 * with one mnd_layer_ops, and one row in the table of layer.c or one call of mnd_layer_register.
 *
 * A kind knows its own inputs and outputs and nothing of its neighbours. What it keeps lives in a
 * struct of its own at layer->self. All that can be wrong is found by `plan`; forward and backward
 * cannot fail and allocate nothing.
 */
#ifndef MNIST_DIST_LAYER_H
#define MNIST_DIST_LAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/kernels.h"
#include "mnist_dist/model.h"
#include "mnist_dist/status.h"

enum { MND_LAYER_ARGS = 4, MND_LAYER_WORD = 24, MND_LAYER_ARRAYS = 4 };

typedef struct mnd_layer mnd_layer;

/* The words of a layer in the spec: "conv:28:3" has arguments "28" and "3". */
typedef struct mnd_args {
    int n;
    char word[MND_LAYER_ARGS][MND_LAYER_WORD];
} mnd_args;

/* An array of the model. It is saved and resumed, and copies of it are compared. */
typedef struct mnd_array {
    /* Declared by plan. */
    const char *name; /* "kernel" */
    int ndim;         /* 1 to 4 */
    int64_t dim[4];
    mnd_init init;
    int fan_in, fan_out; /* for MND_INIT_GLOROT and MND_INIT_HE */
    /*
     * Not trained (for instance a running mean): the optimizer leaves it alone. Its `grad` is an
     * increment: the sum of the increments of all segments, in the tree, is added to `value`.
     */
    bool untrained;
    /* Set by the model. */
    size_t offset, count; /* in elements, among all arrays of the model */
    float *value;         /* (count) */
    float *grad;          /* (count) of subtree 0; that of subtree t is t * pass->grad_stride on */
} mnd_array;

struct mnd_layer {
    const struct mnd_layer_ops *ops;
    void *self;                /* (ops->self_size) of the kind, zeroed before plan; owned */
    int index;                 /* in the spec: names the layer and selects its random stream */
    char text[MND_LAYER_TEXT]; /* as in the spec */
    mnd_args args;
    mnd_shape in, out;
    int n_array;
    mnd_array array[MND_LAYER_ARRAYS];
    size_t state_size; /* bytes that plan asks for, to keep from forward to backward */
    size_t scratch;    /* floats of scratch per thread that plan asks for: mnd_workers */
    int sum_values;    /* the largest n_value with which it calls mnd_batch.sum, from plan */
    int group_values;  /* values of a row in a statistic of each group, from plan; 0: has none */
    void *state;       /* (state_size), set by the model */
    float *y;          /* (rows, out), set by the model; x itself where forward is NULL */
    /* Of two layers that enclose others, "residual(" and ")": each other; else NULL. Set by the
       model before plan. */
    struct mnd_layer *partner;
    int depth; /* how many pairs enclose it */
};

/* What plan is told besides the layer's arguments and input shape. */
typedef struct mnd_plan {
    const mnd_kernels *kernels;
    int rows, max_seg, max_group; /* of the largest batch */
    int threads;
    bool training;
} mnd_plan;

/* One forward or backward pass over a batch. */
typedef struct mnd_pass {
    const mnd_kernels *kernels;
    const mnd_workers *workers;
    int rows;
    const mnd_segments *seg; /* NULL at inference */
    const mnd_batch *batch;  /* NULL at inference */
    size_t grad_stride;      /* floats from the gradient of one subtree to the next */
} mnd_pass;

typedef struct mnd_layer_ops {
    const char *kind;  /* "dense" */
    const char *usage; /* "dense:n" */
    size_t self_size;  /* bytes at layer->self */
    /* Checks arguments and input; sets out, arrays, n_array, state_size, scratch, sum_values and
       group_values; the last five are 0 before. */
    mnd_status (*plan)(mnd_layer *layer, const mnd_plan *plan);
    /* y (rows, out) from x (rows, in). NULL: y is x, only its shape changes. */
    void (*forward)(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y);
    /*
     * The gradients of the arrays, and dx (rows, in) from dy (rows, out) unless dx is NULL. dy may
     * be overwritten. NULL where dx is dy, only its shape changes.
     */
    void (*backward)(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                     float *dy, float *dx);
    bool in_place; /* backward gets dy as dx */
    /* Of a kind that encloses layers: the kind of the layer that closes it, ")"; else NULL. */
    const struct mnd_layer_ops *end;
} mnd_layer_ops;

/*
 * Adds a kind, to be used in specs from then on. `ops` is borrowed for the life of the process.
 * MND_USAGE when the kind exists or there are too many. Not for several threads at once.
 */
MND_CHECKED mnd_status mnd_layer_register(const mnd_layer_ops *ops);
/* The operations of a kind, or NULL. */
const mnd_layer_ops *mnd_layer_find(const char *kind);

/* Helpers for plan. */

/* MND_USAGE with a message that names the layer: "model, layer 3 (dense:10): ...". */
mnd_status mnd_layer_fail(const mnd_layer *layer, const char *format, ...) MND_PRINTF(2, 3);
/* MND_USAGE if the layer has more than n arguments. */
MND_CHECKED mnd_status mnd_layer_args(const mnd_layer *layer, int n);
/* Argument i as an integer in [1, 2^20]. `what` names it in the message. */
MND_CHECKED mnd_status mnd_layer_int(const mnd_layer *layer, int i, const char *what, int *out);
/* Argument i as a number. */
MND_CHECKED mnd_status mnd_layer_real(const mnd_layer *layer, int i, const char *what, double *out);
/* Arguments i and later: a stride ("s2"), and "same" or "valid" where `same` is not NULL. */
MND_CHECKED mnd_status mnd_layer_window(const mnd_layer *layer, int i, int *stride, bool *same);
/* Windows of size k along a dimension of `in` elements, and in *pad the padding before the first:
   none unless `same`, which gives ceil(in / stride) windows, as TensorFlow. */
int mnd_layer_outputs(int in, int k, int stride, bool same, int *pad);
/* Declares a kernel with these dimensions, and after it a bias as long as its last one. */
void mnd_layer_params(mnd_layer *layer, int ndim, const int64_t *dim);

#endif
