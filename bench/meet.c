/*
 * bench_meet - what two ranks of mlp512 could reach at best on two cores of this machine, 128 rows
 * a step: arithmetic in registers for as long as a step's four stretches take, with the meetings
 * between them, and then also with what crosses cores in them, written in the usual way or past the
 * caches (mnd_send). One core does all of it alone, then two do half each. Nothing is done twice
 * and nothing is slower on two cores than on one, so what is missing from 2.00 is meetings, and
 * memory that the other core has written.
 *
 *   bench_meet [ROUNDS]           (default 15; needs two idle cores)
 */
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "median.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/timer.h"

/* On an Intel Xeon, until: sums of the second layer are there, gradients of its outputs are, those
   of its inputs, and the step's end. On each of two cores. */
static const double stretch_us[4] = {400.0, 65.0, 235.0, 490.0};

enum { STEPS = 200, CHAINS = 8, MOST_ROUNDS = 1000, FLOATS = 64 * 512 /* of a rank's rows */ };

typedef float vec __attribute__((vector_size(64)));

typedef struct common {
    struct {
        _Alignas(128) atomic_long at;
    } meeting[2];
    _Alignas(4096) float sums[2][2][FLOATS], dy[2][FLOATS]; /* of each process' rows */
} common;

static common *shared;
static long meetings;
static int me;
static volatile float sink;

static void meet(void) {
    atomic_store_explicit(&shared->meeting[me].at, ++meetings, memory_order_release);
    while (atomic_load_explicit(&shared->meeting[1 - me].at, memory_order_acquire) < meetings)
#if defined(__x86_64__)
        __builtin_ia32_pause();
#else
        ;
#endif
}

static void compute(double loops) {
    vec a[CHAINS];
    for (int i = 0; i < CHAINS; i++) a[i] = (vec){(float)i};
    for (long n = (long)loops; n > 0; n--)
#pragma GCC unroll 8
        for (int i = 0; i < CHAINS; i++) a[i] = a[i] * 0.999F + 0.5F;
    for (int i = 0; i < CHAINS; i++) sink += a[i][0];
}

static void store(float *to, float value) {
    const vec v = (vec){0} + value;
    for (int i = 0; i < FLOATS; i += 16) *(vec *)(void *)(to + i) = v;
}

/* For the other core. */
static void leave(float *to, bool send) {
    static _Alignas(64) float own[FLOATS];
    if (!send) {
        store(to, 1.0F);
        return;
    }
    mnd_send(to, own, sizeof own);
    mnd_sent();
}

static void load(const float *from) {
    vec a = {0}, b = {0};
    for (int i = 0; i < FLOATS; i += 32) {
        a += *(const vec *)(const void *)(from + i);
        b += *(const vec *)(const void *)(from + i + 16);
    }
    sink += a[0] + b[0];
}

/* One half of a step's arithmetic and memory; of `rows`' and `others`' rows. Returns microseconds a
   step. */
static double half_steps(double rate, bool meets, int rows, int others, bool send) {
    const double begin = mnd_now();
    for (int s = 0; s < STEPS; s++) {
        compute(stretch_us[0] * rate);
        store(shared->sums[rows][0], 1.0F);
        leave(shared->sums[others][1], send);
        if (meets) meet();
        load(shared->sums[rows][0]);
        load(shared->sums[rows][1]);
        compute(stretch_us[1] * rate);
        leave(shared->dy[rows], send);
        if (meets) meet();
        load(shared->dy[rows]);
        load(shared->dy[others]);
        compute(stretch_us[2] * rate);
        if (meets) meet();
        compute(stretch_us[3] * rate);
        if (meets) meet();
    }
    return (mnd_now() - begin) * 1e6 / STEPS;
}

static void report(const char *what, int n, double *ratio) {
    const double middle = median(ratio, n);
    printf("%-40s %.3f (%.3f to %.3f)\n", what, middle, ratio[0], ratio[n - 1]);
}

int main(int argc, char **argv) {
    static double alone[MOST_ROUNDS], meeting[MOST_ROUNDS], crossing[MOST_ROUNDS],
        sent[MOST_ROUNDS];
    const long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 15;
    if (rounds < 1 || rounds > MOST_ROUNDS) {
        fprintf(stderr, "bench_meet: 1 to %d rounds\n", MOST_ROUNDS);
        return 2;
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 1;
    compute(1e6);
    const double begin = mnd_now();
    compute(1e7);
    const double rate = 1e7 / ((mnd_now() - begin) * 1e6);
    const pid_t child = fork();
    if (child < 0) return 1;
    me = child == 0;
    cpu_set_t allowed, mine;
    CPU_ZERO(&mine);
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
        int n = 0;
        for (size_t c = 0; c < CPU_SETSIZE; c++)
            if (CPU_ISSET(c, &allowed) && n++ == me) CPU_SET(c, &mine);
    }
    if (CPU_COUNT(&mine) == 0 || sched_setaffinity(0, sizeof mine, &mine) != 0)
        fprintf(stderr, "bench_meet: no core of its own for process %d\n", me);
    for (long r = 0; r < rounds; r++) {
        meet();
        /* Two halves one after the other, as those of one rank are; the other core sleeps. */
        double one = 0.0;
        if (me == 0)
            one = half_steps(rate, false, 0, 0, false) + half_steps(rate, false, 0, 0, false);
        else
            usleep((useconds_t)(STEPS * 2.1 *
                                (stretch_us[0] + stretch_us[1] + stretch_us[2] + stretch_us[3])));
        meet();
        const double apart = half_steps(rate, false, me, me, false);
        meet();
        const double met = half_steps(rate, true, me, me, false);
        meet();
        const double crossed = half_steps(rate, true, me, 1 - me, false);
        meet();
        const double past = half_steps(rate, true, me, 1 - me, true);
        alone[r] = one / apart;
        meeting[r] = one / met;
        crossing[r] = one / crossed;
        sent[r] = one / past;
    }
    if (me == 1) return 0;
    printf("two cores over one, %ld rounds of %d steps\n", rounds, STEPS);
    report("without meetings", (int)rounds, alone);
    report("four meetings a step", (int)rounds, meeting);
    report("and twice 128 KB that cross, each way", (int)rounds, crossing);
    report("the same, past the caches", (int)rounds, sent);
    int status;
    return waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
}
