/* tree.h - sums over segments in the fixed binary tree of logical ranks. */
#ifndef MNIST_DIST_NN_TREE_H
#define MNIST_DIST_NN_TREE_H

#include <stddef.h>

#include "kernels.h"

/* Writes the value of segment s, `size` floats. */
typedef void (*mnd_leaf_fn)(void *context, int s, float *out);

/*
 * For each part p of seg: out[p * stride ..] = the tree sum of its segments' leaves. stack: room
 * for MND_TREE_DEPTH * size floats. add(n, x, y): y += x.
 */
void mnd_tree_over_segments(const mnd_rows *seg, size_t size, float *stack, mnd_leaf_fn leaf,
                            void *context, void (*add)(size_t n, const float *x, float *y),
                            float *out, size_t stride);

#endif
