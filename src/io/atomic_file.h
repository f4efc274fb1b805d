/*
 * atomic_file.h - files that appear whole or not at all. Used by every writer of src/io.
 *
 * Write to mnd_atomic_name()'s temporary name, in the same folder, close it, then commit.
 */
#ifndef MNIST_DIST_IO_ATOMIC_FILE_H
#define MNIST_DIST_IO_ATOMIC_FILE_H

#include <stddef.h>

#include "mnist_dist/status.h"

/* "DIR/.NAME.tmp.<pid>" for "DIR/NAME". MND_RANGE if it does not fit in size. */
MND_CHECKED mnd_status mnd_atomic_name(const char *path, char *temporary, size_t size);
/* fsync of the temporary file, rename to path, fsync of the folder. Removes temporary on failure.
 */
MND_CHECKED mnd_status mnd_atomic_commit(const char *temporary, const char *path);

#endif
