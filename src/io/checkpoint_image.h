/*
 * checkpoint_image.h - a checkpoint as an HDF5 file in memory, and back. The layout is described in
 * mnist_dist/checkpoint.h; checkpoint.c writes these bytes to files and reads them.
 */
#ifndef MNIST_DIST_IO_CHECKPOINT_IMAGE_H
#define MNIST_DIST_IO_CHECKPOINT_IMAGE_H

#include <stddef.h>

#include "mnist_dist/checkpoint.h"

/* The size of the block before the HDF5 signature, which HDF5 ignores (its "user block"). */
#define MND_CKPT_BLOCK 512

/*
 * Returns *size bytes in *out (free with free()): MND_CKPT_BLOCK zeros, which the caller fills in,
 * then the HDF5 file. Equal content gives equal bytes. MND_RANGE or MND_NUMERIC for a content that
 * mnd_ckpt_decode would refuse.
 */
MND_CHECKED mnd_status mnd_ckpt_encode(const mnd_checkpoint *ckpt, unsigned char **out,
                                       size_t *size);

/*
 * Reads such bytes, block included; the content of the block is ignored. The bytes are not changed,
 * although HDF5's interface needs them writable. MND_FORMAT for anything that mnd_ckpt_encode
 * cannot have written. The error line does not name a file.
 */
MND_CHECKED mnd_status mnd_ckpt_decode(unsigned char *bytes, size_t size, mnd_checkpoint *out);

#endif
