/*
 * node.h - the processes of one node, the memory that they share, and a barrier in it that costs a
 * fraction of a microsecond.
 *
 * Every process has a segment of its own in the window; the first one has also what the node has
 * once. Stores become visible to the others by mnd_node_barrier alone: in MPI's unified memory
 * model, which mnd_node_open insists on, C11 release and acquire order them.
 */
#ifndef MNIST_DIST_NODE_H
#define MNIST_DIST_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/comm.h"

typedef struct mnd_node mnd_node; /* opaque */

/*
 * Groups the processes of `all` by node and gives each node a window with `common` bytes for all
 * and `own` bytes for this process (which may differ between processes), aligned to pages and not
 * yet touched, so that pages go to the memory of the process that writes first. MND_NO_MEMORY says
 * when /dev/shm is too small. Every process gets the same status. Collective over `all`.
 */
MND_CHECKED mnd_status mnd_node_open(mnd_comm *all, size_t common, size_t own, mnd_node **out);
/* NULL-safe; sets *node to NULL. Collective over the node. */
void mnd_node_close(mnd_node **node);

/* The processes of the node, by rank; borrowed. */
mnd_comm *mnd_node_comm(const mnd_node *node);
/* What the node has once, and the segment of process r of the node. */
void *mnd_node_common(const mnd_node *node);
void *mnd_node_own(const mnd_node *node, int r);
/* Whether the node has fewer CPUs for these processes than processes: they take turns. */
bool mnd_node_crowded(const mnd_node *node);

/*
 * What each process of the node wrote before, all see afterwards. Returns the bits of all
 * processes' flags (at most 16). Collective over the node.
 */
uint32_t mnd_node_barrier(mnd_node *node, uint32_t flags);

#endif
