/*
 * fault.h - faults on purpose, to show that they are noticed (docs/reliability.md).
 *
 * MNIST_DIST_FAULT=KIND:RANK:STEP in the environment makes rank RANK, before the exchange of step
 * STEP (counted from 1 over the whole run),
 *   nan   turn its gradient and loss into NaN,
 *   flip  flip the lowest bit of the first parameter it sees, after that step,
 *   hang  stay in place for ever, as a read from a dead file system does,
 *   stop  send itself SIGSTOP,
 *   kill  send itself SIGKILL.
 */
#ifndef MNIST_DIST_TRAIN_FAULT_H
#define MNIST_DIST_TRAIN_FAULT_H

#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/status.h"

typedef enum mnd_fault_kind {
    MND_FAULT_NONE,
    MND_FAULT_NAN,
    MND_FAULT_FLIP,
    MND_FAULT_HANG,
    MND_FAULT_STOP,
    MND_FAULT_KILL
} mnd_fault_kind;

typedef struct mnd_fault {
    mnd_fault_kind kind;
    int64_t step;
} mnd_fault;

/* Reads the environment for this rank; MND_USAGE if it makes no sense. */
MND_CHECKED mnd_status mnd_fault_read(int rank, mnd_fault *out);
/* Let it happen if `step` is its step: before the exchange, and after the update. */
void mnd_fault_strike(const mnd_fault *fault, int64_t step, float *grad, size_t n_param,
                      double *loss);
void mnd_fault_flip(const mnd_fault *fault, int64_t step, float *param);

#endif
