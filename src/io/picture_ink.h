/*
 * picture_ink.h - finds the digits in a picture of any size. Private to src/io/picture_*.c.
 *
 *   picture_background.c  paper and ink: what a pixel differs from the paper around it
 *   picture_lines.c       removes ruled lines
 *   picture_ink.c         connected components: which are strokes, and of how many digits
 *   picture_normalize.c   brings a digit into the form of the training images
 */
#ifndef MNIST_DIST_IO_PICTURE_INK_H
#define MNIST_DIST_IO_PICTURE_INK_H

#include <stdbool.h>

#include "mnist_dist/picture.h"

/* Connected ink. Cells; y1 and x1 are exclusive. */
typedef struct mnd_blot {
    int y0, x0, y1, x1;
    int32_t area;
    int32_t contact; /* cells on the border of the picture */
    float mass;      /* sum of stretched ink */
    int digit;       /* 0: no part of a digit; otherwise digits are counted from 1, left to right */
} mnd_blot;

/*
 * The picture reduced by a whole factor to cells. Ink is 0 for the paper and larger the more a
 * cell differs from it, whichever of the two is lighter.
 */
typedef struct mnd_ink {
    const mnd_picture *in;
    int factor, height, width;
    uint8_t *grey, *paper, *ink; /* (height, width) */
    uint8_t *line;               /* (height, width) 1: a ruled line was removed there */
    int32_t *label;              /* (height, width) blot + 1, or 0 */
    int32_t *stack;              /* (height * width), for searches */
    mnd_blot *blot;
    int n_blot;
    uint8_t *owner; /* (height, width) the digit that a cell belongs to, or 0 */
    int n_digit;
    bool dark;       /* ink is darker than the paper */
    float low, high; /* ink up to `low` counts as none, ink from `high` on as full */
    /* What was done. */
    bool levelled, frame, border, specks, lined;
    int lines; /* drawn ones; `lined`: some were removed, drawn or not */
} mnd_ink;

/* The ink of a grey value where the paper has another, 0 to 255. */
int mnd_ink_of(bool dark, int paper, int grey);
/* Ink with stretched contrast, 0 to 1. */
float mnd_ink_stretched(const mnd_ink *o, int ink);

/* What is tried in turn, until something is found that resembles a digit. */
typedef enum mnd_guess {
    MND_GUESS_FIRST,   /* even light if it seems so, otherwise as below */
    MND_GUESS_UNEVEN,  /* uneven light */
    MND_GUESS_OPPOSITE /* the same, and light ink instead of dark, or dark instead of light */
} mnd_guess;

/* Finds paper, polarity and contrast; fills o->paper and o->ink. MND_FORMAT for an empty picture.
 */
MND_CHECKED mnd_status mnd_ink_separate(mnd_ink *o, mnd_guess guess);
/* Contrast again, of the cells where `use` is not 0. */
void mnd_ink_contrast(mnd_ink *o, const uint8_t *use);
/* The contrast of the darkest of two kinds of ink in one blot: ink below a shadow. */
void mnd_ink_raise(mnd_ink *o, int32_t label);
/* Removes lines that run from border to border: o->line, o->lines, and o->ink becomes 0 there. */
MND_CHECKED mnd_status mnd_ink_remove_lines(mnd_ink *o);

/* All of the above, and the digits. Free with mnd_ink_free, also after a failure. */
MND_CHECKED mnd_status mnd_ink_find(const mnd_picture *in, mnd_ink *o);
void mnd_ink_free(mnd_ink *o);

#endif
