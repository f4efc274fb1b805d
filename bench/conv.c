/*
 * conv.c - the speed of 3 x 3 convolutions and their gradients over the peak of a core.
 *
 *   bench_conv [REPEATS [ZEROS]]
 *
 * Verifies first that the fast kernels agree with the plain ones (OpenBLAS and im2col). Then it
 * prints medians in GFLOP/s, as many FLOPs as direct convolution has, on one thread: of the fast
 * kernels, as percents of the peak, and of the plain ones. The peak is that of multiply-adds
 * between registers, measured before each repetition. ZEROS of 16 gradients are 0: 0 by default.
 * A rank's part of a batch: 64 images, 4 segments.
 */
#ifdef __x86_64__
#include <immintrin.h>
#endif
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "median.h"
#include "mnist_dist/kernels.h"
#include "mnist_dist/rng.h"
#include "mnist_dist/subnormal.h"
#include "must.h"

enum { IMAGES = 64, SEGMENTS = 4, KINDS = 3, MOST = 101 };

/* Image sides, channels, filters; "same" padding. */
static const int shape[][3] = {{28, 16, 16},  {28, 32, 32}, {14, 32, 32}, {14, 32, 64},
                               {14, 64, 64},  {14, 96, 96}, {7, 64, 128}, {7, 128, 128},
                               {7, 192, 192}, {4, 128, 128}};
static const char *const kind_name[KINDS] = {"forward", "dx", "dw"};

/* Seconds of processor time of this thread: other load on the machine disturbs it less. */
static double cpu_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* GFLOP/s of multiply-adds by 10 chains of vectors. The empty statements keep the compiler from
   computing the end of a chain at once. */
enum { CHAINS = 10, ROUNDS = 100000 };
#ifdef __x86_64__
#define STEP(s, fma)                                                                               \
    s = fma(s, a, b);                                                                              \
    __asm__ volatile("" : "+v"(s))
#define PEAK(name, cpu, vec, floats, splat, fma)                                                   \
    __attribute__((target(cpu), noinline)) static double name(void) {                              \
        const vec a = splat(0.5F), b = splat(1.0F);                                                \
        vec c = b, d = b, e = b, f = b, g = b, h = b, i = b, j = b, k = b, l = b;                  \
        const double begin = cpu_time();                                                           \
        for (int r = 0; r < ROUNDS; r++) {                                                         \
            STEP(c, fma);                                                                          \
            STEP(d, fma);                                                                          \
            STEP(e, fma);                                                                          \
            STEP(f, fma);                                                                          \
            STEP(g, fma);                                                                          \
            STEP(h, fma);                                                                          \
            STEP(i, fma);                                                                          \
            STEP(j, fma);                                                                          \
            STEP(k, fma);                                                                          \
            STEP(l, fma);                                                                          \
        }                                                                                          \
        return 2e-9 * CHAINS * (floats)*ROUNDS / (cpu_time() - begin);                             \
    }
PEAK(peak_avx2, "avx2,fma", __m256, 8, _mm256_set1_ps, _mm256_fmadd_ps)
PEAK(peak_avx512, "avx512f", __m512, 16, _mm512_set1_ps, _mm512_fmadd_ps)

static double peak(void) {
    const double narrow = __builtin_cpu_supports("fma") ? peak_avx2() : NAN;
    const double wide = __builtin_cpu_supports("avx512f") ? peak_avx512() : 0.0;
    return wide > narrow ? wide : narrow;
}
#else
static double peak(void) { return NAN; }
#endif

typedef struct trial {
    mnd_conv g;
    size_t image, out, weights;
    float *x, *w, *bias, *dy, *y[2], *dx[2], *dw[2]; /* results of the fast and the plain table */
} trial;

static float *drawn(mnd_rng *rng, size_t n, int zeros, double scale) {
    float *const v = must_alloc(n, sizeof *v);
    for (size_t i = 0; i < n; i++) {
        const double u = mnd_rng_uniform(rng) - 0.5F;
        v[i] = (int)(mnd_rng_uniform(rng) * 16.0F) < zeros ? 0.0F : (float)(scale * u);
    }
    return v;
}

static trial open_trial(const int s[3], int zeros, mnd_rng *rng) {
    trial t = {.g = {s[0], s[0], s[1], 3, 3, 1, 1, 1, s[0], s[0], s[2]}};
    t.image = (size_t)(s[0] * s[0] * s[1]);
    t.out = (size_t)(s[0] * s[0] * s[2]);
    t.weights = (size_t)(9 * s[1] * s[2]);
    t.x = drawn(rng, IMAGES * t.image, 0, 2.0);
    t.w = drawn(rng, t.weights, 0, sqrt(12.0 / (9.0 * s[1])));
    t.bias = drawn(rng, (size_t)s[2], 0, 1.0);
    t.dy = drawn(rng, IMAGES * t.out, zeros, 1.0);
    for (int k = 0; k < 2; k++) {
        t.y[k] = must_alloc(IMAGES * t.out, sizeof(float));
        t.dx[k] = must_alloc(IMAGES * t.image, sizeof(float));
        t.dw[k] = must_alloc(t.weights + (size_t)s[2], sizeof(float));
    }
    return t;
}

static void close_trial(trial *t) {
    mnd_free(t->x), mnd_free(t->w), mnd_free(t->bias), mnd_free(t->dy);
    for (int k = 0; k < 2; k++) mnd_free(t->y[k]), mnd_free(t->dx[k]), mnd_free(t->dw[k]);
}

/* Seconds. */
static double run(const mnd_kernels *k, const mnd_workers *workers, const trial *t, int kind,
                  int plain) {
    mnd_convolution p = {.shape = &t->g, .rows = IMAGES, .x = t->x, .w = t->w, .bias = t->bias};
    p.relu = true;
    p.y = t->y[plain];
    p.dy = t->dy;
    p.dx = t->dx[plain];
    p.dw = t->dw[plain];
    p.dbias = p.dw + t->weights;
    if (kind == 2) memset(p.dw, 0, (t->weights + (size_t)t->g.n) * sizeof *p.dw);
    const double begin = cpu_time();
    if (kind == 0) k->conv_forward(workers, &p);
    if (kind == 1) k->conv_input_grad(workers, &p);
    if (kind == 2) p.rows = IMAGES / SEGMENTS;
    for (int s = 0; s < SEGMENTS && kind == 2; s++) {
        k->conv_weight_grad(workers, &p);
        p.x += (size_t)p.rows * t->image;
        p.dy += (size_t)p.rows * t->out;
    }
    return cpu_time() - begin;
}

/* The largest difference over the root mean square of what is right. */
static double error(const float *got, const float *want, size_t n) {
    double most = 0.0, square = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)got[i] - (double)want[i]);
        most = d > most || isnan(d) ? d : most;
        square += (double)want[i] * (double)want[i];
    }
    return most / sqrt(square / (double)n);
}

static void verify(const trial *t) {
    const double e[KINDS] = {error(t->y[0], t->y[1], IMAGES * t->out),
                             error(t->dx[0], t->dx[1], IMAGES * t->image),
                             error(t->dw[0], t->dw[1], t->weights + (size_t)t->g.n)};
    for (int kind = 0; kind < KINDS; kind++)
        if (!(e[kind] < 1e-4)) {
            fprintf(stderr, "bench_conv: %d x %d x %d to %d: %s is wrong by %g of its size\n",
                    t->g.h, t->g.w, t->g.c, t->g.n, kind_name[kind], e[kind]);
            exit(1);
        }
}

static void measure(const trial *t, int repeats) {
    const mnd_kernels *table[2] = {mnd_kernels_fast(), mnd_kernels_base()};
    mnd_workers workers[2];
    double seconds[KINDS][2][MOST], share[KINDS][MOST];
    const double flops = 2e-9 * IMAGES * (double)(t->g.oh * t->g.ow) * (double)t->weights;
    for (int k = 0; k < 2; k++) {
        workers[k] = (mnd_workers){.threads = 1, .each = table[k]->conv_scratch(&t->g)};
        workers[k].scratch = must_alloc(workers[k].each, sizeof(float));
        for (int kind = 0; kind < KINDS; kind++) (void)run(table[k], &workers[k], t, kind, k);
    }
    verify(t);
    for (int r = 0; r < repeats; r++)
        for (int kind = 0; kind < KINDS; kind++) {
            const double most = peak();
            for (int k = 0; k < 2; k++)
                seconds[kind][k][r] = run(table[k], &workers[k], t, kind, k);
            share[kind][r] = 100.0 * flops / seconds[kind][0][r] / most;
        }
    printf("%2d x %2d x %3d, %3d", t->g.h, t->g.w, t->g.c, t->g.n);
    for (int kind = 0; kind < KINDS; kind++)
        printf(" | %7.0f %5.0f %% %7.0f", flops / median(seconds[kind][0], repeats),
               median(share[kind], repeats), flops / median(seconds[kind][1], repeats));
    printf("\n");
    fflush(stdout);
    for (int k = 0; k < 2; k++) mnd_free(workers[k].scratch);
}

int main(int argc, char **argv) {
    int repeats = argc > 1 ? atoi(argv[1]) : 15;
    const int zeros = argc > 2 ? atoi(argv[2]) : 0;
    repeats = repeats < 1 ? 1 : repeats > MOST ? MOST : repeats;
    (void)mnd_flush_subnormals();
    mnd_blas_set_threads(1);
    printf("%s over %s; peak of this core %.0f GFLOP/s\n", mnd_products_name(false),
           mnd_products_name(true), peak());
    printf("%-18s", "images, filters");
    for (int kind = 0; kind < KINDS; kind++) printf(" | %7s  of peak   plain", kind_name[kind]);
    printf("\n");
    mnd_rng rng;
    mnd_rng_start(&rng, 1, MND_RNG_TEST, 0, 0);
    for (size_t s = 0; s < sizeof shape / sizeof shape[0]; s++) {
        trial t = open_trial(shape[s], zeros, &rng);
        measure(&t, repeats);
        close_trial(&t);
    }
    return 0;
}
