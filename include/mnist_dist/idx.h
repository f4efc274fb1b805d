/*
 * idx.h - the IDX format of the MNIST files (described by LeCun, Cortes, Burges beside the data):
 * two zero bytes, a type code, the number of dimensions, each dimension as big-endian uint32, then
 * the elements. Only type 0x08 (unsigned byte) is read. Raw or gzip, told apart by content.
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
 * Opens and validates the header: magic, type, number of dimensions (1 to 4), no dimension zero,
 * and a total size that does not overflow. For a raw file the file's length must be exactly header
 * + elements; a gzip file must at least be long enough to hold them by deflate's best ratio, so
 * that no size in the header is believed that the file cannot back. The error line names the file
 * and the byte that is wrong.
 */
MND_CHECKED mnd_status mnd_idx_open(const char *path, mnd_idx **out);

int mnd_idx_ndim(const mnd_idx *idx);
int64_t mnd_idx_dim(const mnd_idx *idx, int axis);

/* Reads exactly `bytes` more elements; a short, corrupt or truncated file is MND_FORMAT. */
MND_CHECKED mnd_status mnd_idx_read(mnd_idx *idx, uint8_t *out, size_t bytes);

/* After the last element: MND_FORMAT if anything follows or gzip's own checksum is wrong. */
MND_CHECKED mnd_status mnd_idx_expect_end(mnd_idx *idx);

/* After mnd_idx_expect_end: SHA-256 of the uncompressed file, header included; "" before. Borrowed.
 */
const char *mnd_idx_sha256(const mnd_idx *idx);

/* NULL-safe; sets *idx to NULL. */
void mnd_idx_close(mnd_idx **idx);

/* Called every so often with the rows done so far and the total. May be NULL. */
typedef void (*mnd_progress_fn)(void *context, int64_t done, int64_t total);

/*
 * Converts the folder `source` (train-images, train-labels, t10k-images, t10k-labels; "-idxN-ubyte"
 * or ".idxN-ubyte", raw or with ".gz"; a "test-" prefix instead of "t10k-" is taken too; as EMNIST
 * names its files, "*-train-images-idx3-ubyte" too when it is unambiguous) to the HDF5 file
 * `target`. Streams: constant memory. Images and labels must be equal in number, both splits of the
 * same image size; the number of classes is the largest label + 1. Class names, in this order: a
 * file class-names.txt in the folder, one name a line (it may name more classes than there are
 * labels); EMNIST's "...-mapping.txt" beside its images; those of Fashion-MNIST and KMNIST when the
 * folder's name contains "fashion" or "kmnist" and there are ten classes; else numbers. With
 * `transpose` rows and columns of every image change places: EMNIST's lie on their side. Not
 * collective: one process only.
 */
MND_CHECKED mnd_status mnd_convert_idx(const char *source, const char *target, bool transpose,
                                       mnd_progress_fn progress, void *context);

#endif
