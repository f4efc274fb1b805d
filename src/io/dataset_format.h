/* dataset_format.h - what reading and writing a data file share. Private to src/io/dataset*.c. */
#ifndef MNIST_DIST_IO_DATASET_FORMAT_H
#define MNIST_DIST_IO_DATASET_FORMAT_H

#include "mnist_dist/dataset.h"

#define MND_DATASET_FORMAT "mnist_dist data 1"

enum { MND_DATASET_CHUNK = 1 << 20 /* bytes to read or write at a time */ };

/* The names of the data sets, by mnd_split. */
extern const char *const mnd_dataset_x_name[2], *const mnd_dataset_y_name[2];

/* Bytes of one image. */
int64_t mnd_dataset_image_size(const mnd_dataset_info *info);

/* Checks that every size fits into the types and buffers of this program: MND_FORMAT if not. There
 * may be no training images. */
MND_CHECKED mnd_status mnd_dataset_check_sizes(const char *path, const mnd_dataset_info *info);

#endif
