/*
 * kernels.h - the loops that the time goes into, as a table of functions, one table a kind of CPU.
 *
 * The same source (kernels.inc) is compiled for each vector width; the best table the CPU can run
 * is picked at run time. In the native tables every element of a product is one chain of
 * fused multiply-adds over the inner index in ascending order, begun at its bias or at zero. The
 * result therefore depends neither on the vector width, nor on tiling, nor on the number of rows
 * computed along with it: rows, threads and CPUs may be regrouped at will without a bit changing.
 * Products of dense layers may leave out multiplications by 0. With finite weights and inputs that
 * shows in no bit, since all their sums end with + 0; where one is not finite, whether a result is
 * infinite or NaN or left alone by it may hang on the grouping. (The outputs of some dense layers
 * are two such products: mnd_layer.half.)
 *
 * The table "openblas" computes the same products by cblas_sgemm, one call a segment: the plain
 * reference, and what runs on a CPU without fused multiply-add.
 */
#ifndef MNIST_DIST_NN_KERNELS_H
#define MNIST_DIST_NN_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "mnist_dist/model.h"
#include "mnist_dist/optimizer.h"

/* The bits of a float. */
static inline uint32_t mnd_word(float x) {
    uint32_t word;
    memcpy(&word, &x, sizeof word);
    return word;
}

/* Deepest tree of partial sums over the segments of one part: 2^16 logical ranks. */
enum { MND_TREE_DEPTH = 17 };

/* Largest kh * kw * c that the fused convolution and pooling takes. */
enum { MND_CONVPOOL_TAPS = 64 };

/* from_bytes: what a stored pixel is multiplied by. */
#define MND_PIXEL_SCALE (1.0F / 255.0F)

/* Scratch of one thread, in floats; sized by mnd_kernels.scratch before the first step. */
typedef struct mnd_work {
    float *scratch;
    size_t size;
} mnd_work;

/*
 * Geometry of a convolution without padding: images of (h, w, c), already padded where the layer
 * pads, filters (kh, kw, c, n), outputs (oh, ow, n), oh = (h - kh) / stride + 1.
 */
typedef struct mnd_conv {
    int h, w, c, kh, kw, stride, oh, ow, n;
} mnd_conv;

/*
 * Columns [from, to) of a product y (m, n) of x (m, k) with something. Its rows come in groups that
 * lie anywhere: rows [start[g], start[g + 1]) of x are at x[g], ldx apart, those of y at y[g], ldy
 * apart.
 */
typedef struct mnd_product {
    int n_group;
    const int *start; /* (n_group + 1) */
    const float *const *x;
    float *const *y;
    int k, ldx, ldy;
    int from, to;
    int away; /* 0, or the first group whose rows of y forward may give to mnd_send: whoever called
                 it, on each thread, calls mnd_sent */
    /* NULL, or (n_group) the bytes that from_bytes would make the rows of x of, a pointer a row:
       for forward where takes_bytes says so; x is then not read. */
    const uint8_t *const *const *image;
} mnd_product;

typedef struct mnd_kernels {
    const char *name;
    int lanes;  /* floats in a vector */
    bool whole; /* bits hang on how many rows a call computes: products are never cut for threads */

    /* Rows [first, last) of p: y = x w + bias, negative values to zero if relu. Of w (k, n; rows
       ldw apart) and bias (n; NULL for none) only the columns of p are there: w[0] is that of row
       0, column p->from. */
    void (*forward)(mnd_work *work, const mnd_product *p, int first, int last, const float *w,
                    int ldw, const float *bias, int relu);
    /* Rows [first, last) of p: y = x w^T; of a dense layer, dx from dy and its weights. w (n, k)
       lies in pieces of `wide` columns, `apart` from each other; wide divides k, and unless it is
       k, 64 divides it. */
    void (*input_grad)(mnd_work *work, const mnd_product *p, int first, int last, const float *w,
                       int wide, ptrdiff_t apart);
    /* dw (k, n) = x^T dy for rows [first, last) of dw, one result a part, at dw + part * stride.
       x[s] and dy[s] are the rows of segment s, which may lie anywhere, ldx and ldy apart. `image`
       is NULL or, where takes_bytes says so of this seg and n, has for every row of seg the bytes
       that from_bytes would make it of; x is then not read. */
    void (*weight_grad)(mnd_work *work, const mnd_rows *seg, int first, int last, int n, int ldx,
                        const float *const *x, const uint8_t *const *image, const float *const *dy,
                        int ldy, float *dw, size_t stride);
    /* Whether to give forward and weight_grad bytes for rows (k) of seg, with n columns of the
       result: if they are worth it to leave out zeros. NULL where `whole`. */
    bool (*takes_bytes)(const mnd_rows *seg, int n, int k, const uint8_t *const *image);
    /* Once before conv_forward with the same work, geometry and kernel. */
    void (*conv_prepare)(mnd_work *work, const mnd_conv *g, const float *w);
    /* One image: y (oh, ow, n) from x (h, w, c). */
    void (*conv_forward)(mnd_work *work, const mnd_conv *g, const float *x, const float *w,
                         const float *bias, int relu, float *y);
    /* One image: dw (kh, kw, c, n) += sum over positions of x dy, for taps [first, last) of the
       kh * kw * c. */
    void (*conv_weight_grad)(mnd_work *work, const mnd_conv *g, int first, int last, const float *x,
                             const float *dy, float *dw);

    /*
     * Convolution, bias, optional relu and 2x2 max-pooling (stride 2) of one image in one go:
     * pooled (oh/2, ow/2, n), and in `arg` which of the four (0..3 row-major, the first largest).
     * Of the pooled positions, counted row-major, [from, to) alone. For stride 1 and at most
     * MND_CONVPOOL_TAPS taps. NULL where the table has none.
     */
    void (*convpool_forward)(const mnd_work *work, const mnd_conv *g, int from, int to,
                             const float *x, int relu, float *pooled, uint8_t *arg);
    /* Once before it with the same work, geometry, kernel and bias. */
    void (*convpool_prepare)(mnd_work *work, const mnd_conv *g, const float *w, const float *bias);
    /* sums += gradient of the above at the same positions, for vectors [first, last) of filters;
       with relu, d where pooled is 0 does not count. d: (oh/2, ow/2, n). sums: (vectors, kh * kw *
       c + 1, lanes), the last that of the bias. */
    void (*convpool_weight_grad)(const mnd_conv *g, int first, int last, int from, int to,
                                 const float *x, const float *pooled, const uint8_t *arg,
                                 const float *d, int relu, float *sums);
    /* dw (kh, kw, c, n) and db (n) from sums. */
    void (*convpool_unpack)(const mnd_conv *g, const float *sums, float *dw, float *db);

    /*
     * Max-pooling of one image: y (oh, ow, c) and which element of the window it was (row-major,
     * the first largest); and back: dx (h, w, c) from dy. g->c = g->n channels.
     */
    void (*maxpool_forward)(const mnd_conv *g, const float *x, float *y, int32_t *arg);
    void (*maxpool_backward)(const mnd_conv *g, const int32_t *arg, const float *dy, float *dx);

    /* Element by element; buffers never overlap unless they are the same pointer. */
    void (*relu_backward)(size_t n, const float *y, float *d);
    /* sum (n) += columns of d (m, n; rows ldd apart) */
    void (*column_sum)(int m, int n, const float *d, int ldd, float *sum);
    void (*add)(size_t n, const float *x, float *y); /* y += x */
    /* y += x, then negative values to zero if relu. */
    void (*join)(size_t n, const float *x, int relu, float *y);
    void (*exponential)(size_t n, float *x); /* x = exp(x), x <= 0 or small */
    void (*sigmoid)(size_t n, float *x);
    void (*tanh)(size_t n, float *x);
    void (*from_bytes)(size_t n, const uint8_t *in, float *out); /* out = in / 255 */
    /* `blocks` Philox blocks with counters {0, 1, ...; c1; c2; c3}: word w of block b at
       out[w * blocks + b]. */
    void (*random)(size_t blocks, uint32_t c1, uint32_t c2, uint32_t c3, uint64_t key,
                   uint32_t *out);
    /* x = random < threshold ? 0 : scale * x */
    void (*mask)(size_t n, const uint16_t *random, uint32_t threshold, float scale, float *x);
    /* c1 is 1 - b1 and so on, rounded once: 1 - 0.999F is off by 1e-5 of itself. */
    void (*adam)(size_t n, float *p, const float *g, float *m, float *v, float b1, float c1,
                 float b2, float c2, float step, float root, float eps, float keep,
                 mnd_word_sum *sum);
    void (*rmsprop)(size_t n, float *p, const float *g, float *v, float rho, float c, float lr,
                    float eps, mnd_word_sum *sum);
    void (*sgd)(size_t n, float *p, const float *g, float *v, float momentum, float lr, float decay,
                mnd_word_sum *sum);

    /* Floats of scratch that products of these sizes need, per thread. */
    size_t (*scratch)(int rows, int n, int k, const mnd_conv *g);
} mnd_kernels;

/* The table in use: the best for this CPU, or what MNIST_DIST_KERNELS named when it was chosen. */
const mnd_kernels *mnd_kernels_native(void);
/* Looks anew; every new model that is not plain does. Not for several threads at once. */
const mnd_kernels *mnd_kernels_choose(void);
/* The reference: products by OpenBLAS, loops for any CPU. */
const mnd_kernels *mnd_kernels_plain(void);
/* Every table that this CPU can run, the best first; NULL after the last. */
const mnd_kernels *mnd_kernels_at(int i);

#endif
