/* metrics_lock.h - keeps two runs from writing to one metrics file. Private to src/io/metrics*.c.
 */
#ifndef MNIST_DIST_IO_METRICS_LOCK_H
#define MNIST_DIST_IO_METRICS_LOCK_H

#include "mnist_dist/status.h"

/*
 * Locks a regular file while `fd` is open; waits `timeout` seconds at most. MND_IO if another run
 * has it. File systems without locks, and the files of standard output and standard error, are not
 * locked.
 */
MND_CHECKED mnd_status mnd_metrics_lock(const char *path, int fd, double timeout);

#endif
