/*
 * exchange_rig.h - exchanges against a plain sum in the tree on one process, bit by bit, and
 * against an update that is computed from it.
 */
#ifndef MND_TESTS_EXCHANGE_RIG_H
#define MND_TESTS_EXCHANGE_RIG_H

#include "mpi_test.h"

#include <math.h>
#include <string.h>

#include "mnist_dist/exchange.h"
#include "mnist_dist/exchange_kind.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/rng.h"

enum { STEPS = 4, MAX_N = 40000, N_VALUE = 2, N_MEASURE = 2 };

/* Gradient of logical rank l at step t: sizes differ, so that every other order shows. */
static inline float leaf(int l, int t, size_t i) {
    uint32_t out[4];
    mnd_philox((uint32_t[4]){(uint32_t)i, (uint32_t)l, (uint32_t)t, 0}, (uint32_t[2]){1, 2}, out);
    return ((float)out[0] - 0x1p31F) * (float)(1U << (out[1] % 20));
}

/* The sum over n logical ranks from lo on, in the tree. */
static inline float tree(int lo, int n, int t, size_t i) {
    if (n == 1) return leaf(lo, t, i);
    int half = 1;
    while (2 * half < n) half *= 2;
    return tree(lo, half, t, i) + tree(lo + half, n - half, t, i);
}

/* An exchange under test and what it must have done. */
typedef struct rig {
    const char *name; /* for messages */
    int logical;
    size_t n;
    mnd_comm *comm;
    mnd_exchange *ex;
    double norm, most; /* what was measured */
    bool misaligned;
    size_t updated; /* elements that this process has updated */
    float param[MAX_N], slot[MAX_N];
    double expected_norm, expected_most;
    size_t expected_updated;
    const char *bad; /* the first thing that went wrong on this process */
} rig;

static inline void expect(rig *g, bool good, const char *what) {
    if (!good && g->bad == NULL) g->bad = what;
}

/* All processes go on, or none: a process that stops alone would leave the others waiting. */
static inline bool rig_good(const rig *g) {
    int64_t bad = g->bad != NULL;
    if (bad)
        fprintf(stderr, "rank %d of %d: %s, %d logical ranks, %zu parameters: wrong %s (%s)\n",
                mnd_comm_rank(world), mnd_comm_size(world), g->name, g->logical, g->n, g->bad,
                mnd_error());
    return mnd_comm_sum_i64(world, &bad, 1) == MND_OK && bad == 0;
}

static inline float initial(size_t i) { return (float)(i % 101) * 0.25F; }

static inline void new_param(size_t n, double norm, float *param, float *slot, const float *grad) {
    const float factor = norm > 0.0 ? (float)(1.0 / norm) : 1.0F;
    for (size_t i = 0; i < n; i++) {
        slot[i] = 0.5F * slot[i] + factor * grad[i];
        param[i] -= 0.125F * slot[i];
    }
}

static inline void rig_apply(void *context, size_t first, size_t count, float *param,
                             const float *grad) {
    rig *g = context;
    g->misaligned =
        g->misaligned || first % 16 != 0 || (uintptr_t)grad % 64 != 0 || (uintptr_t)param % 64 != 0;
    g->updated += count;
    new_param(count, g->norm, param, mnd_exchange_slot(g->ex, 1) + first, grad);
}

/* Two quantities, the second of which depends on the first: sums that round. */
static inline void block_value(int i, double norm, size_t first, size_t count, const float *param,
                               const float *grad, double *value) {
    value[0] = value[1] = 0.0;
    for (size_t k = 0; k < count; k++) {
        const double v = (double)grad[k];
        value[0] += i == 0 ? v * v : fabs((double)param[k]) * norm;
        value[1] += fabs(v) + (double)(first + k) * 1e-3;
    }
}

static inline void rig_measure(void *context, int i, size_t first, size_t count, const float *param,
                               const float *grad, double *value) {
    const rig *g = context;
    block_value(i, g->norm, first, count, param, grad, value);
}

static inline void total(int i, size_t n_block, const double *value, double *norm, double *most) {
    double sum = 0.0, largest = 0.0;
    for (size_t b = 0; b < n_block; b++) {
        sum += value[N_VALUE * b];
        largest = fmax(largest, value[N_VALUE * b + 1]);
    }
    if (i == 0)
        *norm = sqrt(sum);
    else
        *most = sum + largest;
}

static inline void rig_measured(void *context, int i, size_t n_block, const double *value) {
    rig *g = context;
    total(i, n_block, value, &g->norm, &g->most);
}

/* The whole update on one process: the same blocks in the same order. */
static inline void expect_update(rig *g, bool measures, const float *sum) {
    static double value[N_VALUE * (MAX_N / MND_EXCHANGE_BLOCK + 1)];
    g->expected_norm = 0.0;
    for (int i = 0; i < N_MEASURE && measures; i++) {
        size_t b = 0;
        for (size_t at = 0; at < g->n; at += MND_EXCHANGE_BLOCK, b++) {
            const size_t left = g->n - at;
            block_value(i, g->expected_norm, at,
                        left < MND_EXCHANGE_BLOCK ? left : MND_EXCHANGE_BLOCK, g->param + at,
                        sum + at, value + N_VALUE * b);
        }
        total(i, b, value, &g->expected_norm, &g->expected_most);
    }
    new_param(g->n, g->expected_norm, g->param, g->slot, sum);
}

/* Sums of subtrees at step t, as a backward pass leaves them. */
static inline void fill_gradients(const rig *g, int t) {
    const int rank = mnd_comm_rank(g->comm), size = mnd_comm_size(g->comm);
    int subtree[64];
    size_t stride;
    float *grad = mnd_exchange_grad(g->ex, &stride);
    const int n = mnd_subtrees(g->logical, mnd_logical_first(g->logical, size, rank),
                               mnd_logical_first(g->logical, size, rank + 1), subtree);
    for (int s = 0; s < n; s++)
        for (size_t i = 0; i < g->n; i++)
            grad[(size_t)s * stride + i] = tree(subtree[s], subtree[s + 1] - subtree[s], t, i);
}

/* Opens the exchange `name` and writes initial parameters; a rig to be closed in any case.
 * Collective. */
static inline rig *rig_open(mnd_comm *comm, const char *name, int logical, size_t n) {
    rig *g = calloc(1, sizeof *g);
    if (g == NULL) abort();
    *g = (rig){.name = name, .logical = logical, .n = n, .comm = comm};
    const mnd_exchange_options options = {
        .name = name, .logical = logical, .n_param = n, .n_slot = 2, .n_value = N_VALUE};
    assert_ok(mnd_exchange_create(comm, &options, &g->ex));
    size_t stride, first, count;
    float *const mine = mnd_exchange_param(g->ex), *const grad = mnd_exchange_grad(g->ex, &stride);
    expect(g,
           stride >= n && stride % 16 == 0 && (uintptr_t)grad % 64 == 0 &&
               (uintptr_t)mine % 64 == 0,
           "alignment");
    mnd_exchange_slice(g->ex, &first, &count);
    expect(g, first + count <= n, "slice");
    if (mnd_exchange_writes_param(g->ex))
        for (size_t i = 0; i < n; i++) mine[i] = initial(i);
    expect(g, mnd_exchange_publish(g->ex) == MND_OK, "publishing");
    for (size_t i = 0; i < n; i++) g->param[i] = initial(i);
    expect(g, memcmp(mine, g->param, n * sizeof *mine) == 0, "initial parameters");
    return g;
}

/* One step; whether all is well on every process. Collective. */
static inline bool rig_step(rig *g, int t, bool measures) {
    static float sum[MAX_N];
    const int rank = mnd_comm_rank(g->comm), size = mnd_comm_size(g->comm);
    const mnd_update update = {.context = g,
                               .apply = rig_apply,
                               .n_measure = measures ? N_MEASURE : 0,
                               .n_value = measures ? N_VALUE : 0,
                               .measure = rig_measure,
                               .measured = rig_measured};
    for (size_t i = 0; i < g->n; i++) sum[i] = tree(0, g->logical, t, i);
    fill_gradients(g, t);
    expect_update(g, measures, sum);
    g->norm = 0.0;

    /* Bits of single ranks, none at all, all sixteen. */
    const uint32_t flags = t == 0 ? 1U << (rank % 16) : t == 1 ? 0 : 0xffff;
    uint32_t expected = t >= 2 ? 0xffff : 0, all = 0xdead;
    for (int r = 0; r < size && t == 0; r++) expected |= 1U << (r % 16);
    size_t first, count;
    mnd_exchange_slice(g->ex, &first, &count);
    g->expected_updated += count;
    expect(g, mnd_exchange_step(g->ex, &update, flags, &all) == MND_OK, "step");
    expect(g, all == expected, "flags");
    expect(g, memcmp(mnd_exchange_param(g->ex), g->param, g->n * sizeof *g->param) == 0,
           "parameters");
    expect(g, !measures || (g->norm == g->expected_norm && g->most == g->expected_most),
           "measures");
    expect(g, !g->misaligned, "alignment of updates");
    expect(g, g->updated == g->expected_updated, "updates beyond or short of the slice");
    return rig_good(g);
}

/* Compares the optimizer state, and closes; whether all was well on every process. Collective. */
static inline bool rig_close(rig *g) {
    static float gathered[MAX_N];
    expect(g, mnd_exchange_gather_slot(g->ex, 1, gathered) == MND_OK, "gathering");
    if (mnd_comm_rank(g->comm) == 0)
        expect(g, memcmp(gathered, g->slot, g->n * sizeof *gathered) == 0, "gathered slot");
    memset(gathered, 0xff, sizeof gathered);
    expect(g, mnd_exchange_collect_slot(g->ex, 1, gathered) == MND_OK, "collecting");
    expect(g, memcmp(gathered, g->slot, g->n * sizeof *gathered) == 0, "collected slot");
    const bool good = rig_good(g);
    mnd_exchange_destroy(&g->ex);
    mnd_exchange_destroy(&g->ex);
    free(g);
    return good;
}

/* Sums over v logical ranks by one exchange: all steps measured, or none. Collective. */
static inline void check_steps(mnd_comm *comm, const char *name, int v, size_t n, bool measures) {
    rig *g = rig_open(comm, name, v, n);
    bool good = true;
    for (int t = 0; t < STEPS && good; t++) good = rig_step(g, t, measures);
    const mnd_exchange_times times = mnd_exchange_time(g->ex);
    expect(g, times.exchange + times.update + times.wait > 0.0, "times");
    good = rig_close(g) && good;
    assert_everywhere(good);
}

/* The processes, some of which believe to be on other nodes: see MND_TEST_NODES. Collective. */
static inline mnd_comm *pretend_nodes(const char *nodes) {
    mnd_comm *comm = NULL;
    const bool set = setenv("MND_TEST_NODES", nodes, 1) == 0;
    assert_everywhere(mnd_comm_split(world, 0, &comm) == MND_OK && set);
    assert_everywhere(unsetenv("MND_TEST_NODES") == 0);
    return comm;
}

#endif
