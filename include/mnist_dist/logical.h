/*
 * logical.h - logical ranks: the arithmetic that makes a run independent of how many processes it
 * has. Pure functions, no communication.
 *
 * A run has V logical ranks. Logical rank l owns the training rows
 *     [first, first + count), count = N / V + (l < N mod V),
 * a contiguous shard. An epoch takes N samples: sample t = 0 .. N-1 is one of logical rank t mod V,
 * so step s with global batch B takes samples [s B, min((s+1) B, N)). Every row is used exactly
 * once per epoch, for any N, B and V.
 *
 * P <= V processes have the logical ranks in contiguous blocks. Sums over logical ranks follow one
 * binary tree: n consecutive ones are split after the largest power of two below n. A block is made
 * of the fewest subtrees of that tree; each process sums within its subtrees, and the sums of all
 * processes in order are added in the same tree.
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

/* How many of the first t samples of an epoch are of logical rank l. */
int64_t mnd_samples_before(int64_t t, int logical, int l);

/*
 * The subtrees that make up the block [first, last): writes the first logical rank of each, and the
 * end, into subtree[0 .. n], and returns n. n <= 2 * 16 + 1; subtree = NULL to count only.
 */
int mnd_subtrees(int logical, int first, int last, int *subtree);

/* One addition: "add register `from` to register `into`". */
typedef struct mnd_tree_add {
    int into, from; /* indices of subtrees; the result ends up in register 0 */
} mnd_tree_add;

/*
 * The n - 1 additions that finish the sum over n subtrees with boundaries subtree[0 .. n] (covering
 * 0 .. V). Writes them to add[0 .. n-1) in an order in which every sum is complete before it is
 * used.
 */
void mnd_tree_schedule(int n, const int *subtree, mnd_tree_add *add);

/* The same tree over V doubles, in place of an MPI reduction; returns the sum. */
double mnd_tree_sum(const double *value, int logical);

#endif
