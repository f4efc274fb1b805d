/*
 * accept.h - PASSED or FAILED for a machine, in the manner of HPL (Petitet et al., "HPL - a
 * portable implementation of the high-performance Linpack benchmark"): the program brings its own
 * problem, knows its answer, and checks what it depends on. Needs no data file.
 */
#ifndef MNIST_DIST_ACCEPT_H
#define MNIST_DIST_ACCEPT_H

#include <stdbool.h>

#include "mnist_dist/comm.h"

/* One line of the table. */
typedef struct mnd_acceptance {
    char check[32];
    char text[256]; /* figure and bound */
    bool passed;
} mnd_acceptance;

#define MND_MAX_ACCEPTANCES 16

typedef struct mnd_accept_request {
    int threads;           /* of each process */
    bool plain;            /* products by OpenBLAS */
    double min_efficiency; /* measured over modelled rate of a step, below which a machine fails */
} mnd_accept_request;

/*
 * Runs the checks on all processes:
 *   known answer   a training run on drawn digits, 64 logical ranks: hash of the weights (fused
 *                  multiply-add, up to 64 processes), otherwise its loss within a tolerance
 *   accuracy       of that run on test images it has not seen, against a floor
 *   exchange ...   each exchange that can run here, against a sum of integers, which is exact
 *   replicas       all copies of the parameters after that, bit by bit
 *   efficiency     rate of whole steps over the rate that computing and exchange, each measured
 *                  alone, let expect
 * row[0 .. *n) is the same on every process. Collective.
 */
MND_CHECKED mnd_status mnd_accept(mnd_comm *comm, const mnd_accept_request *request,
                                  mnd_acceptance row[MND_MAX_ACCEPTANCES], int *n);

#endif
