/* limits.h - what control groups allow this process, and what a run takes. */
#ifndef MNIST_DIST_TRAIN_LIMITS_H
#define MNIST_DIST_TRAIN_LIMITS_H

#include <stdbool.h>

#include "mnist_dist/dataset.h"

typedef struct mnd_limits {
    double cpus;         /* quota, in CPUs; 0: none */
    int64_t memory;      /* bytes of the group that has the least left; -1: no limit */
    int64_t memory_free; /* bytes that are left of it; page cache counts as free */
    uint64_t group;      /* its inode: the same for all processes that share the limit */
    char where[128];     /* its path, cut at the front */
} mnd_limits;

/*
 * Reads the limits of all groups from this process' up to the root: versions 1 and 2, together or
 * alone, also where a container shows its own group as the root. `root` is where they are mounted
 * (/sys/fs/cgroup), `membership` is /proc/self/cgroup; tests give others. What cannot be read is no
 * limit.
 */
void mnd_limits_read(const char *root, const char *membership, mnd_limits *out);

/* The first line of a file that begins with `key`: the rest of it, cut to fit. False without one.
 */
bool mnd_file_line(const char *path, const char *key, char *out, size_t size);

/* Bytes that one of `size` processes takes: at least, and about (with activations). */
typedef struct mnd_memory_need {
    int64_t least, about;
} mnd_memory_need;

/* Zeros for a model that cannot be made; making it says why. */
mnd_memory_need mnd_memory_needed(const char *model, const mnd_dataset_info *data,
                                  int64_t batch_size, int size);

#endif
