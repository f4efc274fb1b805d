/*
 * metrics.h - JSONL: one JSON object a line, appended by rank 0 as things happen and flushed at
 * once, so that a reader sees whole lines. Not collective.
 *
 *     mnd_metrics_begin(m, "epoch");
 *     mnd_metrics_int(m, "epoch", 1);
 *     mnd_metrics_real(m, "loss", 0.25);
 *     MND_TRY(mnd_metrics_end(m));
 */
#ifndef MNIST_DIST_METRICS_H
#define MNIST_DIST_METRICS_H

#include <stdint.h>

#include "mnist_dist/status.h"

typedef struct mnd_metrics mnd_metrics; /* opaque */

/*
 * Opens `path`. `resume_epoch` < 0 starts the file afresh. Otherwise the lines already there are
 * kept as they are, except those that are no JSON object (torn by a crash) and what a resumed run
 * will write again: "epoch" objects of an epoch > resume_epoch and any "end" object. (The rewritten
 * file replaces the old one atomically.) A last line that lacks nothing but its newline is kept.
 * MND_IO when the file cannot be read or written.
 */
MND_CHECKED mnd_status mnd_metrics_open(const char *path, int64_t resume_epoch, mnd_metrics **out);

/* The largest epoch for which the kept file has an "epoch" object; 0 for none. */
int64_t mnd_metrics_last_epoch(const mnd_metrics *metrics);

/* Starts an object {"event": event}; the following calls add members in order. */
void mnd_metrics_begin(mnd_metrics *metrics, const char *event);
void mnd_metrics_int(mnd_metrics *metrics, const char *key, int64_t value);
/* NaN and infinities become null (JSON has none). Printed so that it reads back exactly. */
void mnd_metrics_real(mnd_metrics *metrics, const char *key, double value);
/* Bytes that are not UTF-8, which JSON is, become '?'. */
void mnd_metrics_text(mnd_metrics *metrics, const char *key, const char *value);
/* A nested object: members that follow go into it until mnd_metrics_leave. One level. */
void mnd_metrics_enter(mnd_metrics *metrics, const char *key);
void mnd_metrics_leave(mnd_metrics *metrics);
/*
 * Writes the line, whole or not at all as far as the disk allows. MND_IO if it cannot be written,
 * MND_NO_MEMORY if an earlier call ran out. If the file was removed meanwhile a new one is begun.
 */
MND_CHECKED mnd_status mnd_metrics_end(mnd_metrics *metrics);

/* NULL-safe; sets *metrics to NULL. */
void mnd_metrics_close(mnd_metrics **metrics);

#endif
