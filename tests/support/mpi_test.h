/*
 * mpi_test.h - a cmocka program under mpirun.
 *
 * An assert that fails on one rank alone would leave the others in their next collective, so ranks
 * first agree on the verdict: assert_everywhere() fails on all ranks or on none.
 *
 * Several nodes on one machine: with MND_TEST_NODES=0,0,1,1 in the environment, communicators made
 * from then on believe world rank r to run on the node of entry r (modulo the list's length).
 */
#ifndef MND_MPI_TEST_H
#define MND_MPI_TEST_H

#include "test.h"

#include <stdio.h>
#include <stdlib.h>

#include "mnist_dist/comm.h"

static mnd_comm *world; /* owned by mpi_test_main */

#define assert_everywhere(expression)                                                              \
    assert_everywhere_at(!!(expression), #expression, __FILE__, __LINE__)

static void assert_everywhere_at(int ok, const char *text, const char *file, int line) {
    int64_t failed = !ok;
    if (!ok)
        fprintf(stderr, "rank %d of %d: %s:%d: not so: %s (last error: %s)\n", mnd_comm_rank(world),
                mnd_comm_size(world), file, line, text, mnd_error());
    const mnd_status status = mnd_comm_sum_i64(world, &failed, 1);
    if (status != MND_OK || failed != 0) _fail(file, line);
}

#define assert_ok(call) assert_everywhere((call) == MND_OK)

/* set_up and tear_down run before and after all tests, on every rank; or NULL. */
static inline int mpi_test_main_with(const char *name, const struct CMUnitTest *test, size_t n,
                                     CMFixtureFunction set_up, CMFixtureFunction tear_down) {
    if (mnd_comm_start(&world) != MND_OK) {
        fprintf(stderr, "%s\n", mnd_error());
        return EXIT_FAILURE;
    }
    const int failed = _cmocka_run_group_tests(name, test, n, set_up, tear_down);
    mnd_comm_finish(&world);
    return failed;
}

static inline int mpi_test_main(const char *name, const struct CMUnitTest *test, size_t n) {
    return mpi_test_main_with(name, test, n, NULL, NULL);
}

#endif
