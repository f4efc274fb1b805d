/*
 * src/dist/exchange*.c: every algorithm against a plain sum in the tree, bit by bit, for any number
 * of processes.
 */
#include "mpi_test.h"

#include <string.h>

#include "mnist_dist/exchange.h"
#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/rng.h"

/* More than any network is asked about: see SURELY_VOLUME in exchange_hierarchical.c. */
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

static mnd_comm *everybody(void) { return pretended != NULL ? pretended : world; }

typedef struct update_context {
    mnd_exchange *ex;
    int misaligned;
    size_t updated;
} update_context;

static void new_param(size_t n, float *param, float *slot, const float *grad) {
    for (size_t i = 0; i < n; i++) {
        slot[i] = 0.5F * slot[i] + grad[i];
        param[i] -= 0.125F * slot[i];
    }
}

static void update(void *context, size_t first, size_t count, float *param, const float *grad) {
    update_context *c = context;
    c->misaligned |= first % 16 != 0 || (uintptr_t)grad % 64 != 0 || (uintptr_t)param % 64 != 0;
    c->updated += count;
    new_param(count, param, mnd_exchange_slot(c->ex, 1) + first, grad);
}

static float initial(size_t i) { return (float)(i % 101) * 0.25F; }

/* One exchange for one V and size; returns what went wrong, or NULL. Collective. */
static const char *run(const char *name, int v, size_t n) {
    static float param[MAX_N], slot[MAX_N], sum[MAX_N], gathered[MAX_N];
    mnd_comm *const comm = everybody();
    const int rank = mnd_comm_rank(comm), size = mnd_comm_size(comm);
    mnd_exchange *ex = NULL;
    if (mnd_exchange_create(comm, name, v, n, 2, NULL, &ex) != MND_OK) return mnd_error();
    const char *bad = NULL;
    const char *upper = mnd_comm_nodes(comm) == 1 ? "shared" : "hierarchical";
    const char *expected_name = size == 1                        ? "local"
                                : strcmp(name, "allreduce") == 0 ? "allreduce"
                                                                 : upper;
    if (strcmp(mnd_exchange_name(ex), expected_name) != 0) bad = "name";
    size_t stride, first, count;
    float *grad = mnd_exchange_grad(ex, &stride), *mine = mnd_exchange_param(ex);
    mnd_exchange_slice(ex, &first, &count);
    if (stride < n || stride % 16 != 0 || (uintptr_t)grad % 64 != 0 || (uintptr_t)mine % 64 != 0)
        bad = "alignment";
    if (first + count > n || (count > 0 && first % 16 != 0)) bad = "slice";
    if (mnd_exchange_writes_param(ex))
        for (size_t i = 0; i < n; i++) mine[i] = initial(i);
    if (mnd_exchange_publish(ex) != MND_OK) bad = "publish";
    for (size_t i = 0; i < n; i++) {
        if (mine[i] != initial(i)) bad = "initial parameters";
        param[i] = initial(i);
        slot[i] = 0.0F;
    }

    int part[64];
    const int n_part = mnd_tree_parts(v, mnd_logical_first(v, size, rank),
                                      mnd_logical_first(v, size, rank + 1), part);
    update_context context = {.ex = ex};
    for (int t = 0; t < STEPS && bad == NULL; t++) {
        /* Whichever way what others read is written, and from step to step another one. */
        static const char *const send[STEPS] = {"never", "always", "what is faster", "always"};
        setenv("MNIST_DIST_SEND", send[t == 3 && rank == 0 ? 2 : t], 1);
        mnd_exchange_choose_sending(ex);
        const mnd_sending wanted = mnd_send_wanted();
        const bool shares = strcmp(expected_name, "shared") == 0;
        if (wanted != MND_SEND_IF_FASTER &&
            mnd_exchange_sends(ex) != (shares && wanted == MND_SEND_ALWAYS))
            bad = "whether it sends";
        grad = mnd_exchange_grad(ex, &stride);
        if ((uintptr_t)grad % 64 != 0) bad = "alignment of gradients";
        for (int p = 0; p < n_part; p++)
            for (size_t i = 0; i < n; i++)
                grad[(size_t)p * stride + i] = tree(part[p], part[p + 1] - part[p], t, i);
        for (size_t i = 0; i < n; i++) sum[i] = tree(0, v, t, i);
        new_param(n, param, slot, sum);

        /* Bits of single ranks, none at all, all sixteen. */
        const uint32_t flags = t == 0 ? 1U << (rank % 16) : t == 1 ? 0 : 0xffff;
        uint32_t expected = t >= 2 ? 0xffff : 0, all = 0xdead;
        for (int r = 0; r < size && t == 0; r++) expected |= 1U << (r % 16);
        if (mnd_exchange_step(ex, update, &context, flags, &all) != MND_OK) bad = "step";
        if (all != expected) bad = "flags";
        if (memcmp(mine, param, n * sizeof *param) != 0) bad = "parameters";
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

static void check(const char *name, int v, size_t n) {
    const char *bad = run(name, v, n);
    if (bad != NULL) fprintf(stderr, "%s, %d logical ranks, %zu parameters: %s\n", name, v, n, bad);
    assert_everywhere(bad == NULL);
}

static void sums_bit_by_bit(const char *name) {
    const int size = mnd_comm_size(world);
    /* Slices of nothing, of part of a cache line, of lines, of pages. */
    check(name, size, 1);
    check(name, 13, 37);
    check(name, size, 1000);
    check(name, 8, 1000);
    check(name, 13, 13002);
    check(name, size, SOME);
}

static void refused(const char *name, int v, size_t n, int n_slot, mnd_status expected,
                    const char *word) {
    mnd_exchange *ex = NULL;
    const mnd_status status = mnd_exchange_create(world, name, v, n, n_slot, NULL, &ex);
    assert_everywhere(status == expected && ex == NULL && strstr(mnd_error(), word) != NULL);
}

static void local(void **state) {
    (void)state;
    if (mnd_comm_size(world) == 1) sums_bit_by_bit("local");
}

static void allreduce(void **state) {
    (void)state;
    sums_bit_by_bit("allreduce");
}

static void shared(void **state) {
    (void)state;
    if (mnd_comm_nodes(world) == 1)
        sums_bit_by_bit("shared");
    else
        refused("shared", mnd_comm_size(world), 10, 1, MND_USAGE, "one node");
}

/* Nodes of equal and unequal size, one process a node, ranks dealt out in turn and anyhow. */
static void hierarchical(void **state) {
    (void)state;
    static const char *const nodes[] = {"0,0,1,1,2,2,3,3", "0,0,0,1,1,1,1,2", "0,1,2,3,4,5,6,7",
                                        "0,1", "0,1,1,0,1,0,0,2"};
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) {
        const int set = setenv("MND_TEST_NODES", nodes[i], 1) == 0;
        assert_everywhere(mnd_comm_split(world, 0, &pretended) == MND_OK && set);
        const char *name = i % 2 == 0 ? "hierarchical" : "auto";
        check(name, 13, 37);
        check(name, mnd_comm_size(world), SOME);
        if (i == 0 || i == 2) check(name, mnd_comm_size(world), MAX_N);
        if (i == 1) check(name, 8, 1000);
        mnd_comm_finish(&pretended);
        assert_everywhere(unsetenv("MND_TEST_NODES") == 0);
    }
}

static void automatic(void **state) {
    (void)state;
    check("auto", 8, 1000);
}

static void wrong_use_is_refused_everywhere(void **state) {
    (void)state;
    const int size = mnd_comm_size(world);
    refused("ring", size, 10, 1, MND_USAGE, "allreduce");
    refused("auto", 0, 10, 1, MND_USAGE, "logical ranks");
    refused("auto", MND_MAX_LOGICAL + 1, 10, 1, MND_USAGE, "logical ranks");
    refused("auto", size, 0, 1, MND_RANGE, "no parameters");
    refused("auto", size, 10, 99, MND_RANGE, "slots");
    if (size > 1) {
        refused("auto", size - 1, 10, 1, MND_USAGE, "start at most");
        refused("local", size, 10, 1, MND_USAGE, "one process");
        /* One process that asks for something else stops all. */
        refused("auto", size + (mnd_comm_rank(world) == 1), 10, 1, MND_MISMATCH, "different");
        refused("auto", size, mnd_comm_rank(world) == 1 ? 11 : 10, 1, MND_MISMATCH, "different");
        refused(mnd_comm_rank(world) == 1 ? "ring" : "auto", size, 10, 1, MND_USAGE, "'ring'");
    }
    if (size > 1) {
        refused("allreduce", size, (size_t)1 << 48, 2, MND_UNSUPPORTED, "in one call");
        if (mnd_comm_nodes(world) == 1)
            refused("shared", size, (size_t)1 << 42, 0, MND_NO_MEMORY, "/dev/shm");
        else
            refused("hierarchical", size, (size_t)1 << 38, 0, MND_UNSUPPORTED, "at once");
    }
}

/* Run by small_shm.sh with a /dev/shm of 64 MB. */
static void too_little_shared_memory(void **state) {
    (void)state;
    const int size = mnd_comm_size(world);
    const size_t n = (size_t)1 << 24;
    refused("shared", size, n, 0, MND_NO_MEMORY, "enlarge it");
    mnd_exchange *ex = NULL;
    assert_ok(mnd_exchange_create(world, "auto", size, n, 0, NULL, &ex));
    const int good = strcmp(mnd_exchange_name(ex), "allreduce") == 0 &&
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
        cmocka_unit_test(local),     cmocka_unit_test(allreduce),
        cmocka_unit_test(shared),    cmocka_unit_test(hierarchical),
        cmocka_unit_test(automatic), cmocka_unit_test(wrong_use_is_refused_everywhere),
    };
    return mpi_test_main("exchange", test, sizeof test / sizeof test[0]);
}
