/*
 * winograd_sums.h - the definition of convolutions by F(4x4, 3x3) (winograd.inc) in scalar code,
 * for tests: results as floats, in the order that the kernels must keep, and a bound of their
 * error: the same formula of absolute values, times the roundings that a value passes.
 */
#ifndef MND_WINOGRAD_SUMS_H
#define MND_WINOGRAD_SUMS_H

#include "sums.h"

enum { W_POINTS = 6, W_TILE = 4, W_TAPS = 3 };
static const float w_p = 11.0F / 16.0F, w_q = 3.0F / 2.0F;

/* A product of one of the matrices with a column. */
typedef void w_apply(const float *in, float *out);

static void w_inputs(const float *d, float *v) { /* Bt */
    const float p2 = w_p * w_p, q2 = w_q * w_q;
    const float even_p = fmaf(-q2, d[2], d[4]), odd_p = fmaf(-q2, d[1], d[3]);
    const float even_q = fmaf(-p2, d[2], d[4]), odd_q = fmaf(-p2, d[1], d[3]);
    v[0] = fmaf(p2 * q2, d[0], fmaf(-(p2 + q2), d[2], d[4]));
    v[1] = fmaf(w_p, odd_p, even_p);
    v[2] = fmaf(-w_p, odd_p, even_p);
    v[3] = fmaf(w_q, odd_q, even_q);
    v[4] = fmaf(-w_q, odd_q, even_q);
    v[5] = fmaf(p2 * q2, d[1], fmaf(-(p2 + q2), d[3], d[5]));
}

/* Factors of G: at 0, P and Q. */
static float w_g0(void) { return 1.0F / (w_p * w_p * (w_q * w_q)); }
static float w_gp(void) { return 1.0F / (2.0F * (w_p * w_p) * (w_p * w_p - w_q * w_q)); }
static float w_gq(void) { return 1.0F / (2.0F * (w_q * w_q) * (w_q * w_q - w_p * w_p)); }

static void w_filter(const float *g, float *u) { /* G */
    const float p2 = w_p * w_p, q2 = w_q * w_q;
    const float even_p = w_gp() * fmaf(p2, g[2], g[0]), odd_p = w_gp() * w_p * g[1];
    const float even_q = w_gq() * fmaf(q2, g[2], g[0]), odd_q = w_gq() * w_q * g[1];
    u[0] = w_g0() * g[0];
    u[1] = even_p + odd_p;
    u[2] = even_p - odd_p;
    u[3] = even_q + odd_q;
    u[4] = even_q - odd_q;
    u[5] = g[2];
}

static void w_outputs(const float *m, float *y) { /* At */
    const float even_p = m[1] + m[2], odd_p = m[1] - m[2];
    const float even_q = m[3] + m[4], odd_q = m[3] - m[4];
    const float p2 = w_p * w_p, q2 = w_q * w_q;
    y[0] = m[0] + even_p + even_q;
    y[1] = fmaf(w_q, odd_q, w_p * odd_p);
    y[2] = fmaf(q2, even_q, p2 * even_p);
    y[3] = fmaf(q2 * w_q, odd_q, fmaf(p2 * w_p, odd_p, m[5]));
}

static void w_gradients(const float *e, float *v) { /* A */
    const float p2 = w_p * w_p, q2 = w_q * w_q;
    const float even_p = fmaf(p2, e[2], e[0]), odd_p = fmaf(p2, e[3], e[1]);
    const float even_q = fmaf(q2, e[2], e[0]), odd_q = fmaf(q2, e[3], e[1]);
    v[0] = e[0];
    v[1] = fmaf(w_p, odd_p, even_p);
    v[2] = fmaf(-w_p, odd_p, even_p);
    v[3] = fmaf(w_q, odd_q, even_q);
    v[4] = fmaf(-w_q, odd_q, even_q);
    v[5] = e[3];
}

static void w_taps(const float *u, float *g) { /* Gt */
    const float p2 = w_p * w_p, q2 = w_q * w_q;
    const float even_p = w_gp() * (u[1] + u[2]), odd_p = w_gp() * w_p * (u[1] - u[2]);
    const float even_q = w_gq() * (u[3] + u[4]), odd_q = w_gq() * w_q * (u[3] - u[4]);
    g[0] = fmaf(w_g0(), u[0], even_p + even_q);
    g[1] = odd_p + odd_q;
    g[2] = fmaf(q2, even_q, fmaf(p2, even_p, u[5]));
}

/* A tile before or after one of them, and the same of absolute values. */
typedef struct w_tile {
    float at[W_POINTS][W_POINTS];
    double size[W_POINTS][W_POINTS];
} w_tile;

/* A tile of `in` times `in` values times a matrix on both sides: along columns first or rows first.
 */
static w_tile w_transform(w_apply *apply, int in, int out, bool rows_first, const w_tile *from) {
    w_tile half = {0}, to = {0};
    double matrix[W_POINTS][W_POINTS]; /* absolute values, (out, in) */
    float column[W_POINTS], result[W_POINTS];
    for (int k = 0; k < in; k++) {
        float unit[W_POINTS] = {0};
        unit[k] = 1.0F;
        apply(unit, result);
        for (int i = 0; i < out; i++) matrix[i][k] = fabs((double)result[i]);
    }
    for (int a = 0; a < in; a++) {
        for (int k = 0; k < in; k++) column[k] = rows_first ? from->at[a][k] : from->at[k][a];
        apply(column, result);
        for (int i = 0; i < out; i++) *(rows_first ? &half.at[a][i] : &half.at[i][a]) = result[i];
    }
    for (int a = 0; a < out; a++) {
        for (int k = 0; k < in; k++) column[k] = rows_first ? half.at[k][a] : half.at[a][k];
        apply(column, result);
        for (int i = 0; i < out; i++) *(rows_first ? &to.at[i][a] : &to.at[a][i]) = result[i];
    }
    for (int i = 0; i < out * out; i++)
        for (int k = 0; k < in * in; k++)
            to.size[i / out][i % out] +=
                matrix[i / out][k / in] * matrix[i % out][k % in] * from->size[k / in][k % in];
    return to;
}

static void w_set(w_tile *t, int i, int j, float x) {
    t->at[i][j] = x;
    t->size[i][j] = fabs((double)x);
}

/* m += v * u, element by element. */
static void w_add(w_tile *m, const w_tile *v, const w_tile *u) {
    for (int i = 0; i < W_POINTS; i++)
        for (int j = 0; j < W_POINTS; j++) {
            m->at[i][j] = fmaf(v->at[i][j], u->at[i][j], m->at[i][j]);
            m->size[i][j] += v->size[i][j] * u->size[i][j];
        }
}

/* A path through both transforms, the chain and the last one has so many roundings: two for each
   factor that is rounded itself. */
static double w_bound(double size, int chain) {
    return (chain + 36) * (FLT_EPSILON / 2.0) * size + FLT_MIN * 64.0;
}

/* The rule of the kernels, by shape, and by the zeros among n gradients. */
static bool w_fits(const mnd_conv *g) {
    return g->kh == 3 && g->kw == 3 && g->stride == 1 && g->c >= 16 && g->n >= 16 &&
           (g->oh + 3) / 4 * ((g->ow + 3) / 4) * 6 <= g->oh * g->ow;
}

static bool w_few(const float *dy, size_t n) {
    size_t nonzero = 0;
    for (size_t i = 0; i < n; i++) nonzero += dy[i] != 0.0F;
    return nonzero * 6 <= n;
}

/* Tile t of an image (h, w, c) with channel c. */
static w_tile w_input_tile(const mnd_conv *g, const float *x, int t, int c) {
    const int across = (g->ow + 3) / 4;
    const int top = t / across * 4 - g->pad_top, left = t % across * 4 - g->pad_left;
    w_tile d = {0};
    for (int i = 0; i < W_POINTS; i++)
        for (int j = 0; j < W_POINTS; j++)
            if (top + i >= 0 && top + i < g->h && left + j >= 0 && left + j < g->w)
                w_set(&d, i, j, x[((top + i) * g->w + left + j) * g->c + c]);
    return w_transform(w_inputs, W_POINTS, W_POINTS, false, &d);
}

/* want = the convolution of one image. turned: w is (3, 3, n, c), turned by half. */
static void w_convolve(const mnd_conv *g, const float *x, const float *w, bool turned,
                       const float *bias, bool relu, sum *want) {
    const int across = (g->ow + 3) / 4, tiles = across * ((g->oh + 3) / 4);
    w_tile *const u = sums_alloc((size_t)(g->c * g->n), sizeof *u);
    w_tile *const v = sums_alloc((size_t)g->c, sizeof *v);
    for (int k = 0; k < g->c * g->n; k++) {
        const int c = k / g->n, f = k % g->n;
        w_tile taps = {0};
        for (int i = 0; i < 9; i++)
            w_set(&taps, i / 3, i % 3,
                  turned ? w[((8 - i) * g->n + f) * g->c + c] : w[(i * g->c + c) * g->n + f]);
        u[k] = w_transform(w_filter, W_TAPS, W_POINTS, true, &taps);
    }
    for (int t = 0; t < tiles; t++) {
        for (int c = 0; c < g->c; c++) v[c] = w_input_tile(g, x, t, c);
        for (int f = 0; f < g->n; f++) {
            w_tile m = {0};
            for (int c = 0; c < g->c; c++) w_add(&m, &v[c], &u[c * g->n + f]);
            m = w_transform(w_outputs, W_POINTS, W_TILE, false, &m);
            for (int i = 0; i < 16; i++) {
                const int y = t / across * 4 + i / 4, at = t % across * 4 + i % 4;
                if (y >= g->oh || at >= g->ow) continue;
                sum *const s = &want[(y * g->ow + at) * g->n + f];
                const float start = bias != NULL ? bias[f] : 0.0F;
                s->chain = m.at[i / 4][i % 4] + start + 0.0F;
                if (relu && s->chain <= 0.0F) s->chain = 0.0F;
                s->bound = w_bound(m.size[i / 4][i % 4] + fabs((double)start), g->c);
            }
        }
    }
    mnd_free(u), mnd_free(v);
}

/* want (3, 3, c, n) = start + the weight gradient. */
static void w_weight_grad(const mnd_conv *g, int rows, const float *x, const float *dy,
                          const float *start, sum *want) {
    const int across = (g->ow + 3) / 4, tiles = across * ((g->oh + 3) / 4), n = rows * tiles;
    w_tile *const v = sums_alloc((size_t)n * (size_t)g->c, sizeof *v);
    w_tile *const e = sums_alloc((size_t)n * (size_t)g->n, sizeof *e);
    for (int t = 0; t < n; t++) {
        const float *image = x + (ptrdiff_t)(t / tiles) * g->h * g->w * g->c;
        const float *gradient = dy + (ptrdiff_t)(t / tiles) * g->oh * g->ow * g->n;
        for (int c = 0; c < g->c; c++) v[t * g->c + c] = w_input_tile(g, image, t % tiles, c);
        for (int f = 0; f < g->n; f++) {
            w_tile d = {0};
            for (int i = 0; i < 16; i++) {
                const int y = t % tiles / across * 4 + i / 4, at = t % tiles % across * 4 + i % 4;
                if (y < g->oh && at < g->ow)
                    w_set(&d, i / 4, i % 4, gradient[(y * g->ow + at) * g->n + f]);
            }
            e[t * g->n + f] = w_transform(w_gradients, W_TILE, W_POINTS, false, &d);
        }
    }
    for (int k = 0; k < g->c * g->n; k++) {
        w_tile m = {0};
        for (int t = 0; t < n; t++) w_add(&m, &v[t * g->c + k / g->n], &e[t * g->n + k % g->n]);
        m = w_transform(w_taps, W_POINTS, W_TAPS, false, &m);
        for (int i = 0; i < 9; i++) {
            const size_t at = (size_t)i * (size_t)(g->c * g->n) + (size_t)k;
            want[at].chain = start[at] + m.at[i / 3][i % 3];
            want[at].bound = w_bound(m.size[i / 3][i % 3] + fabs((double)start[at]), n);
        }
    }
    mnd_free(v), mnd_free(e);
}

#endif
