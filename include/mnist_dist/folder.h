/*
 * folder.h - folders for output files. No function here is collective.
 */
#ifndef MNIST_DIST_FOLDER_H
#define MNIST_DIST_FOLDER_H

#include <stddef.h>

#include "mnist_dist/status.h"

/*
 * Creates a folder and the parents that are missing, as mkdir -p does, and syncs what it creates.
 * MND_OK if the folder exists. MND_IO names the path and the folder that cannot be created;
 * MND_RANGE for a path that is too long.
 */
MND_CHECKED mnd_status mnd_folder_make(const char *path);

/* Creates the folder that a file of this path is to lie in. */
MND_CHECKED mnd_status mnd_folder_make_parents(const char *path);

/* The path itself if it exists, otherwise its nearest parent that does; at least "/" or ".". */
MND_CHECKED mnd_status mnd_folder_existing(const char *path, char *out, size_t size);

#endif
