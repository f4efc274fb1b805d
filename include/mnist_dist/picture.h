/*
 * picture.h - grey pictures: reading and writing PNG, normalising any picture to the form of the
 * training images, and drawing pictures on a terminal.
 */
#ifndef MNIST_DIST_PICTURE_H
#define MNIST_DIST_PICTURE_H

#include <stdint.h>
#include <stdio.h>

#include "mnist_dist/status.h"

/* Grey values, row-major, 0 black .. 255 white. */
typedef struct mnd_picture {
    int height, width;
    uint8_t *pixel; /* (height, width), owned; free with mnd_picture_free */
} mnd_picture;

/*
 * Reads any PNG: palette, grey or colour, 1 to 16 bits, interlaced or not. Transparent pixels are
 * blended with white; colours become grey by Rec. 709 luma. At most 2^26 pixels, and 2^16 per side.
 * MND_NOT_FOUND, MND_IO, MND_FORMAT.
 */
MND_CHECKED mnd_status mnd_picture_read_png(const char *path, mnd_picture *out);
/* The same for a file in memory. `name` is used in error lines. */
MND_CHECKED mnd_status mnd_picture_decode_png(const uint8_t *bytes, size_t n, const char *name,
                                              mnd_picture *out);
/* Writes an 8-bit grey PNG (temporary file and rename). */
MND_CHECKED mnd_status mnd_picture_write_png(const char *path, const mnd_picture *picture);
void mnd_picture_free(mnd_picture *picture);

/*
 * Normalises a picture of a digit to the form of MNIST's images, as described by LeCun et al.
 * ("Gradient-based learning applied to document recognition", 1998, section III.A, and the web page
 * of the data): ink light on a dark background (inverted if the border is lighter than the inside),
 * background removed, contrast stretched, small specks removed, cropped to the ink, scaled by area
 * averaging so that the longer side is 20/28 of the target (lines thinner than a thin pen are
 * widened), and shifted by whole pixels so that the centre of mass is in the middle of
 * (height, width). A picture that already has the target size and a dark border is copied
 * unchanged. MND_FORMAT for an empty picture (all pixels equal). out: (height, width).
 */
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
