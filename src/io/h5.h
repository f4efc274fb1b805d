/*
 * h5.h - what all users of HDF5 in src/io share: error reporting, file access, strings.
 *
 * HDF5 has global state, and Debian's build of it is not thread-safe: only one thread of a process
 * at a time may call functions of src/io that use HDF5.
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
 * error line then ends in `hint`), MND_IO, or MND_FORMAT if it is not an HDF5 file or is damaged or
 * truncated. Close with mnd_h5_close.
 */
MND_CHECKED mnd_status mnd_h5_open(const char *path, const char *hint, hid_t *file);

/*
 * The check that mnd_h5_open makes before it calls HDF5: MND_FORMAT if the tables of the root group
 * are damaged in a way that would make HDF5 loop for ever or exhaust memory. MND_OK if the file is
 * not an HDF5 file, which HDF5 reports itself. Declared for the fuzzer.
 */
MND_CHECKED mnd_status mnd_h5_check(const char *path, int fd, int64_t size);

/*
 * Creates or truncates a file. Its format has a checksum in every structure (version 2 of
 * superblock and object headers), so that HDF5 detects flipped bits in them, and no time stamps, so
 * that equal input gives equal bytes.
 */
MND_CHECKED mnd_status mnd_h5_create(const char *path, hid_t *file);

/*
 * Closes the file and everything open in it, and sets *file to -1. MND_IO if the last writes fail.
 * MND_OK for a negative *file.
 */
MND_CHECKED mnd_status mnd_h5_close(const char *path, hid_t *file);

/* The same without a result: errors are ignored, and mnd_error() stays as it is. */
void mnd_h5_drop(hid_t *file);

/*
 * Returns MND_IO with an error line that gives the reason why the last HDF5 call failed: "PATH:
 * cannot WHAT: No space left on device". Call it before any other HDF5 function.
 */
mnd_status mnd_h5_fail(const char *path, const char *what);

/* The present length of the open file, or -1. (HDF5 reads zeros beyond the end of a file.) */
int64_t mnd_h5_size(hid_t file);

/*
 * Reserves `bytes` bytes on disk for a file that is being written, so that a full disk is reported
 * before the work begins. MND_OK on file systems that cannot reserve.
 */
MND_CHECKED mnd_status mnd_h5_reserve(const char *path, hid_t file, int64_t bytes);

/* A new list of data set creation properties: contiguous, allocated at once, not filled, without
 * time stamps. Close with H5Pclose; negative after an error. */
hid_t mnd_h5_plain_dcpl(void);

/*
 * Writes an attribute of n UTF-8 strings of the fixed length `size` (n < 0: a scalar). HDF5 stores
 * strings of variable length in its global heap, which has no checksum.
 */
MND_CHECKED mnd_status mnd_h5_write_strings(const char *path, hid_t object, const char *name,
                                            const char *text, int n, size_t size);
/*
 * Reads up to `max` strings of fixed or variable length into out[max][size]. They are cut to fit,
 * terminated, and control characters are replaced by '?'. *n = 0 if the attribute is missing;
 * MND_FORMAT if it is not text or has more than `max` strings. Strings of
 * variable length are read from attributes of the file (its root group) only.
 */
MND_CHECKED mnd_status mnd_h5_read_strings(const char *path, hid_t object, const char *name,
                                           char *out, int max, size_t size, int *n);

/*
 * For mnd_h5_read_strings: reads an attribute of the root group with `count` strings of variable
 * length into out[count][size], terminated. 1; 0 if the header of the group has no such attribute
 * (more than eight may be stored elsewhere); -1 if its structures are damaged.
 */
int mnd_h5_read_variable(int fd, const char *name, int count, char *out, size_t size);

/* A little-endian number of a file's own structures. */
uint64_t mnd_h5_number(const unsigned char *p, int bytes);

#endif
