/*
 * synth.c - digits drawn by the program.
 *
 * Only +, -, *, / and sqrtf decide a pixel: IEEE 754 rounds all of them correctly, so that every
 * machine draws the same bytes. Hence the bell-shaped numbers by sums of uniform ones, the rotation
 * by its rational form and the elastic field by B-splines, none of which needs libm.
 */
#include "mnist_dist/synth.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "mnist_dist/memory.h"
#include "mnist_dist/rng.h"

enum {
    SIDE = 28,      /* of the image */
    BOX = 20,       /* of the ink's longer side, as in MNIST */
    MAX_KNOTS = 24, /* of a style */
    SPAN = 6,       /* straight pieces between two knots */
    MAX_POINTS = MAX_KNOTS * SPAN + 1,
    GRID = 5, /* control points of the elastic field along an axis */
    BATCH = 1024
};

/*
 * A knot of a stroke, in hundredths of the digit's height, x to the right and y down, at the two
 * ends of a style's range: a digit is drawn anywhere between (and a little beyond) the two.
 */
typedef struct knot {
    char kind; /* 'm' puts the pen down, 's' is passed smoothly, 'c' is a corner */
    int8_t x0, y0, x1, y1;
} knot;

#define M(x0, y0, x1, y1)                                                                          \
    { 'm', x0, y0, x1, y1 }
#define S(x0, y0, x1, y1)                                                                          \
    { 's', x0, y0, x1, y1 }
#define C(x0, y0, x1, y1)                                                                          \
    { 'c', x0, y0, x1, y1 }

/* 0: slim to round; the pen overshoots the start; a tail at the top. */
static const knot zero_plain[] = {
    M(28, 0, 55, 0),   S(10, 14, 16, 12),  S(2, 45, 0, 50),   S(8, 84, 16, 88), S(25, 100, 50, 100),
    S(42, 86, 86, 88), S(48, 50, 100, 52), S(44, 18, 88, 14), S(28, 1, 52, -1),
};
static const knot zero_tail[] = {
    M(40, 6, 70, 2),   S(18, 6, 34, 4),   S(2, 40, 2, 40),   S(4, 84, 10, 84), S(24, 100, 44, 100),
    S(48, 80, 84, 80), S(58, 42, 94, 40), S(46, 10, 74, 10), S(30, 4, 40, 8),  S(20, 16, 26, 20),
};
static const knot zero_open[] = {
    M(20, 4, 40, 8),   S(4, 26, 8, 30),   S(0, 60, 2, 66),   S(14, 94, 24, 96),
    S(34, 96, 60, 94), S(50, 66, 88, 60), S(50, 28, 84, 26), S(34, 6, 62, 2),
};

static const knot one_bar[] = {
    M(0, 0, 4, 0),
    S(0, 50, -3, 50),
    S(0, 100, 2, 100),
};
static const knot one_flag[] = {
    M(-22, 20, -36, 34), S(-8, 10, -14, 14), C(0, 0, 0, 0), S(0, 50, 2, 50), S(0, 100, 0, 100),
};
static const knot one_foot[] = {
    M(-18, 20, -32, 30), C(0, 0, 0, 0),   S(0, 50, 0, 50),   S(0, 98, 0, 98),
    M(-24, 98, -40, 98), S(0, 99, 0, 97), S(24, 98, 40, 98),
};

static const knot two_plain[] = {
    M(6, 24, 2, 16),   S(20, 6, 22, 0),  S(44, 1, 48, 3),   S(62, 20, 64, 26), S(48, 54, 52, 58),
    S(22, 80, 26, 82), C(0, 98, 0, 100), S(34, 97, 30, 94), S(72, 96, 80, 98),
};
static const knot two_loop[] = {
    M(4, 22, 6, 14),   S(22, 4, 26, 0),   S(46, 4, 54, 6),   S(56, 24, 62, 30),
    S(42, 58, 44, 58), S(22, 84, 22, 86), S(8, 96, 8, 97),   S(2, 88, -4, 84),
    S(12, 80, 16, 72), S(36, 88, 42, 86), S(58, 96, 66, 98), S(78, 92, 90, 90),
};
static const knot two_flat[] = {
    M(2, 12, 0, 30),   S(24, 4, 20, 8),  S(50, 2, 48, 0),   S(64, 12, 66, 18),  S(50, 46, 54, 42),
    S(28, 74, 28, 70), C(2, 94, -6, 92), S(40, 96, 42, 98), S(80, 100, 96, 98),
};
static const knot two_hook[] = {
    M(20, 34, 16, 30), S(4, 28, -2, 22),  S(12, 8, 12, 4),   S(40, 0, 42, 0),
    S(62, 20, 68, 24), S(46, 60, 50, 60), S(20, 92, 22, 88), S(4, 96, 0, 94),
    S(10, 84, 8, 80),  S(32, 90, 36, 88), S(76, 98, 86, 94),
};

static const knot three_plain[] = {
    M(6, 12, 4, 18),   S(28, 0, 30, 0),   S(54, 8, 60, 14),   S(48, 32, 50, 36), C(24, 46, 22, 48),
    S(54, 56, 58, 60), S(62, 78, 64, 80), S(36, 99, 34, 100), S(0, 92, -4, 84),
};
static const knot three_smooth[] = {
    M(2, 8, 8, 4),     S(28, 0, 40, 0),   S(54, 12, 62, 14), S(46, 36, 52, 32), S(30, 46, 36, 44),
    S(50, 54, 54, 54), S(62, 74, 60, 76), S(38, 98, 30, 98), S(2, 94, -8, 92),
};
static const knot three_flat[] = {
    M(2, 4, 0, 2),     S(30, 2, 32, 2),   C(60, 0, 66, 2),   S(44, 20, 44, 24), C(24, 40, 22, 42),
    S(54, 48, 56, 50), S(66, 70, 64, 74), S(38, 98, 34, 98), S(0, 90, -6, 88),
};
static const knot three_loop[] = {
    M(6, 10, 10, 6),   S(32, 0, 38, 0),     S(56, 12, 62, 12), S(44, 38, 44, 36),
    S(24, 50, 20, 48), S(18, 44, 16, 42),   S(30, 42, 30, 40), S(56, 58, 58, 56),
    S(58, 84, 58, 82), S(30, 100, 26, 100), S(2, 88, -6, 92),
};

static const knot four_open[] = {
    M(8, 4, 4, 10),    S(4, 30, -2, 34), C(2, 54, 0, 58),   S(30, 54, 34, 54),
    S(64, 50, 72, 48), M(54, 0, 64, 2),  S(50, 50, 58, 50), S(46, 100, 56, 100),
};
static const knot four_closed[] = {
    M(46, 0, 58, 2),   S(22, 30, 28, 34), C(0, 64, 0, 66),   S(34, 62, 38, 64),
    S(72, 62, 90, 62), M(48, 4, 58, 2),   S(48, 50, 56, 50), S(46, 100, 54, 100),
};
static const knot four_curve[] = {
    M(6, 0, 2, 8),     S(0, 28, -4, 30), S(10, 46, 12, 48), S(36, 46, 42, 44),
    S(58, 30, 66, 28), C(64, 2, 76, 0),  S(56, 50, 64, 50), S(48, 100, 54, 100),
};
static const knot four_sharp[] = {
    M(12, 0, 20, 4),   S(6, 26, 4, 34),  C(0, 48, 0, 56),   S(26, 46, 36, 52),
    C(58, 38, 70, 40), M(62, 4, 68, 14), S(52, 50, 56, 54), S(42, 100, 44, 100),
};
static const knot four_peak[] = {
    M(54, 14, 60, 6),  S(30, 22, 38, 16), S(6, 42, 8, 44),   S(12, 52, 10, 54),   S(40, 48, 44, 48),
    S(62, 42, 68, 40), M(58, 0, 64, 6),   S(50, 54, 56, 54), S(46, 100, 50, 100),
};

static const knot five_two[] = {
    M(14, 4, 20, 2),   S(10, 20, 14, 22), C(6, 42, 10, 44),   S(32, 36, 34, 40),
    S(58, 54, 58, 60), S(54, 84, 50, 84), S(26, 100, 22, 99), S(0, 92, -6, 88),
    M(14, 4, 20, 3),   S(40, 3, 46, 2),   S(66, 0, 82, -2),
};
static const knot five_one[] = {
    M(64, 2, 84, 0),   S(40, 2, 50, 4),   C(16, 4, 22, 6),   S(12, 22, 14, 26),  C(6, 42, 8, 46),
    S(34, 38, 38, 44), S(58, 56, 60, 62), S(50, 88, 46, 86), S(24, 100, 16, 98), S(0, 90, -10, 90),
};
static const knot five_curve[] = {
    M(70, 4, 86, 0),   S(42, 2, 50, 4),   S(20, 14, 28, 14),  S(14, 36, 24, 34), S(36, 48, 44, 48),
    S(54, 66, 56, 66), S(46, 92, 40, 88), S(22, 100, 12, 98), S(2, 90, -14, 90),
};
static const knot five_sharp[] = {
    M(60, 6, 76, 10),  S(36, 4, 44, 4),    C(18, 0, 20, 0),    S(10, 26, 10, 24),
    S(6, 50, 4, 48),   C(10, 56, 8, 56),   S(32, 46, 34, 46),  S(52, 60, 56, 58),
    S(44, 88, 46, 84), S(18, 100, 16, 98), S(-4, 94, -14, 92),
};

static const knot six_plain[] = {
    M(36, 0, 60, 0),   S(16, 26, 30, 20), S(3, 56, 6, 56),   S(6, 88, 4, 86), S(26, 100, 30, 100),
    S(46, 84, 58, 82), S(44, 62, 50, 60), S(26, 58, 28, 58), S(8, 76, 6, 78),
};
static const knot six_tall[] = {
    M(24, 0, 50, 0),   S(8, 30, 22, 26),  S(0, 66, 2, 62),   S(6, 94, 8, 92), S(24, 100, 30, 100),
    S(42, 88, 50, 86), S(38, 70, 42, 66), S(22, 66, 22, 66), S(4, 82, 4, 84),
};
static const knot six_round[] = {
    M(58, 6, 74, 12),  S(40, 0, 50, 0),   S(14, 22, 20, 16), S(2, 58, 0, 54),   S(12, 94, 14, 92),
    S(38, 98, 44, 98), S(60, 78, 70, 76), S(50, 54, 56, 54), S(24, 54, 26, 56), S(4, 74, 6, 76),
};
static const knot six_curl[] = {
    M(42, 0, 66, 4),   S(18, 30, 30, 26), S(4, 66, 4, 66),   S(16, 98, 18, 97), S(44, 90, 52, 90),
    S(52, 70, 58, 72), S(36, 60, 36, 64), S(20, 76, 22, 78), S(22, 92, 22, 90),
};

static const knot seven_plain[] = {
    M(0, 6, 0, 12), S(30, 5, 34, 8), C(62, 2, 72, 4), S(44, 44, 50, 46), S(26, 100, 34, 100),
};
static const knot seven_bar[] = {
    M(0, 6, 0, 14),      S(32, 4, 34, 6),   C(64, 2, 72, 2),   S(42, 46, 46, 50),
    S(26, 100, 26, 100), M(14, 54, 18, 50), S(38, 51, 42, 48), S(62, 50, 70, 44),
};
static const knot seven_serif[] = {
    M(0, 24, 2, 26), C(4, 4, 0, 8),     S(34, 4, 36, 8),
    C(64, 0, 70, 4), S(46, 40, 50, 44), S(32, 100, 36, 100),
};
static const knot seven_round[] = {
    M(0, 18, -4, 12),  S(20, 4, 18, 2),   S(46, 2, 48, 2),     S(62, 12, 66, 14),
    S(54, 40, 58, 42), S(36, 72, 42, 72), S(24, 100, 32, 100),
};

static const knot eight_plain[] = {
    M(54, 10, 62, 14), S(28, 0, 34, 0),   S(6, 18, 6, 20),     S(24, 42, 28, 44),
    S(50, 66, 54, 64), S(48, 92, 50, 90), S(22, 100, 22, 100), S(4, 84, 2, 84),
    S(16, 60, 20, 58), S(44, 34, 52, 34), S(54, 12, 64, 12),
};
static const knot eight_slim[] = {
    M(46, 4, 56, 8),   S(24, 0, 34, 1),   S(10, 16, 16, 18),   S(20, 42, 26, 42),
    S(34, 66, 36, 64), S(30, 94, 30, 94), S(14, 100, 14, 100), S(2, 86, 2, 84),
    S(14, 58, 16, 56), S(38, 28, 44, 30), S(42, 6, 54, 6),
};
static const knot eight_two[] = {
    M(30, 0, 34, 2),     S(8, 12, 8, 14),   S(10, 36, 12, 38), S(30, 46, 34, 48), S(52, 34, 56, 36),
    S(50, 10, 54, 10),   S(30, 0, 32, 1),   M(30, 46, 34, 48), S(6, 60, 4, 62),   S(6, 88, 4, 88),
    S(32, 100, 32, 100), S(58, 86, 58, 88), S(54, 58, 56, 58), S(30, 46, 32, 47),
};
static const knot eight_back[] = {
    M(8, 6, 16, 4),    S(4, 22, 6, 22),  S(22, 44, 28, 44), S(46, 70, 50, 70),
    S(38, 98, 36, 97), S(10, 94, 6, 90), S(10, 70, 10, 68), S(36, 42, 44, 40),
    S(52, 14, 60, 10), S(32, 0, 36, 0),  S(10, 6, 16, 6),
};

static const knot nine_plain[] = {
    M(48, 8, 60, 12),  S(28, 0, 34, 0), S(4, 20, 4, 22),   S(10, 44, 12, 46),   S(32, 44, 38, 44),
    S(50, 22, 60, 22), C(54, 4, 64, 6), S(50, 50, 54, 52), S(44, 100, 46, 100),
};
static const knot nine_slant[] = {
    M(52, 6, 62, 10),  S(30, 0, 36, 2),  S(4, 24, 6, 28),   S(14, 46, 18, 48),
    S(40, 36, 44, 38), C(56, 8, 64, 10), S(40, 52, 48, 54), S(24, 100, 34, 100),
};
static const knot nine_curve[] = {
    M(52, 12, 62, 14), S(32, 0, 36, 0),   S(6, 16, 4, 20),   S(12, 42, 14, 44),   S(40, 38, 44, 40),
    S(54, 16, 62, 18), S(56, 56, 60, 56), S(40, 94, 44, 90), S(20, 100, 20, 100), S(0, 88, -2, 90),
};
static const knot nine_loop[] = {
    M(46, 18, 50, 14), S(34, 2, 38, 2),  S(10, 14, 8, 18),  S(6, 42, 4, 46),     S(26, 48, 28, 50),
    S(46, 28, 52, 28), S(50, 8, 54, 10), S(46, 50, 50, 56), S(36, 100, 40, 100),
};

static const knot two_wide[] = {
    M(12, 26, 6, 22),  S(24, 6, 22, 4),   S(46, 2, 50, 0),   S(58, 20, 68, 22),
    S(42, 56, 46, 58), S(20, 84, 18, 88), S(2, 98, -8, 98),  S(-6, 82, -14, 78),
    S(14, 72, 14, 62), S(40, 82, 46, 80), S(60, 96, 74, 92), S(72, 100, 92, 84),
};
static const knot two_tail[] = {
    M(4, 34, 0, 24),  S(10, 8, 16, 4),   S(38, 2, 44, 2),   S(54, 22, 62, 28),   S(36, 62, 36, 62),
    C(4, 90, -4, 84), S(24, 84, 30, 80), S(48, 94, 60, 98), S(62, 100, 74, 110),
};
static const knot five_low[] = {
    M(74, 0, 96, -8),  S(50, 4, 60, 4),   C(24, 8, 34, 14),  S(20, 24, 26, 30),  C(14, 42, 16, 48),
    S(38, 42, 42, 48), S(54, 60, 56, 66), S(42, 90, 36, 92), S(18, 100, 6, 102), S(0, 94, -20, 94),
};
static const knot five_apart[] = {
    M(18, 10, 16, 16),  C(10, 44, 8, 50),  S(36, 40, 40, 50), S(56, 58, 58, 68), S(46, 90, 42, 92),
    S(18, 100, 12, 99), S(0, 92, -14, 90), M(20, 8, 26, 12),  S(48, 4, 60, 2),   S(74, 0, 96, -8),
};
static const knot five_tall[] = {
    M(44, 0, 60, 4),   S(26, 2, 32, 4),   C(8, 4, 4, 8),     S(6, 18, 4, 26),   S(8, 32, 6, 40),
    S(30, 52, 36, 54), S(44, 74, 50, 74), S(34, 96, 34, 92), S(10, 100, 8, 98), S(-4, 90, -10, 86),
};
static const knot six_wide[] = {
    M(46, 0, 34, 0),   S(18, 28, 8, 36),  S(0, 62, -4, 70),  S(10, 94, 8, 96), S(40, 100, 40, 100),
    S(66, 84, 74, 86), S(56, 58, 62, 60), S(24, 60, 28, 60), S(4, 80, 2, 82),
};
static const knot six_stem[] = {
    M(16, 0, 60, 0),   S(8, 30, 34, 30),  S(2, 60, 10, 60),  S(2, 88, 0, 86), S(24, 100, 22, 100),
    S(52, 86, 44, 84), S(48, 64, 42, 64), S(26, 60, 24, 64), S(6, 72, 4, 80),
};
static const knot six_spiral[] = {
    M(40, 0, 70, 10),  S(12, 24, 26, 12), S(0, 60, 0, 54),   S(14, 96, 14, 94), S(46, 96, 52, 94),
    S(62, 72, 66, 70), S(44, 52, 46, 52), S(18, 64, 22, 62), S(20, 82, 26, 84), S(40, 84, 46, 80),
};
static const knot seven_drop[] = {
    M(0, 34, 2, 44), C(2, 8, 0, 12),    S(28, 6, 30, 6),
    C(58, 4, 62, 4), S(52, 50, 60, 50), S(42, 100, 56, 100),
};
static const knot seven_slim[] = {
    M(-6, 16, -20, 22), S(10, 8, 4, 12), C(32, 0, 34, 2), S(22, 50, 30, 50), S(10, 100, 22, 100),
};
static const knot seven_steep[] = {
    M(0, 14, 0, 4), S(30, 10, 40, 2), C(66, 0, 84, 2), S(34, 44, 36, 50), S(6, 100, 2, 100),
};
static const knot eight_tail[] = {
    M(56, 14, 66, 28), S(32, 0, 38, 4),   S(8, 16, 10, 22),    S(26, 42, 26, 46),
    S(48, 66, 44, 70), S(44, 94, 36, 96), S(20, 100, 14, 100), S(0, 82, -2, 86),
    S(20, 58, 20, 62), S(46, 32, 50, 30), S(64, 8, 88, -4),
};
static const knot eight_cross[] = {
    M(60, 4, 74, 12),  S(30, 2, 40, 2), S(10, 18, 14, 22), S(28, 46, 32, 48), S(44, 74, 46, 70),
    S(30, 98, 30, 98), S(6, 96, 4, 96), S(4, 80, 2, 78),   S(26, 56, 30, 54), S(70, 2, 92, -2),
};
static const knot eight_head[] = {
    M(58, 14, 70, 22), S(34, 0, 40, 0),   S(0, 14, -4, 18),    S(16, 46, 16, 50),
    S(40, 66, 40, 70), S(38, 94, 36, 94), S(18, 100, 14, 100), S(8, 84, 2, 88),
    S(26, 62, 24, 68), S(56, 36, 62, 42), S(58, 14, 74, 20),
};
static const knot nine_open[] = {
    M(44, 8, 52, 4),   S(22, 2, 26, 6),  S(2, 20, 0, 26),   S(10, 42, 12, 46),
    S(36, 42, 42, 42), C(56, 16, 66, 4), S(50, 54, 58, 52), S(40, 100, 48, 100),
};
static const knot nine_wide[] = {
    M(60, 14, 80, 20), S(34, 2, 46, 6),   S(2, 14, 0, 22),   S(2, 38, 4, 44),     S(36, 42, 46, 48),
    S(60, 24, 78, 34), C(64, 12, 82, 18), S(56, 54, 72, 58), S(42, 100, 50, 100),
};
static const knot nine_small[] = {
    M(40, 6, 46, 10),  S(24, 0, 26, 2),   S(6, 14, 2, 20),   S(10, 32, 10, 36),   S(30, 32, 32, 36),
    S(44, 14, 46, 16), S(44, 40, 46, 46), S(38, 70, 44, 74), S(32, 100, 42, 100),
};
static const knot nine_long[] = {
    M(58, 2, 76, 6),   S(30, 2, 38, 4),   S(2, 26, 4, 30),   S(10, 46, 16, 48),   S(36, 38, 46, 40),
    S(58, 14, 76, 16), S(44, 46, 50, 54), S(28, 74, 28, 80), S(14, 100, 10, 100),
};
static const knot four_tall[] = {
    M(24, 0, 30, 6),   S(12, 30, 14, 36), C(0, 66, -6, 66),  S(30, 66, 36, 64),
    S(74, 60, 92, 56), M(56, 20, 62, 30), S(50, 56, 54, 60), S(44, 100, 42, 100),
};
static const knot four_hook[] = {
    M(8, 2, 4, 12),    S(2, 28, -4, 32), S(8, 42, 8, 46),   S(32, 42, 40, 44),
    S(56, 26, 66, 26), S(60, 4, 74, 4),  S(54, 50, 62, 50), S(40, 100, 48, 100),
};
static const knot three_lean[] = {
    M(0, 20, 12, 14),  S(24, 4, 40, 2),   S(58, 4, 76, 4),   S(48, 28, 56, 28),  C(20, 44, 24, 42),
    S(46, 50, 50, 50), S(48, 76, 50, 74), S(20, 98, 10, 96), S(-8, 94, -26, 90),
};
static const knot three_big[] = {
    M(8, 16, 12, 22),  S(24, 0, 30, 4),   S(48, 8, 52, 12),    S(38, 28, 40, 30), C(26, 36, 22, 38),
    S(58, 48, 66, 54), S(66, 80, 74, 82), S(36, 100, 34, 100), S(2, 88, -10, 86),
};

static const knot zero_overlap[] = {
    M(40, 14, 66, 16), S(28, 2, 40, 2),   S(6, 24, 8, 26), S(2, 70, 2, 70),  S(20, 98, 28, 98),
    S(44, 82, 66, 84), S(52, 38, 82, 40), S(40, 4, 60, 4), S(22, 8, 28, 12),
};
static const knot two_head[] = {
    M(12, 42, 18, 38),  S(0, 26, 2, 18),   S(20, 4, 24, 0),   S(48, 4, 54, 2),
    S(62, 24, 70, 26),  S(44, 60, 48, 60), S(20, 88, 20, 88), S(0, 98, -10, 96),
    S(-8, 84, -16, 80), S(14, 72, 12, 64), S(46, 86, 50, 82), S(82, 94, 100, 84),
};
static const knot two_swan[] = {
    M(0, 36, 8, 30),   S(6, 10, 10, 8),     S(34, 0, 38, 0),   S(56, 16, 60, 22), S(40, 54, 38, 56),
    S(12, 88, 10, 88), C(-8, 100, -14, 98), S(20, 86, 24, 78), S(52, 92, 58, 94), S(78, 98, 98, 92),
};
static const knot five_belly[] = {
    M(62, 2, 84, 2),     S(36, 4, 42, 2),    C(14, 2, 14, 4),   S(12, 20, 12, 22),
    C(8, 38, 8, 42),     S(40, 32, 42, 40),  S(66, 50, 72, 60), S(60, 84, 60, 88),
    S(28, 100, 24, 100), S(-4, 88, -10, 86),
};
static const knot six_low[] = {
    M(50, 0, 84, 2),   S(22, 22, 40, 20), S(4, 54, 10, 50),  S(2, 86, 2, 82),   S(28, 100, 30, 100),
    S(60, 88, 62, 86), S(52, 68, 54, 66), S(30, 66, 32, 66), S(14, 84, 12, 84),
};
static const knot seven_cross[] = {
    M(0, 12, -4, 20),    S(28, 6, 32, 8), C(60, 2, 74, 0),   S(44, 46, 52, 46),
    S(28, 100, 30, 100), M(4, 62, 6, 52), S(32, 56, 36, 50), S(62, 52, 76, 46),
};

static const knot six_cross[] = {
    M(26, 0, 40, 0),   S(8, 32, 16, 28),  S(0, 68, 0, 64),   S(10, 98, 10, 96), S(38, 94, 46, 92),
    S(62, 66, 76, 66), S(52, 48, 66, 46), S(32, 62, 38, 58), S(12, 90, 14, 84),
};
static const knot nine_big[] = {
    M(56, 10, 66, 14), S(32, 0, 38, 0),  S(4, 26, 2, 30),   S(6, 60, 6, 62),     S(34, 64, 36, 66),
    S(58, 30, 68, 34), C(58, 8, 68, 12), S(58, 60, 64, 60), S(50, 100, 58, 100),
};

static const knot two_big[] = {
    M(8, 28, 4, 22),   S(26, 4, 28, 2),   S(54, 4, 60, 4),   S(64, 26, 72, 28),
    S(46, 58, 50, 58), S(18, 88, 16, 86), S(2, 92, -10, 90), S(2, 78, -10, 72),
    S(22, 74, 24, 66), S(46, 88, 54, 84), S(64, 98, 80, 98), S(76, 104, 98, 108),
};

#undef M
#undef S
#undef C

/* How often a style is drawn, relative to the others of its digit. */
typedef struct style {
    uint8_t digit, weight, n_knot;
    const knot *knot;
} style;

#define STYLE(digit, weight, knots)                                                                \
    { digit, weight, sizeof(knots) / sizeof((knots)[0]), knots }
static const style styles[] = {
    STYLE(0, 50, zero_plain),   STYLE(0, 30, zero_tail),   STYLE(0, 15, zero_open),
    STYLE(0, 30, zero_overlap), STYLE(1, 80, one_bar),     STYLE(1, 14, one_flag),
    STYLE(1, 6, one_foot),      STYLE(2, 22, two_plain),   STYLE(2, 20, two_loop),
    STYLE(2, 12, two_flat),     STYLE(2, 12, two_hook),    STYLE(2, 20, two_wide),
    STYLE(2, 14, two_tail),     STYLE(2, 20, two_big),     STYLE(2, 12, two_swan),
    STYLE(2, 16, two_head),     STYLE(3, 28, three_plain), STYLE(3, 24, three_smooth),
    STYLE(3, 12, three_flat),   STYLE(3, 12, three_loop),  STYLE(3, 14, three_lean),
    STYLE(3, 10, three_big),    STYLE(4, 24, four_open),   STYLE(4, 9, four_closed),
    STYLE(4, 18, four_curve),   STYLE(4, 10, four_sharp),  STYLE(4, 2, four_peak),
    STYLE(4, 10, four_tall),    STYLE(4, 12, four_hook),   STYLE(5, 18, five_two),
    STYLE(5, 16, five_one),     STYLE(5, 18, five_curve),  STYLE(5, 10, five_sharp),
    STYLE(5, 14, five_low),     STYLE(5, 14, five_apart),  STYLE(5, 10, five_tall),
    STYLE(5, 10, five_belly),   STYLE(6, 26, six_plain),   STYLE(6, 16, six_tall),
    STYLE(6, 14, six_round),    STYLE(6, 10, six_curl),    STYLE(6, 14, six_wide),
    STYLE(6, 10, six_stem),     STYLE(6, 10, six_spiral),  STYLE(6, 16, six_cross),
    STYLE(6, 12, six_low),      STYLE(7, 30, seven_plain), STYLE(7, 14, seven_bar),
    STYLE(7, 12, seven_serif),  STYLE(7, 16, seven_round), STYLE(7, 10, seven_drop),
    STYLE(7, 4, seven_slim),    STYLE(7, 14, seven_steep), STYLE(7, 8, seven_cross),
    STYLE(8, 20, eight_plain),  STYLE(8, 8, eight_slim),   STYLE(8, 10, eight_two),
    STYLE(8, 8, eight_back),    STYLE(8, 16, eight_tail),  STYLE(8, 16, eight_cross),
    STYLE(8, 10, eight_head),   STYLE(9, 20, nine_plain),  STYLE(9, 18, nine_slant),
    STYLE(9, 12, nine_curve),   STYLE(9, 12, nine_loop),   STYLE(9, 12, nine_open),
    STYLE(9, 10, nine_wide),    STYLE(9, 12, nine_small),  STYLE(9, 14, nine_big),
    STYLE(9, 14, nine_long),
};
enum { N_STYLES = sizeof styles / sizeof styles[0] };

typedef struct point {
    float x, y;
} point;

/* The drawn line: points[i] to points[i + 1] is inked unless lifted[i + 1]. */
typedef struct line {
    int n;
    point at[MAX_POINTS];
    bool lifted[MAX_POINTS];
    float radius[MAX_POINTS]; /* of the pen, in pixels */
    int y0, x0, y1, x1;       /* box of the ink; y1 and x1 are the first pixels outside */
} line;

/* Uniform in [low, high). */
static float between(mnd_rng *rng, float low, float high) {
    return low + (high - low) * mnd_rng_uniform(rng);
}

/* Close to normal with mean 0 and deviation 1, within +-3.47: a sum of four uniform numbers. */
static float bell(mnd_rng *rng) {
    float sum = mnd_rng_uniform(rng);
    for (int i = 0; i < 3; i++) sum += mnd_rng_uniform(rng);
    return (sum - 2.0F) * 1.7320508F;
}

static const style *pick_style(mnd_rng *rng, unsigned digit) {
    uint32_t total = 0;
    for (int i = 0; i < N_STYLES; i++)
        if (styles[i].digit == digit) total += styles[i].weight;
    uint32_t left = mnd_rng_below(rng, total);
    int i = 0;
    while (styles[i].digit != digit || left >= styles[i].weight) {
        if (styles[i].digit == digit) left -= styles[i].weight;
        i++;
    }
    return &styles[i];
}

/* The style's knots between its two ends, each shaken a little. */
static void place_knots(mnd_rng *rng, const style *s, point *p) {
    /* Top and bottom choose for themselves: a large head goes with a small foot as well. */
    const float top = between(rng, -0.3F, 1.3F), bottom = between(rng, -0.3F, 1.3F);
    const float shake = between(rng, 0.01F, 0.04F);
    for (int i = 0; i < s->n_knot; i++) {
        const knot *k = &s->knot[i];
        const float u = top + 0.01F * (float)k->y0 * (bottom - top);
        /* Where a stroke begins and ends is left to chance more than the way between. */
        const bool end = k->kind == 'm' || i + 1 == s->n_knot || k[1].kind == 'm';
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

/* The neighbour beyond the end of a smooth run: the other neighbour's mirror image. */
static point mirrored(point centre, point other) {
    return (point){2.0F * centre.x - other.x, 2.0F * centre.y - other.y};
}

static void trace(const style *s, const point *p, line *out) {
    const knot *k = s->knot;
    out->n = 0;
    for (int i = 0; i < s->n_knot; i++) {
        if (k[i].kind == 'm') {
            out->lifted[out->n] = true;
            out->at[out->n++] = p[i];
            continue;
        }
        const bool last = i + 1 == s->n_knot || k[i + 1].kind == 'm';
        const point a = k[i - 1].kind == 's' ? p[i - 2] : mirrored(p[i - 1], p[i]);
        const point d = k[i].kind == 's' && !last ? p[i + 1] : mirrored(p[i], p[i - 1]);
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

static void field_start(mnd_rng *rng, float strength, field *f) {
    for (int i = 0; i < GRID; i++)
        for (int j = 0; j < GRID; j++) {
            f->at[i][j].x = strength * bell(rng);
            f->at[i][j].y = strength * bell(rng);
        }
}

/* Weights of three neighbouring control points for a coordinate in [-0.5, 1.5]; returns the first.
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

/* Waist, taper, elastic field, width, slant and rotation. */
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

/* The pen's radius at each point: `mean` in the middle, lighter or heavier towards the end. */
static void press(line *l, float mean, float taper) {
    for (int i = 0; i < l->n; i++)
        l->radius[i] = mean * (1.0F + taper * (2.0F * (float)i / (float)l->n - 1.0F));
}

/* Scales and shifts so that the ink fills the box of MNIST. */
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
    /* The ink's upper left corner, in the digit's own units. */
    const float x0 = l->at[left].x - l->radius[left] / scale;
    const float y0 = l->at[top].y - l->radius[top] / scale;
    /* On whole pixels, as MNIST's boxes are; centre() moves them by whole pixels. */
    const float ink_w = w * scale + pen_w, ink_h = h * scale + pen_h;
    l->x0 = (int)(0.5F * ((float)SIDE - ink_w));
    l->y0 = (int)(0.5F * ((float)SIDE - ink_h));
    /* Less a tenth, so that a faint last column or row does not count. */
    l->x1 = l->x0 + (int)(ink_w + 0.9F);
    l->y1 = l->y0 + (int)(ink_h + 0.9F);
    for (int i = 0; i < l->n; i++) {
        l->at[i].x = (l->at[i].x - x0) * scale + (float)l->x0;
        l->at[i].y = (l->at[i].y - y0) * scale + (float)l->y0;
    }
}

/* Raises depth[y][x] to how far the pixel's centre lies inside a piece from a to b. */
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

/* Moves the picture by whole pixels so that its centre of mass comes to lie in the middle. */
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
        /* In half pixels, the middle is at SIDE. Rounded; no ink may leave the picture. */
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
    /* The stream's counter has room for 32 bits of the index; a split has fewer than 2^31 rows. */
    mnd_rng_start(&rng, seed, MND_RNG_SYNTH, (uint32_t)index, (uint32_t)split);
    const unsigned digit = mnd_rng_below(&rng, 10);
    *label = (uint8_t)digit;
    const style *s = pick_style(&rng, digit);
    point p[MAX_KNOTS] = {{0}};
    place_knots(&rng, s, p);
    line l = {0};
    trace(s, p, &l);
    distort(&rng, &l);

    float radius = 1.28F + 0.36F * bell(&rng);
    radius = radius < 0.7F ? 0.7F : radius;
    const float taper = 0.12F * bell(&rng); /* the pen gets lighter or heavier on its way */
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
            /* The edge of real ink is not smooth. */
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
            return mnd_fail(MND_RANGE, "%s: cannot write %lld %s images: the range is 1 to %ld",
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
