/*
 * progress.h - shared by the commands that write a large data file (convert, synth): a progress
 * line if stderr is a terminal, and the removal of the unfinished file on Ctrl-C.
 */
#ifndef MNIST_DIST_CLI_PROGRESS_H
#define MNIST_DIST_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct progress {
    const char *verb; /* "converting" */
    double start;     /* by mnd_now */
    double shown;     /* when the line was last printed */
    bool terminal;    /* stderr is a terminal */
} progress;

/*
 * Starts the clock. From now on SIGINT, SIGTERM and SIGHUP remove the unfinished data file before
 * they end the process, and exceeding a file size limit gives an error instead of a signal.
 */
void progress_start(progress *p, const char *verb);

/* An mnd_progress_fn; context is the progress. Rewrites the line up to ten times per second. */
void progress_show(void *context, int64_t done, int64_t total);

/* Clears the line. Returns the seconds since progress_start. */
double progress_end(progress *p);

#endif
