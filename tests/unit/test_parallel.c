/*
 * src/nn/parallel.c: every index of a loop is run once, whatever the number of threads, in blocks
 * of the grain; loop after loop, with and without pauses that send the threads to sleep.
 */
#include "test.h"

#include <float.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mnist_dist/parallel.h"
#include "mnist_dist/subnormal.h"

enum { N = 300, THREADS = 7 };

static bool flushed;

typedef struct record {
    unsigned char ran[N];   /* how often each index was run */
    unsigned char owner[N]; /* by which thread */
    int grain, n, threads, wrong;
    int calls[THREADS + 1]; /* each written by its own thread */
} record;

static void run(void *context, int thread, int first, int last) {
    record *r = context;
    bool wrong = thread < 0 || thread >= r->threads || first < 0 || last > r->n || first >= last;
    /* A block begins on a multiple of the grain and ends on one, or at the end. */
    wrong = wrong || first % r->grain != 0 || (last % r->grain != 0 && last != r->n);
    if (wrong) {
        __atomic_fetch_add(&r->wrong, 1, __ATOMIC_RELAXED);
        return;
    }
    r->calls[thread]++;
    for (int i = first; i < last; i++) {
        r->ran[i]++;
        r->owner[i] = (unsigned char)thread;
    }
}

static void loop(int threads, int n, int grain) {
    record r = {.grain = grain, .n = n, .threads = threads};
    mnd_parallel(threads, n, grain, run, &r);
    assert_int_equal(r.wrong, 0);
    for (int i = 0; i < N; i++) assert_int_equal(r.ran[i], i < n);
    for (int i = 1; i < n; i++) assert_true(r.owner[i] >= r.owner[i - 1]);
    for (int t = 0; t < threads; t++) assert_true(r.calls[t] <= 1);
}

static void every_index_once(void **state) {
    (void)state;
    static const int sizes[] = {0, 1, 2, 3, 5, 6, 7, 8, 12, 13, 16, 31, 64, 100, 299, 300};
    static const int grains[] = {1, 2, 6, 16, 64, 1000};
    for (int threads = 1; threads <= THREADS; threads++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
            for (size_t g = 0; g < sizeof grains / sizeof grains[0]; g++)
                loop(threads, sizes[s], grains[g]);
}

/* The number of threads changes from loop to loop, and no loop sees the one before it. */
static void loops_follow_one_another(void **state) {
    (void)state;
    for (int i = 0; i < 1000; i++) loop(1 + i % THREADS, 1 + i * 7 % N, 1 + i % 3);
}

static void threads_wake_again(void **state) {
    (void)state;
    for (int i = 0; i < 200; i++) {
        assert_int_equal(usleep((useconds_t)(i % 5) * 200), 0);
        loop(2 + i % (THREADS - 1), N, 1);
    }
}

/* What one loop wrote, the next one reads, on whichever thread. */
typedef struct relay {
    long value[N], sum[N];
    int n;
} relay;

static void write_values(void *context, int thread, int first, int last) {
    relay *r = context;
    (void)thread;
    for (int i = first; i < last; i++) r->value[i]++;
}

static void read_values(void *context, int thread, int first, int last) {
    relay *r = context;
    (void)thread;
    for (int i = first; i < last; i++) {
        r->sum[i] = 0;
        for (int k = 0; k < r->n; k++) r->sum[i] += r->value[(i + k) % r->n];
    }
}

static void results_are_seen(void **state) {
    (void)state;
    relay r = {.n = N};
    for (int round = 1; round <= 100; round++) {
        mnd_parallel(2 + round % 3, N, 1, write_values, &r);
        mnd_parallel(4 - round % 3, N, 1, read_values, &r);
        for (int i = 0; i < N; i++) assert_int_equal(r.sum[i], (long)round * N);
    }
}

/* The smallest normal float halved, on every thread: 0 for all or for none. */
static void halve(void *context, int thread, int first, int last) {
    volatile float x = FLT_MIN;
    float *half = context;
    (void)thread;
    for (int i = first; i < last; i++) half[i] = x * 0.5F;
}

static void subnormals_are_zero_on_every_thread(void **state) {
    (void)state;
    float half[N];
    mnd_parallel(THREADS, N, 1, halve, half);
    for (int i = 0; i < N; i++) assert_true(half[i] == (flushed ? 0.0F : FLT_MIN / 2));
    /* Nor are they when they come from memory. */
    const uint32_t word = 1 << 22;
    float subnormal;
    memcpy(&subnormal, &word, sizeof subnormal);
    volatile float x = subnormal;
    assert_true((x * 0x1p126F == 0.0F) == flushed);
}

int main(void) {
    flushed = mnd_flush_subnormals();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subnormals_are_zero_on_every_thread),
        cmocka_unit_test(every_index_once),
        cmocka_unit_test(loops_follow_one_another),
        cmocka_unit_test(threads_wake_again),
        cmocka_unit_test(results_are_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
