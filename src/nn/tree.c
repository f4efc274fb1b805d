#include "mnist_dist/tree.h"

#include <string.h>

#include "mnist_dist/loops.h"

enum { MOST = 32 }; /* levels: more segments than an int counts have fewer */

int mnd_tree_depth(int n_seg) {
    int depth = 0;
    while (depth < MOST && n_seg > 1 << depth) depth++;
    return depth;
}

void mnd_tree_sum_segments(const mnd_segments *seg, size_t n, mnd_leaf_fn *leaf, void *context,
                           float *stack, float *out, size_t stride) {
    for (int t = 0; t < seg->n_subtree; t++, out += stride) {
        const int first = seg->subtree[t], leaves = seg->subtree[t + 1] - first;
        /* Sums that wait for their right sibling, the leftmost one at the place of the result. */
        float *sum[MOST + 1];
        int size[MOST + 1], top = 0;
        for (int s = 0; s < leaves; s++) {
            sum[top] = top == 0 ? out : stack + (size_t)(top - 1) * n;
            leaf(context, first + s, sum[top]);
            size[top++] = 1;
            /* Neighbours of equal size are siblings; after the last leaf all that is left are. */
            for (; top > 1 && (size[top - 1] == size[top - 2] || s == leaves - 1); top--) {
                mnd_add(n, sum[top - 1], sum[top - 2]);
                size[top - 2] += size[top - 1];
            }
        }
    }
}

typedef struct row_sum {
    const mnd_segments *seg;
    const float *d;
    size_t n;
} row_sum;

static void row_leaf(void *context, int s, float *out) {
    const row_sum *r = context;
    const int first = r->seg->start[s], rows = r->seg->start[s + 1] - first;
    memset(out, 0, r->n * sizeof *out);
    mnd_column_sum(rows, (int)r->n, r->d + (size_t)first * r->n, out);
}

void mnd_tree_sum_rows(const mnd_segments *seg, size_t n, const float *d, float *stack, float *out,
                       size_t stride) {
    row_sum r = {.seg = seg, .d = d, .n = n};
    mnd_tree_sum_segments(seg, n, row_leaf, &r, stack, out, stride);
}
