/* standard_file.h - whether a metrics file is what the program prints to. */
#ifndef MND_STANDARD_FILE_H
#define MND_STANDARD_FILE_H

#include <stdbool.h>
#include <sys/stat.h>

/*
 * A new descriptor of standard output or standard error if `path` leads to the file of one of them
 * (/dev/stdout, or the name of the log), else -1. To open such a file again would give a second
 * position in it: one writer would overwrite the other. To truncate or replace it would lose what
 * others have written. The caller closes the descriptor.
 */
int mnd_standard_file(const char *path);

/* Whether it would return one for this file. */
bool mnd_is_standard_file(const struct stat *file);

#endif
