/* picture_form.c - what the images of a data set have in common. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "mnist_dist/memory.h"
#include "mnist_dist/picture.h"
#include "picture_raster.h"

const mnd_picture_form mnd_picture_mnist = {.images = 0.0,
                                            .background = 0.0,
                                            .ink = 255.0,
                                            .uniform = 1.0,
                                            .extent = 20.0 / 28.0,
                                            .by_mass = 1.0};

/* The images are read in runs, evenly spaced: files are often sorted by class. */
enum { RUNS = 16, RUN = 16, SAMPLE = RUNS * RUN };

typedef struct sample {
    int n, height, width;
    uint8_t *pixel; /* (n, height, width) */
    double value[SAMPLE];
} sample;

static const uint8_t *image_of(const sample *s, int i) {
    return s->pixel + (size_t)i * (size_t)s->height * (size_t)s->width;
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *value, int n) {
    qsort(value, (size_t)n, sizeof *value, compare);
    return value[n / 2];
}

/* Counts the values on the border; returns their number. */
static int64_t count_border(const uint8_t *pixel, int height, int width, int64_t count[256]) {
    int64_t n = 0;
    memset(count, 0, 256 * sizeof count[0]);
    for (int y = 0; y < height; y++) {
        const bool whole_row = y == 0 || y == height - 1 || width == 1;
        for (int x = 0; x < width; x += whole_row ? 1 : width - 1, n++)
            count[pixel[(size_t)y * (size_t)width + (size_t)x]]++;
    }
    return n;
}

int mnd_picture_border(const uint8_t *pixel, int height, int width, double near, double *part) {
    int64_t count[256], close = 0;
    const int64_t n = count_border(pixel, height, width, count);
    for (int i = 0; i < 256; i++)
        if (fabs(i - near) < 32.0) close += count[i];
    *part = (double)close / (double)n;
    return mnd_quantile(count, 0.5);
}

/* Background, ink, and how often the border is all background. False if there is no common one. */
static bool measure_greys(sample *s, mnd_picture_form *f) {
    const int pixels = s->height * s->width;
    double part, way = 0;
    int uniform = 0;
    for (int i = 0; i < s->n; i++)
        s->value[i] = mnd_picture_border(image_of(s, i), s->height, s->width, 0.0, &part);
    f->background = median(s->value, s->n);
    for (int i = 0; i < s->n; i++) {
        double sum = 0;
        (void)mnd_picture_border(image_of(s, i), s->height, s->width, f->background, &part);
        uniform += part >= 0.9;
        for (int k = 0; k < pixels; k++) sum += image_of(s, i)[k] - f->background;
        way += (sum > 3.0 * pixels) - (sum < -3.0 * pixels);
    }
    f->uniform = (double)uniform / s->n; /* 1 exactly where all are */
    /* The ink: how far a usual image goes from the background, on the side where most of them go.
     */
    for (int i = 0; i < s->n; i++) {
        double most = 0;
        for (int k = 0; k < pixels; k++) {
            const double d = (image_of(s, i)[k] - f->background) * (way > 0 ? 1 : -1);
            most = d > most ? d : most;
        }
        s->value[i] = most;
    }
    const double ink = median(s->value, s->n);
    f->ink = f->background + (way > 0 ? ink : -ink);
    if (fabs(way) >= 0.5 * s->n && ink >= 1.0) return true;
    f->ink = f->background;
    f->uniform = 0.0;
    return false;
}

/* How much of the frame the ink fills, and what is in the middle: the centre of mass, or the box.
 */
static void measure_ink(sample *s, mnd_picture_form *f) {
    double by_mass = 0, by_box = 0;
    for (int i = 0; i < s->n; i++) {
        double mass = 0, my = 0, mx = 0;
        int y0 = s->height, y1 = 0, x0 = s->width, x1 = 0;
        for (int y = 0; y < s->height; y++)
            for (int x = 0; x < s->width; x++) {
                double v =
                    (image_of(s, i)[y * s->width + x] - f->background) / (f->ink - f->background);
                v = v < 0.0 ? 0.0 : v;
                mass += v;
                my += v * (y + 0.5);
                mx += v * (x + 0.5);
                if (v < 0.1) continue;
                y0 = y < y0 ? y : y0;
                y1 = y >= y1 ? y + 1 : y1;
                x0 = x < x0 ? x : x0;
                x1 = x >= x1 ? x + 1 : x1;
            }
        s->value[i] = 0.0;
        if (mass <= 0.0 || y1 <= y0) continue;
        s->value[i] = fmax((double)(y1 - y0) / s->height, (double)(x1 - x0) / s->width);
        by_mass += hypot(my / mass - 0.5 * s->height, mx / mass - 0.5 * s->width);
        by_box += hypot(0.5 * (y0 + y1 - s->height), 0.5 * (x0 + x1 - s->width));
    }
    f->extent = median(s->value, s->n);
    f->by_mass = by_mass <= by_box;
}

mnd_status mnd_picture_measure(mnd_dataset *data, mnd_picture_form *out) {
    mnd_status status = MND_OK;
    const mnd_dataset_info *info = mnd_dataset_about(data);
    const int64_t count = info->count[MND_TRAIN];
    const size_t pixels = (size_t)info->height * (size_t)info->width;
    const size_t channels = (size_t)info->channels;
    sample *s = NULL;
    uint8_t *image = NULL;
    *out = (mnd_picture_form){0};
    MND_NEW(s, 1, "the sample of the images");
    s->height = info->height;
    s->width = info->width;
    MND_NEW(s->pixel, SAMPLE * pixels, "the sample of the images");
    MND_NEW(image, RUN * pixels * channels, "the sample of the images");
    const int64_t runs = (count + RUN - 1) / RUN < RUNS ? (count + RUN - 1) / RUN : RUNS;
    for (int64_t k = 0; k < runs; k++) {
        const int64_t first = count * k / runs, left = count * (k + 1) / runs - first;
        const int n = left < RUN ? (int)left : RUN;
        MND_TRY(mnd_dataset_read(data, MND_TRAIN, first, n, image, NULL));
        for (size_t i = 0; i < (size_t)n * pixels; i++) {
            size_t sum = channels / 2;
            for (size_t c = 0; c < channels; c++) sum += image[i * channels + c];
            s->pixel[(size_t)s->n * pixels + i] = (uint8_t)(sum / channels);
        }
        s->n += n;
    }
    out->images = s->n;
    if (measure_greys(s, out)) measure_ink(s, out);
cleanup:
    if (s != NULL) mnd_free(s->pixel);
    mnd_free(s);
    mnd_free(image);
    return status;
}
