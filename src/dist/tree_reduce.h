/*
 * tree_reduce.h - the sum of gradients over the processes of a communicator, by messages: slice q
 * of every subtree's gradient goes to process q, which adds them up in the tree of logical.h
 * (reduce-scatter); then all processes get all slices (allgather). MPI_Allreduce would add in an
 * order of its own, which depends on the number of processes.
 */
#ifndef MND_DIST_TREE_REDUCE_H
#define MND_DIST_TREE_REDUCE_H

#include "mnist_dist/comm.h"

typedef struct mnd_tree_reduce mnd_tree_reduce; /* opaque */

/* `count` floats of each of n_subtree subtrees. Borrowed for the time of the call. */
typedef struct mnd_tree_rows {
    size_t count;
    int n_subtree;
    const int *subtree;      /* (n_subtree + 1) boundaries */
    const int *owner;        /* (n_subtree) the process that has the subtree's gradient */
    const float *const *row; /* (n_subtree) the gradients of this process, NULL for others'; they
                                stay where they are for the life of the reduction */
} mnd_tree_rows;

/* MND_UNSUPPORTED if `count` floats cannot be summed over `size` processes: MPI counts with ints.
 */
MND_CHECKED mnd_status mnd_tree_reduce_fits(size_t count, int size);
/* `comm` is borrowed and carries no other messages. Collective. */
MND_CHECKED mnd_status mnd_tree_reduce_open(mnd_comm *comm, const mnd_tree_rows *rows,
                                            mnd_tree_reduce **out);
/* NULL-safe; sets *x to NULL. */
void mnd_tree_reduce_close(mnd_tree_reduce **x);

/* Sums; the flags (at most 16 bits) of all processes are or-ed into *flags. Collective. */
MND_CHECKED mnd_status mnd_tree_reduce_run(mnd_tree_reduce *x, uint32_t *flags);
/* Slice q of the last sum, which is elements [*first, *first + *count). */
const float *mnd_tree_reduce_slice(const mnd_tree_reduce *x, int q, size_t *first, size_t *count);

#endif
