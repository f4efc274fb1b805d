/*
 * checkpoint_folder.h - the names in a folder of checkpoints. Private to src/io/checkpoint*.c.
 */
#ifndef MNIST_DIST_IO_CHECKPOINT_FOLDER_H
#define MNIST_DIST_IO_CHECKPOINT_FOLDER_H

#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/checkpoint.h"

/* The step of "ckpt-<8 or more digits>.h5", or -1 for any other name. */
int64_t mnd_ckpt_name_step(const char *name);
/* Makes DIR/latest and DIR/best what they are after the step of `ckpt`. */
MND_CHECKED mnd_status mnd_ckpt_link(const char *dir, const mnd_checkpoint *ckpt);

#endif
