/*
 * logical.h - logical ranks: the arithmetic that makes a run independent of how many processes host
 * it. Pure functions, no communication.
 *
 * A run has V logical ranks. Logical rank l owns the training rows
 *     [first, first + count), count = N / V + (l < N mod V),
 * contiguous. In an epoch the samples are drawn in tickets 0 .. N-1; ticket t belongs to logical
 * rank t mod V, so step s with global batch B takes tickets [s B, min((s+1) B, N)) and logical rank
 * l gives as many samples as there are tickets of its own among them. Every sample is used exactly
 * once, for any N, B and V.
 *
 * P <= V processes host the logical ranks in contiguous blocks. Sums over logical ranks follow one
 * binary tree: n consecutive ones split after the largest power of two below n. A block is cut into
 * the fewest sub-trees of that tree ("parts"); each process sums within its parts, and the parts of
 * all processes in order are summed in the same tree.
 */
#ifndef MNIST_DIST_LOGICAL_H
#define MNIST_DIST_LOGICAL_H

#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/status.h"

#define MND_MAX_LOGICAL 65536

/* First logical rank of process p; the block of p is [first(p), first(p + 1)). */
int mnd_logical_first(int logical, int processes, int p);

/* The training rows of logical rank l: first row, and how many. */
int64_t mnd_shard_first(int64_t images, int logical, int l);
int64_t mnd_shard_count(int64_t images, int logical, int l);

/* How many of the tickets [0, t) are of logical rank l. */
int64_t mnd_tickets_before(int64_t t, int logical, int l);

/*
 * Cuts the block [first, last) into parts: writes the first logical rank of each part and the end
 * into part[0 .. n], and returns n. n <= 2 * 16 + 1; pass part = NULL to count only.
 */
int mnd_tree_parts(int logical, int first, int last, int *part);

/* A sum in the tree, over given parts: the operations in order, as "add register b to register a".
 */
typedef struct mnd_tree_add {
    int into, from; /* indices of parts; the result ends up in part 0 */
} mnd_tree_add;

/*
 * The n - 1 additions that finish the sum over n parts whose boundaries are part[0 .. n] (covering
 * 0 .. V). Writes them to add[0 .. n-1) in an order in which every sum is complete before it is
 * used.
 */
void mnd_tree_schedule(int logical, int n, const int *part, mnd_tree_add *add);

/* The same tree over V doubles, in place of an MPI reduction; returns the sum. */
double mnd_tree_sum(const double *value, int logical);

/*
 * Parameters [first, first + count) whose gradient is computed whole by the process that updates
 * them, instead of being summed over processes. Processes divide a range between multiples of
 * `unit` after its first. cost: what one of its parameters takes, gradient and update, where
 * MND_UPDATE_COST is an update alone; never less.
 */
#define MND_UPDATE_COST 16
typedef struct mnd_owned {
    size_t first, count, unit, cost;
} mnd_owned;

#endif
