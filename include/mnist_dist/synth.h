/*
 * synth.h - digits drawn by the program itself: strokes of each digit in several handwriting styles
 * under random affine and elastic distortion (Simard, Steinkraus, Platt, "Best practices for
 * convolutional neural networks", ICDAR 2003), pen of random width, anti-aliased, centred as
 * MNIST's.
 */
#ifndef MNIST_DIST_SYNTH_H
#define MNIST_DIST_SYNTH_H

#include <stdint.h>

#include "mnist_dist/dataset.h"
#include "mnist_dist/idx.h"
#include "mnist_dist/status.h"

/*
 * Draws image number `index` of a split: out (28, 28), *label 0..9. A pure function of (seed,
 * split, index): any part of any size of data set can be made anywhere in any order.
 */
void mnd_synth_digit(uint64_t seed, mnd_split split, int64_t index, uint8_t out[28 * 28],
                     uint8_t *label);

/* Writes a whole data file, streamed, with progress over both splits. Not collective. */
MND_CHECKED mnd_status mnd_synth_file(const char *target, int64_t images, int64_t test_images,
                                      uint64_t seed, mnd_progress_fn progress, void *context);

#endif
