/*
 * src/dist/exchange*.c: every algorithm in the fixed order against a plain sum in the tree, bit by
 * bit, for any number of processes; MPI_Allreduce against sums that are exact in any order.
 */
#include "mpi_test.h"

#include <math.h>
#include <string.h>

#include "mnist_dist/exchange.h"
#include "mnist_dist/exchange_kind.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/rng.h"

/* MAX_N: more than any network is asked about, see SURELY_VOLUME in exchange_hierarchical.c. */
enum { STEPS = 4, SOME = 40000, MAX_N = 10 * SOME };

/* Gradient of logical rank l at step t: sizes differ, so that every other order shows. */
static float leaf(int l, int t, size_t i) {
    uint32_t out[4];
    mnd_philox((uint32_t[4]){(uint32_t)i, (uint32_t)l, (uint32_t)t, 0}, (uint32_t[2]){1, 2}, out);
    return ((float)out[0] - 0x1p31F) * (float)(1U << (out[1] % 20));
}

static float tree(int lo, int n, int t, size_t i) {
    if (n == 1) return leaf(lo, t, i);
    int half = 1;
    while (2 * half < n) half *= 2;
    return tree(lo, half, t, i) + tree(lo + half, n - half, t, i);
}

static mnd_comm *pretended; /* all processes on nodes of the test's making; NULL: as they are */

static mnd_comm *all_processes(void) { return pretended != NULL ? pretended : world; }

typedef struct update_context {
    mnd_exchange *ex;
    bool misaligned;
    size_t updated;
    double norm, most; /* what was measured */
} update_context;

static void new_param(size_t n, float factor, float *param, float *slot, const float *grad) {
    for (size_t i = 0; i < n; i++) {
        slot[i] = 0.5F * slot[i] + factor * grad[i];
        param[i] -= 0.125F * slot[i];
    }
}

static void apply(void *context, size_t first, size_t count, float *param, const float *grad) {
    update_context *c = context;
    c->misaligned =
        c->misaligned || first % 16 != 0 || (uintptr_t)grad % 64 != 0 || (uintptr_t)param % 64 != 0;
    c->updated += count;
    const float factor = c->norm > 0.0 ? (float)(1.0 / c->norm) : 1.0F;
    new_param(count, factor, param, mnd_exchange_slot(c->ex, 1) + first, grad);
}

/* Two quantities, the second of which depends on the first: sums that round. */
static void measure(void *context, int i, size_t first, size_t count, const float *param,
                    const float *grad, double *value) {
    const update_context *c = context;
    value[0] = value[1] = 0.0;
    for (size_t k = 0; k < count; k++) {
        const double g = (double)grad[k];
        value[0] += i == 0 ? g * g : fabs((double)param[k]) * c->norm;
        value[1] += fabs(g) + (double)(first + k) * 1e-3;
    }
}

static void measured(void *context, int i, size_t n_block, const double *value) {
    update_context *c = context;
    double sum = 0.0, most = 0.0;
    for (size_t b = 0; b < n_block; b++) {
        sum += value[2 * b];
        most = fmax(most, value[2 * b + 1]);
    }
    if (i == 0)
        c->norm = sqrt(sum);
    else
        c->most = sum + most;
}

static float initial(size_t i) { return (float)(i % 101) * 0.25F; }

/* What one test asks of an exchange. */
typedef struct question {
    const char *name;
    int logical;
    size_t n;
    bool measures;
} question;

/* The whole update on one process: the same blocks in the same order. */
static void expected_update(update_context *c, bool measures, size_t n, float *param, float *slot,
                            const float *sum) {
    static double value[2 * (MAX_N / MND_EXCHANGE_BLOCK + 1)];
    c->norm = 0.0;
    for (int i = 0; i < 2 && measures; i++) {
        for (size_t at = 0, b = 0; at < n; at += MND_EXCHANGE_BLOCK, b++) {
            const size_t left = n - at;
            measure(c, i, at, left < MND_EXCHANGE_BLOCK ? left : MND_EXCHANGE_BLOCK, param + at,
                    sum + at, value + 2 * b);
        }
        measured(c, i, (n + MND_EXCHANGE_BLOCK - 1) / MND_EXCHANGE_BLOCK, value);
    }
    new_param(n, c->norm > 0.0 ? (float)(1.0 / c->norm) : 1.0F, param, slot, sum);
}

/* The gradients of step t: sums of subtrees, and whole sums where this process owns them. */
static void fill_gradients(mnd_exchange *ex, const question *q, int t) {
    const int rank = mnd_comm_rank(all_processes()), size = mnd_comm_size(all_processes());
    int subtree[64];
    size_t stride;
    float *grad = mnd_exchange_grad(ex, &stride);
    const int n = mnd_subtrees(q->logical, mnd_logical_first(q->logical, size, rank),
                               mnd_logical_first(q->logical, size, rank + 1), subtree);
    for (int s = 0; s < n; s++)
        for (size_t i = 0; i < q->n; i++)
            grad[(size_t)s * stride + i] = tree(subtree[s], subtree[s + 1] - subtree[s], t, i);
}

/* One exchange; returns what went wrong, or NULL. Collective. */
static const char *run(const question *q) {
    static float param[MAX_N], slot[MAX_N], sum[MAX_N], gathered[MAX_N];
    mnd_comm *const comm = all_processes();
    const int rank = mnd_comm_rank(comm), size = mnd_comm_size(comm);
    const size_t n = q->n;
    mnd_exchange *ex = NULL;
    const mnd_exchange_options options = {.name = q->name,
                                          .logical = q->logical,
                                          .n_param = n,
                                          .n_slot = 2,
                                          .n_value = q->measures ? 2 : 0};
    if (mnd_exchange_create(comm, &options, &ex) != MND_OK) return mnd_error();
    const char *bad = NULL;
    const char *upper = mnd_comm_nodes(comm) == 1 ? "shared" : "hierarchical";
    const char *expected_name = size == 1 ? "local" : strcmp(q->name, "tree") == 0 ? "tree" : upper;
    if (strcmp(mnd_exchange_name(ex), expected_name) != 0) bad = "name";
    size_t stride;
    float *const mine = mnd_exchange_param(ex), *const grad = mnd_exchange_grad(ex, &stride);
    if (stride < n || stride % 16 != 0 || (uintptr_t)grad % 64 != 0 || (uintptr_t)mine % 64 != 0)
        bad = "alignment";
    size_t first, count;
    mnd_exchange_slice(ex, &first, &count);
    if (first + count > n) bad = "slice";
    if (mnd_exchange_writes_param(ex))
        for (size_t i = 0; i < n; i++) mine[i] = initial(i);
    if (mnd_exchange_publish(ex) != MND_OK) bad = "publish";
    for (size_t i = 0; i < n; i++) {
        if (mine[i] != initial(i)) bad = "initial parameters";
        param[i] = initial(i);
        slot[i] = 0.0F;
    }
    update_context context = {.ex = ex}, alone = {.ex = NULL};
    const mnd_update update = {.context = &context,
                               .apply = apply,
                               .n_measure = q->measures ? 2 : 0,
                               .n_value = q->measures ? 2 : 0,
                               .measure = measure,
                               .measured = measured};
    for (int t = 0; t < STEPS && bad == NULL; t++) {
        for (size_t i = 0; i < n; i++) sum[i] = tree(0, q->logical, t, i);
        fill_gradients(ex, q, t);
        expected_update(&alone, q->measures, n, param, slot, sum);

        /* Bits of single ranks, none at all, all sixteen. */
        const uint32_t flags = t == 0 ? 1U << (rank % 16) : t == 1 ? 0 : 0xffff;
        uint32_t expected = t >= 2 ? 0xffff : 0, all = 0xdead;
        for (int r = 0; r < size && t == 0; r++) expected |= 1U << (r % 16);
        if (mnd_exchange_step(ex, &update, flags, &all) != MND_OK) bad = "step";
        if (all != expected) bad = "flags";
        if (memcmp(mine, param, n * sizeof *param) != 0) bad = "parameters";
        if (q->measures && (context.norm != alone.norm || context.most != alone.most))
            bad = "measures";
    }
    if (context.misaligned) bad = "alignment of updates";
    if (context.updated != STEPS * count) bad = "updates beyond or short of the slice";
    if (mnd_exchange_gather_slot(ex, 1, gathered) != MND_OK) bad = "gather";
    if (rank == 0 && memcmp(gathered, slot, n * sizeof *slot) != 0) bad = "gathered slot";
    const mnd_exchange_times times = mnd_exchange_time(ex);
    if (!(times.exchange + times.update + times.wait > 0.0)) bad = "times";
    mnd_exchange_destroy(&ex);
    mnd_exchange_destroy(&ex);
    return bad;
}

static void ask(question q) {
    const char *bad = run(&q);
    if (bad != NULL)
        fprintf(stderr, "%s, %d logical ranks, %zu parameters%s: %s\n", q.name, q.logical, q.n,
                q.measures ? ", measured" : "", bad);
    assert_everywhere(bad == NULL);
}

static void check(const char *name, int v, size_t n) {
    ask((question){.name = name, .logical = v, .n = n});
    ask((question){.name = name, .logical = v, .n = n, .measures = true});
}

static void sums_bit_by_bit(const char *name) {
    const int size = mnd_comm_size(world);
    /* Slices of nothing, of one block, of several. */
    check(name, size, 1);
    check(name, 13, 37);
    check(name, size, 1000);
    check(name, 8, 1025);
    check(name, 13, 13002);
    check(name, size, SOME);
}

static void refused_options(const mnd_exchange_options *o, mnd_status expected, const char *word) {
    mnd_exchange *ex = NULL;
    const mnd_status status = mnd_exchange_create(world, o, &ex);
    if (status != expected || strstr(mnd_error(), word) == NULL)
        fprintf(stderr, "%s: %s: %s\n", o->name, mnd_status_name(status), mnd_error());
    assert_everywhere(status == expected && ex == NULL && strstr(mnd_error(), word) != NULL);
}

static void refused(const char *name, int v, size_t n, int n_slot, mnd_status expected,
                    const char *word) {
    refused_options(
        &(mnd_exchange_options){.name = name, .logical = v, .n_param = n, .n_slot = n_slot},
        expected, word);
}

static void local(void **state) {
    (void)state;
    if (mnd_comm_size(world) == 1) sums_bit_by_bit("local");
}

static void by_messages(void **state) {
    (void)state;
    sums_bit_by_bit("tree");
}

/* Stores in the usual way and streaming stores. */
static void shared(void **state) {
    (void)state;
    if (mnd_comm_nodes(world) > 1) {
        refused("shared", mnd_comm_size(world), 10, 1, MND_USAGE, "one node");
        return;
    }
    for (int streams = 0; streams < 2; streams++) {
        assert_everywhere(setenv("MND_TEST_STREAM", streams ? "1" : "0", 1) == 0);
        sums_bit_by_bit("shared");
    }
    assert_everywhere(unsetenv("MND_TEST_STREAM") == 0);
}

/* Nodes of equal and unequal size, one process per node, ranks placed in turn and in any way. */
static void hierarchical(void **state) {
    (void)state;
    static const char *const nodes[] = {"0,0,1,1,2,2,3,3", "0,0,0,1,1,1,1,2", "0,1,2,3,4,5,6,7",
                                        "0,1", "0,1,1,0,1,0,0,2"};
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) {
        const bool set = setenv("MND_TEST_NODES", nodes[i], 1) == 0;
        assert_everywhere(mnd_comm_split(world, 0, &pretended) == MND_OK && set);
        const char *name = i % 2 == 0 ? "hierarchical" : "auto";
        check(name, 13, 37);
        check(name, mnd_comm_size(world), SOME);
        if (i == 0 || i == 2)
            ask((question){.name = name, .logical = mnd_comm_size(world), .n = MAX_N});
        if (i == 1) check(name, 8, 1000);
        mnd_comm_finish(&pretended);
        assert_everywhere(unsetenv("MND_TEST_NODES") == 0);
    }
}

static void automatic(void **state) {
    (void)state;
    check("auto", 8, 1000);
}

/* The sum of whole numbers, exact in any order; flags; one gradient buffer for each process. */
static void allreduce(void **state) {
    (void)state;
    const int rank = mnd_comm_rank(world), size = mnd_comm_size(world);
    enum { N = 5003 };
    mnd_exchange *ex = NULL;
    const mnd_exchange_options o = {.name = "mpi", .logical = 13, .n_param = N, .n_slot = 1};
    assert_ok(mnd_exchange_create(world, &o, &ex));
    size_t stride, first = 1, count = 0;
    uint32_t all = 0;
    float *grad = mnd_exchange_grad(ex, &stride);
    for (size_t i = 0; i < N; i++) grad[i] = (float)(i % 7) + (float)rank;
    const bool ok =
        mnd_exchange_step(ex, &mnd_update_keep_sum, 1U << (rank % 16), &all) == MND_OK &&
        strcmp(mnd_exchange_name(ex), "mpi") == 0;
    mnd_exchange_slice(ex, &first, &count);
    uint32_t expected = 0;
    for (int r = 0; r < size; r++) expected |= 1U << (r % 16);
    int wrong = all != expected || first != 0 || count != N;
    for (size_t i = 0; i < N; i++)
        wrong += mnd_exchange_param(ex)[i] !=
                 (float)size * (float)(i % 7) + (float)(size * (size - 1) / 2);
    mnd_exchange_destroy(&ex);
    assert_everywhere(ok && wrong == 0);
    assert_everywhere(!mnd_exchange_fixed_order("mpi") && mnd_exchange_fixed_order("tree") &&
                      mnd_exchange_fixed_order("auto"));
}

static void wrong_use_is_refused_everywhere(void **state) {
    (void)state;
    const int size = mnd_comm_size(world);
    refused("ring", size, 10, 1, MND_USAGE, "tree");
    refused("allreduce", size, 10, 1, MND_USAGE, "now called 'tree'");
    refused("auto", 0, 10, 1, MND_USAGE, "logical ranks");
    refused("auto", MND_MAX_LOGICAL + 1, 10, 1, MND_USAGE, "logical ranks");
    refused("auto", size, 0, 1, MND_RANGE, "no parameters");
    refused("auto", size, 10, 99, MND_RANGE, "slots");
    if (size == 1) return;
    refused("auto", size - 1, 10, 1, MND_USAGE, "start at most");
    refused("local", size, 10, 1, MND_USAGE, "one process");
    /* One process that asks for something else stops all. */
    refused("auto", size + (mnd_comm_rank(world) == 1), 10, 1, MND_MISMATCH, "different");
    refused("auto", size, mnd_comm_rank(world) == 1 ? 11 : 10, 1, MND_MISMATCH, "different");
    refused(mnd_comm_rank(world) == 1 ? "ring" : "auto", size, 10, 1, MND_USAGE, "'ring'");
    refused("tree", size, (size_t)1 << 48, 2, MND_UNSUPPORTED, "in one call");
    if (mnd_comm_nodes(world) == 1)
        refused("shared", size, (size_t)1 << 42, 0, MND_NO_MEMORY, "/dev/shm");
}

/* Run by small_shm.sh with a /dev/shm of 64 MB. */
static void too_little_shared_memory(void **state) {
    (void)state;
    const int size = mnd_comm_size(world);
    const size_t n = (size_t)1 << 24;
    refused("shared", size, n, 0, MND_NO_MEMORY, "enlarge it");
    mnd_exchange *ex = NULL;
    const mnd_exchange_options o = {.name = "auto", .logical = size, .n_param = n};
    assert_ok(mnd_exchange_create(world, &o, &ex));
    const bool good = strcmp(mnd_exchange_name(ex), "tree") == 0 &&
                      strstr(mnd_exchange_note(ex), "/dev/shm") != NULL;
    mnd_exchange_destroy(&ex);
    assert_everywhere(good);
    /* What fits is shared. */
    check("shared", size, 1000);
}

int main(void) {
    const struct CMUnitTest small[] = {cmocka_unit_test(too_little_shared_memory)};
    if (getenv("MND_TEST_SMALL_SHM") != NULL) return mpi_test_main("small /dev/shm", small, 1);
    const struct CMUnitTest test[] = {
        cmocka_unit_test(local),
        cmocka_unit_test(by_messages),
        cmocka_unit_test(shared),
        cmocka_unit_test(hierarchical),
        cmocka_unit_test(automatic),
        cmocka_unit_test(allreduce),
        cmocka_unit_test(wrong_use_is_refused_everywhere),
    };
    return mpi_test_main("exchange", test, sizeof test / sizeof test[0]);
}
