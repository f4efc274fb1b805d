/*
 * atomic_file.h - files that appear whole or not at all. Used by every writer of src/io.
 *
 * Write to mnd_atomic_name()'s temporary name, in the same folder, close it, then commit; or hand
 * the whole content over at once.
 */
#ifndef MNIST_DIST_IO_ATOMIC_FILE_H
#define MNIST_DIST_IO_ATOMIC_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "mnist_dist/status.h"

/* "DIR/.NAME.tmp.<pid>" for "DIR/NAME". MND_RANGE if it does not fit in size. */
MND_CHECKED mnd_status mnd_atomic_name(const char *path, char *temporary, size_t size);
/* fsync of the temporary file, rename to path, fsync of the folder. Removes temporary on failure.
 */
MND_CHECKED mnd_status mnd_atomic_commit(const char *temporary, const char *path);

/* fsync of the folder that path lies in: a new or renamed entry survives a crash of the machine. */
MND_CHECKED mnd_status mnd_atomic_sync_folder(const char *path);

/* Writes `bytes` bytes to path through a temporary file. MND_IO leaves what was there before. */
MND_CHECKED mnd_status mnd_atomic_write(const char *path, const void *data, size_t bytes);
/*
 * Makes path a symbolic link to `target`, replacing a link or file of that name. Quietly does
 * nothing on a file system that has no symbolic links.
 */
MND_CHECKED mnd_status mnd_atomic_link(const char *target, const char *path);
/*
 * Removes from `folder` the temporary files, for names that `ours` says yes to, of processes that
 * do not run on this machine any more, and of this process itself, which must not be writing one.
 * What cannot be removed stays.
 */
void mnd_atomic_clean(const char *folder, bool (*ours)(const char *name));

#endif
