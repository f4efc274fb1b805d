#include "mnist_dist/logical.h"

#include <stddef.h>

int mnd_logical_first(int logical, int processes, int p) {
    return (int)((int64_t)logical * p / processes);
}

int64_t mnd_shard_first(int64_t images, int logical, int l) {
    const int64_t more = images % logical;
    return images / logical * l + (l < more ? l : more);
}

int64_t mnd_shard_count(int64_t images, int logical, int l) {
    return images / logical + (l < images % logical);
}

int64_t mnd_samples_before(int64_t t, int logical, int l) {
    return t / logical + (l < t % logical);
}

/*
 * Splitting n after the largest power of two below n makes the nodes of the tree over [0, V) the
 * intervals [k 2^j, (k + 1) 2^j) that begin below V, cut off at V. So the longest node that begins
 * at a is found by doubling while a stays a multiple of the length.
 */
int mnd_subtrees(int logical, int first, int last, int *subtree) {
    int n = 0;
    for (int a = first; a < last; n++) {
        int end = a + 1;
        for (int size = 2; a % size == 0; size *= 2) {
            const int cut = a + size < logical ? a + size : logical;
            if (cut > last) break;
            end = cut;
            if (cut == logical) break;
        }
        if (subtree != NULL) subtree[n] = a;
        a = end;
    }
    if (subtree != NULL) subtree[n] = last;
    return n;
}

static int largest_power_below(int n) {
    int power = 1;
    while (power < n - power) power *= 2;
    return power;
}

/* Emits the additions for subtrees [begin, end), which make up one node of the tree. */
static mnd_tree_add *schedule(int begin, int end, const int *subtree, mnd_tree_add *add) {
    if (end - begin == 1) return add;
    const int middle = subtree[begin] + largest_power_below(subtree[end] - subtree[begin]);
    int split = begin + 1;
    while (subtree[split] < middle) split++;
    add = schedule(begin, split, subtree, add);
    add = schedule(split, end, subtree, add);
    *add = (mnd_tree_add){.into = begin, .from = split};
    return add + 1;
}

void mnd_tree_schedule(int n, const int *subtree, mnd_tree_add *add) {
    if (n > 0) schedule(0, n, subtree, add);
}

double mnd_tree_sum(const double *value, int logical) {
    if (logical <= 1) return logical == 1 ? value[0] : 0.0;
    const int half = largest_power_below(logical);
    return mnd_tree_sum(value, half) + mnd_tree_sum(value + half, logical - half);
}
