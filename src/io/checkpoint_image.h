/*
 * checkpoint_image.h - the content of a checkpoint as an HDF5 file in memory, and back. The layout
 * is described in mnist_dist/checkpoint.h; folders and files are checkpoint.c's business.
 */
#ifndef MNIST_DIST_IO_CHECKPOINT_IMAGE_H
#define MNIST_DIST_IO_CHECKPOINT_IMAGE_H

#include <stddef.h>

#include "mnist_dist/checkpoint.h"

/* HDF5 allows a block of this size, free for the user, in front of its own first byte. */
#define MND_CKPT_BLOCK 512

/*
 * Gives *size bytes in *out (free with free()): MND_CKPT_BLOCK zeros for the caller to fill, then
 * the HDF5 structures and data. The same content gives the same bytes. MND_RANGE or MND_NUMERIC for
 * a content that mnd_ckpt_decode would not take back.
 */
MND_CHECKED mnd_status mnd_ckpt_encode(const mnd_checkpoint *ckpt, unsigned char **out,
                                       size_t *size);

/*
 * Reads such bytes, block included (its content is not looked at; the bytes are only read, though
 * HDF5's interface wants them writable). MND_FORMAT for anything that is not exactly a checkpoint.
 * Error lines do not name a file.
 */
MND_CHECKED mnd_status mnd_ckpt_decode(unsigned char *bytes, size_t size, mnd_checkpoint *out);

#endif
