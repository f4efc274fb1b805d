/*
 * src/dist/exchange*.c: every algorithm in the fixed order against a plain sum in the tree, bit by
 * bit, for any number of processes.
 */
#include "exchange_rig.h"

static void check(mnd_comm *comm, const char *name, int v, size_t n) {
    check_steps(comm, name, v, n, false);
    check_steps(comm, name, v, n, true);
}

static void sums_bit_by_bit(const char *name) {
    const int size = mnd_comm_size(world);
    /* Slices of nothing, of one block, of several; fewer elements than processes. */
    check(world, name, size, 1);
    if (size > 2) check(world, name, size, (size_t)size - 1);
    check(world, name, 13, 37);
    check(world, name, size, 1000);
    check(world, name, 8, 1025);
    check(world, name, 13, 13002);
    check(world, name, size, MAX_N);
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
    const int size = mnd_comm_size(world);
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) {
        mnd_comm *comm = pretend_nodes(nodes[i]);
        const char *name = i % 2 == 0 ? "hierarchical" : "auto";
        check(comm, name, size, 1);
        check(comm, name, 13, 37);
        if (i < 2) check(comm, name, 8, 1000);
        check(comm, name, size, MAX_N);
        mnd_comm_finish(&comm);
    }
}

/* What a name stands for here. */
static void names(void **state) {
    (void)state;
    static const char *const asked[] = {"auto", "local", "tree", "shared", "hierarchical", "mpi"};
    const int size = mnd_comm_size(world), nodes = mnd_comm_nodes(world);
    const char *const fast = size == 1 ? "local" : nodes == 1 ? "shared" : "hierarchical";
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        if (size > 1 && strcmp(asked[i], "local") == 0) continue; /* refused, see below */
        if (nodes > 1 && strcmp(asked[i], "shared") == 0) continue;
        const bool own =
            strcmp(asked[i], "mpi") == 0 || (size > 1 && strcmp(asked[i], "tree") == 0);
        mnd_exchange *ex = NULL;
        const mnd_exchange_options o = {.name = asked[i], .logical = size, .n_param = 10};
        assert_ok(mnd_exchange_create(world, &o, &ex));
        const bool good = strcmp(mnd_exchange_name(ex), own ? asked[i] : fast) == 0;
        mnd_exchange_destroy(&ex);
        assert_everywhere(good);
        assert_everywhere(mnd_exchange_fixed_order(asked[i]) == (strcmp(asked[i], "mpi") != 0));
    }
}

static void wrong_use_is_refused_everywhere(void **state) {
    (void)state;
    const int size = mnd_comm_size(world);
    refused("ring", size, 10, 1, MND_USAGE, "tree");
    refused("allreduce", size, 10, 1, MND_USAGE, "now called 'tree'");
    refused("auto", 0, 10, 1, MND_USAGE, "logical ranks");
    refused("auto", MND_MAX_LOGICAL + 1, 10, 1, MND_USAGE, "logical ranks");
    refused("auto", size, 0, 1, MND_RANGE, "no parameters");
    refused("mpi", size, 0, 1, MND_RANGE, "no parameters");
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
    check(world, "shared", size, 1000);
}

int main(void) {
    const struct CMUnitTest small[] = {cmocka_unit_test(too_little_shared_memory)};
    if (getenv("MND_TEST_SMALL_SHM") != NULL) return mpi_test_main("small /dev/shm", small, 1);
    const struct CMUnitTest test[] = {
        cmocka_unit_test(local),  cmocka_unit_test(by_messages),
        cmocka_unit_test(shared), cmocka_unit_test(hierarchical),
        cmocka_unit_test(names),  cmocka_unit_test(wrong_use_is_refused_everywhere),
    };
    return mpi_test_main("exchange", test, sizeof test / sizeof test[0]);
}
