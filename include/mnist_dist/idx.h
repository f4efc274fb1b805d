/*
 * idx.h - the IDX format of the MNIST files (described by LeCun, Cortes, Burges with the data):
 * two zero bytes, a type code, the number of dimensions, each dimension as big-endian uint32, then
 * the elements, big-endian too. Read are unsigned bytes (0x08) and int16, int32, float32 and
 * float64 (0x0b to 0x0e). The file may be raw or gzip, whatever its name; gzip data may have
 * several members and zero bytes after the last one, as gzip(1) allows.
 */
#ifndef MNIST_DIST_IDX_H
#define MNIST_DIST_IDX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/sha256.h"
#include "mnist_dist/status.h"

#define MND_IDX_DIMS 4

typedef struct mnd_idx mnd_idx; /* an open file; opaque */

/*
 * Opens the file and validates its header: magic, type, number of dimensions (1 to 4), no dimension
 * zero, and a total size that does not overflow. A raw file must be exactly as long as header and
 * elements. A gzip file must be long enough to hold them at deflate's highest ratio, so that a
 * wrong header cannot make the caller allocate far more than the file contains. The error line
 * names the file and the wrong byte.
 */
MND_CHECKED mnd_status mnd_idx_open(const char *path, mnd_idx **out);

/* 0x08, or 0x0b to 0x0e; and the bytes of one element. */
int mnd_idx_type(const mnd_idx *idx);
int mnd_idx_element_size(const mnd_idx *idx);
int mnd_idx_ndim(const mnd_idx *idx);
int64_t mnd_idx_dim(const mnd_idx *idx, int axis);

/* Reads exactly `bytes` more bytes of elements; a short, corrupt or truncated file is MND_FORMAT.
 */
MND_CHECKED mnd_status mnd_idx_read(mnd_idx *idx, uint8_t *out, size_t bytes);

/* Call it after the last element: MND_FORMAT if anything follows or gzip's checksum is wrong. */
MND_CHECKED mnd_status mnd_idx_expect_end(mnd_idx *idx);

/* SHA-256 of the uncompressed file, header included; "" before mnd_idx_expect_end. Borrowed. */
const char *mnd_idx_sha256(const mnd_idx *idx);

/* NULL-safe; sets *idx to NULL. */
void mnd_idx_close(mnd_idx **idx);

/* Called repeatedly with the rows done so far and the total number. May be NULL. */
typedef void (*mnd_progress_fn)(void *context, int64_t done, int64_t total);

#endif
