/*
 * picture.h - pictures from outside and on the terminal: reading PNG, bringing any picture into the
 * form of the training images, and drawing it with characters.
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
 * Reads any PNG: palette, grey or colour, 1 to 16 bits, interlaced; transparency is laid on white;
 * colour becomes grey by Rec. 709 luma. At most 2^26 pixels and 2^16 a side. MND_NOT_FOUND, MND_IO,
 * MND_FORMAT.
 */
MND_CHECKED mnd_status mnd_picture_read_png(const char *path, mnd_picture *out);
/* The same from memory: what the fuzzer drives. `name` stands in error lines. */
MND_CHECKED mnd_status mnd_picture_decode_png(const uint8_t *bytes, size_t n, const char *name,
                                              mnd_picture *out);
/* Writes an 8-bit grey PNG (temporary file and rename). */
MND_CHECKED mnd_status mnd_picture_write_png(const char *path, const mnd_picture *picture);
void mnd_picture_free(mnd_picture *picture);

/*
 * Makes a picture look like an MNIST digit, as LeCun et al. describe ("Gradient-based learning
 * applied to document recognition", 1998, section III.A, and the page of the data): light ink on
 * dark (inverted when the border is lighter than the inside), background removed, contrast
 * stretched, specks of dirt dropped, cropped to the ink, scaled by area averaging so that the
 * longer side is 20/28 of the target (hair lines are widened to those of a thin pen), and placed,
 * by whole pixels, so that the centre of mass lies in the middle of (height, width).
 * A picture that already has the target size and a dark border is taken as it is.
 * MND_FORMAT for an empty picture (one single grey). out: (height, width).
 */
MND_CHECKED mnd_status mnd_picture_normalize(const mnd_picture *in, int height, int width,
                                             uint8_t *out);

/*
 * Draws grey values on a terminal. With `colour`, two pixels a character cell by U+2580 and 24-bit
 * ANSI colours; otherwise one character pair a pixel out of " .:-=+*#%@".
 */
void mnd_picture_draw(FILE *stream, const uint8_t *pixel, int height, int width, int colour);

/* The pixels as a table of numbers, three columns each and a space between, one row a line. */
void mnd_picture_numbers(FILE *stream, const uint8_t *pixel, int height, int width);

#endif
