#include "mnist_dist/augment.h"

#include <string.h>

#include "augment_rows.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/rng.h"

enum { GRID = 4, LANES = MND_AUGMENT_LANES };

/* What a thread works on, for one image at a time. */
typedef struct scratch {
    uint32_t *square; /* (channels, height + 2, stride) the image with a border of one pixel */
    uint8_t *line[2]; /* (stride + 1) rows of it */
    int32_t *index;   /* these and below: (pitch) */
    float *right, *below, *row;
} scratch;

struct mnd_augmenter {
    mnd_augment how;
    int height, width, channels;
    int pitch, stride;    /* width and width + 2, rounded up to whole blocks */
    float *column, *line; /* (4, pitch), (4, height): weights of the grid's columns and rows */
    int threads;
    scratch *work; /* (threads) */
};

/* --- random numbers --------------------------------------------------------------------------- */

/* Uniform in [-most, most). */
static double within(mnd_rng *rng, double most) {
    return most * (2.0 * (double)mnd_rng_uniform(rng) - 1.0);
}

/* Mean 0, deviation 1: a sum of four uniform bytes has mean 510 and variance (256^2 - 1) / 3. */
static float nearly_normal(mnd_rng *rng) {
    const uint32_t u = mnd_rng_u32(rng);
    const int sum = (int)((u & 255) + (u >> 8 & 255) + (u >> 16 & 255) + (u >> 24));
    return (float)(sum - 510) * (1.0F / 147.800541F);
}

void mnd_augment_draw(const mnd_augment *how, uint64_t seed, uint32_t epoch, uint32_t sample,
                      mnd_distortion *out) {
    const double radian = 0.017453292519943295; /* pi / 180 */
    mnd_rng rng;
    /* All numbers are drawn, in this order, also those of parts that are off. */
    mnd_rng_start(&rng, seed, MND_RNG_AUGMENT, sample, epoch);
    out->angle = within(&rng, how->rotate) * radian;
    for (int k = 0; k < 2; k++) out->scale[k] = 1.0 + within(&rng, how->scale);
    out->shear = within(&rng, how->shear);
    for (int k = 0; k < 2; k++) out->shift[k] = within(&rng, how->shift);
    for (int k = 0; k < 2; k++) out->erase[k] = (double)mnd_rng_uniform(&rng);
    memset(out->bend, 0, sizeof out->bend);
    if (!(how->elastic > 0.0)) return; /* the last ones may be left out */
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < GRID * GRID; i++)
            out->bend[k][i] = (float)how->elastic * nearly_normal(&rng);
}

/* --- where the pixels come from --------------------------------------------------------------- */

/*
 * Sine and cosine for |angle| <= pi, with an error of a few 2^-53: Taylor series for an eighth of
 * it, doubled three times. Those of the C library may differ between machines in the last bit.
 */
static void sine_cosine(double angle, double *sine, double *cosine) {
    const double x = angle / 8.0, z = x * x;
    double s = 0.0, c = 0.0;
    for (int n = 14; n > 0; n -= 2) {
        s = (1.0 - s) * z / ((double)n * (n + 1));
        c = (1.0 - c) * z / ((double)n * (n - 1));
    }
    s = (1.0 - s) * x;
    c = 1.0 - c;
    for (int i = 0; i < 3; i++) {
        const double twice = 2.0 * s * c;
        c = c * c - s * s;
        s = twice;
    }
    *sine = s;
    *cosine = c;
}

/* M^-1 = S^-1 K^-1 R^-1 (augment.h), row by row. */
static void invert(const mnd_distortion *d, double m[2][2]) {
    double s, c;
    sine_cosine(d->angle, &s, &c);
    m[0][0] = (c - d->shear * s) / d->scale[0];
    m[0][1] = (-s - d->shear * c) / d->scale[0];
    m[1][0] = s / d->scale[1];
    m[1][1] = c / d->scale[1];
}

/* Lagrange's polynomials for nodes 0, 1, 2 and 3, at place i of n: weight[node * pitch + i]. */
static void basis(int n, int pitch, float *weight) {
    for (int i = 0; i < n; i++) {
        const double t = n > 1 ? 3.0 * i / (n - 1) : 1.5;
        weight[i] = (float)((1.0 - t) * (2.0 - t) * (3.0 - t) / 6.0);
        weight[pitch + i] = (float)(t * (2.0 - t) * (3.0 - t) / 2.0);
        weight[2 * pitch + i] = (float)(t * (t - 1.0) * (3.0 - t) / 2.0);
        weight[3 * pitch + i] = (float)(t * (t - 1.0) * (t - 2.0) / 6.0);
    }
}

/* --- an image --------------------------------------------------------------------------------- */

/* Fills s->square from one channel of the image. */
static void pack_channel(const mnd_augmenter *a, scratch *s, const uint8_t *in, int channel) {
    const int width = a->width, height = a->height, n = a->channels;
    uint32_t *square = s->square + (size_t)channel * (size_t)(height + 2) * (size_t)a->stride;
    uint8_t *upper = s->line[0], *lower = s->line[1];
    memset(upper, 0, (size_t)a->stride + 1);
    for (int y = 0; y < height + 2; y++) {
        if (y >= height) {
            memset(lower, 0, (size_t)a->stride + 1);
        } else if (n == 1) {
            memcpy(lower + 1, in + (ptrdiff_t)y * width, (size_t)width);
        } else {
            const uint8_t *from = in + (ptrdiff_t)y * width * n + channel;
            for (int x = 0; x < width; x++) lower[1 + x] = from[(ptrdiff_t)x * n];
        }
        mnd_augment_pack(a->stride / LANES, upper, lower, square + (ptrdiff_t)y * a->stride);
        uint8_t *const next = upper;
        upper = lower;
        lower = next;
    }
}

/* The part of a line that is the same for all rows. */
static mnd_augment_line begin_line(const mnd_augmenter *a, const double m[2][2]) {
    mnd_augment_line l = {.blocks = a->pitch / LANES,
                          .step = {(float)m[0][0], (float)m[1][0]},
                          .limit = {(float)(a->width + 1), (float)(a->height + 1)},
                          .stride = a->stride};
    for (int i = 0; i < GRID; i++) l.basis[i] = a->column + (ptrdiff_t)i * a->pitch;
    return l;
}

/* Row y of the result. */
static void place_line(const mnd_augmenter *a, const mnd_distortion *d, const double m[2][2], int y,
                       mnd_augment_line *l) {
    const double centre[2] = {0.5 * (a->width - 1), 0.5 * (a->height - 1)};
    const double dx = -centre[0] - d->shift[0], dy = y - centre[1] - d->shift[1];
    for (int k = 0; k < 2; k++) {
        l->start[k] = (float)(centre[k] + m[k][0] * dx + m[k][1] * dy + 1.0); /* 1: the border */
        for (int i = 0; i < GRID; i++) {
            float sum = 0.0F;
            for (int j = 0; j < GRID; j++)
                sum += a->line[(ptrdiff_t)j * a->height + y] * d->bend[k][j * GRID + i];
            l->bend[k][i] = sum;
        }
    }
}

static void erase(const mnd_augmenter *a, const mnd_distortion *d, float *out) {
    const int side = (int)a->how.erase;
    const int left = (int)(d->erase[0] * a->width) - side / 2;
    const int top = (int)(d->erase[1] * a->height) - side / 2;
    const int first = left > 0 ? left : 0;
    const int end = left + side < a->width ? left + side : a->width;
    for (int y = top > 0 ? top : 0; y < top + side && y < a->height && first < end; y++)
        memset(out + ((size_t)y * (size_t)a->width + (size_t)first) * (size_t)a->channels, 0,
               (size_t)(end - first) * (size_t)a->channels * sizeof *out);
}

void mnd_augmenter_image(mnd_augmenter *a, int thread, const mnd_distortion *d, const uint8_t *in,
                         float *out) {
    scratch *s = &a->work[thread];
    double m[2][2];
    invert(d, m);
    for (int c = 0; c < a->channels; c++) pack_channel(a, s, in, c);
    mnd_augment_line l = begin_line(a, m);
    const size_t width = (size_t)a->width, n = (size_t)a->channels;
    for (int y = 0; y < a->height; y++) {
        place_line(a, d, m, y, &l);
        mnd_augment_where(&l, s->index, s->right, s->below);
        float *to = out + (size_t)y * width * n;
        for (size_t c = 0; c < n; c++) {
            const uint32_t *square = s->square + c * (size_t)(a->height + 2) * (size_t)a->stride;
            mnd_augment_blend(&l, square, s->index, s->right, s->below, s->row);
            if (n == 1)
                memcpy(to, s->row, width * sizeof *to);
            else
                for (size_t x = 0; x < width; x++) to[x * n + c] = s->row[x];
        }
    }
    if (a->how.erase > 0.0) erase(a, d, out);
}

/* --- memory ----------------------------------------------------------------------------------- */

static int whole_blocks(int n) { return (n + LANES - 1) / LANES * LANES; }

static mnd_status allocate(mnd_augmenter *a) {
    mnd_status status = MND_OK;
    const char *const what = "the augmentation of images";
    MND_NEW(a->column, (size_t)GRID * (size_t)a->pitch, what);
    MND_NEW(a->line, (size_t)GRID * (size_t)a->height, what);
    MND_NEW(a->work, a->threads, what);
    for (int t = 0; t < a->threads; t++) {
        scratch *s = &a->work[t];
        MND_NEW(s->square, (size_t)a->channels * (size_t)(a->height + 2) * (size_t)a->stride, what);
        for (int i = 0; i < 2; i++) MND_NEW(s->line[i], a->stride + 1, what);
        MND_NEW(s->index, a->pitch, what);
        MND_NEW(s->right, a->pitch, what);
        MND_NEW(s->below, a->pitch, what);
        MND_NEW(s->row, a->pitch, what);
    }
cleanup:
    return status;
}

mnd_status mnd_augmenter_create(const mnd_augment *how, int height, int width, int channels,
                                int threads, mnd_augmenter **out) {
    mnd_status status = MND_OK;
    mnd_augmenter *a = NULL;
    *out = NULL;
    if (how->erase > height || how->erase > width)
        MND_FAIL(MND_USAGE, "--augment erase:%g is larger than the images of %d x %d", how->erase,
                 height, width);
    MND_NEW(a, 1, "the augmentation of images");
    *a = (mnd_augmenter){.how = *how,
                         .height = height,
                         .width = width,
                         .channels = channels,
                         .pitch = whole_blocks(width),
                         .stride = whole_blocks(width + 2),
                         .threads = threads > 0 ? threads : 1};
    MND_TRY(allocate(a));
    basis(width, a->pitch, a->column);
    basis(height, height, a->line);
    *out = a;
    a = NULL;
cleanup:
    mnd_augmenter_destroy(&a);
    return status;
}

void mnd_augmenter_destroy(mnd_augmenter **augmenter) {
    mnd_augmenter *a = *augmenter;
    if (a == NULL) return;
    for (int t = 0; a->work != NULL && t < a->threads; t++) {
        scratch *s = &a->work[t];
        mnd_free(s->square);
        mnd_free(s->line[0]);
        mnd_free(s->line[1]);
        mnd_free(s->index);
        mnd_free(s->right);
        mnd_free(s->below);
        mnd_free(s->row);
    }
    mnd_free(a->work);
    mnd_free(a->column);
    mnd_free(a->line);
    mnd_free(a);
    *augmenter = NULL;
}
