/* The plain reference: products by OpenBLAS, one call a segment; loops for any CPU. */
#include <cblas.h>
#include <math.h>
#include <string.h>

#include "kernels.h"
#include "loops.inc"
#include "tree.h"

extern const mnd_kernels mnd_kernels_openblas;

/* The rows of group g that lie in [first, last): how many, and the first in the group. */
static int clip(const mnd_product *p, int g, int first, int last, int *row) {
    const int from = p->start[g] > first ? p->start[g] : first;
    const int to = p->start[g + 1] < last ? p->start[g + 1] : last;
    *row = from - p->start[g];
    return to > from ? to - from : 0;
}

/* y (m, columns; rows ldy apart) = x (m, k; ldx) w (k, columns; ldw) + bias. */
static void sums(int m, int columns, int k, const float *x, int ldx, const float *w, int ldw,
                 const float *bias, int relu, float *y, int ldy) {
    for (int i = 0; i < m && bias != NULL; i++)
        memcpy(y + (ptrdiff_t)i * ldy, bias, (size_t)columns * sizeof *y);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, columns, k, 1.0F, x, ldx, w, ldw,
                bias != NULL ? 1.0F : 0.0F, y, ldy);
    for (int i = 0; i < m && relu; i++, y += ldy)
        for (int j = 0; j < columns; j++) y[j] = y[j] <= 0.0F ? 0.0F : y[j]; /* NaN passes */
}

static void forward(mnd_work *work, const mnd_product *p, int first, int last, const float *w,
                    int ldw, const float *bias, int relu) {
    (void)work;
    for (int g = 0; g < p->n_group; g++) {
        int row;
        const int m = clip(p, g, first, last, &row);
        if (m > 0)
            sums(m, p->to - p->from, p->k, p->x[g] + (ptrdiff_t)row * p->ldx, p->ldx, w, ldw, bias,
                 relu, p->y[g] + (ptrdiff_t)row * p->ldy + p->from, p->ldy);
    }
}

static void input_grad(mnd_work *work, const mnd_product *p, int first, int last, const float *w,
                       int wide, ptrdiff_t apart) {
    (void)work;
    for (int g = 0; g < p->n_group; g++) {
        int row;
        const int m = clip(p, g, first, last, &row);
        for (int k = 0; k < p->k && m > 0; k += wide)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, p->to - p->from, wide, 1.0F,
                        p->x[g] + (ptrdiff_t)row * p->ldx + k, p->ldx,
                        w + k / wide * apart + (ptrdiff_t)p->from * wide, wide, k > 0 ? 1.0F : 0.0F,
                        p->y[g] + (ptrdiff_t)row * p->ldy + p->from, p->ldy);
    }
}

typedef struct product {
    const mnd_rows *seg;
    int first, last, n, ldx, ldy;
    const float *const *x, *const *dy;
} product;

static void weight_leaf(void *context, int s, float *dw) {
    const product *p = context;
    const int m = p->seg->start[s + 1] - p->seg->start[s];
    if (m == 0)
        memset(dw, 0, (size_t)(p->last - p->first) * (size_t)p->n * sizeof *dw);
    else
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, p->last - p->first, p->n, m, 1.0F,
                    p->x[s] + p->first, p->ldx, p->dy[s], p->ldy, 0.0F, dw, p->n);
}

static void weight_grad(mnd_work *work, const mnd_rows *seg, int first, int last, int n, int ldx,
                        const float *const *x, const uint8_t *const *image, const float *const *dy,
                        int ldy, float *dw, size_t stride) {
    (void)image;
    product p = {
        .seg = seg, .first = first, .last = last, .n = n, .ldx = ldx, .ldy = ldy, .x = x, .dy = dy};
    mnd_tree_over_segments(seg, (size_t)(last - first) * (size_t)n, work->scratch, weight_leaf, &p,
                           add, dw + (ptrdiff_t)first * n, stride);
}

/* Rows of the matrix that turns the convolution of one image into a product: (oh ow, kh kw c). */
static void im2col(const mnd_conv *g, const float *x, float *col) {
    const size_t run = (size_t)(g->kw * g->c);
    for (int oy = 0; oy < g->oh; oy++)
        for (int ox = 0; ox < g->ow; ox++)
            for (int ky = 0; ky < g->kh; ky++, col += run)
                memcpy(col,
                       x + ((ptrdiff_t)(oy * g->stride + ky) * g->w + (ptrdiff_t)ox * g->stride) *
                               g->c,
                       run * sizeof *col);
}

static void conv_prepare(mnd_work *work, const mnd_conv *g, const float *w) {
    (void)work;
    (void)g;
    (void)w;
}

static void conv_forward(mnd_work *work, const mnd_conv *g, const float *x, const float *w,
                         const float *bias, int relu, float *y) {
    im2col(g, x, work->scratch);
    const int k = g->kh * g->kw * g->c;
    sums(g->oh * g->ow, g->n, k, work->scratch, k, w, g->n, bias, relu, y, g->n);
}

static void conv_weight_grad(mnd_work *work, const mnd_conv *g, int first, int last, const float *x,
                             const float *dy, float *dw) {
    const int k = g->kh * g->kw * g->c;
    im2col(g, x, work->scratch);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, last - first, g->n, g->oh * g->ow, 1.0F,
                work->scratch + first, k, dy, g->n, 1.0F, dw + (ptrdiff_t)first * g->n, g->n);
}

static size_t scratch(int rows, int n, int k, const mnd_conv *g) {
    (void)rows;
    size_t need = (size_t)n * (size_t)k * MND_TREE_DEPTH;
    if (g != NULL) {
        const size_t col = (size_t)(g->oh * g->ow) * (size_t)(g->kh * g->kw * g->c);
        if (col > need) need = col;
    }
    return need;
}

const mnd_kernels mnd_kernels_openblas = {
    .name = "openblas",
    .lanes = 1,
    .whole = true,
    .forward = forward,
    .input_grad = input_grad,
    .weight_grad = weight_grad,
    .conv_prepare = conv_prepare,
    .conv_forward = conv_forward,
    .conv_weight_grad = conv_weight_grad,
    LOOPS,
    .scratch = scratch,
};
