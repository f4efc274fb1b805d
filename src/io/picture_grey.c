/* picture_grey.c - colours and transparency become grey values. */
#include <math.h>
#include <string.h>

#include "mnist_dist/memory.h"
#include "picture_raster.h"

/* The plane that a pixel's grey value is taken from. */
enum { RED, GREEN, BLUE, LUMA, PLANES };

static unsigned grey_of(const uint8_t *value, int channels, int plane) {
    if (channels < 3) return value[0];
    if (plane != LUMA) return value[plane];
    /* Rec. 709 in units of 1/65536 */
    return (13933U * value[0] + 46871U * value[1] + 4732U * value[2] + 32768U) >> 16;
}

int mnd_quantile(const int64_t count[256], double p) {
    int64_t total = 0, seen = 0;
    for (int i = 0; i < 256; i++) total += count[i];
    for (int i = 0; i < 256; i++) {
        seen += count[i];
        if ((double)seen > p * (double)total) return i;
    }
    return 255;
}

int mnd_otsu(const int64_t count[256], double *distance) {
    double total = 0, sum = 0, below = 0, below_sum = 0, best = -1;
    int threshold = 0;
    if (distance != NULL) *distance = 0;
    for (int i = 0; i < 256; i++) {
        total += (double)count[i];
        sum += (double)count[i] * i;
    }
    for (int i = 0; i < 255; i++) {
        below += (double)count[i];
        below_sum += (double)count[i] * i;
        if (below == 0 || below == total) continue;
        const double d = (sum - below_sum) / (total - below) - below_sum / below;
        const double between = below * (total - below) * d * d;
        if (between > best) {
            best = between;
            threshold = i;
            if (distance != NULL) *distance = d;
        }
    }
    return threshold;
}

/* --- which plane ------------------------------------------------------------------------------ */

/*
 * Red ink on green paper may have the paper's luma. Another plane is taken only where luma shows
 * little and that plane shows twice as much, so that pictures in shades of grey stay what they are.
 */
static int choose_plane(const mnd_raster *in) {
    int64_t count[PLANES][256] = {0};
    double distance[PLANES];
    const size_t n = (size_t)in->height * (size_t)in->width;
    for (size_t i = 0; i < n; i++)
        for (int p = 0; p < PLANES; p++)
            count[p][grey_of(in->value + i * (size_t)in->channels, in->channels, p)]++;
    int best = LUMA;
    for (int p = PLANES - 1; p >= 0; p--) {
        (void)mnd_otsu(count[p], &distance[p]);
        if (p != LUMA && distance[LUMA] < 60.0 && distance[p] > 2.0 * distance[LUMA] &&
            (best == LUMA || distance[p] > distance[best]))
            best = p;
    }
    return best;
}

/* --- transparency ----------------------------------------------------------------------------- */

/* What is opaque in a picture: "opaque" is at least half as opaque as the most opaque pixel. */
typedef struct coverage {
    int most;              /* largest alpha */
    int64_t opaque, box;   /* pixels, and pixels of their bounding box */
    int64_t clear;         /* the other pixels */
    int low, middle, high; /* the quantiles 0.05, 0.5 and 0.95 of the opaque pixels' grey values */
} coverage;

static int count_below(const int64_t count[256], int64_t n) {
    int64_t seen = 0;
    for (int i = 0; i < 256; i++) {
        seen += count[i];
        if (seen > n) return i;
    }
    return 255;
}

static coverage cover(const mnd_raster *in, int plane) {
    coverage c = {0};
    const int n = in->channels;
    const size_t pixels = (size_t)in->height * (size_t)in->width;
    int64_t count[256] = {0};
    int y0 = in->height, y1 = -1, x0 = in->width, x1 = -1;
    for (size_t i = 0; i < pixels; i++) {
        const int alpha = in->value[i * (size_t)n + (size_t)n - 1];
        c.most = alpha > c.most ? alpha : c.most;
    }
    const uint8_t *value = in->value;
    for (int y = 0; y < in->height; y++)
        for (int x = 0; x < in->width; x++, value += n) {
            if (2 * value[n - 1] < c.most) {
                c.clear++;
                continue;
            }
            c.opaque++;
            count[grey_of(value, n, plane)]++;
            y0 = y < y0 ? y : y0;
            y1 = y > y1 ? y : y1;
            x0 = x < x0 ? x : x0;
            x1 = x > x1 ? x : x1;
        }
    c.box = (int64_t)(y1 - y0 + 1) * (x1 - x0 + 1);
    c.low = count_below(count, c.opaque / 20);
    c.middle = count_below(count, c.opaque / 2);
    c.high = count_below(count, c.opaque - 1 - c.opaque / 20);
    return c;
}

/*
 * The paper below transparent pixels. Ink of one shade on nothing: the paper is white for
 * dark ink and black for light ink. Shades that fill most of their bounding box: a sheet of paper
 * with something on it, which goes on. Otherwise the shape is in alpha alone (-1).
 */
static int choose_paper(const coverage *c) {
    enum { SHADES = 64 };
    if (c->clear == 0) return 255;
    if (c->high - c->low < SHADES) return c->middle < 128 ? 255 : 0;
    if (10 * c->opaque >= 7 * c->box) return c->middle;
    return -1;
}

mnd_status mnd_raster_to_grey(mnd_raster *in, bool any_channel, mnd_picture *out) {
    mnd_status status = MND_OK;
    const int n = in->channels;
    const size_t pixels = (size_t)in->height * (size_t)in->width;
    const bool alpha = n == 2 || n == 4;
    const int plane = any_channel && n == 3 ? choose_plane(in) : LUMA;
    int paper = 255;
    *out = (mnd_picture){0};
    if (alpha) {
        const coverage c = cover(in, plane);
        if (c.most == 0)
            MND_FAIL(MND_FORMAT, "the picture is empty: every pixel is fully transparent");
        paper = choose_paper(&c);
    }
    /* In place: a pixel is read before it is written over. */
    for (size_t i = 0; i < pixels; i++) {
        const uint8_t *value = in->value + i * (size_t)n;
        unsigned v = grey_of(value, n, plane);
        if (alpha) {
            const unsigned a = value[n - 1];
            v = paper < 0 ? 255U - a : (v * a + (unsigned)paper * (255U - a) + 127U) / 255U;
        }
        in->value[i] = (uint8_t)v;
    }
    *out = (mnd_picture){.height = in->height, .width = in->width, .pixel = in->value};
    in->value = NULL;
cleanup:
    mnd_free(in->value);
    *in = (mnd_raster){0};
    return status;
}
