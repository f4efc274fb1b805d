/*
 * synth_styles.h - the handwriting styles in which synth.c draws the digits: data only.
 *
 * A style is a list of knots, the points through which the pen passes. Each knot has two positions,
 * one at either end of the style's range; the position that is drawn lies anywhere between the two
 * or a little beyond.
 */
#ifndef MNIST_DIST_IO_SYNTH_STYLES_H
#define MNIST_DIST_IO_SYNTH_STYLES_H

#include <stdint.h>

enum { MND_SYNTH_MAX_KNOTS = 24, MND_SYNTH_N_STYLES = 70 };

/* How the pen reaches a knot. */
typedef enum mnd_synth_kind {
    MND_SYNTH_MOVE,   /* lifted: a stroke begins here */
    MND_SYNTH_SMOOTH, /* drawing, and on without a change of direction */
    MND_SYNTH_CORNER  /* drawing, and on in any direction */
} mnd_synth_kind;

/* In hundredths of the digit's height, x to the right and y down. */
typedef struct mnd_synth_knot {
    uint8_t kind;          /* mnd_synth_kind */
    int8_t x0, y0, x1, y1; /* the two ends of the range */
} mnd_synth_knot;

typedef struct mnd_synth_style {
    uint8_t digit;
    uint8_t weight; /* how often the style is drawn, relative to the others of its digit */
    uint8_t n_knot; /* at most MND_SYNTH_MAX_KNOTS */
    const mnd_synth_knot *knot;
} mnd_synth_style;

extern const mnd_synth_style mnd_synth_styles[MND_SYNTH_N_STYLES];

#endif
