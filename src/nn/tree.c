#include "tree.h"

void mnd_tree_over_segments(const mnd_rows *seg, size_t size, float *stack, mnd_leaf_fn leaf,
                            void *context, void (*add)(size_t n, const float *x, float *y),
                            float *out, size_t stride) {
    for (int p = 0; p < seg->n_part; p++, out += stride) {
        const int first = seg->part[p], n = seg->part[p + 1] - first;
        int count[MND_TREE_DEPTH + 1], top = 0;
        /* The bottom of the stack is the result itself. */
        for (int s = 0; s < n; s++) {
            leaf(context, first + s, top == 0 ? out : stack + (size_t)(top - 1) * size);
            count[top++] = 1;
            /* Two neighbours of the same size are siblings; at the end the rest closes. */
            while (top > 1 && (count[top - 1] == count[top - 2] || s == n - 1)) {
                add(size, stack + (size_t)(top - 2) * size,
                    top == 2 ? out : stack + (size_t)(top - 3) * size);
                count[top - 2] += count[top - 1];
                top--;
            }
        }
    }
}
