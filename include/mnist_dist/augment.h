/*
 * augment.h - training images distorted anew in every epoch, so that a network cannot learn them by
 * heart.
 *
 * An image is scaled, sheared, turned and shifted about its centre, then bent, all in one bilinear
 * resampling; a square of it may be erased. What an image gets depends on (seed, epoch, sample)
 * alone, not on the process or thread that computes it: the same bits on any number of ranks.
 *
 * A pixel at p of the result, p = (x, y) with x to the right and y down, is the input at
 *
 *     centre + M^-1 (p - centre - shift) + d(p),    M = R(angle) K(shear) S(scale)
 *
 * where S multiplies x and y by factors of their own, K adds shear * y to x, R turns, and outside
 * the image everything is 0. d is a bicubic polynomial in x and y, through random displacements on
 * a grid of 4 x 4 points, the outer ones in the image's corners. Sources: Simard, Steinkraus and
 * Platt, "Best practices for convolutional neural networks", ICDAR 2003 (affine and elastic
 * distortions; they smooth displacements of all pixels, which is about as much bending with more
 * work); Ciresan et al., "Deep, big, simple neural nets", 2010 (horizontal and vertical scaling
 * apart); DeVries and Taylor, "Improved regularization with cutout", 2017 (the erased square).
 */
#ifndef MNIST_DIST_AUGMENT_H
#define MNIST_DIST_AUGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/status.h"

/* How much. Zero is none of it. The numbers in brackets are the largest that are accepted. */
typedef struct mnd_augment {
    double rotate;  /* degrees: the angle is uniform in [-rotate, rotate] [180] */
    double scale;   /* factors of width and height, each uniform in 1 +- scale [0.9] */
    double shear;   /* horizontal, uniform in [-shear, shear] [2] */
    double shift;   /* pixels, x and y each uniform in [-shift, shift]; may be fractions [1000] */
    double elastic; /* pixels: deviation of each random displacement of the grid, x and y [100] */
    double erase;   /* pixels: side of a square that becomes 0, a whole number [1000] */
} mnd_augment;

#define MND_AUGMENT_TEXT 192 /* longest text, with its terminating zero */

/*
 * From text: parts such as rotate:12,scale:0.12,shear:0.15,shift:2,elastic:1.2,erase:6 in any
 * order, each once; "none" is none. MND_USAGE.
 */
MND_CHECKED mnd_status mnd_augment_parse(const char *text, mnd_augment *out);
/* To text, in the order of the struct, without parts that are 0; "" for none. */
void mnd_augment_text(const mnd_augment *how, char out[MND_AUGMENT_TEXT]);
bool mnd_augment_any(const mnd_augment *how);

/* What one image gets. */
typedef struct mnd_distortion {
    double angle;      /* radians; positive turns counter-clockwise as seen */
    double scale[2];   /* factors of x and y */
    double shear;      /* x += shear * y */
    double shift[2];   /* pixels in x (to the right) and y (down) */
    float bend[2][16]; /* pixels in x and y at the points of the grid, row by row */
    double erase[2];   /* the centre of the erased square, as a fraction of width and height */
} mnd_distortion;

/*
 * The distortion of a sample (its number in the training set) in an epoch, counted from 1. Each
 * part has random numbers of its own: switching one on changes no other. A displacement of the grid
 * is the sum of four random bytes, centred and scaled to deviation `elastic`: nearly normal, and
 * at most 3.5 deviations. No function of the C library is involved, whose last bit may differ
 * between machines.
 */
void mnd_augment_draw(const mnd_augment *how, uint64_t seed, uint32_t epoch, uint32_t sample,
                      mnd_distortion *out);

/* Distorts images of one size; opaque. Has memory for `threads` threads at a time. */
typedef struct mnd_augmenter mnd_augmenter;

/*
 * For images (height, width, channels). MND_USAGE if the square to erase is larger than they are,
 * MND_NO_MEMORY.
 */
MND_CHECKED mnd_status mnd_augmenter_create(const mnd_augment *how, int height, int width,
                                            int channels, int threads, mnd_augmenter **out);
/* NULL-safe; sets *augmenter to NULL. */
void mnd_augmenter_destroy(mnd_augmenter **augmenter);

/* The sample's image `in` as thread `thread` < threads gives it to the network: values 0 to 1. */
void mnd_augmenter_image(mnd_augmenter *a, int thread, const mnd_distortion *d, const uint8_t *in,
                         float *out);

#endif
