/*
 * h5.h - the few habits every user of HDF5 in src/io shares: silent, unlocked, checked.
 *
 * HDF5 keeps global state and Debian's build of it is not thread-safe: one thread of a process at a
 * time may use anything in src/io that touches it.
 */
#ifndef MNIST_DIST_IO_H5_H
#define MNIST_DIST_IO_H5_H

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/status.h"

/*
 * Opens an HDF5 file read-only, with HDF5's error printing and file locking off. MND_NOT_FOUND (the
 * line then ends in `hint`), MND_IO, or MND_FORMAT when it is no HDF5 file, or a damaged or
 * truncated one. Close with mnd_h5_close. Nothing is read beyond what HDF5 itself needs.
 */
MND_CHECKED mnd_status mnd_h5_open(const char *path, const char *hint, hid_t *file);

/*
 * Part of mnd_h5_open, on the open file: MND_FORMAT when following the tables of the root group
 * would make HDF5 hang or eat all memory. MND_OK also when it is no HDF5 file at all.
 */
MND_CHECKED mnd_status mnd_h5_check(const char *path, int fd, int64_t size);

/*
 * Creates (truncates) a file in a format whose every structure carries a checksum (superblock 2,
 * object headers 2), so that HDF5 itself notices a flipped bit in them, and without time stamps, so
 * that the same input gives the same bytes.
 */
MND_CHECKED mnd_status mnd_h5_create(const char *path, hid_t *file);

/*
 * Closes the file and everything still open in it, and sets *file to -1. MND_IO when the last
 * writes fail. A negative *file is MND_OK.
 */
MND_CHECKED mnd_status mnd_h5_close(const char *path, hid_t *file);

/* The same where a failure changes nothing any more: mnd_error() stays as it is. */
void mnd_h5_drop(hid_t *file);

/*
 * MND_IO with the reason of the HDF5 call that failed just before: "path: cannot `what`: No space
 * left on device". Call it before any other HDF5 function.
 */
mnd_status mnd_h5_fail(const char *path, const char *what);

/* The length of the open file on disk now, or -1. HDF5 reads zeros beyond the end of a file. */
int64_t mnd_h5_size(hid_t file);

/*
 * Reserves `bytes` bytes on disk for a file being written, so that a full disk shows now and not
 * after an hour. File systems that cannot reserve say nothing.
 */
MND_CHECKED mnd_status mnd_h5_reserve(const char *path, hid_t file, int64_t bytes);

/* Data set creation: contiguous, allocated at once, never filled, without time stamps. */
hid_t mnd_h5_plain_dcpl(void);

/*
 * An attribute of n fixed-length strings of `size` bytes each (n < 0: a single string), UTF-8.
 * Fixed length, because strings of variable length lie in HDF5's global heap, which has no
 * checksum.
 */
MND_CHECKED mnd_status mnd_h5_write_strings(const char *path, hid_t object, const char *name,
                                            const char *text, int n, size_t size);
/*
 * Reads up to `max` fixed-length strings into out[max][size], each cut to fit, terminated, and with
 * control characters replaced by '?'. *n = 0 if the attribute is missing or holds strings of
 * variable length; MND_FORMAT if it is something else or holds more than `max`.
 */
MND_CHECKED mnd_status mnd_h5_read_strings(const char *path, hid_t object, const char *name,
                                           char *out, int max, size_t size, int *n);

#endif
