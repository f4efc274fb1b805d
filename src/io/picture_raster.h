/*
 * picture_raster.h - a picture as a file holds it, before it becomes grey. Private to
 * src/io/picture_*.c.
 */
#ifndef MNIST_DIST_IO_PICTURE_RASTER_H
#define MNIST_DIST_IO_PICTURE_RASTER_H

#include <stdbool.h>

#include "mnist_dist/picture.h"

enum {
    MND_RASTER_SIDE = 1 << 16,  /* longest side */
    MND_RASTER_PIXELS = 1 << 26 /* most pixels */
};

typedef struct mnd_raster {
    int height, width;
    int channels;   /* 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha */
    uint8_t *value; /* (height, width, channels), owned */
} mnd_raster;

/* Decoders. `bytes` NULL: from `path`, otherwise n bytes in memory, called `path` in error lines.
 */
MND_CHECKED mnd_status mnd_raster_png(const uint8_t *bytes, size_t n, const char *path,
                                      mnd_raster *out);
MND_CHECKED mnd_status mnd_raster_jpeg(const uint8_t *bytes, size_t n, const char *path,
                                       mnd_raster *out);

/*
 * Turns *in into grey values and frees it, also after a failure. Colours become Rec. 709 luma;
 * with `any_channel`, red, green or blue alone where luma hardly shows what they show. Transparent
 * pixels become paper: see picture_grey.c. MND_FORMAT for a picture that is transparent all over.
 */
MND_CHECKED mnd_status mnd_raster_to_grey(mnd_raster *in, bool any_channel, mnd_picture *out);

/* The smallest value that at most 1 - p of the counted values exceed. */
int mnd_quantile(const int64_t count[256], double p);
/*
 * The threshold that separates two groups of counted values best: N. Otsu, "A threshold selection
 * method from gray-level histograms", IEEE Trans. SMC 9 (1979). *distance, unless NULL: how far the
 * means of the two groups lie apart.
 */
int mnd_otsu(const int64_t count[256], double *distance);

#endif
