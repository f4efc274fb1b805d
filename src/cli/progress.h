/*
 * progress.h - what the commands that write one large data file (convert, synth) share: a progress
 * line that appears on a terminal only, and no unfinished file left behind by Ctrl-C.
 */
#ifndef MNIST_DIST_CLI_PROGRESS_H
#define MNIST_DIST_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct progress {
    const char *verb; /* "converting" */
    double start, shown;
    bool terminal; /* stderr is one */
} progress;

/*
 * Starts the clock, and arranges that SIGINT, SIGTERM and SIGHUP remove the data file being written
 * before they end the process, and that a file size limit is an error and not a signal.
 */
void progress_start(progress *p, const char *verb);

/* An mnd_progress_fn; context is a progress. One line on stderr, rewritten ten times a second. */
void progress_show(void *context, int64_t done, int64_t total);

/* Wipes the line. Returns the seconds since progress_start. */
double progress_end(progress *p);

#endif
