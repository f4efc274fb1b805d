/*
 * synth.c - draws digits and writes them to a data file.
 *
 * A pixel depends on +, -, *, / and sqrtf only. IEEE 754 requires correct rounding of all of them,
 * so that every machine draws the same bytes. Functions of libm, whose rounding differs, are
 * avoided: bell-shaped random numbers are sums of uniform ones, the rotation is computed in its
 * rational form, and the elastic field is a B-spline surface.
 */
#include "mnist_dist/synth.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "mnist_dist/memory.h"
#include "mnist_dist/rng.h"
#include "synth_styles.h"

enum {
    SIDE = 28, /* of the image */
    BOX = 20,  /* the longer side of the ink, as in MNIST */
    SPAN = 6,  /* straight lines between two knots */
    MAX_POINTS = MND_SYNTH_MAX_KNOTS * SPAN + 1,
    GRID = 5,    /* control points of the elastic field along an axis */
    BATCH = 1024 /* images to write at a time */
};

typedef struct point {
    float x, y;
} point;

/* The path of the pen: it draws from at[i] to at[i + 1] unless lifted[i + 1]. */
typedef struct line {
    int n;
    point at[MAX_POINTS];
    bool lifted[MAX_POINTS];
    float radius[MAX_POINTS]; /* of the pen, in pixels */
    int y0, x0, y1, x1;       /* bounding box of the ink; y1 and x1 are exclusive */
} line;

/* Uniform in [low, high). */
static float between(mnd_rng *rng, float low, float high) {
    return low + (high - low) * mnd_rng_uniform(rng);
}

/*
 * A sum of four uniform numbers: nearly normal with mean 0 and standard deviation 1, within +-3.47.
 */
static float bell(mnd_rng *rng) {
    float sum = mnd_rng_uniform(rng);
    for (int i = 0; i < 3; i++) sum += mnd_rng_uniform(rng);
    return (sum - 2.0F) * 1.7320508F;
}

static const mnd_synth_style *pick_style(mnd_rng *rng, unsigned digit) {
    uint32_t total = 0;
    for (int i = 0; i < MND_SYNTH_N_STYLES; i++)
        if (mnd_synth_styles[i].digit == digit) total += mnd_synth_styles[i].weight;
    uint32_t left = mnd_rng_below(rng, total);
    int i = 0;
    while (mnd_synth_styles[i].digit != digit || left >= mnd_synth_styles[i].weight) {
        if (mnd_synth_styles[i].digit == digit) left -= mnd_synth_styles[i].weight;
        i++;
    }
    return &mnd_synth_styles[i];
}

/* Places each knot between its two positions, with a small random displacement. */
static void place_knots(mnd_rng *rng, const mnd_synth_style *s, point *p) {
    /* Top and bottom vary independently, and what lies between is interpolated. */
    const float top = between(rng, -0.3F, 1.3F), bottom = between(rng, -0.3F, 1.3F);
    const float shake = between(rng, 0.01F, 0.04F);
    for (int i = 0; i < s->n_knot; i++) {
        const mnd_synth_knot *k = &s->knot[i];
        const float u = top + 0.01F * (float)k->y0 * (bottom - top);
        /* The ends of a stroke vary more than the points between them. */
        const bool end =
            k->kind == MND_SYNTH_MOVE || i + 1 == s->n_knot || k[1].kind == MND_SYNTH_MOVE;
        const float by = end ? 2.0F * shake : shake;
        p[i].x = 0.01F * ((float)k->x0 + u * (float)(k->x1 - k->x0)) + by * bell(rng);
        p[i].y = 0.01F * ((float)k->y0 + u * (float)(k->y1 - k->y0)) + by * bell(rng);
    }
}

/* Catmull-Rom through b and c, at t in [0, 1]. */
static point spline(point a, point b, point c, point d, float t) {
    const float wa = ((-t + 2.0F) * t - 1.0F) * t;
    const float wb = (3.0F * t - 5.0F) * t * t + 2.0F;
    const float wc = ((-3.0F * t + 4.0F) * t + 1.0F) * t;
    const float wd = (t - 1.0F) * t * t;
    return (point){0.5F * (wa * a.x + wb * b.x + wc * c.x + wd * d.x),
                   0.5F * (wa * a.y + wb * b.y + wc * c.y + wd * d.y)};
}

/*
 * The control point beyond the end of a smooth run: the mirror image of `other`, the neighbour on
 * the other side of `centre`.
 */
static point mirrored(point centre, point other) {
    return (point){2.0F * centre.x - other.x, 2.0F * centre.y - other.y};
}

/* Connects the placed knots by splines. */
static void trace(const mnd_synth_style *s, const point *p, line *out) {
    const mnd_synth_knot *k = s->knot;
    out->n = 0;
    for (int i = 0; i < s->n_knot; i++) {
        if (k[i].kind == MND_SYNTH_MOVE) {
            out->lifted[out->n] = true;
            out->at[out->n++] = p[i];
            continue;
        }
        const bool last = i + 1 == s->n_knot || k[i + 1].kind == MND_SYNTH_MOVE;
        const point a = k[i - 1].kind == MND_SYNTH_SMOOTH ? p[i - 2] : mirrored(p[i - 1], p[i]);
        const point d =
            k[i].kind == MND_SYNTH_SMOOTH && !last ? p[i + 1] : mirrored(p[i], p[i - 1]);
        for (int j = 1; j <= SPAN; j++) {
            out->lifted[out->n] = false;
            out->at[out->n++] = spline(a, p[i - 1], p[i], d, (float)j / (float)SPAN);
        }
    }
}

/* A smooth random displacement: a uniform quadratic B-spline surface over the digit. */
typedef struct field {
    point at[GRID][GRID];
} field;

/* Fills the control points with random displacements. */
static void field_start(mnd_rng *rng, float strength, field *f) {
    for (int i = 0; i < GRID; i++)
        for (int j = 0; j < GRID; j++) {
            f->at[i][j].x = strength * bell(rng);
            f->at[i][j].y = strength * bell(rng);
        }
}

/*
 * The weights of the three control points next to a coordinate in [-0.5, 1.5]; returns the index of
 * the first.
 */
static int field_weights(float x, float w[3]) {
    float u = (x + 0.5F) * 0.5F * (float)(GRID - 2);
    u = u < 0.0F ? 0.0F : u > (float)(GRID - 2) - 0.001F ? (float)(GRID - 2) - 0.001F : u;
    const int first = (int)u;
    const float t = u - (float)first;
    w[0] = 0.5F * (1.0F - t) * (1.0F - t);
    w[1] = 0.5F + t * (1.0F - t);
    w[2] = 0.5F * t * t;
    return first;
}

static point field_move(const field *f, point p) {
    float wx[3], wy[3];
    const int x = field_weights(p.x, wx), y = field_weights(p.y, wy);
    point out = p;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            out.x += wy[i] * wx[j] * f->at[y + i][x + j].x;
            out.y += wy[i] * wx[j] * f->at[y + i][x + j].y;
        }
    return out;
}

/* Random waist, taper, elastic field, width, slant and rotation, in this order. */
static void distort(mnd_rng *rng, line *l) {
    field f;
    const float waist = 0.22F * bell(rng), taper = 0.24F * bell(rng);
    field_start(rng, between(rng, 0.03F, 0.16F), &f);
    const float width = 1.0F + 0.22F * bell(rng);
    const float slant = 0.16F + 0.27F * bell(rng);
    /* cos and sin of 2 atan(h) */
    const float h = 0.06F * bell(rng), norm = 1.0F / (1.0F + h * h);
    const float co = (1.0F - h * h) * norm, si = 2.0F * h * norm;
    for (int i = 0; i < l->n; i++) {
        point p = l->at[i];
        p.x *= 1.0F + taper * (2.0F * p.y - 1.0F);
        p.y += waist * p.y * (1.0F - p.y);
        p = field_move(&f, p);
        const float x = width * p.x + slant * (0.5F - p.y), y = p.y;
        l->at[i] = (point){co * x - si * y, si * x + co * y};
    }
}

/* The radius of the pen at each point: `mean` in the middle, changing linearly along the path. */
static void press(line *l, float mean, float taper) {
    for (int i = 0; i < l->n; i++)
        l->radius[i] = mean * (1.0F + taper * (2.0F * (float)i / (float)l->n - 1.0F));
}

/* Scales and shifts the path so that the ink fills a box of MNIST's size. */
static void fit_box(line *l) {
    int left = 0, right = 0, top = 0, bottom = 0;
    for (int i = 1; i < l->n; i++) {
        if (l->at[i].x < l->at[left].x) left = i;
        if (l->at[i].x > l->at[right].x) right = i;
        if (l->at[i].y < l->at[top].y) top = i;
        if (l->at[i].y > l->at[bottom].y) bottom = i;
    }
    const float w = l->at[right].x - l->at[left].x, h = l->at[bottom].y - l->at[top].y;
    const float pen_w = l->radius[left] + l->radius[right];
    const float pen_h = l->radius[top] + l->radius[bottom];
    const float scale_w = ((float)BOX - pen_w) / w, scale_h = ((float)BOX - pen_h) / h;
    const float scale = scale_w < scale_h ? scale_w : scale_h;
    /* The upper left corner of the ink, in the units of the path before scaling. */
    const float x0 = l->at[left].x - l->radius[left] / scale;
    const float y0 = l->at[top].y - l->radius[top] / scale;
    /* The box begins at whole pixels, as in MNIST; centre() shifts it by whole pixels. */
    const float ink_w = w * scale + pen_w, ink_h = h * scale + pen_h;
    l->x0 = (int)(0.5F * ((float)SIDE - ink_w));
    l->y0 = (int)(0.5F * ((float)SIDE - ink_h));
    /* A last column or row of less than a tenth of a pixel is left out. */
    l->x1 = l->x0 + (int)(ink_w + 0.9F);
    l->y1 = l->y0 + (int)(ink_h + 0.9F);
    for (int i = 0; i < l->n; i++) {
        l->at[i].x = (l->at[i].x - x0) * scale + (float)l->x0;
        l->at[i].y = (l->at[i].y - y0) * scale + (float)l->y0;
    }
}

/*
 * Raises depth[y][x] to the distance by which the centre of the pixel lies inside the outline of a
 * stroke from a to b; it is negative outside.
 */
static void ink(float depth[SIDE][SIDE], point a, point b, float radius) {
    const float reach = radius + 1.5F;
    const float left = (a.x < b.x ? a.x : b.x) - reach, right = (a.x < b.x ? b.x : a.x) + reach;
    const float top = (a.y < b.y ? a.y : b.y) - reach, bottom = (a.y < b.y ? b.y : a.y) + reach;
    const int x0 = left < 0.0F ? 0 : (int)left, y0 = top < 0.0F ? 0 : (int)top;
    const int x1 = right > (float)SIDE - 1.0F ? SIDE - 1 : (int)right;
    const int y1 = bottom > (float)SIDE - 1.0F ? SIDE - 1 : (int)bottom;
    const float dx = b.x - a.x, dy = b.y - a.y;
    const float length2 = dx * dx + dy * dy;
    const float inverse = length2 > 1e-12F ? 1.0F / length2 : 0.0F;
    for (int y = y0; y <= y1; y++) {
        const float py = (float)y + 0.5F - a.y;
        for (int x = x0; x <= x1; x++) {
            const float px = (float)x + 0.5F - a.x;
            float t = (px * dx + py * dy) * inverse;
            t = t < 0.0F ? 0.0F : t;
            t = t > 1.0F ? 1.0F : t;
            const float ex = px - t * dx, ey = py - t * dy;
            const float d = radius - sqrtf(ex * ex + ey * ey);
            depth[y][x] = d > depth[y][x] ? d : depth[y][x];
        }
    }
}

/* Shifts the picture by whole pixels so that its centre of mass is in the middle. */
static void centre(const uint8_t in[SIDE][SIDE], uint8_t *out) {
    int64_t mass = 0, mx = 0, my = 0;
    int low[2] = {SIDE, SIDE}, high[2] = {0, 0};
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            const int v = in[y][x];
            if (v == 0) continue;
            mass += v;
            mx += v * (2 * x + 1);
            my += v * (2 * y + 1);
            low[0] = x < low[0] ? x : low[0];
            low[1] = y < low[1] ? y : low[1];
            high[0] = x > high[0] ? x : high[0];
            high[1] = y > high[1] ? y : high[1];
        }
    memset(out, 0, SIDE * SIDE);
    if (mass == 0) return;
    int shift[2];
    const int64_t moment[2] = {mx, my};
    for (int i = 0; i < 2; i++) {
        /* Coordinates are in half pixels, so the middle is SIDE. No ink may leave the picture. */
        const int64_t away = mass * SIDE - moment[i];
        shift[i] = (int)((away >= 0 ? away + mass : away - mass) / (2 * mass));
        if (shift[i] < -low[i]) shift[i] = -low[i];
        if (shift[i] > SIDE - 1 - high[i]) shift[i] = SIDE - 1 - high[i];
    }
    for (int y = low[1]; y <= high[1]; y++)
        for (int x = low[0]; x <= high[0]; x++)
            out[(y + shift[1]) * SIDE + x + shift[0]] = in[y][x];
}

void mnd_synth_digit(uint64_t seed, mnd_split split, int64_t index, uint8_t out[28 * 28],
                     uint8_t *label) {
    mnd_rng rng;
    /* 32 bits of the index are enough: a split has fewer than 2^31 images. */
    mnd_rng_start(&rng, seed, MND_RNG_SYNTH, (uint32_t)index, (uint32_t)split);
    const unsigned digit = mnd_rng_below(&rng, 10);
    *label = (uint8_t)digit;
    const mnd_synth_style *s = pick_style(&rng, digit);
    point p[MND_SYNTH_MAX_KNOTS] = {{0}};
    place_knots(&rng, s, p);
    line l = {0};
    trace(s, p, &l);
    distort(&rng, &l);

    float radius = 1.28F + 0.36F * bell(&rng);
    radius = radius < 0.7F ? 0.7F : radius;
    const float taper = 0.12F * bell(&rng); /* change of the radius along the path */
    const float edge = 1.0F / between(&rng, 0.7F, 1.3F);
    const float rough = between(&rng, 0.0F, 0.6F);
    const float full = between(&rng, 248.0F, 275.0F);
    press(&l, radius, taper);
    fit_box(&l);
    float depth[SIDE][SIDE];
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) depth[y][x] = -2.0F;
    for (int i = 1; i < l.n; i++) {
        if (l.lifted[i]) continue;
        ink(depth, l.at[i - 1], l.at[i], l.radius[i]);
    }
    uint8_t drawn[SIDE][SIDE] = {0};
    for (int y = l.y0; y < l.y1; y++)
        for (int x = l.x0; x < l.x1; x++) {
            if (depth[y][x] < -1.0F) continue;
            float cover = depth[y][x] * edge + 0.5F;
            /* Roughness of the edges. */
            if (depth[y][x] < 1.0F) cover += rough * (mnd_rng_uniform(&rng) - 0.5F);
            cover = cover < 0.0F ? 0.0F : cover > 1.0F ? 1.0F : cover;
            const float v = full * cover + 0.5F;
            drawn[y][x] = (uint8_t)(v > 255.0F ? 255.0F : v);
        }
    centre(drawn, out);
}

mnd_status mnd_synth_file(const char *target, int64_t images, int64_t test_images, uint64_t seed,
                          mnd_progress_fn progress, void *context) {
    mnd_status status = MND_OK;
    mnd_dataset_writer *writer = NULL;
    void *memory = NULL;
    const int64_t count[2] = {[MND_TRAIN] = images, [MND_TEST] = test_images};
    for (int split = 0; split < 2; split++)
        if (count[split] < 1 || count[split] > INT32_MAX)
            return mnd_fail(MND_RANGE, "%s: cannot write %lld %s images; 1 to %ld are possible",
                            target, (long long)count[split],
                            split == MND_TRAIN ? "training" : "test", (long)INT32_MAX);
    mnd_dataset_info info = {.count = {images, test_images},
                             .height = SIDE,
                             .width = SIDE,
                             .channels = 1,
                             .classes = 10};
    for (int digit = 0; digit < 10; digit++)
        snprintf(info.class_name[digit], sizeof info.class_name[digit], "%d", digit);
    snprintf(info.source, sizeof info.source, "mnist_dist synth --seed %llu",
             (unsigned long long)seed);
    MND_TRY(mnd_alloc(&memory, BATCH, SIDE * SIDE + 1, "digits to be written"));
    uint8_t *pixel = memory, *label = pixel + BATCH * SIDE * SIDE;
    MND_TRY(mnd_dataset_writer_create(target, &info, &writer));
    int64_t done = 0;
    for (int split = MND_TRAIN; split <= MND_TEST; split++)
        for (int64_t first = 0; first < count[split]; first += BATCH) {
            const int64_t left = count[split] - first, n = left < BATCH ? left : BATCH;
            for (int64_t i = 0; i < n; i++)
                mnd_synth_digit(seed, (mnd_split)split, first + i, pixel + i * SIDE * SIDE,
                                label + i);
            MND_TRY(mnd_dataset_writer_append(writer, (mnd_split)split, n, pixel, label));
            done += n;
            if (progress != NULL) progress(context, done, images + test_images);
        }
    status = mnd_dataset_writer_finish(&writer);
cleanup:
    mnd_dataset_writer_abort(&writer);
    mnd_free(memory);
    return status;
}
