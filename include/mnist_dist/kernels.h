/*
 * kernels.h - the products that the time of training goes into, as a table of functions. For those
 * who write a kind of layer or a faster kernel.
 *
 * The base table (src/nn/kernels/blas.c) computes every entry with cblas_sgemm or plain loops and
 * runs on any CPU. A fast table (src/nn/kernels/fast/, AVX2 and AVX-512) names only the entries
 * that it replaces.
 *
 * Bits. In the fast tables every element of a product is one chain of fused multiply-adds over the
 * inner index in ascending order, which begins at the bias or at +0 and ends with + 0 (so that no
 * result is -0, and terms with a factor 0 can be left out without a bit changing while the other
 * factor is finite). A convolution's weight gradient is a chain per image, over rows, then columns;
 * the images are added in order.
 *
 * Convolutions of 3 x 3 taps with stride 1, at least 16 channels and 16 filters, and outputs (for
 * dx: inputs) of at least 6 pixels per started tile of 4 x 4, are computed by Winograd's F(4x4,
 * 3x3): transforms with a fixed order of operations for each element, between them one chain over
 * the channels, or for the weight gradient over the tiles of all images in order
 * (src/nn/kernels/fast/winograd.inc). Errors are 2 to 5 times as large as those of one chain.
 * Where at most a sixth of the gradients dy are not 0 - of the image for dx, of all images for the
 * weight gradient - it is the chains above that leave out zeros.
 *
 * Results therefore do not depend on the vector width, the tiling, the threads, or (but for weight
 * gradients, which are sums) the rows computed along with a row. A NaN or an infinity may reach all
 * elements of its tile. MND_ARITHMETIC names this definition; the base table promises only one
 * cblas call per segment, so its bits are those of one library, CPU kernel and number of threads.
 */
#ifndef MNIST_DIST_KERNELS_H
#define MNIST_DIST_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/model.h"

/* The number grows whenever a version of the program adds in another order. */
#define MND_ARITHMETIC "fma-4"

/* The threads that an entry may use, and scratch memory for each of them. */
typedef struct mnd_workers {
    int threads;
    float *scratch; /* (threads, each), aligned to 64 bytes */
    size_t each;    /* floats per thread, a multiple of 16 */
} mnd_workers;

static inline float *mnd_scratch(const mnd_workers *workers, int thread) {
    return workers->scratch + (size_t)thread * workers->each;
}

/*
 * A product of matrices, c (m, n) = a (m, k) times b (k, n), row-major: element (i, j) of c is
 * c[i * ldc + j]. Which of a and b is stored transposed, and which fields count, says the entry.
 */
typedef struct mnd_product {
    int m, n, k;
    const float *a, *b;
    float *c;
    int lda, ldb, ldc;
    const float *bias;       /* (n), or NULL */
    bool relu;               /* negative results become 0 */
    const mnd_segments *seg; /* of the rows of the batch; NULL: one segment of all */
    size_t stride;           /* floats from the result of one subtree to the next */
} mnd_product;

/* Shape of a convolution: images (h, w, c), zero padding, filters (kh, kw, c, n), output (oh, ow,
 * n). */
typedef struct mnd_conv {
    int h, w, c;
    int kh, kw, stride, pad_top, pad_left;
    int oh, ow, n;
} mnd_conv;

/* A convolution of `rows` images. An entry reads and writes the members that it names. */
typedef struct mnd_convolution {
    const mnd_conv *shape;
    int rows;
    const float *x, *w, *bias; /* images, filters, bias */
    bool relu;
    float *y;
    uint8_t *arg; /* fused with pooling: which of the four inputs of a window is the largest */
    const float *dy;
    float *dx, *dw, *dbias;
} mnd_convolution;

/* Largest kh * kw * c that convolution fused with pooling takes, and least number of filters. */
enum { MND_CONVPOOL_TAPS = 64, MND_CONVPOOL_FILTERS = 16 };

typedef void mnd_product_fn(const mnd_workers *workers, const mnd_product *p);
typedef void mnd_convolution_fn(const mnd_workers *workers, const mnd_convolution *p);

typedef struct mnd_kernels {
    const char *name;

    /* c = a b + bias, then relu if p->relu. a (m, k) inputs, b (k, n) weights; segments are rows of
       a and c. */
    mnd_product_fn *forward;
    /* c = a b^T, b stored (n, k): dx from dy (m, k) and the weights. Segments as above. */
    mnd_product_fn *input_grad;
    /* c = a^T b, a stored (k, m): dw from x (k, m) and dy (k, n). The inner index runs over the
       rows of the batch: one result per subtree of seg, at c + t * stride (ldc = n). */
    mnd_product_fn *weight_grad;

    /* y (rows, oh, ow, n) from x (rows, h, w, c), w, bias; then relu if p->relu. */
    mnd_convolution_fn *conv_forward;
    /* dx from dy and w. */
    mnd_convolution_fn *conv_input_grad;
    /* dw (kh, kw, c, n) and dbias (n) += the sums over all rows, from x and dy. */
    mnd_convolution_fn *conv_weight_grad;

    /*
     * Convolution, relu and 2x2 max-pooling with stride 2 in one: y (rows, oh/2, ow/2, n) and arg
     * (the same shape; 0 to 3 row-major, the first largest). Without padding, stride 1, at most
     * MND_CONVPOOL_TAPS taps, at least MND_CONVPOOL_FILTERS filters.
     */
    mnd_convolution_fn *convpool_forward;
    /* dw and dbias += the sums over all rows, from x, arg, dy (shaped as y), and, with relu, y. */
    mnd_convolution_fn *convpool_weight_grad;

    /* Floats of scratch per thread that the entries above need for a dense layer (k, n), batches of
       `rows` in `max_seg` segments; and for a convolution. */
    size_t (*product_scratch)(int rows, int k, int n, int max_seg);
    size_t (*conv_scratch)(const mnd_conv *shape);
} mnd_kernels;

/*
 * The best table for this CPU, or the one that MNIST_DIST_KERNELS in the environment names (avx512,
 * avx2 or openblas) if the CPU can run it, with entries of the base table where it has none.
 */
const mnd_kernels *mnd_kernels_fast(void);
/* The base table: cblas. */
const mnd_kernels *mnd_kernels_base(void);
/* Table i of those that this CPU can run, best first, complete; NULL after the last. */
const mnd_kernels *mnd_kernels_at(int i);

/* What computes the products, as text for users: "native avx512", or "OpenBLAS 0.3.21 SkylakeX". */
const char *mnd_products_name(bool plain);
/*
 * What decides the bits: MND_ARITHMETIC for fast kernels; library, version and CPU kernel for
 * OpenBLAS. Two runs can agree bit by bit only where this agrees.
 */
const char *mnd_arithmetic(bool plain);
/* Threads that OpenBLAS may use. */
void mnd_blas_set_threads(int threads);

#endif
