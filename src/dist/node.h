/*
 * node.h - the processes of one node and the memory they share: an MPI-3 shared-memory window, and
 * a barrier in it that costs a fraction of a microsecond.
 *
 * Every process has a segment of its own (its gradients), the first one has also what the node has
 * once (the parameters). Stores become visible to the others by mnd_node_meet alone: in MPI's
 * unified memory model, which mnd_node_open insists upon, C11 release and acquire order them, and
 * no MPI call is needed in between.
 */
#ifndef MND_DIST_NODE_H
#define MND_DIST_NODE_H

#include <mpi.h>
#include <stdatomic.h>
#include <stdint.h>

#include "mnist_dist/comm.h"

/* Where a process says how far it is; two cache lines, since CPUs fetch them in pairs. */
typedef struct mnd_node_line {
    /*
     * Number of the meeting << 16 | flags, for even and odd meetings: a process may come to the
     * next one while others still read this one's flags, but not to the one after it.
     */
    _Alignas(128) atomic_uint_least64_t token[2];
} mnd_node_line;

typedef struct mnd_node {
    mnd_comm *comm; /* owned: the processes of this node, by rank */
    int rank, size;
    MPI_Win window;
    mnd_node_line *line; /* (size), in the window */
    char *common;        /* what the node has once, in the window */
    char **own;          /* (size) every process' segment, in the window; the array is owned */
    uint64_t meetings;
    int patience; /* looks before the CPU is offered to others */
} mnd_node;

/*
 * Groups the processes of `all` by node and gives each node a window with `common_bytes` for all
 * and `own_bytes` for each process (may differ), all aligned to pages and not yet touched, so that
 * the pages go to the memory of who writes first. MND_NO_MEMORY says when /dev/shm is too small for
 * it. Collective over `all`: every process gets the same status. Close also after a failure.
 */
MND_CHECKED mnd_status mnd_node_open(mnd_comm *all, mnd_node *node);
MND_CHECKED mnd_status mnd_node_allocate(mnd_comm *all, mnd_node *node, size_t common_bytes,
                                         size_t own_bytes);
/* Collective over the node. Safe on a zeroed node. */
void mnd_node_close(mnd_node *node);

/*
 * Barrier: what each process of the node wrote before, all see afterwards. Returns the bits of all
 * processes' flags (16).
 */
uint32_t mnd_node_meet(mnd_node *node, uint32_t flags);

#endif
