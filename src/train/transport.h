/* transport.h - whether the kernel lets processes of a node copy from one another's memory. */
#ifndef MNIST_DIST_TRAIN_TRANSPORT_H
#define MNIST_DIST_TRAIN_TRANSPORT_H

#include <stdint.h>

#include "mnist_dist/comm.h"

/*
 * Reads a number from the memory of the next process of this node with process_vm_readv, as MPI
 * libraries do with long messages. *error becomes the errno of the attempt, 0 if it worked or there
 * is no other process. Call it after MPI_Init, which may have granted the right. The status may
 * differ between nodes. Collective.
 */
MND_CHECKED mnd_status mnd_transport_probe(mnd_comm *comm, int32_t *error);

/* kernel.yama.ptrace_scope; -1 where there is none. */
int32_t mnd_transport_scope(void);

#endif
