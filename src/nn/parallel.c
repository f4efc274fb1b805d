/*
 * A pool of threads that outlives the loops. Loops here last from ten microseconds to a few
 * milliseconds and follow close upon one another, so a thread first watches for the next one, but
 * not for long: where there are more threads than cores (or another job on them) a watching thread
 * takes the core from the one that is waited for. libgomp's threads watch for milliseconds by
 * default, which made oversubscribed runs a hundred times slower.
 */
#include "mnist_dist/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    MAX_WORKERS = MND_MAX_THREADS - 1,
    WATCH = 4000 /* turns: some ten microseconds */,
    WAIT = 1000
};

typedef struct loop {
    mnd_range_fn *run;
    void *context;
    int n, grain, threads;
} loop;

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    int workers;       /* started so far */
    loop job;          /* of the current round */
    atomic_uint round; /* counts the loops given out */
    atomic_int asleep; /* workers that wait for `wake` */
    atomic_int left;   /* workers still busy with the current round */
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

/* The share of thread t. */
static void run_share(const loop *job, int t) {
    const int blocks = (job->n + job->grain - 1) / job->grain;
    const int first = (int)((long)blocks * t / job->threads) * job->grain;
    int last = (int)((long)blocks * (t + 1) / job->threads) * job->grain;
    if (last > job->n) last = job->n;
    if (first < last) job->run(job->context, t, first, last);
}

static unsigned next_round(unsigned seen) {
    for (int i = 0; i < WATCH; i++) {
        const unsigned round = atomic_load_explicit(&pool.round, memory_order_acquire);
        if (round != seen) return round;
        relax();
    }
    pthread_mutex_lock(&pool.mutex);
    atomic_fetch_add(&pool.asleep, 1);
    while (atomic_load(&pool.round) == seen) pthread_cond_wait(&pool.wake, &pool.mutex);
    atomic_fetch_sub(&pool.asleep, 1);
    pthread_mutex_unlock(&pool.mutex);
    return atomic_load(&pool.round);
}

/* What a new worker is told. */
typedef struct start {
    int thread;
    unsigned seen; /* the round at its start: not its own */
    atomic_bool read;
} start;

static void *work(void *context) {
    start *s = context;
    const int me = s->thread;
    unsigned seen = s->seen;
    atomic_store_explicit(&s->read, true, memory_order_release);
    for (;;) {
        seen = next_round(seen);
        /* Every worker answers every round, with a share or without: the next one must not begin
           while one of them still polls this one. */
        if (me < pool.job.threads) run_share(&pool.job, me);
        atomic_fetch_sub_explicit(&pool.left, 1, memory_order_release);
    }
    return NULL;
}

/* Has at least `wanted` workers, or as many as the system gives. */
static void hire(int wanted) {
    while (pool.workers < wanted && pool.workers < MAX_WORKERS) {
        pthread_t thread;
        start s = {.thread = pool.workers + 1, .seen = atomic_load(&pool.round)};
        if (pthread_create(&thread, NULL, work, &s) != 0) return;
        (void)pthread_detach(thread); /* it lives as long as the process */
        pool.workers++;
        while (!atomic_load_explicit(&s.read, memory_order_acquire)) sched_yield();
    }
}

void mnd_parallel(int threads, int n, int grain, mnd_range_fn *run, void *context) {
    if (threads > 1 && n > grain && pool.workers < threads - 1) hire(threads - 1);
    if (threads > pool.workers + 1) threads = pool.workers + 1;
    if (threads <= 1 || n <= grain) {
        if (n > 0) run(context, 0, 0, n);
        return;
    }
    pool.job = (loop){.run = run, .context = context, .n = n, .grain = grain, .threads = threads};
    atomic_store(&pool.left, pool.workers);
    atomic_fetch_add(&pool.round, 1);
    if (atomic_load(&pool.asleep) > 0) {
        pthread_mutex_lock(&pool.mutex);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.mutex);
    }
    run_share(&pool.job, 0);
    for (int i = 0; atomic_load_explicit(&pool.left, memory_order_acquire) > 0; i++) {
        if (i < WAIT)
            relax();
        else
            sched_yield();
    }
}
