/* layer.h - what a layer is inside src/nn: one file a kind, one const table of operations each. */
#ifndef MNIST_DIST_NN_LAYER_H
#define MNIST_DIST_NN_LAYER_H

#include <stdbool.h>

#include "kernels.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/model.h"

typedef struct mnd_layer mnd_layer;

/*
 * Processes that share memory and take a product of all their rows together, each a range of its
 * columns or one of two sums: see mnd_peers.
 */
typedef struct mnd_team {
    const mnd_peers *peers;
    char *const *memory; /* (peers->count) of each */
    const int *start;    /* (peers->logical + 1) rows of every logical rank */
    size_t first, count; /* the parameters that this process owns */
    mnd_meet_fn *meet;
    void *context;
    bool met; /* and since then nothing was written that others read */
} mnd_team;

/* Rows of this step before those of peer p. */
int mnd_rows_before(const mnd_team *team, int p);
/* Where something in this process' lent memory lies in that of peer p. */
float *mnd_of_peer(const mnd_team *team, int p, const float *mine);
/* Waits until all are there, unless they were and nothing was written since. */
void mnd_team_meet(mnd_team *team);

/* One forward or backward pass over the batch. */
typedef struct mnd_pass {
    const mnd_kernels *kernels;
    mnd_work *work; /* one a thread */
    int threads;
    int product_threads; /* among which one product may be divided */
    const mnd_rows *seg;
    int rows;
    const mnd_batch *batch;        /* NULL at inference */
    size_t grad_stride;            /* from one part's gradient to the next */
    const float **x, **dy;         /* room for two pointers a segment, and two more */
    float **y;                     /* the same */
    const uint8_t *const **images; /* the same */
    int *group;                    /* and for where each begins, and the end */
    const uint8_t *const *image; /* (rows) the input as bytes, which alone is there then, or NULL */
    mnd_team *team;              /* NULL: alone */
    /* NULL where nothing is sent (mnd_send); else private memory for a layer's own rows of dx, to
       send them from. */
    float *outbox;
} mnd_pass;

/* Where a layer says in `plan` what it needs. Bytes; the model hands out the buffers. */
typedef struct mnd_need {
    size_t state;   /* kept from forward to backward, mnd_layer.state */
    size_t scratch; /* floats of scratch, per thread */
} mnd_need;

typedef struct mnd_layer_ops {
    const char *kind;
    /*
     * Checks arguments and the input's shape; sets out, the parameter arrays and what it needs for
     * `rows` rows. All that can be wrong is found here: forward and backward cannot fail.
     */
    mnd_status (*plan)(mnd_layer *layer, const mnd_kernels *kernels, int rows, int max_seg,
                       mnd_need *need);
    /* y from x; y already holds x where elementwise. */
    void (*forward)(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y);
    /* Parameter gradients, and dx from dy unless dx is NULL. Elementwise: dy itself becomes dx.
       Where columns of dx are dealt out, those of others are there once all have met. */
    void (*backward)(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                     float *dy, float *dx);
} mnd_layer_ops;

/*
 * Columns that kernels do at a time, or a multiple of it: what is dealt out is some of these. The
 * same for all kernels, so that ranks on unlike CPUs deal out the same.
 */
enum { MND_PIECE = 128 };

enum { MND_LAYER_ARGS = 4, MND_LAYER_ARRAYS = 2, MND_LAYER_TEXT = 64 };

struct mnd_layer {
    const mnd_layer_ops *ops;
    int index;                    /* in the spec */
    char text[MND_LAYER_TEXT];    /* as in the spec */
    char arg[MND_LAYER_ARGS][24]; /* the words between the colons */
    int n_arg;
    const struct mnd_layer *behind; /* the last one before it that has parameters, or NULL */
    mnd_shape in, out;
    bool elementwise;  /* works in place: on y, and on dy, which becomes dx */
    bool copies;       /* elementwise, but x must survive: the model copies it to y first */
    int keeps;         /* what backward wants of y: 0 nothing, 1 its sign, 2 all of it */
    int spoils;        /* elementwise: the most that an earlier layer may want of x, see keeps */
    bool relu;         /* a following relu is done by this layer's forward */
    bool skip;         /* forward and backward are done by other layers, see convpool and masks, or
                          there is nothing to do */
    bool skip_forward; /* forward alone is */
    bool masks;        /* dense: its dx is already that of the relu before it */
    bool sends_dx;     /* dense: others read its dx of own rows, and nothing changes it before */
    int n_array;
    mnd_param_info array[MND_LAYER_ARRAYS];
    int fan_in, fan_out;
    float *param, *grad; /* of this layer's kernel, borrowed; the bias follows */
    float *bias, *bias_grad;
    size_t n_param;
    /*
     * A dense kernel (k, n) may be kept in `pieces` by its columns, (k, n / pieces) each with their
     * bias behind them, `apart` from each other: in `cut` once memory is shared; until then there
     * is one piece.
     */
    int pieces, cut;
    size_t apart;
    /* Once memory is shared: offset of the first piece or half among the parameters, and apart. */
    size_t kernel_at, parts_apart;
    /*
     * Some dense layers have outputs of two sums, that over inputs [0, half) and that over the
     * rest, whoever computes them; 0: of one. The second lies in `extra` (rows, n) until it is
     * added. `share_halves`: among how many processes the two are dealt out; where extra then is in
     * every process' shared memory, in bytes. The rows of an uncut kernel from `half` on lie
     * `apart` from its first.
     */
    int half, share_halves;
    float *extra;
    size_t shared_extra;
    bool reads_input; /* x is the model's input as it was given; for owners, the rows of all */
    /*
     * While memory is shared, x lies in two parts, columns [0, half) of the peers' max_rows rows
     * and behind them the rest, each of which nobody of the pair reads but who writes it; so do y
     * and dy of the layer behind. In rows that two cores write in turn, each one's hardware fetches
     * ahead what the other is about to write.
     */
    bool x_apart, y_apart;
    /*
     * Floats behind each row of dy, of a dense layer whose dy another one computes: rows are then
     * an odd number of cache lines apart, and a panel of them can stay in the first cache as it
     * lies. (At a distance of 2 KB they all would want the same few places there.)
     */
    int pad;
    bool reads_own; /* its half of the inputs is what the same process did of the layer behind */
    bool read_by_writers; /* and that layer: nobody else reads it in the forward pass */
    void *state;          /* need.state bytes, borrowed from the model */
    float *y;             /* (rows, out), borrowed from the model */
    /*
     * A dense layer whose gradient, bias included, is computed by the owners of its rows once
     * memory is shared: where x, dy, y and dx then lie in every process' part of it, in bytes.
     */
    bool owners;
    size_t shared_x, shared_dy, shared_y, shared_dx;
    float *dy;    /* of this process, if in shared memory; NULL: the model's own */
    int share_dx; /* among how many processes columns of dx are dealt out; those of y: pieces */
    /*
     * A fused convolution below a dense layer of two sums: its gradient has two, too, that over
     * pooled positions [0, split), whose outputs the first of those takes, and that over the rest;
     * 0: one. `share_split`: among how many processes the two are dealt out, with the positions of
     * the forward pass; its sums (logical ranks, n_param) of its own and its neighbour's logical
     * ranks each process then leaves at shared_sums of what it lends.
     */
    int split, share_split;
    size_t shared_sums;
    /* of the kinds */
    float rate;        /* dropout */
    mnd_conv geometry; /* conv (with its padding inside h and w), pools (c = n) */
    int pad_top, pad_left;
};

/* Row i, column j of all, is at + i * ld + j floats on in a buffer. */
typedef struct mnd_place {
    ptrdiff_t at;
    int ld;
} mnd_place;

/* Of a part of one that lies in two, the peers' max_rows rows of columns [0, half) of n and behind
   them those of the rest, with `pad` floats behind each row. */
static inline mnd_place mnd_part_of(const mnd_peers *peers, int half, int n, int pad, int part) {
    if (part == 0) return (mnd_place){.at = 0, .ld = half + pad};
    return (mnd_place){.at = (ptrdiff_t)peers->max_rows * (half + pad) - half,
                       .ld = n - half + pad};
}

/* The operations of a kind, or NULL. */
const mnd_layer_ops *mnd_layer_find(const char *kind);
extern const mnd_layer_ops mnd_layer_dense;
/* The fused kind that stands for conv, relu if there is one, and maxpool. */
extern const mnd_layer_ops mnd_layer_convpool;

/* Reads argument i as an integer in [1, 2^20]; MND_USAGE names layer and argument. */
MND_CHECKED mnd_status mnd_layer_int(const mnd_layer *layer, int i, const char *what, int *out);
/* Reads the arguments from i on that windows share: sS; same or valid where `same` is not NULL. */
MND_CHECKED mnd_status mnd_layer_window(const mnd_layer *layer, int i, int *stride, bool *same);
/* MND_USAGE that names the layer: "layer 3 (dense:10): ..." */
mnd_status mnd_layer_fail(const mnd_layer *layer, const char *format, ...) MND_PRINTF(2, 3);
/* Bytes of state of a convolution, fused or not: known once the model has decided. */
size_t mnd_conv_state(const mnd_layer *layer, int rows, int threads);
/*
 * The gradient of a convolution whose sums were dealt out, from those of all segments of pass->seg,
 * which are the logical ranks, into part 0.
 */
void mnd_conv_param_grad(const mnd_layer *layer, const mnd_pass *pass);
/*
 * Rows [first, last) of a piece of a dense layer's gradient, of which the last, behind those of the
 * weights, is the bias', from all segments of pass->seg, whose inputs and output gradients are at
 * pass->x and pass->dy.
 */
void mnd_dense_param_grad(const mnd_layer *layer, const mnd_pass *pass, int piece, int first,
                          int last);
/* Declares kernel and bias. */
void mnd_layer_params(mnd_layer *layer, int ndim, const int64_t *dim, int64_t bias);

#endif
