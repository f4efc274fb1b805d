/* src/dist/comm.c: collectives against what they must give, and agreement on failures. */
#include "mpi_test.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "dist.h"
#include "mnist_dist/outcome.h"
#include "mnist_dist/timer.h"

/* Also with messages cut into pieces, as counts above INT_MAX are. */
static const size_t chunks[] = {SIZE_MAX, 1000, 7, 1};
enum { N_CHUNKS = sizeof chunks / sizeof chunks[0], N = 33 };

static unsigned char byte_of(int rank, size_t i) { return (unsigned char)(rank * 37 + (int)i + 1); }

static void identity(void **state) {
    (void)state;
    int64_t sum = mnd_comm_rank(world);
    const int size = mnd_comm_size(world);
    assert_ok(mnd_comm_sum_i64(world, &sum, 1));
    assert_everywhere(sum == (int64_t)size * (size - 1) / 2);
    char host[MND_HOST_NAME] = "";
    gethostname(host, sizeof host - 1);
    assert_everywhere(strcmp(mnd_comm_host(world), host) == 0);
    assert_everywhere(mnd_comm_nodes(world) == 1);
    const char *library = mnd_comm_library(world);
    assert_everywhere(strncmp(library, "Open MPI 4", 10) == 0 ||
                      strncmp(library, "MPICH 4", 7) == 0 || strlen(library) > 4);
    assert_everywhere(strpbrk(library, ",\n\t") == NULL);
    /* The launcher's count, not singletons. */
    const char *told = getenv("OMPI_COMM_WORLD_SIZE");
    if (told == NULL) told = getenv("PMI_SIZE");
    assert_everywhere(told == NULL || atoi(told) == size);
    assert_ok(mnd_comm_barrier(world));
}

static void broadcast(void **state) {
    (void)state;
    for (int c = 0; c < N_CHUNKS; c++)
        for (int root = 0; root < mnd_comm_size(world); root++) {
            mnd_comm_set_chunk(chunks[c]);
            unsigned char data[N];
            for (size_t i = 0; i < N; i++) data[i] = byte_of(mnd_comm_rank(world), i);
            const mnd_status status = mnd_comm_bcast(world, data, sizeof data, root);
            int good = status == MND_OK;
            for (size_t i = 0; i < N; i++) good &= data[i] == byte_of(root, i);
            assert_everywhere(good);
        }
    assert_ok(mnd_comm_bcast(world, NULL, 0, 0));
    mnd_comm_set_chunk(SIZE_MAX);
}

static void reductions(void **state) {
    (void)state;
    const int rank = mnd_comm_rank(world), size = mnd_comm_size(world);
    for (int c = 0; c < N_CHUNKS; c++) {
        mnd_comm_set_chunk(chunks[c]);
        int64_t whole[N];
        double real[N];
        for (int i = 0; i < N; i++) {
            whole[i] = (INT64_C(1) << 40) * (rank + 1) + i;
            real[i] = (double)((rank + i) % size) + 0.5;
        }
        assert_ok(mnd_comm_sum_i64(world, whole, N));
        assert_ok(mnd_comm_max_f64(world, real, N));
        int good = 1;
        for (int i = 0; i < N; i++) {
            good &= whole[i] == (INT64_C(1) << 40) * (size * (size + 1) / 2) + (int64_t)i * size;
            good &= real[i] == size - 1 + 0.5;
        }
        assert_everywhere(good);
    }
    mnd_comm_set_chunk(SIZE_MAX);
}

static void gathers(void **state) {
    (void)state;
    const int rank = mnd_comm_rank(world), size = mnd_comm_size(world);
    for (int c = 0; c < N_CHUNKS; c++) {
        mnd_comm_set_chunk(chunks[c]);
        unsigned char mine[N], all[16 * N];
        for (size_t i = 0; i < N; i++) mine[i] = byte_of(rank, i);

        memset(all, 0, sizeof all);
        int good = mnd_comm_allgather(world, mine, N, all) == MND_OK;
        for (int r = 0; r < size; r++)
            for (size_t i = 0; i < N; i++) good &= all[(size_t)r * N + i] == byte_of(r, i);
        assert_everywhere(good);

        /* Uneven, with empty ones among them. */
        size_t bytes[16], total = 0;
        for (int r = 0; r < size; r++) total += bytes[r] = r % 3 == 1 ? 0 : (size_t)(7 * r + 1) % N;
        memset(all, 0, sizeof all);
        good = mnd_comm_allgatherv(world, mine, bytes, all) == MND_OK;
        size_t at = 0;
        for (int r = 0; r < size; r++)
            for (size_t i = 0; i < bytes[r]; i++, at++) good &= all[at] == byte_of(r, i);
        assert_everywhere(good && at == total && all[at] == 0);
    }
    mnd_comm_set_chunk(SIZE_MAX);
}

static void agreement(void **state) {
    (void)state;
    const int rank = mnd_comm_rank(world), size = mnd_comm_size(world);
    int who = -1;
    assert_ok(mnd_comm_agree(world, MND_OK, &who));

    for (int bad = 0; bad < size; bad++) {
        const mnd_status mine =
            rank == bad ? mnd_fail(MND_FORMAT, "rank %d: bad byte", rank) : MND_OK;
        const mnd_status status = mnd_comm_agree(world, mine, &who);
        char line[64];
        snprintf(line, sizeof line, "rank %d: bad byte", bad);
        assert_everywhere(status == MND_FORMAT && who == bad && strcmp(mnd_error(), line) == 0);
    }

    /* The worst wins; among equals the lowest rank. */
    mnd_status mine = mnd_fail(MND_IO, "rank %d: disk full", rank);
    mnd_status status = mnd_comm_agree(world, mine, &who);
    assert_everywhere(status == MND_IO && who == 0 &&
                      strcmp(mnd_error(), "rank 0: disk full") == 0);
    if (rank == size - 1) mine = mnd_fail(MND_NO_MEMORY, "out of it");
    status = mnd_comm_agree(world, mine, NULL);
    assert_everywhere(status == MND_NO_MEMORY && strcmp(mnd_error(), "out of it") == 0);
}

static void splits(void **state) {
    (void)state;
    const int rank = mnd_comm_rank(world), size = mnd_comm_size(world);
    mnd_comm *half = NULL, *node = NULL;
    assert_ok(mnd_comm_split(world, rank % 2, &half));
    int64_t sum = rank;
    int good = mnd_comm_sum_i64(half, &sum, 1) == MND_OK;
    int64_t expected = 0;
    int members = 0;
    for (int r = rank % 2; r < size; r += 2, members++) expected += r;
    good &= sum == expected && mnd_comm_size(half) == members && mnd_comm_rank(half) == rank / 2;
    good &= mnd_comm_world_rank(half) == rank && mnd_comm_world_size(half) == size;
    /* What halves agree upon stays theirs. */
    const mnd_status status =
        mnd_comm_agree(half, rank == 1 ? mnd_fail(MND_RANGE, "odd") : MND_OK, NULL);
    good &= status == (rank % 2 == 1 ? MND_RANGE : MND_OK);
    mnd_comm_finish(&half);
    assert_everywhere(good && half == NULL);

    assert_ok(mnd_comm_split_node(world, &node));
    good = mnd_comm_size(node) == size && mnd_comm_rank(node) == rank;
    mnd_comm_finish(&node);
    assert_everywhere(good);

    /* Pretended nodes, assigned in turn. */
    good = setenv("MND_TEST_NODES", "0,1", 1) == 0;
    const mnd_status made = mnd_comm_split_node(world, &node);
    good &= made == MND_OK && mnd_comm_size(node) == members && mnd_comm_rank(node) == rank / 2 &&
            mnd_comm_nodes(node) == 1;
    mnd_comm_finish(&node);
    mnd_comm *same = NULL;
    good &= mnd_comm_split(world, 0, &same) == MND_OK;
    good &= mnd_comm_nodes(same) == (size > 1 ? 2 : 1);
    mnd_comm_finish(&same);
    good &= unsetenv("MND_TEST_NODES") == 0;
    assert_everywhere(good);
}

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Nobody leaves before the last has come, and who waits leaves its core to others. */
static void rest(void **state) {
    (void)state;
    const struct timespec late = {.tv_nsec = 200000000};
    int good = 1;
    if (mnd_comm_rank(world) == 0) nanosleep(&late, NULL);
    double come = mnd_now();
    const double cpu = cpu_seconds();
    good &= mnd_comm_rest(world) == MND_OK;
    const double left = mnd_now(), used = cpu_seconds() - cpu;
    if (mnd_comm_rank(world) != 0) good &= used < 0.5 * (left - come);
    good &= mnd_comm_max_f64(world, &come, 1) == MND_OK && left >= come;
    assert_everywhere(good);
}

/* Each rank passes bytes to the next one, in pieces; sizes differ. */
static void messages_to_the_next(void **state) {
    (void)state;
    const int rank = mnd_comm_rank(world), size = mnd_comm_size(world);
    const int next = (rank + 1) % size, previous = (rank + size - 1) % size;
    int good = 1;
    for (size_t each = 0; each <= 40; each += 8) {
        unsigned char out[400], in[400] = {0};
        const size_t n = each * (size_t)(rank + 1), m = each * (size_t)(previous + 1);
        for (size_t i = 0; i < n; i++) out[i] = (unsigned char)(i + 31 * (size_t)rank);
        mnd_comm_set_chunk(7);
        good &= mnd_comm_sendrecv(world, next, out, n, previous, in, m) == MND_OK;
        mnd_comm_set_chunk(SIZE_MAX);
        for (size_t i = 0; i < m; i++) good &= in[i] == (unsigned char)(i + 31 * (size_t)previous);
        for (size_t i = m; i < sizeof in; i++) good &= in[i] == 0;
    }
    assert_everywhere(good);
}

/* Each process tells its number at another time; nobody waits before the end. */
static void outcomes(void **state) {
    (void)state;
    const int rank = mnd_comm_rank(world), size = mnd_comm_size(world);
    mnd_outcomes *o = NULL, *untold = NULL;
    int32_t largest = -1;
    assert_ok(mnd_outcomes_open(world, &o));
    int good = mnd_outcomes_largest(o, &largest) == MND_OK && largest == 0;
    assert_everywhere(good); /* no process has told anything before */
    if (rank == size - 1) good &= mnd_outcomes_tell(o, 7) == MND_OK;
    const double end = mnd_now() + 20.0;
    while (rank < size - 1 && largest != 7 && mnd_now() < end)
        good &= mnd_outcomes_largest(o, &largest) == MND_OK;
    good &= rank == size - 1 || largest == 7;
    if (rank < size - 1) good &= mnd_outcomes_tell(o, rank % 3) == MND_OK;
    mnd_outcomes_close(&o);
    good &= o == NULL;
    /* A job that ends before anything was told. */
    good &= mnd_outcomes_open(world, &untold) == MND_OK;
    mnd_outcomes_close(&untold);
    assert_everywhere(good);
}

static void a_world_of_one(void **state) {
    (void)state;
    mnd_comm *self = NULL, *part = NULL;
    int good = mnd_comm_self(&self) == MND_OK;
    good &= mnd_comm_rank(self) == 0 && mnd_comm_size(self) == 1 && mnd_comm_nodes(self) == 1;
    good &= strcmp(mnd_comm_library(self), "none") == 0;
    int64_t whole = 5;
    double real = 2.5;
    const size_t bytes = 3;
    char all[3] = "";
    good &= mnd_comm_sum_i64(self, &whole, 1) == MND_OK && whole == 5;
    good &= mnd_comm_max_f64(self, &real, 1) == MND_OK && real == 2.5;
    float half = 0.5F, same = 0.0F;
    good &= mnd_comm_sendrecv(self, 0, &half, sizeof half, 0, &same, sizeof same) == MND_OK;
    good &= same == 0.5F;
    good &= mnd_comm_rest(self) == MND_OK;
    good &= mnd_comm_world_rank(self) == 0 && mnd_comm_world_size(self) == 1;
    good &= mnd_comm_barrier(self) == MND_OK && mnd_comm_bcast(self, &whole, 8, 0) == MND_OK;
    good &= mnd_comm_allgather(self, "ab", 3, all) == MND_OK && strcmp(all, "ab") == 0;
    good &= mnd_comm_allgatherv(self, "cd", &bytes, all) == MND_OK && strcmp(all, "cd") == 0;
    good &= mnd_comm_split(self, 3, &part) == MND_OK && mnd_comm_size(part) == 1;
    mnd_comm_finish(&part);
    good &= mnd_comm_split_node(self, &part) == MND_OK && mnd_comm_size(part) == 1;
    mnd_comm_finish(&part);
    int who = -1;
    good &= mnd_comm_agree(self, mnd_fail(MND_IO, "mine"), &who) == MND_IO && who == 0;
    good &= strcmp(mnd_error(), "mine") == 0;
    mnd_comm_finish(&self);
    mnd_comm_finish(&self); /* NULL-safe */
    assert_everywhere(good && self == NULL);
}

/* Run by abort.sh: the last rank aborts while the others wait for it. */
static int abort_all(int code) {
    if (mnd_comm_start(&world) != MND_OK) return EXIT_FAILURE;
    if (mnd_comm_rank(world) == mnd_comm_size(world) - 1) mnd_comm_abort(world, code);
    const mnd_status status = mnd_comm_barrier(world);
    return status == MND_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(void) {
    const char *code = getenv("MND_TEST_ABORT");
    if (code != NULL) return abort_all(atoi(code));
    const struct CMUnitTest test[] = {
        cmocka_unit_test(identity),   cmocka_unit_test(broadcast),
        cmocka_unit_test(reductions), cmocka_unit_test(gathers),
        cmocka_unit_test(agreement),  cmocka_unit_test(splits),
        cmocka_unit_test(rest),       cmocka_unit_test(messages_to_the_next),
        cmocka_unit_test(outcomes),   cmocka_unit_test(a_world_of_one),
    };
    return mpi_test_main("comm", test, sizeof test / sizeof test[0]);
}
