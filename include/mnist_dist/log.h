/*
 * log.h - messages for the user, on stderr. Results go to stdout and metrics to a JSONL file.
 *
 * The libraries do not log; only src/train, src/cli and the watchdog do.
 */
#ifndef MNIST_DIST_LOG_H
#define MNIST_DIST_LOG_H

#include "mnist_dist/status.h"

typedef enum mnd_log_level {
    MND_LOG_ERROR,
    MND_LOG_WARNING,
    MND_LOG_INFO,
    MND_LOG_DEBUG
} mnd_log_level;

/* Sets the rank that lines begin with: "[rank/size] " when size > 1. The default is 0 of 1. */
void mnd_log_identity(int rank, int size);

/* Shows messages up to this level; the default is MND_LOG_INFO. */
void mnd_log_threshold(mnd_log_level level);

/*
 * Writes one line to stderr with a single write(2), so that lines of several ranks do not mix:
 * "mnist_dist: [3/8] warning: text". Info lines carry no level word. Thread-safe.
 */
void mnd_log(mnd_log_level level, const char *format, ...) MND_PRINTF(2, 3);

#endif
