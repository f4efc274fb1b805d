/*
 * sums.h - the entries of the tables of kernels by their definition, for tests. Every element of a
 * result is computed twice: as the chain of fused multiply-adds that kernels.h defines, which a
 * fast table must match bit by bit, and in double with the sum of absolute values, which bounds the
 * error that any order of additions can make.
 */
#ifndef MND_SUMS_H
#define MND_SUMS_H

#include "test.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "mnist_dist/kernels.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/rng.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

typedef struct sum {
    float chain;
    double exact, size; /* the sum, and the sum of absolute values */
    int n;              /* additions */
    double bound;       /* of the error of fast kernels, where `chain` is no single chain */
} sum;

static inline sum sum_from(float start) {
    return (sum){.chain = start, .exact = start, .size = fabs((double)start)};
}

static inline void sum_product(sum *s, float a, float b) {
    s->chain = fmaf(a, b, s->chain);
    s->exact += (double)a * b;
    s->size += fabs((double)a * b);
    s->n++;
}

static inline void sum_add(sum *s, float a) {
    s->chain += a;
    s->exact += a;
    s->size += fabs((double)a);
    s->n++;
}

static inline sum sum_of(sum a, sum b) {
    return (sum){a.chain + b.chain, a.exact + b.exact, a.size + b.size, a.n + b.n + 1, 0.0};
}

/* What the result is when the sum is done: + 0, or relu. A NaN passes. */
static inline sum sum_finished(sum s, bool relu) {
    s.chain += 0.0F;
    if (relu && s.chain <= 0.0F) s.chain = 0.0F;
    if (relu && s.exact < 0.0) s.exact = 0.0;
    return s;
}

/* n roundings of half a unit in the last place each, of partial sums that `size` bounds (Higham,
   Accuracy and Stability of Numerical Algorithms, 2002, 3.1). */
static inline double sum_bound(const sum *s) {
    const double nu = (s->n + 1) * (FLT_EPSILON / 2.0);
    return nu / (1.0 - nu) * s->size + FLT_MIN;
}

/* The kernels as AVX-512 compiles them, for CPUs without: wide_kernels.c. */
#ifdef MND_WIDE_KERNELS
extern const mnd_kernels mnd_kernels_wide;
#endif

/* Table i of those to test; NULL after the last. */
static inline const mnd_kernels *table_at(int i) {
    const mnd_kernels *const last = i > 0 ? mnd_kernels_at(i - 1) : NULL;
#ifdef MND_WIDE_KERNELS
    if (last == mnd_kernels_base() && __builtin_cpu_supports("avx2") &&
        __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi"))
        return &mnd_kernels_wide;
#endif
    (void)last;
    return mnd_kernels_at(i);
}

/* A table of kernels with scratch memory for some threads. */
typedef struct bench {
    const mnd_kernels *table;
    bool fast; /* whether kernels.h defines its bits */
    mnd_workers workers;
    char name[160]; /* for messages */
} bench;

enum { SCRATCH_GUARD = 16 };
#define GUARD 12345.0F

static inline void *sums_alloc(size_t count, size_t size) {
    void *p = NULL;
    if (mnd_alloc(&p, count, size, "a test") != MND_OK) fail_msg("%s", mnd_error());
    return p;
}

/* Scratch memory as large as the table asks for, with a guard behind each thread's. */
static inline void bench_open(bench *b, const mnd_kernels *table, int threads, size_t floats) {
    b->table = table;
    b->fast = table != mnd_kernels_base();
    b->workers.threads = threads;
    b->workers.each = (floats + 15) / 16 * 16 + SCRATCH_GUARD;
    const size_t all = (size_t)threads * b->workers.each;
    b->workers.scratch = sums_alloc(all, sizeof(float));
    for (size_t i = 0; i < all; i++) b->workers.scratch[i] = GUARD;
}

static inline void bench_close(bench *b) {
    for (int t = 1; t <= b->workers.threads; t++)
        for (size_t i = 1; i <= SCRATCH_GUARD; i++)
            if (b->workers.scratch[(size_t)t * b->workers.each - i] != GUARD)
                fail_msg("%s: writes behind its scratch memory", b->name);
    mnd_free(b->workers.scratch);
}

/* One element of a result. */
static inline void check_sum(const bench *b, const char *what, size_t at, float got,
                             const sum *want) {
    if (b->fast && memcmp(&got, &want->chain, sizeof got) != 0)
        fail_msg("%s: %s[%zu] is %.9g, the chain %.9g", b->name, what, at, (double)got,
                 (double)want->chain);
    const double bound = b->fast && want->bound > 0.0 ? want->bound : sum_bound(want);
    if (!(fabs(got - want->exact) <= bound))
        fail_msg("%s: %s[%zu] is %.9g, exactly %.12g, bound %.3g", b->name, what, at, (double)got,
                 want->exact, bound);
}

static inline void check_sums(const bench *b, const char *what, size_t n, const float *got,
                              const sum *want) {
    for (size_t i = 0; i < n; i++) check_sum(b, what, i, got[i], &want[i]);
}

/* Values in [-0.5, 0.5), some so small that a product of two is +-0, and of 16 about so many 0 or
   -0. They come in runs, as in pictures. */
static inline void draw(mnd_rng *rng, int zero_of_16, size_t n, float *x) {
    for (size_t i = 0; i < n;) {
        const bool zero = (int)mnd_rng_below(rng, 16) < zero_of_16;
        const float size = zero ? 0.0F : mnd_rng_below(rng, 4) == 0 ? 1e-30F : 1.0F;
        for (size_t left = 1 + mnd_rng_below(rng, 9); left > 0 && i < n; left--, i++)
            x[i] = size * (mnd_rng_uniform(rng) - 0.5F);
    }
}

#endif
