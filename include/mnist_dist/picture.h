/*
 * picture.h - grey pictures: reading PNG and JPEG, writing PNG, bringing any picture into the form
 * of the training images, and drawing pictures on a terminal.
 */
#ifndef MNIST_DIST_PICTURE_H
#define MNIST_DIST_PICTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "mnist_dist/dataset.h"
#include "mnist_dist/status.h"

/* Grey values, row-major, 0 black .. 255 white. */
typedef struct mnd_picture {
    int height, width;
    uint8_t *pixel; /* (height, width), owned; free with mnd_picture_free */
} mnd_picture;

/*
 * Reads any PNG: palette, grey or colour, 1 to 16 bits, interlaced or not. Colours become grey by
 * Rec. 709 luma. Ink on a transparent canvas gets a paper of the other shade: white below dark ink,
 * black below light ink. At most 2^26 pixels, and 2^16 per side. MND_NOT_FOUND, MND_IO, MND_FORMAT.
 */
MND_CHECKED mnd_status mnd_picture_read_png(const char *path, mnd_picture *out);
/* The same for a file in memory. `name` is used in error lines. */
MND_CHECKED mnd_status mnd_picture_decode_png(const uint8_t *bytes, size_t n, const char *name,
                                              mnd_picture *out);
/*
 * The same for PNG and JPEG, by the first bytes. A JPEG is turned upright as its Exif data says.
 * Where luma hardly tells ink from paper, but red, green or blue alone does, that one is taken.
 */
MND_CHECKED mnd_status mnd_picture_read(const char *path, mnd_picture *out);
MND_CHECKED mnd_status mnd_picture_decode(const uint8_t *bytes, size_t n, const char *name,
                                          mnd_picture *out);
/* Writes an 8-bit grey PNG (temporary file and rename). */
MND_CHECKED mnd_status mnd_picture_write_png(const char *path, const mnd_picture *picture);
void mnd_picture_free(mnd_picture *picture);

/* What the images that a network was trained on have in common. */
typedef struct mnd_picture_form {
    double images;     /* how many were measured; 0: nothing is known */
    double background; /* grey value of the border: the median of all images' medians */
    double ink;        /* grey value of full ink; equal to background: the images have no ink */
    double uniform; /* part of the images whose border is background, 0.9 of its pixels or more */
    double extent;  /* longer side of the ink's box, as part of the image's side: the median */
    double by_mass; /* 1: the centre of mass is in the middle; 0: the centre of the box */
} mnd_picture_form;

/* That of MNIST's images; `images` is 0. */
extern const mnd_picture_form mnd_picture_mnist;

/* Measures 256 training images of a data file, or all if it has fewer; always the same ones. */
MND_CHECKED mnd_status mnd_picture_measure(mnd_dataset *data, mnd_picture_form *out);

/* The median of the border's pixels; *part becomes the part of them within 32 of `near`. */
int mnd_picture_border(const uint8_t *pixel, int height, int width, double near, double *part);

#define MND_PICTURE_DIGITS 250 /* most digits of one picture */

typedef struct mnd_picture_target {
    int height, width;
    mnd_picture_form form;
    bool as_is; /* take the whole picture, only scaled if it has another size */
    bool split; /* several digits: an image of each */
} mnd_picture_target;

typedef struct mnd_picture_images {
    int n;          /* 1; with split, the number of digits, from left to right */
    uint8_t *pixel; /* (n, height, width), owned; free with mnd_picture_images_free */
    int digits;     /* how many digits seem to be in the picture */
    char done[256]; /* what was done to the picture */
} mnd_picture_images;

/*
 * Brings a picture into the form of the training images. One of the target's size is taken as it
 * is; if its background is that of no training image, it is inverted or treated like the others:
 *
 *   1. The paper is a local median of the picture; ink is what differs from it (uneven light,
 *      shadows and vignettes do not).
 *   2. Straight lines from border to border are removed: ruled and squared paper, frames.
 *   3. Of the connected components of ink, those are dropped that touch the border (the edge of a
 *      table), surround the others (a frame), or are much smaller or paler than the largest.
 *   4. As described by LeCun et al. ("Gradient-based learning applied to document recognition",
 *      1998, section III.A, and the web page of the data): cropped to the ink, scaled by area
 *      averaging so that the longer side is `extent` of the target (lines thinner than a thin pen
 *      are widened), and shifted by whole pixels so that the centre of mass is in the middle.
 *
 * MND_FORMAT for an empty picture.
 */
MND_CHECKED mnd_status mnd_picture_prepare(const mnd_picture *in, const mnd_picture_target *target,
                                           mnd_picture_images *out);
void mnd_picture_images_free(mnd_picture_images *images);

/* One digit in MNIST's form. out: (height, width). */
MND_CHECKED mnd_status mnd_picture_normalize(const mnd_picture *in, int height, int width,
                                             uint8_t *out);

/*
 * Draws grey values on a terminal: with `colour`, two pixels per character cell by U+2580 and
 * 24-bit ANSI colours; otherwise a pair of equal characters per pixel, one of " .:-=+*#%@".
 */
void mnd_picture_draw(FILE *stream, const uint8_t *pixel, int height, int width, int colour);

/* Prints the pixels as numbers of three columns with a space between, one line per row. */
void mnd_picture_numbers(FILE *stream, const uint8_t *pixel, int height, int width);

#endif
