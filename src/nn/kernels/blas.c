/*
 * blas.c - the base table: every product by cblas_sgemm, one call per segment, and convolutions by
 * im2col, which writes the inputs of every output as one row of a matrix.
 */
#include <cblas.h>
#include <string.h>

#include "mnist_dist/loops.h"
#include "mnist_dist/parallel.h"
#include "mnist_dist/tree.h"
#include "tables.h"

/* Rows of segment s; all rows as one segment where there is none. */
static int segment(const mnd_segments *seg, int rows, int s, int *first) {
    *first = seg != NULL ? seg->start[s] : 0;
    return seg != NULL ? seg->start[s + 1] - *first : rows;
}

static int n_segments(const mnd_segments *seg) { return seg != NULL ? seg->n_seg : 1; }

static void forward(const mnd_workers *workers, const mnd_product *p) {
    (void)workers;
    for (int s = 0; s < n_segments(p->seg); s++) {
        int first;
        const int rows = segment(p->seg, p->m, s, &first);
        if (rows == 0) continue;
        float *const c = p->c + (ptrdiff_t)first * p->ldc;
        for (int i = 0; i < rows && p->bias != NULL; i++)
            memcpy(c + (ptrdiff_t)i * p->ldc, p->bias, (size_t)p->n * sizeof *c);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, p->n, p->k, 1.0F,
                    p->a + (ptrdiff_t)first * p->lda, p->lda, p->b, p->ldb,
                    p->bias != NULL ? 1.0F : 0.0F, c, p->ldc);
        for (int i = 0; i < rows && p->relu; i++)
            mnd_relu((size_t)p->n, c + (ptrdiff_t)i * p->ldc, c + (ptrdiff_t)i * p->ldc);
    }
}

static void input_grad(const mnd_workers *workers, const mnd_product *p) {
    (void)workers;
    for (int s = 0; s < n_segments(p->seg); s++) {
        int first;
        const int rows = segment(p->seg, p->m, s, &first);
        if (rows > 0)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, p->n, p->k, 1.0F,
                        p->a + (ptrdiff_t)first * p->lda, p->lda, p->b, p->ldb, 0.0F,
                        p->c + (ptrdiff_t)first * p->ldc, p->ldc);
    }
}

static void weight_leaf(void *context, int s, float *out) {
    const mnd_product *p = context;
    int first;
    const int rows = segment(p->seg, p->k, s, &first);
    if (rows == 0)
        memset(out, 0, (size_t)p->m * (size_t)p->n * sizeof *out);
    else
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, p->m, p->n, rows, 1.0F,
                    p->a + (ptrdiff_t)first * p->lda, p->lda, p->b + (ptrdiff_t)first * p->ldb,
                    p->ldb, 0.0F, out, p->n);
}

static void weight_grad(const mnd_workers *workers, const mnd_product *p) {
    mnd_product copy = *p;
    mnd_tree_sum_segments(p->seg, (size_t)p->m * (size_t)p->n, weight_leaf, &copy,
                          mnd_scratch(workers, 0), p->c, p->stride);
}

static size_t product_scratch(int rows, int k, int n, int max_seg) {
    (void)rows;
    return (size_t)mnd_tree_depth(max_seg) * (size_t)k * (size_t)n;
}

/* ------------------------------------------------------------------------------- convolution */

static size_t image_size(const mnd_conv *g) { return (size_t)(g->h * g->w * g->c); }
static size_t output_size(const mnd_conv *g) { return (size_t)(g->oh * g->ow * g->n); }
static int taps(const mnd_conv *g) { return g->kh * g->kw * g->c; }

/*
 * Row ky of the window of output o: how many of its floats lie inside the image, at *image of the
 * image and at *row of the window's row; the others are padding.
 */
static size_t inside(const mnd_conv *g, int o, int ky, ptrdiff_t *image, size_t *row) {
    const int y = o / g->ow * g->stride + ky - g->pad_top;
    const int x = o % g->ow * g->stride - g->pad_left;
    const int from = x < 0 ? -x : 0, to = x + g->kw > g->w ? g->w - x : g->kw;
    *image = ((ptrdiff_t)y * g->w + x + from) * g->c;
    *row = (size_t)(from * g->c);
    return y >= 0 && y < g->h && from < to ? (size_t)((to - from) * g->c) : 0;
}

/* The inputs of each output, one row of col (oh * ow, kh * kw * c) per output. */
static void im2col(const mnd_conv *g, const float *image, float *col) {
    const size_t width = (size_t)(g->kw * g->c);
    for (int o = 0; o < g->oh * g->ow; o++)
        for (int ky = 0; ky < g->kh; ky++, col += width) {
            ptrdiff_t from;
            size_t to;
            const size_t n = inside(g, o, ky, &from, &to);
            if (n < width) memset(col, 0, width * sizeof *col);
            if (n > 0) memcpy(col + to, image + from, n * sizeof *col);
        }
}

/* Adds each row of col to the inputs of its output. */
static void col2im(const mnd_conv *g, const float *col, float *image) {
    const size_t width = (size_t)(g->kw * g->c);
    memset(image, 0, image_size(g) * sizeof *image);
    for (int o = 0; o < g->oh * g->ow; o++)
        for (int ky = 0; ky < g->kh; ky++, col += width) {
            ptrdiff_t to;
            size_t from;
            const size_t n = inside(g, o, ky, &to, &from);
            if (n > 0) mnd_add(n, col + from, image + to);
        }
}

typedef struct job {
    const mnd_workers *workers;
    const mnd_convolution *p;
} job;

static void conv_forward_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const mnd_conv *g = j->p->shape;
    float *const col = mnd_scratch(j->workers, thread);
    for (int i = first; i < last; i++) {
        im2col(g, j->p->x + (size_t)i * image_size(g), col);
        forward(j->workers, &(mnd_product){.m = g->oh * g->ow,
                                           .n = g->n,
                                           .k = taps(g),
                                           .a = col,
                                           .lda = taps(g),
                                           .b = j->p->w,
                                           .ldb = g->n,
                                           .c = j->p->y + (size_t)i * output_size(g),
                                           .ldc = g->n,
                                           .bias = j->p->bias,
                                           .relu = j->p->relu});
    }
}

static void conv_forward(const mnd_workers *workers, const mnd_convolution *p) {
    job j = {.workers = workers, .p = p};
    mnd_parallel(workers->threads, p->rows, 1, conv_forward_range, &j);
}

static void conv_input_range(void *context, int thread, int first, int last) {
    const job *j = context;
    const mnd_conv *g = j->p->shape;
    float *const col = mnd_scratch(j->workers, thread);
    for (int i = first; i < last; i++) {
        input_grad(j->workers, &(mnd_product){.m = g->oh * g->ow,
                                              .n = taps(g),
                                              .k = g->n,
                                              .a = j->p->dy + (size_t)i * output_size(g),
                                              .lda = g->n,
                                              .b = j->p->w,
                                              .ldb = g->n,
                                              .c = col,
                                              .ldc = taps(g)});
        col2im(g, col, j->p->dx + (size_t)i * image_size(g));
    }
}

static void conv_input_grad(const mnd_workers *workers, const mnd_convolution *p) {
    job j = {.workers = workers, .p = p};
    mnd_parallel(workers->threads, p->rows, 1, conv_input_range, &j);
}

static void conv_weight_grad(const mnd_workers *workers, const mnd_convolution *p) {
    const mnd_conv *g = p->shape;
    float *const col = mnd_scratch(workers, 0);
    for (int i = 0; i < p->rows; i++) {
        const float *dy = p->dy + (size_t)i * output_size(g);
        im2col(g, p->x + (size_t)i * image_size(g), col);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, taps(g), g->n, g->oh * g->ow, 1.0F,
                    col, taps(g), dy, g->n, 1.0F, p->dw, g->n);
        mnd_column_sum(g->oh * g->ow, g->n, dy, p->dbias);
    }
}

static size_t conv_scratch(const mnd_conv *g) {
    return (size_t)(g->oh * g->ow) * (size_t)(taps(g) + g->n);
}

const mnd_kernels mnd_kernels_blas = {.name = "openblas",
                                      .forward = forward,
                                      .input_grad = input_grad,
                                      .weight_grad = weight_grad,
                                      .conv_forward = conv_forward,
                                      .conv_input_grad = conv_input_grad,
                                      .conv_weight_grad = conv_weight_grad,
                                      .convpool_forward = mnd_convpool_forward,
                                      .convpool_weight_grad = mnd_convpool_weight_grad,
                                      .product_scratch = product_scratch,
                                      .conv_scratch = conv_scratch};
