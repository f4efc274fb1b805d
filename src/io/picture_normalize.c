/*
 * picture_normalize.c - finds the digit in a picture of any size and brings it into the form of the
 * training images.
 */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "mnist_dist/memory.h"
#include "mnist_dist/picture.h"

enum {
    OVERVIEW = 1024, /* longest side of the reduced picture, in which the ink is found */
    SPECK = 20       /* a blot smaller than 1/SPECK of the largest one is a speck of dirt */
};

/* The state of a cell (a pixel of the reduced picture). */
enum {
    UNSEEN, /* without ink, or not visited yet */
    DIGIT,
    BLOT, /* ink of which it is not known yet whether it belongs to the digit */
    DIRT
};

/*
 * The picture reduced by a whole factor, first as grey values, then as ink: 0 for the background
 * and larger the more the pixel differs from it, whichever of the two is lighter.
 */
typedef struct overview {
    int factor, height, width;
    uint8_t *ink;    /* (height, width) */
    uint8_t *state;  /* (height, width) */
    int32_t *stack;  /* (height * width), for flood */
    int background;  /* grey value of the paper */
    bool dark_ink;   /* ink is darker than the paper */
    float low, high; /* ink up to `low` counts as none, ink from `high` on as full */
} overview;

/* The smallest value that at most 1 - p of the counted values exceed. */
static int quantile(const int64_t count[256], double p) {
    int64_t total = 0, seen = 0;
    for (int i = 0; i < 256; i++) total += count[i];
    for (int i = 0; i < 256; i++) {
        seen += count[i];
        if ((double)seen > p * (double)total) return i;
    }
    return 255;
}

/*
 * The threshold that separates two groups of values best: N. Otsu, "A threshold selection method
 * from gray-level histograms", IEEE Trans. SMC 9 (1979).
 */
static int otsu(const int64_t count[256]) {
    double total = 0, sum = 0, below = 0, below_sum = 0, best = -1;
    int threshold = 0;
    for (int i = 0; i < 256; i++) {
        total += (double)count[i];
        sum += (double)count[i] * i;
    }
    for (int i = 0; i < 255; i++) {
        below += (double)count[i];
        below_sum += (double)count[i] * i;
        if (below == 0 || below == total) continue;
        const double difference = below_sum / below - (sum - below_sum) / (total - below);
        const double between = below * (total - below) * difference * difference;
        if (between > best) {
            best = between;
            threshold = i;
        }
    }
    return threshold;
}

/* The ink of a grey value, before the contrast is stretched. */
static int ink_of(const overview *o, int grey) {
    const int d = o->dark_ink ? o->background - grey : grey - o->background;
    return d > 0 ? d : 0;
}

/* Ink with stretched contrast, 0 to 1. */
static float stretched(const overview *o, int ink) {
    const float v = ((float)ink - o->low) / (o->high - o->low);
    return v < 0.0F ? 0.0F : v > 1.0F ? 1.0F : v;
}

/* Fills o->ink with the means of factor x factor pixels. */
static void reduce(const mnd_picture *in, overview *o) {
    const int f = o->factor;
    for (int y = 0; y < o->height; y++)
        for (int x = 0; x < o->width; x++) {
            const int y1 = (y + 1) * f < in->height ? (y + 1) * f : in->height;
            const int x1 = (x + 1) * f < in->width ? (x + 1) * f : in->width;
            int64_t sum = 0;
            for (int i = y * f; i < y1; i++)
                for (int j = x * f; j < x1; j++)
                    sum += in->pixel[(size_t)i * (size_t)in->width + (size_t)j];
            const int64_t n = (int64_t)(y1 - y * f) * (x1 - x * f);
            o->ink[y * o->width + x] = (uint8_t)((sum + n / 2) / n);
        }
}

/* Counts the values of the pixels on the border. */
static void count_border(const uint8_t *pixel, int height, int width, int64_t count[256]) {
    memset(count, 0, 256 * sizeof count[0]);
    for (int y = 0; y < height; y++) {
        const bool whole_row = y == 0 || y == height - 1 || width == 1;
        for (int x = 0; x < width; x += whole_row ? 1 : width - 1) count[pixel[y * width + x]]++;
    }
}

/* Finds background, polarity and contrast, and converts o->ink from grey values to ink. */
static mnd_status find_ink(overview *o) {
    const int n = o->height * o->width;
    int64_t count[256] = {0}, border[256];
    count_border(o->ink, o->height, o->width, border);
    o->background = quantile(border, 0.5);
    int64_t lighter = 0;
    int least = 255, most = 0;
    for (int i = 0; i < n; i++) {
        const int v = o->ink[i];
        lighter += v - o->background;
        least = v < least ? v : least;
        most = v > most ? v : most;
    }
    if (least == most) return mnd_fail(MND_FORMAT, "the picture is empty: every pixel is %d", most);
    o->dark_ink = lighter < 0;
    for (int i = 0; i < n; i++) {
        o->ink[i] = (uint8_t)ink_of(o, o->ink[i]);
        count[o->ink[i]]++;
    }
    /* Paper is never uniform: ink below the 0.9 quantile of the border is taken as paper. The limit
     * of half the threshold is for digits that touch the border. */
    const int threshold = otsu(count);
    count_border(o->ink, o->height, o->width, border);
    const float paper = (float)quantile(border, 0.9);
    o->low = paper < 0.5F * (float)threshold ? paper : 0.5F * (float)threshold;
    for (int i = 0; i <= threshold; i++) count[i] = 0;
    o->high = (float)quantile(count, 0.75);
    if (o->high < o->low + 1.0F) o->high = o->low + 1.0F;
    return MND_OK;
}

/*
 * Flood fill: gives the connected cells around `start` that have state `from`, and ink of at least
 * 0.25, the state `to`. Returns their number.
 */
static int flood(overview *o, int start, uint8_t from, uint8_t to) {
    const float least = 0.25F;
    if (o->state[start] != from || stretched(o, o->ink[start]) < least) return 0;
    int top = 0, area = 0;
    o->stack[top++] = start;
    o->state[start] = to;
    while (top > 0) {
        const int at = o->stack[--top];
        area++;
        const int y = at / o->width, x = at % o->width;
        for (int i = y > 0 ? y - 1 : 0; i <= y + 1 && i < o->height; i++)
            for (int j = x > 0 ? x - 1 : 0; j <= x + 1 && j < o->width; j++) {
                const int next = i * o->width + j;
                if (o->state[next] != from || stretched(o, o->ink[next]) < least) continue;
                o->state[next] = to;
                o->stack[top++] = next;
            }
    }
    return area;
}

/* Finds the blots of ink and separates those of the digit from specks of dirt. */
static void drop_specks(overview *o) {
    const int n = o->height * o->width;
    int largest = 0;
    for (int i = 0; i < n; i++) {
        const int area = flood(o, i, UNSEEN, BLOT);
        largest = area > largest ? area : largest;
    }
    /* Every blot is filled again with its final state. */
    for (int i = 0; i < n; i++) {
        if (o->state[i] != BLOT) continue;
        const int area = flood(o, i, BLOT, DIRT);
        if (area * SPECK >= largest) flood(o, i, DIRT, DIGIT);
    }
}

typedef struct box {
    int y0, x0, y1, x1; /* y1 and x1 are exclusive */
} box;

/* The ink of a pixel of the full picture, 0 to 1; none where there is dirt. */
static float ink_at(const mnd_picture *in, const overview *o, int y, int x) {
    if (o->state[y / o->factor * o->width + x / o->factor] == DIRT) return 0.0F;
    return stretched(o, ink_of(o, in->pixel[(size_t)y * (size_t)in->width + (size_t)x]));
}

/* Whether a cell belongs to the digit; cells outside the picture do not. */
static bool is_inked(const overview *o, int y, int x) {
    if (y < 0 || x < 0) return false;
    const int at = y * o->width + x;
    return o->state[at] == DIGIT && stretched(o, o->ink[at]) >= 0.5F;
}

/*
 * The bounding box of the digit in the full picture. *pen becomes the mean width of its strokes, in
 * pixels of the full picture.
 */
static box find_box(const mnd_picture *in, const overview *o, float *pen) {
    box cells = {o->height, o->width, 0, 0};
    int64_t area = 0, edge = 0;
    for (int y = 0; y < o->height; y++)
        for (int x = 0; x < o->width; x++) {
            const bool inked = is_inked(o, y, x);
            area += inked;
            edge += inked != is_inked(o, y - 1, x);
            edge += inked != is_inked(o, y, x - 1);
            if (o->state[y * o->width + x] != DIGIT) continue;
            if (y < cells.y0) cells.y0 = y;
            if (x < cells.x0) cells.x0 = x;
            if (y >= cells.y1) cells.y1 = y + 1;
            if (x >= cells.x1) cells.x1 = x + 1;
        }
    /* A stroke of length L and width w has the area w L and two edges of length L. An edge measured
     * along the axes is 4/pi times its true length in the mean over all directions. */
    *pen = (float)o->factor;
    if (edge > 0) *pen *= 2.0F * (float)area / ((float)edge * 0.7853982F);

    /* The same in pixels, searched in the box of the cells and one more cell on each side. */
    box fine = {in->height, in->width, 0, 0};
    const int f = o->factor;
    for (int y = cells.y0 > 0 ? (cells.y0 - 1) * f : 0; y < in->height && y < (cells.y1 + 1) * f;
         y++)
        for (int x = cells.x0 > 0 ? (cells.x0 - 1) * f : 0; x < in->width && x < (cells.x1 + 1) * f;
             x++) {
            if (ink_at(in, o, y, x) < 0.25F) continue;
            if (y < fine.y0) fine.y0 = y;
            if (x < fine.x0) fine.x0 = x;
            if (y >= fine.y1) fine.y1 = y + 1;
            if (x >= fine.x1) fine.x1 = x + 1;
        }
    return fine;
}

/* The mean ink of a rectangle with fractional corners; outside the picture there is no ink. */
static float mean_ink(const mnd_picture *in, const overview *o, float y0, float x0, float y1,
                      float x1) {
    const int top = y0 < 0.0F ? 0 : (int)y0, left = x0 < 0.0F ? 0 : (int)x0;
    double sum = 0;
    for (int y = top; y < in->height && (float)y < y1; y++) {
        const float wy = fminf((float)y + 1.0F, y1) - fmaxf((float)y, y0);
        for (int x = left; x < in->width && (float)x < x1; x++) {
            const float wx = fminf((float)x + 1.0F, x1) - fmaxf((float)x, x0);
            sum += (double)(wy * wx * ink_at(in, o, y, x));
        }
    }
    return (float)(sum / (double)((y1 - y0) * (x1 - x0)));
}

/* Shifts a plane of (height, width) by whole pixels so that its centre of mass is in the middle. */
static void centre(const float *plane, int height, int width, uint8_t *out) {
    double mass = 0, my = 0, mx = 0;
    box ink = {height, width, 0, 0};
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const float v = plane[y * width + x];
            mass += (double)v;
            my += (double)v * (y + 0.5);
            mx += (double)v * (x + 0.5);
            if (v < 0.1F) continue;
            if (y < ink.y0) ink.y0 = y;
            if (x < ink.x0) ink.x0 = x;
            if (y >= ink.y1) ink.y1 = y + 1;
            if (x >= ink.x1) ink.x1 = x + 1;
        }
    memset(out, 0, (size_t)height * (size_t)width);
    if (mass <= 0) return;
    int dy = (int)lrint(0.5 * height - my / mass), dx = (int)lrint(0.5 * width - mx / mass);
    /* Only ink fainter than 0.1 may be shifted out of the picture. */
    if (dy < -ink.y0) dy = -ink.y0;
    if (dy > height - ink.y1) dy = height - ink.y1;
    if (dx < -ink.x0) dx = -ink.x0;
    if (dx > width - ink.x1) dx = width - ink.x1;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const int from_y = y - dy, from_x = x - dx;
            if (from_y < 0 || from_y >= height || from_x < 0 || from_x >= width) continue;
            out[y * width + x] = (uint8_t)lrintf(255.0F * plane[from_y * width + from_x]);
        }
}

/* Scales the box `from` of the picture into the middle of `plane`, (height, width). */
static void scale_into(const mnd_picture *in, const overview *o, box from, float pen, int height,
                       int width, float *plane) {
    const float ih = (float)(from.y1 - from.y0), iw = (float)(from.x1 - from.x0);
    const float bh = (float)height * 20.0F / 28.0F, bw = (float)width * 20.0F / 28.0F;
    const float shrink = fmaxf(ih / bh, iw / bw); /* source pixels per target pixel */
    /* Very thin lines would almost vanish: they are blurred to the width of a thin pen. The
     * division by the largest value below then restores full ink. */
    const float thin = 1.2F - pen / shrink;
    const float blur = thin < 0.0F ? 1.0F : thin < 1.0F ? 1.0F + thin : 2.0F;
    /* At least one source pixel wide: when enlarging, this is linear interpolation. */
    const float half = 0.5F * fmaxf(blur * shrink, 1.0F);
    const int top = (int)(0.5F * ((float)height - ih / shrink));
    const int left = (int)(0.5F * ((float)width - iw / shrink));
    float most = 0.0F;
    /* Two pixels around the box are enough: there is no ink beyond. */
    const int bottom = top + (int)ceilf(ih / shrink), right = left + (int)ceilf(iw / shrink);
    for (int y = top > 2 ? top - 2 : 0; y < bottom + 2 && y < height; y++)
        for (int x = left > 2 ? left - 2 : 0; x < right + 2 && x < width; x++) {
            const float cy = (float)from.y0 + ((float)(y - top) + 0.5F) * shrink;
            const float cx = (float)from.x0 + ((float)(x - left) + 0.5F) * shrink;
            const float v = mean_ink(in, o, cy - half, cx - half, cy + half, cx + half);
            plane[y * width + x] = v;
            most = fmaxf(most, v);
        }
    for (int i = 0; i < height * width && most > 0.0F; i++) plane[i] /= most;
}

/* Whether the picture already has the form of the training images. */
static bool is_ready(const mnd_picture *in, int height, int width) {
    if (in->height != height || in->width != width) return false;
    int64_t border[256];
    count_border(in->pixel, height, width, border);
    uint8_t most = 0;
    for (int i = 0; i < height * width; i++) most = in->pixel[i] > most ? in->pixel[i] : most;
    return most >= 128 && quantile(border, 0.9) < 32;
}

mnd_status mnd_picture_normalize(const mnd_picture *in, int height, int width, uint8_t *out) {
    mnd_status status = MND_OK;
    overview o = {0};
    void *memory = NULL;
    float *plane = NULL;
    if (is_ready(in, height, width)) {
        memcpy(out, in->pixel, (size_t)height * (size_t)width);
        return MND_OK;
    }
    const int longer = in->height > in->width ? in->height : in->width;
    o.factor = (longer + OVERVIEW - 1) / OVERVIEW;
    o.height = (in->height + o.factor - 1) / o.factor;
    o.width = (in->width + o.factor - 1) / o.factor;
    const size_t cells = (size_t)o.height * (size_t)o.width;
    MND_TRY(mnd_alloc(&memory, cells, 1, "the reduced picture"));
    o.ink = memory;
    MND_TRY(mnd_alloc(&memory, cells, 1, "the mask of the picture"));
    o.state = memory;
    MND_TRY(mnd_alloc(&memory, cells, sizeof *o.stack, "the search for ink"));
    o.stack = memory;
    MND_TRY(mnd_alloc(&memory, (size_t)height * (size_t)width, sizeof *plane, "the small picture"));
    plane = memory;
    reduce(in, &o);
    MND_TRY(find_ink(&o));
    drop_specks(&o);
    float pen;
    const box from = find_box(in, &o, &pen);
    scale_into(in, &o, from, pen, height, width, plane);
    centre(plane, height, width, out);
cleanup:
    mnd_free(o.ink);
    mnd_free(o.state);
    mnd_free(o.stack);
    mnd_free(plane);
    return status;
}
