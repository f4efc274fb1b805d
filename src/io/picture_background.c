/*
 * picture_background.c - separates ink from paper. The paper's grey value is a local median, so
 * that shadows, vignettes and uneven light belong to the paper; what is left in the middle of bold
 * strokes is closed as in grey-scale morphology (P. Soille, "Morphological Image Analysis", 2003).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mnist_dist/memory.h"
#include "picture_ink.h"
#include "picture_raster.h"

enum { MAP = 192 /* longest side of the map of the paper */ };

/* The picture reduced once more, and the paper there. */
typedef struct paper_map {
    int factor, height, width, radius;
    uint8_t *grey, *paper, *scratch; /* (height, width) */
} paper_map;

int mnd_ink_of(bool dark, int paper, int grey) {
    /* Light falls on ink and paper alike, so what counts is the ratio. */
    const int d = dark ? paper - grey : grey - paper, whole = dark ? paper : 255 - paper;
    return d <= 0 ? 0 : d * 255 / whole;
}

float mnd_ink_stretched(const mnd_ink *o, int ink) {
    const float v = ((float)ink - o->low) / (o->high - o->low);
    return v < 0.0F ? 0.0F : v > 1.0F ? 1.0F : v;
}

/* Means of factor x factor values. */
static void reduce(const uint8_t *from, int height, int width, int factor, uint8_t *to) {
    const int to_width = (width + factor - 1) / factor;
    for (int y = 0; y < height; y += factor)
        for (int x = 0; x < width; x += factor) {
            const int y1 = y + factor < height ? y + factor : height;
            const int x1 = x + factor < width ? x + factor : width;
            int64_t sum = 0;
            for (int i = y; i < y1; i++)
                for (int j = x; j < x1; j++) sum += from[(size_t)i * (size_t)width + (size_t)j];
            const int64_t n = (int64_t)(y1 - y) * (x1 - x);
            to[y / factor * to_width + x / factor] = (uint8_t)((sum + n / 2) / n);
        }
}

/* Means of 3 x 3 cells, against noise. */
static void smooth(mnd_ink *o, uint8_t *scratch) {
    memcpy(scratch, o->grey, (size_t)o->height * (size_t)o->width);
    for (int y = 0; y < o->height; y++)
        for (int x = 0; x < o->width; x++) {
            int sum = 0, n = 0;
            for (int i = y > 0 ? y - 1 : 0; i <= y + 1 && i < o->height; i++)
                for (int j = x > 0 ? x - 1 : 0; j <= x + 1 && j < o->width; j++, n++)
                    sum += scratch[i * o->width + j];
            o->grey[y * o->width + x] = (uint8_t)((sum + n / 2) / n);
        }
}

/* The median of each window of 2 radius + 1 values a side, cut at the border. */
static void local_median(paper_map *m) {
    const int h = m->height, w = m->width, r = m->radius;
    for (int y = 0; y < h; y++) {
        int count[256] = {0}, n = 0, median = 0, below = 0; /* below: values < median */
        const int y0 = y > r ? y - r : 0, y1 = y + r < h ? y + r + 1 : h;
        for (int x = -r; x < w; x++) {
            const int in = x + r, out = x - r - 1;
            for (int i = y0; i < y1 && in < w; i++, n++) {
                const int v = m->grey[i * w + in];
                count[v]++;
                below += v < median;
            }
            for (int i = y0; i < y1 && out >= 0; i++, n--) {
                const int v = m->grey[i * w + out];
                count[v]--;
                below -= v < median;
            }
            while (below > n / 2) below -= count[--median];
            while (below + count[median] <= n / 2 && median < 255) below += count[median++];
            if (x >= 0) m->paper[y * w + x] = (uint8_t)median;
        }
    }
}

/* Largest (or smallest) value of each window, rows first, then columns. */
static void extreme(paper_map *m, int radius, bool largest) {
    const int h = m->height, w = m->width;
    for (int pass = 0; pass < 2; pass++) {
        const uint8_t *from = pass == 0 ? m->paper : m->scratch;
        uint8_t *to = pass == 0 ? m->scratch : m->paper;
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++) {
                uint8_t v = from[y * w + x];
                for (int d = -radius; d <= radius; d++) {
                    const int i = pass == 0 ? y : y + d, j = pass == 0 ? x + d : x;
                    if (i < 0 || j < 0 || i >= h || j >= w) continue;
                    const uint8_t u = from[i * w + j];
                    if (largest ? u > v : u < v) v = u;
                }
                to[y * w + x] = v;
            }
    }
}

/*
 * Whether ink is darker than the paper: which deviations from the median are stronger. The middle
 * of the picture counts most: at the border there may be a frame or the edge of a table.
 */
static bool is_dark(const paper_map *m) {
    double dark = 0, light = 0;
    for (int y = 0; y < m->height; y++)
        for (int x = 0; x < m->width; x++) {
            const double dy = (y + 0.5) / m->height - 0.5, dx = (x + 0.5) / m->width - 0.5;
            const double weight = (0.25 - dy * dy) * (0.25 - dx * dx);
            const int d = m->grey[y * m->width + x] - m->paper[y * m->width + x];
            if (d < 0) dark += weight * d * d;
            if (d > 0) light += weight * d * d;
        }
    return dark >= light;
}

/*
 * Whether one grey value is the paper everywhere: then paper varies little, compared with the
 * contrast, and the border is paper for the most part. What most of the picture is made of is
 * paper, or what most of its border is made of, if that is not just a frame. Fills in o->paper and
 * o->dark.
 */
static bool is_even(mnd_ink *o) {
    const int n = o->height * o->width;
    int64_t count[256] = {0}, border[256] = {0}, side = 0, total = 0, inked = 0;
    for (int i = 0; i < n; i++) {
        const int y = i / o->width, x = i % o->width;
        count[o->grey[i]]++;
        border[o->grey[i]] += y == 0 || x == 0 || y == o->height - 1 || x == o->width - 1;
    }
    const int threshold = mnd_otsu(count, NULL), rim = mnd_quantile(border, 0.5);
    int paper = mnd_quantile(count, 0.5);
    for (int i = 0; i < 256; i++) side += (i <= threshold) == (rim <= threshold) ? count[i] : 0;
    const bool frame = (rim <= threshold) != (paper <= threshold);
    if (10 * side > 3 * n) paper = rim;
    o->dark = paper > threshold;
    memset(o->paper, paper, (size_t)n);
    int64_t other[256] = {0};
    for (int i = 0; i < 256; i++) {
        const bool ink = (i > threshold) != o->dark;
        total += border[i];
        inked += ink ? border[i] : 0;
        if (ink) other[i] = count[i];
        if (ink) count[i] = 0;
    }
    const int contrast = abs(mnd_quantile(other, 0.5) - paper);
    /* Towards the ink there are the edges of strokes, away from it only paper. */
    int spread = abs(mnd_quantile(count, o->dark ? 0.95 : 0.05) - paper);
    /* A frame together with a shadow may outweigh the rest of the paper. Where ink touches the
     * border the picture was cropped closely, and the edges of bold strokes are a large part. */
    if (frame || 20 * inked < total) spread += abs(mnd_quantile(count, 0.5) - paper);
    return 5 * spread <= contrast && 3 * inked <= total;
}

static mnd_status map_paper(mnd_ink *o, mnd_guess guess) {
    mnd_status status = MND_OK;
    void *memory = NULL;
    paper_map m = {0};
    const int longer = o->height > o->width ? o->height : o->width;
    const int shorter = o->height > o->width ? o->width : o->height;
    m.factor = (longer + MAP - 1) / MAP;
    m.height = (o->height + m.factor - 1) / m.factor;
    m.width = (o->width + m.factor - 1) / m.factor;
    m.radius = (shorter / 4 > longer / 8 ? shorter / 4 : longer / 8) / m.factor + 1;
    const size_t n = (size_t)m.height * (size_t)m.width;
    MND_TRY(mnd_alloc(&memory, 3 * n, 1, "the map of the paper"));
    m.grey = memory;
    m.paper = m.grey + n;
    m.scratch = m.paper + n;
    reduce(o->grey, o->height, o->width, m.factor, m.grey);
    local_median(&m);
    o->dark = is_dark(&m) != (guess == MND_GUESS_OPPOSITE);
    extreme(&m, m.radius / 2, o->dark);
    extreme(&m, m.radius / 2, !o->dark);
    int64_t count[256] = {0};
    for (size_t i = 0; i < n; i++) count[m.paper[i]]++;
    o->levelled = mnd_quantile(count, 0.95) - mnd_quantile(count, 0.05) > 16;
    for (int y = 0; y < o->height; y++)
        for (int x = 0; x < o->width; x++)
            o->paper[y * o->width + x] = m.paper[y / m.factor * m.width + x / m.factor];
cleanup:
    mnd_free(memory);
    return status;
}

void mnd_ink_raise(mnd_ink *o, int32_t label) {
    const int n = o->height * o->width;
    int64_t count[256] = {0};
    for (int i = 0; i < n; i++)
        if (o->label[i] == label) count[o->ink[i]]++;
    const int threshold = mnd_otsu(count, NULL);
    for (int i = 0; i <= threshold; i++) count[i] = 0;
    o->low = (float)threshold;
    o->high = fmaxf((float)mnd_quantile(count, 0.75), o->low + 1.0F);
}

void mnd_ink_contrast(mnd_ink *o, const uint8_t *use) {
    const int n = o->height * o->width;
    int64_t count[256] = {0}, noise[256] = {0};
    for (int i = 0; i < n; i++)
        if (use == NULL || use[i] != 0) count[o->ink[i]]++;
    const int threshold = mnd_otsu(count, NULL);
    for (int i = 0; i < n; i++)
        if ((use == NULL || use[i] != 0) && o->ink[i] <= threshold)
            noise[abs(o->grey[i] - o->paper[i])]++;
    /* Paper is never uniform: ink like the paper's own noise is taken as paper. */
    const float paper = 1.9F * (float)mnd_quantile(noise, 0.5);
    o->low = paper < 0.5F * (float)threshold ? paper : 0.5F * (float)threshold;
    for (int i = 0; i <= threshold; i++) count[i] = 0;
    o->high = (float)mnd_quantile(count, 0.75);
    if (o->high < o->low + 1.0F) o->high = o->low + 1.0F;
}

mnd_status mnd_ink_separate(mnd_ink *o, mnd_guess guess) {
    enum { NOISY = 10 };
    mnd_status status = MND_OK;
    const int n = o->height * o->width;
    int least = 255, most = 0;
    reduce(o->in->pixel, o->in->height, o->in->width, o->factor, o->grey);
    for (int i = 0; i < n; i++) {
        least = o->grey[i] < least ? o->grey[i] : least;
        most = o->grey[i] > most ? o->grey[i] : most;
    }
    if (least == most) return mnd_fail(MND_FORMAT, "the picture is empty: every pixel is %d", most);
    for (int round = 0; round < 2; round++) {
        o->levelled = false;
        if (guess != MND_GUESS_FIRST || !is_even(o)) MND_TRY(map_paper(o, guess));
        for (int i = 0; i < n; i++)
            o->ink[i] = (uint8_t)mnd_ink_of(o->dark, o->paper[i], o->grey[i]);
        mnd_ink_contrast(o, NULL);
        if (o->low < NOISY || round > 0) break;
        smooth(o, o->owner); /* not in use yet */
    }
cleanup:
    return status;
}
