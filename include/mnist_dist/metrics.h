/*
 * metrics.h - the metrics file in JSONL format: one JSON object per line. Rank 0 appends a line for
 * each event and writes it at once, so that a reader always sees complete lines. Not collective.
 *
 *     mnd_metrics_begin(m, "epoch");
 *     mnd_metrics_int(m, "epoch", 1);
 *     mnd_metrics_real(m, "loss", 0.25);
 *     MND_TRY(mnd_metrics_end(m));
 */
#ifndef MNIST_DIST_METRICS_H
#define MNIST_DIST_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/checkpoint.h"
#include "mnist_dist/status.h"

typedef struct mnd_metrics mnd_metrics; /* opaque */

/* A point of a run: that of the checkpoint from which it goes on. */
typedef struct mnd_metrics_point {
    int64_t epoch, step; /* finished */
    const mnd_epoch_record *history;
    int64_t n_history;
    bool branch; /* the user goes back to this point */
} mnd_metrics_point;

/*
 * Takes the file back to `point`, for a run that goes on from there, before mnd_metrics_open: the
 * lines of later epochs and steps are removed, with the "start" line before them. If an epoch of
 * the file has other results than in the history, the file is of another run, and all lines are
 * removed. The whole file is first copied to FILE.earlier-<k>, k = 1, 2, ..., whose name `copy`
 * gets. Does nothing if there is nothing to remove, and without `branch` also if there are but
 * epochs for which no checkpoint was written, as a killed run leaves them; then `copy` is "".
 */
MND_CHECKED mnd_status mnd_metrics_go_back(const char *path, const mnd_metrics_point *point,
                                           char *copy, size_t size);

/*
 * Opens `path`. If `resume_epoch` < 0 the file is truncated. Otherwise its lines are kept, except
 * lines that are not a JSON object (incomplete after a crash) and those that a resumed run writes
 * again: "epoch" objects of epochs > resume_epoch and all "end" objects. (The changed file replaces
 * the old one atomically.) A last line that lacks only its newline is kept. MND_IO if the file
 * cannot be read or written. While it is open, a regular file is locked (flock): MND_IO for a new
 * run if another one writes to it; a resumed run goes on, because the lock may be that of processes
 * that hang at a lost node.
 * A path that leads to the file of standard output or standard error (/dev/stdout) is neither
 * truncated nor changed: lines are added to what is printed there.
 */
MND_CHECKED mnd_status mnd_metrics_open(const char *path, int64_t resume_epoch, mnd_metrics **out);

/*
 * MND_IO if another run still writes its metrics to this file after `timeout` seconds. Changes
 * nothing; a run asks before it touches anything.
 */
MND_CHECKED mnd_status mnd_metrics_check_free(const char *path, double timeout);

/*
 * For a new run: moves a file that is not empty to `folder` if that is not "" and possible, else to
 * a new folder earlier-1, earlier-2, ... beside it, and says where in moved_to ("" if there was
 * nothing to move). Pipes, terminals and the files of standard output and standard error stay.
 */
MND_CHECKED mnd_status mnd_metrics_set_aside(const char *path, const char *folder, char *moved_to,
                                             size_t size);

/* The largest epoch for which the kept file has an "epoch" object; 0 for none. */
int64_t mnd_metrics_last_epoch(const mnd_metrics *metrics);

/* Starts an object {"event": event}; the following calls add members in order. */
void mnd_metrics_begin(mnd_metrics *metrics, const char *event);
void mnd_metrics_int(mnd_metrics *metrics, const char *key, int64_t value);
/* Written so that it reads back exactly. NaN and infinities, which JSON lacks, become null. */
void mnd_metrics_real(mnd_metrics *metrics, const char *key, double value);
/* JSON is UTF-8: bytes that are not valid UTF-8 become '?'. */
void mnd_metrics_text(mnd_metrics *metrics, const char *key, const char *value);
/* Starts a nested object, to which members are added until mnd_metrics_leave. One level only. */
void mnd_metrics_enter(mnd_metrics *metrics, const char *key);
void mnd_metrics_leave(mnd_metrics *metrics);
/*
 * Writes the line. If the disk is full, the part that was written is removed again. MND_IO if the
 * line cannot be written, MND_NO_MEMORY if memory was missing for a member. If the file has been
 * removed in the meantime, a new one is created.
 */
MND_CHECKED mnd_status mnd_metrics_end(mnd_metrics *metrics);

/*
 * The metrics of an ensemble in one file: `path` becomes the lines of part[0], part[1], ... in this
 * order, each with a first member "member": 1, 2, ..., and then `last`, a line without newline, if
 * it is not NULL. Incomplete lines and parts that do not exist are passed over. A regular file, or
 * none, is replaced atomically; anything else (a pipe, standard output) gets the lines only if
 * `last` is not NULL. *lock, -1 before the first call, becomes a descriptor that keeps a regular
 * file locked against other runs, as mnd_metrics_open does; the caller closes it. MND_IO if the
 * file cannot be written.
 */
MND_CHECKED mnd_status mnd_metrics_gather(const char *path, const char *const *part, int n,
                                          const char *last, int *lock);
#define MND_METRICS_NUMBER 32
/* A number as it stands in a metrics file: the shortest form that reads back to the same bits, or
   null if it is not finite. */
void mnd_metrics_number(double value, char text[MND_METRICS_NUMBER]);
/* Whether the first line of the file is one that mnd_metrics_gather wrote. */
bool mnd_metrics_is_gathered(const char *path);

/* NULL-safe; sets *metrics to NULL. */
void mnd_metrics_close(mnd_metrics **metrics);

#endif
