/* augment_rows.h - the loops over pixels of augment.c, in blocks of 16. */
#ifndef MNIST_DIST_TRAIN_AUGMENT_ROWS_H
#define MNIST_DIST_TRAIN_AUGMENT_ROWS_H

#include <stdint.h>

enum { MND_AUGMENT_LANES = 16 };

/* Where the pixels of one row of the result lie in the input. */
typedef struct mnd_augment_line {
    int blocks;            /* of 16 pixels */
    float start[2];        /* x and y of pixel 0, counted from the corner of the border */
    float step[2];         /* from one pixel to the next */
    float bend[2][4];      /* displacements of x and y at the four columns of the grid */
    float limit[2];        /* largest x and y; what lies further out is in the border, too */
    const float *basis[4]; /* (16 blocks) the weight of each column of the grid */
    int32_t stride;        /* of rows of the input */
} mnd_augment_line;

/* The pixel up and to the left of each point, as an index, and the point's fraction of a pixel to
   the right of it and below it. All arrays (16 blocks). */
void mnd_augment_where(const mnd_augment_line *line, int32_t *index, float *right, float *below);

/* Packs neighbours: square[x] is upper[x], upper[x + 1], lower[x], lower[x + 1] from the lowest
   byte up, so that one load brings all that a bilinear interpolation needs. */
void mnd_augment_pack(int blocks, const uint8_t *upper, const uint8_t *lower, uint32_t *square);

/* out = the packed pixels at `index`, interpolated, over 255. */
void mnd_augment_blend(const mnd_augment_line *line, const uint32_t *square, const int32_t *index,
                       const float *right, const float *below, float *out);

#endif
