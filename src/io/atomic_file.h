/*
 * atomic_file.h - files that appear completely or not at all. All writers of src/io use it.
 *
 * Either write and close a file of the name that mnd_atomic_name gives, which is in the same
 * folder, and then commit it; or pass the whole content to mnd_atomic_write.
 */
#ifndef MNIST_DIST_IO_ATOMIC_FILE_H
#define MNIST_DIST_IO_ATOMIC_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "mnist_dist/status.h"

/* "DIR/.NAME.tmp.<pid>" for "DIR/NAME". MND_RANGE if it does not fit in size. */
MND_CHECKED mnd_status mnd_atomic_name(const char *path, char *temporary, size_t size);
/* fsync of temporary, rename to path, fsync of the folder. Removes temporary on failure. */
MND_CHECKED mnd_status mnd_atomic_commit(const char *temporary, const char *path);

/* fsync of the folder of path, so that a new or renamed entry survives a crash of the machine. */
MND_CHECKED mnd_status mnd_atomic_sync_folder(const char *path);

/* Writes `bytes` bytes to path through a temporary file. After MND_IO the old file is unchanged. */
MND_CHECKED mnd_status mnd_atomic_write(const char *path, const void *data, size_t bytes);
/*
 * Creates the first of the folders "PREFIXearlier-1", "PREFIXearlier-2", ... that does not exist;
 * `made` gets its path, and may be the same buffer as `prefix`.
 */
MND_CHECKED mnd_status mnd_atomic_earlier_folder(const char *prefix, char *made, size_t size);
/*
 * Makes path a symbolic link to `target`, replacing a link or file of that name. Does nothing and
 * returns MND_OK on a file system without symbolic links.
 */
MND_CHECKED mnd_status mnd_atomic_link(const char *target, const char *path);
/*
 * Removes temporary files from `folder`: those of processes that no longer run on this machine, and
 * those of this process itself, which must not be writing any. `ours` tells for the final name
 * ("NAME" for ".NAME.tmp.<pid>") whether the temporary file may be removed. Files that cannot be
 * removed are left.
 */
void mnd_atomic_clean(const char *folder, bool (*ours)(const char *name));

#endif
