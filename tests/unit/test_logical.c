/* src/base/logical.c: every sample once, blocks are the fewest subtrees, sums keep their brackets.
 */
#include "test.h"

#include <stdlib.h>

#include "mnist_dist/logical.h"
#include "mnist_dist/rng.h"

enum { MAX_V = 40 };

/* The tree as logical.h words it, written down once more: split after a power of two below n. */
static int power_below(int n) {
    int p = 1;
    while (2 * p < n) p = 2 * p;
    return p;
}

static int is_node(int lo, int n, int first, int last) {
    if (first == lo && last == lo + n) return 1;
    if (n == 1) return 0;
    const int half = power_below(n);
    return last <= lo + half ? is_node(lo, half, first, last)
                             : first >= lo + half && is_node(lo + half, n - half, first, last);
}

static double bracketed(const double *value, int lo, int n) {
    if (n == 1) return value[lo];
    const int half = power_below(n);
    return bracketed(value, lo, half) + bracketed(value, lo + half, n - half);
}

/* Values of very different size: any other order of additions gives other bits. */
static void fill(double *value, int n) {
    mnd_rng rng;
    mnd_rng_start(&rng, 11, MND_RNG_TEST, (uint32_t)n, 0);
    for (int i = 0; i < n; i++)
        value[i] = ((double)mnd_rng_u32(&rng) - 0x1p31 + (double)mnd_rng_u32(&rng) * 0x1p-32) *
                   (double)(1 << mnd_rng_below(&rng, 20));
}

static void every_sample_has_one_owner(void **state) {
    (void)state;
    for (int v = 1; v <= MAX_V; v++)
        for (int64_t n = 0; n < 100; n++) {
            int64_t next = 0;
            for (int l = 0; l < v; l++) {
                assert_int_equal(mnd_shard_first(n, v, l), next);
                assert_in_range(mnd_shard_count(n, v, l), n / v, n / v + (n % v != 0));
                next += mnd_shard_count(n, v, l);
                /* All samples of an epoch are all rows of the shard. */
                assert_int_equal(mnd_samples_before(n, v, l), mnd_shard_count(n, v, l));
            }
            assert_int_equal(next, n);
        }
    assert_int_equal(mnd_shard_first(INT64_C(5000000000), 7, 6), INT64_C(4285714286));
}

static void samples_go_round(void **state) {
    (void)state;
    for (int v = 1; v <= 13; v++) {
        int64_t drawn[13] = {0};
        for (int64_t t = 0; t < 200; t++) {
            for (int l = 0; l < v; l++) assert_int_equal(mnd_samples_before(t, v, l), drawn[l]);
            drawn[t % v]++;
        }
    }
}

static void blocks_cover_and_balance(void **state) {
    (void)state;
    for (int v = 1; v <= MAX_V; v++)
        for (int p = 1; p <= v; p++) {
            assert_int_equal(mnd_logical_first(v, p, 0), 0);
            assert_int_equal(mnd_logical_first(v, p, p), v);
            for (int q = 0; q < p; q++) {
                const int n = mnd_logical_first(v, p, q + 1) - mnd_logical_first(v, p, q);
                assert_in_range(n, v / p, v / p + (v % p != 0));
            }
        }
    assert_int_equal(mnd_logical_first(MND_MAX_LOGICAL, MND_MAX_LOGICAL, 65535), 65535);
}

static void subtrees_are_the_fewest(void **state) {
    (void)state;
    for (int v = 1; v <= MAX_V; v++)
        for (int first = 0; first < v; first++)
            for (int last = first + 1; last <= v; last++) {
                int subtree[64];
                const int n = mnd_subtrees(v, first, last, subtree);
                assert_int_equal(n, mnd_subtrees(v, first, last, NULL));
                assert_int_equal(subtree[0], first);
                assert_int_equal(subtree[n], last);
                for (int i = 0; i < n; i++) assert_true(is_node(0, v, subtree[i], subtree[i + 1]));
                /* Fewest: no run of neighbours makes up a node. */
                for (int i = 0; i < n; i++)
                    for (int j = i + 2; j <= n; j++)
                        assert_false(is_node(0, v, subtree[i], subtree[j]));
            }
    assert_int_equal(mnd_subtrees(8, 3, 3, NULL), 0);
    /* The bound of the header, at its worst. */
    assert_int_equal(mnd_subtrees(MND_MAX_LOGICAL, 1, MND_MAX_LOGICAL - 1, NULL), 30);
    assert_int_equal(mnd_subtrees(MND_MAX_LOGICAL, 0, MND_MAX_LOGICAL, NULL), 1);
}

static void seven_logical_ranks(void **state) {
    (void)state;
    /* ((0 1)(2 3))((4 5) 6) */
    int subtree[8];
    assert_int_equal(mnd_subtrees(7, 4, 7, subtree), 1);
    assert_int_equal(mnd_subtrees(7, 5, 7, subtree), 2);
    assert_int_equal(subtree[1], 6);
    assert_int_equal(mnd_subtrees(7, 1, 7, subtree), 3);
    assert_int_equal(subtree[1], 2);
    assert_int_equal(subtree[2], 4);
    const int whole[] = {0, 1, 2, 3, 4, 5, 6, 7};
    const int into[] = {0, 2, 0, 4, 4, 0}, from[] = {1, 3, 2, 5, 6, 4};
    mnd_tree_add add[6];
    mnd_tree_schedule(7, whole, add);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(add[i].into, into[i]);
        assert_int_equal(add[i].from, from[i]);
    }
}

static void any_number_of_processes_gives_the_same_sum(void **state) {
    (void)state;
    double value[MAX_V];
    int order_matters = 0;
    for (int v = 1; v <= MAX_V; v++) {
        fill(value, v);
        const double expected = bracketed(value, 0, v);
        double plain = 0.0;
        for (int l = 0; l < v; l++) plain += value[l];
        order_matters += plain != expected;
        assert_true(mnd_tree_sum(value, v) == expected);
        for (int p = 1; p <= v; p++) {
            int subtree[MAX_V + 1], n = 0;
            for (int q = 0; q < p; q++)
                n += mnd_subtrees(v, mnd_logical_first(v, p, q), mnd_logical_first(v, p, q + 1),
                                  subtree + n);
            assert_true(n <= v);
            double sum[MAX_V];
            for (int i = 0; i < n; i++)
                sum[i] = bracketed(value, subtree[i], subtree[i + 1] - subtree[i]);
            mnd_tree_add add[MAX_V];
            mnd_tree_schedule(n, subtree, add);
            for (int i = 0; i < n - 1; i++) sum[add[i].into] += sum[add[i].from];
            assert_true(sum[0] == expected);
        }
    }
    /* Otherwise the values above prove nothing. */
    assert_true(order_matters > MAX_V / 2);
    assert_true(mnd_tree_sum(value, 0) == 0.0);
}

int main(void) {
    const struct CMUnitTest test[] = {
        cmocka_unit_test(every_sample_has_one_owner),
        cmocka_unit_test(samples_go_round),
        cmocka_unit_test(blocks_cover_and_balance),
        cmocka_unit_test(subtrees_are_the_fewest),
        cmocka_unit_test(seven_logical_ranks),
        cmocka_unit_test(any_number_of_processes_gives_the_same_sum),
    };
    return cmocka_run_group_tests_name("logical", test, NULL, NULL);
}
