/*
 * synth.h - synthetic digits: the strokes of several handwriting styles per digit under random
 * affine and elastic distortion (Simard, Steinkraus, Platt, "Best practices for convolutional
 * neural networks", ICDAR 2003), drawn with a pen of random width, anti-aliased and centred like
 * the images of MNIST.
 */
#ifndef MNIST_DIST_SYNTH_H
#define MNIST_DIST_SYNTH_H

#include <stdint.h>

#include "mnist_dist/dataset.h"
#include "mnist_dist/idx.h"
#include "mnist_dist/status.h"

/*
 * Draws image number `index` of a split: out (28, 28), *label 0..9. A pure function of (seed,
 * split, index), so that any image of a data set can be drawn by any process in any order.
 */
void mnd_synth_digit(uint64_t seed, mnd_split split, int64_t index, uint8_t out[28 * 28],
                     uint8_t *label);

/* Writes a whole data file in batches, with progress over both splits. Not collective. */
MND_CHECKED mnd_status mnd_synth_file(const char *target, int64_t images, int64_t test_images,
                                      uint64_t seed, mnd_progress_fn progress, void *context);

#endif
