/* sheet.h - an image as the epochs of a run see it, side by side: show --augment. */
#ifndef MNIST_DIST_CLI_SHEET_H
#define MNIST_DIST_CLI_SHEET_H

#include <stdint.h>

#include "mnist_dist/augment.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/picture.h"

typedef struct sheet_plan {
    mnd_augment how;
    uint64_t seed;
    int64_t draws;   /* epochs, from 1 on */
    int64_t columns; /* pictures in a row */
} sheet_plan;

/*
 * The image, which is sample `index` of the training set, as it is and then in each epoch; row by
 * row, with a line of dark grey between neighbours. Colours become the mean of the channels. Free
 * *out with mnd_picture_free. MND_NO_MEMORY, MND_RANGE for more than the computer can hold, or as
 * mnd_augmenter_create.
 */
MND_CHECKED mnd_status sheet_make(const sheet_plan *plan, const mnd_dataset_info *info,
                                  int64_t index, const uint8_t *image, mnd_picture *out);

#endif
