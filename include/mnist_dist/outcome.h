/*
 * outcome.h - processes that work apart tell one another how their work ended, without waiting for
 * one another: point-to-point messages that are received while one computes.
 */
#ifndef MNIST_DIST_OUTCOME_H
#define MNIST_DIST_OUTCOME_H

#include <stdint.h>

#include "mnist_dist/comm.h"

typedef struct mnd_outcomes mnd_outcomes; /* opaque */

/* Prepares to receive one number of every process of `comm`, which is borrowed. Collective. */
MND_CHECKED mnd_status mnd_outcomes_open(mnd_comm *comm, mnd_outcomes **out);

/* Sends this process' number, at least 0, to all others; once. Does not wait. Not collective. */
MND_CHECKED mnd_status mnd_outcomes_tell(mnd_outcomes *outcomes, int32_t number);

/* The largest number that has come so far; 0 before the first. Does not wait. Not collective. */
MND_CHECKED mnd_status mnd_outcomes_largest(mnd_outcomes *outcomes, int32_t *largest);

/* Waits until every process has told its number, if this one has. NULL-safe; sets *outcomes to
 * NULL. Collective. */
void mnd_outcomes_close(mnd_outcomes **outcomes);

#endif
