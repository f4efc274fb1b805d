/*
 * replica.h - what several processes hold a copy of must be the same everywhere: a flipped bit in
 * one memory is found before it spreads.
 */
#ifndef MNIST_DIST_TRAIN_REPLICA_H
#define MNIST_DIST_TRAIN_REPLICA_H

#include "mnist_dist/comm.h"
#include "mnist_dist/exchange.h"

/*
 * Compares SHA-256 sums of every copy of the parameters, and of the optimizer slots wherever two
 * processes hold the same slice. MND_MISMATCH on all processes names those that differ from the
 * majority (both sides where there is none). Collective.
 */
MND_CHECKED mnd_status mnd_replica_check(mnd_comm *comm, mnd_exchange *exchange, size_t n_param,
                                         int n_slot, int64_t step);

#endif
