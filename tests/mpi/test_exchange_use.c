/*
 * src/dist/exchange*.c as they are used: exchanges one after another and beside one another, steps
 * of several kinds in turn, sums in an order of the library's own, an exchange from outside.
 */
#include "exchange_rig.h"

#include "../extend/extend.h"
#include "dist.h"

/* Exchanges that add in the fixed tree, and processes of `comm` that can take them. */
static const char *const fixed[] = {"tree", "shared", "hierarchical"};
enum { N_FIXED = sizeof fixed / sizeof fixed[0] };

/* Opened on nodes of the test's making, if it is for several. */
static mnd_comm *comm_for(const char *name) {
    const bool nodes = strcmp(name, "hierarchical") == 0;
    const char *const several = mnd_comm_size(world) == 2 ? "0,1" : "0,0,1,1,2,2,3,3";
    return pretend_nodes(nodes ? several : "0");
}

/* All on one communicator: each begins with what the one before has left of MPI's state. */
static void one_after_another(void **state) {
    (void)state;
    const int size = mnd_comm_size(world);
    for (int again = 0; again < 2; again++) {
        check_steps(world, "tree", 13, 3001, again == 1);
        check_steps(world, "auto", size, 5000, again == 0);
        check_steps(world, "tree", 8, (size_t)size, false);
        check_steps(world, "auto", 13, 1025, true);
    }
}

/* Several at once, whose steps interleave: messages and barriers do not mix. */
static void beside_one_another(void **state) {
    (void)state;
    mnd_comm *comm[N_FIXED];
    rig *g[N_FIXED];
    for (int i = 0; i < N_FIXED; i++) {
        comm[i] = comm_for(fixed[i]);
        g[i] = rig_open(comm[i], fixed[i], 11, 2500);
    }
    bool good = true;
    for (int t = 0; t < STEPS && good; t++)
        for (int i = 0; i < N_FIXED && good; i++) good = rig_step(g[i], t, i == t % N_FIXED);
    for (int i = 0; i < N_FIXED; i++) {
        good = rig_close(g[i]) && good;
        mnd_comm_finish(&comm[i]);
    }
    assert_everywhere(good);
}

/* Measured steps and plain ones in turn, by each exchange: the same norms, to the last bit. */
static void measured_in_turn(void **state) {
    (void)state;
    enum { TURNS = 6 };
    double norm[N_FIXED][TURNS], most[N_FIXED][TURNS];
    for (int i = 0; i < N_FIXED; i++) {
        mnd_comm *comm = comm_for(fixed[i]);
        rig *g = rig_open(comm, fixed[i], 13, 13002);
        bool good = true;
        for (int t = 0; t < TURNS && good; t++) {
            good = rig_step(g, t, t % 3 != 1);
            norm[i][t] = g->norm;
            most[i][t] = g->most;
        }
        good = rig_close(g) && good;
        mnd_comm_finish(&comm);
        assert_everywhere(good);
    }
    for (int i = 1; i < N_FIXED; i++)
        assert_everywhere(memcmp(norm[i], norm[0], sizeof norm[0]) == 0 &&
                          memcmp(most[i], most[0], sizeof most[0]) == 0);
    assert_everywhere(norm[0][0] > 0.0 && norm[0][0] != norm[0][2]);
}

/* shared goes from one kind of store to the other between steps, measured ones among them. */
static void stores_in_turn(void **state) {
    (void)state;
    if (mnd_comm_nodes(world) > 1) return;
    assert_everywhere(setenv("MND_TEST_STREAM", "trials", 1) == 0);
    rig *g = rig_open(world, "shared", 13, 3001);
    bool good = true;
    for (int t = 0; t < 40 && good; t++) good = rig_step(g, t, t % 5 == 4);
    good = rig_close(g) && good;
    assert_everywhere(good);
    assert_everywhere(unsetenv("MND_TEST_STREAM") == 0);
}

/* Whole numbers, whose sums are exact in any order. */
static float whole(int rank, size_t i) { return (float)(i % 7) + (float)rank; }

/* One gradient buffer for each process, and sums that every process keeps. */
static void sums_in_any_order(const char *name, size_t n) {
    const int rank = mnd_comm_rank(world), size = mnd_comm_size(world);
    mnd_exchange *ex = NULL;
    const mnd_exchange_options o = {.name = name, .logical = 13, .n_param = n, .n_slot = 1};
    assert_ok(mnd_exchange_create(world, &o, &ex));
    size_t stride, first = 1, count = 0;
    uint32_t all = 0, expected = 0;
    for (int r = 0; r < size; r++) expected |= 1U << (r % 16);
    mnd_exchange_slice(ex, &first, &count);
    int wrong = first != 0 || count != n || strcmp(mnd_exchange_name(ex), name) != 0;
    for (int t = 0; t < STEPS; t++) {
        float *grad = mnd_exchange_grad(ex, &stride);
        for (size_t i = 0; i < n; i++) grad[i] = whole(rank, i) + (float)t;
        wrong += mnd_exchange_step(ex, &mnd_update_keep_sum, 1U << (rank % 16), &all) != MND_OK;
        wrong += all != expected;
        for (size_t i = 0; i < n; i++)
            wrong += mnd_exchange_param(ex)[i] !=
                     (float)size * (whole(0, i) + (float)t) + (float)(size * (size - 1) / 2);
    }
    mnd_exchange_destroy(&ex);
    assert_everywhere(wrong == 0);
    assert_everywhere(!mnd_exchange_fixed_order(name));
}

static void any_order(const char *name) {
    sums_in_any_order(name, 1);
    sums_in_any_order(name, (size_t)mnd_comm_size(world));
    sums_in_any_order(name, 5003);
}

/* In one call, and in as many as the counts of MPI need. */
static void allreduce(void **state) {
    (void)state;
    any_order("mpi");
    static const size_t chunk[] = {1, 1000, 5002};
    for (size_t i = 0; i < sizeof chunk / sizeof chunk[0]; i++) {
        mnd_comm_set_chunk(chunk[i]);
        sums_in_any_order("mpi", 5003);
    }
    mnd_comm_set_chunk(SIZE_MAX);
}

static void ring_from_outside(void **state) {
    (void)state;
    assert_ok(mnd_exchange_register(&ring));
    any_order("ring");
    assert_everywhere(mnd_exchange_register(&ring) == MND_USAGE);
}

int main(void) {
    const struct CMUnitTest test[] = {
        cmocka_unit_test(one_after_another), cmocka_unit_test(beside_one_another),
        cmocka_unit_test(measured_in_turn),  cmocka_unit_test(stores_in_turn),
        cmocka_unit_test(allreduce),         cmocka_unit_test(ring_from_outside),
    };
    return mpi_test_main("exchange, used", test, sizeof test / sizeof test[0]);
}
