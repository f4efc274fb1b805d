/* tree.h - sums over the segments of a batch in the fixed binary tree (mnd_segments in model.h). */
#ifndef MNIST_DIST_TREE_H
#define MNIST_DIST_TREE_H

#include <stddef.h>

#include "mnist_dist/model.h"

/* Writes the value of segment s: n floats. */
typedef void mnd_leaf_fn(void *context, int s, float *out);

/* Partial sums that are kept at the same time for n segments, besides the result. */
int mnd_tree_depth(int n_seg);

/*
 * For each subtree t of seg: out[t * stride ..] = the sum of its leaves, n floats. stack: memory
 * for mnd_tree_depth(seg->n_seg) * n floats.
 */
void mnd_tree_sum_segments(const mnd_segments *seg, size_t n, mnd_leaf_fn *leaf, void *context,
                           float *stack, float *out, size_t stride);

/* The same of the rows of d (rows, n), each segment's in ascending order: a bias' gradient. */
void mnd_tree_sum_rows(const mnd_segments *seg, size_t n, const float *d, float *stack, float *out,
                       size_t stride);

#endif
