/*
 * The tables of kernels: every native one gives the same bits, whatever its vector width; OpenBLAS
 * agrees to rounding; and after the first step nothing allocates.
 */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>

#include "mnist_dist/optimizer.h"
#include "mnist_dist/rng.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* Counts calls from the program and its libraries; the linker puts these in front (--wrap). */
static int allocations;
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
int __real_posix_memalign(void **p, size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
int __wrap_posix_memalign(void **p, size_t align, size_t n);
void *__wrap_malloc(size_t n) { return allocations++, __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) { return allocations++, __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t n) { return allocations++, __real_realloc(p, n); }
void *__wrap_aligned_alloc(size_t align, size_t n) {
    return allocations++, __real_aligned_alloc(align, n);
}
int __wrap_posix_memalign(void **p, size_t align, size_t n) {
    return allocations++, __real_posix_memalign(p, align, n);
}

static const struct {
    const char *spec;
    mnd_shape input;
    int classes;
} nets[] = {
    {"cnn", {3, {28, 28, 1}}, 10},
    {"mlp16", {3, {28, 28, 1}}, 10},
    {"dense:515,relu,dense:130,tanh,dropout:0.3,dense:33,sigmoid,dense:7", {1, {271}}, 7},
    {"conv:33:5:same,relu,maxpool:2,conv:17:3,tanh,maxpool:3:s2,conv:5:2x3:s2,avgpool:2,flatten,"
     "dense:47",
     {3, {31, 29, 2}},
     47},
};

enum { ROWS = 21, STEPS = 3 };

/* Three steps of Adam; param and the last gradient one after another. */
static void train(size_t net, const char *kernels, float *out, double *loss) {
    if (kernels) assert_int_equal(setenv("MNIST_DIST_KERNELS", kernels, 1), 0);
    rig r;
    rig_open(&r, nets[net].spec, nets[net].input, nets[net].classes, ROWS, false);
    mnd_model_initialize(r.model, MND_INIT_HE, 2);
    mnd_rng rng;
    mnd_rng_start(&rng, 2, MND_RNG_TEST, (uint32_t)net, 0);
    float *x = rig_alloc(ROWS * r.in, sizeof *x);
    for (size_t i = 0; i < ROWS * r.in; i++)
        x[i] = i / 5 % 3 == 0 || mnd_rng_below(&rng, 3) == 0 ? 0 : mnd_rng_uniform(&rng);
    uint8_t label[ROWS];
    for (int i = 0; i < ROWS; i++)
        label[i] = (uint8_t)mnd_rng_below(&rng, (uint32_t)nets[net].classes);
    float *slot[2] = {rig_alloc(r.n_param, sizeof(float)), rig_alloc(r.n_param, sizeof(float))};
    mnd_optimizer adam;
    rig_ok(mnd_optimizer_default("adam", &adam), "adam");
    const int start[4] = {0, 5, 5, ROWS}, part[3] = {0, 2, 3};
    const mnd_segments rows = {.n_seg = 3, .start = start, .n_subtree = 2, .subtree = part};
    for (int t = 1; t <= STEPS; t++) {
        rig_gradient_batch(&r, x,
                           (mnd_batch){.seg = &rows,
                                       .label = label,
                                       .scale = 1.0F / ROWS,
                                       .seed = 7,
                                       .epoch = (uint32_t)t});
        for (size_t i = 0; i < r.n_param; i++) r.grad[i] += r.grad[r.stride + i];
        rig_optimize(&adam, adam.lr, t, r.n_param, r.param, r.grad, slot);
    }
    memcpy(out, r.param, r.n_param * sizeof *out);
    memcpy(out + r.n_param, r.grad, r.n_param * sizeof *out);
    for (int s = 0; s < 3; s++) loss[s] = r.loss[s];
    mnd_free(slot[0]), mnd_free(slot[1]), mnd_free(x);
    rig_close(&r);
    unsetenv("MNIST_DIST_KERNELS");
}

static size_t count_param(size_t net) {
    rig r;
    rig_open(&r, nets[net].spec, nets[net].input, nets[net].classes, 1, false);
    const size_t n = r.n_param;
    rig_close(&r);
    return n;
}

/* Whether this CPU surely runs a table, so that the comparisons cannot come to compare nothing. */
static bool runs(const char *table) {
    if (strcmp(table, "openblas") == 0) return true;
#if defined(__x86_64__)
    return strcmp(table, "avx2") == 0 && __builtin_cpu_supports("avx2") &&
           __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi");
#else
    return false;
#endif
}

static void native_tables_agree(void **state) {
    (void)state;
    static const char *const tables[] = {"avx512", "avx2", "openblas"};
    for (size_t n = 0; n < COUNT(nets); n++) {
        const size_t count = count_param(n);
        float *best = rig_alloc(2 * count, sizeof *best),
              *other = rig_alloc(2 * count, sizeof *other);
        double loss[3], other_loss[3];
        train(n, NULL, best, loss);
        for (size_t t = 0; t < COUNT(tables); t++) {
            setenv("MNIST_DIST_KERNELS", tables[t], 1);
            /* A table that this CPU cannot run is not taken. */
            const bool taken =
                strstr(mnd_products_name(false),
                       strcmp(tables[t], "openblas") == 0 ? "OpenBLAS" : tables[t]) != NULL;
            const bool same = strcmp(mnd_arithmetic(false), MND_ARITHMETIC) == 0;
            unsetenv("MNIST_DIST_KERNELS");
            assert_true(taken || !runs(tables[t]));
            if (!taken) continue;
            train(n, tables[t], other, other_loss);
            if (same && strcmp(mnd_arithmetic(false), MND_ARITHMETIC) == 0) {
                assert_memory_equal(best, other, 2 * count * sizeof *best);
                assert_memory_equal(loss, other_loss, sizeof loss);
            } else {
                rig_within(rig_distance(other, best, count), 1e-4, nets[n].spec, tables[t]);
            }
        }
        mnd_free(best), mnd_free(other);
    }
}

static void nothing_allocates(void **state) {
    (void)state;
    for (size_t n = 0; n < COUNT(nets); n++)
        for (int plain = 0; plain < 2; plain++) {
            rig r;
            allocations = 0;
            rig_open(&r, nets[n].spec, nets[n].input, nets[n].classes, ROWS, plain);
            assert_true(allocations > 0); /* the counter counts */
            mnd_model_initialize(r.model, MND_INIT_HE, 2);
            float *x = rig_alloc(ROWS * r.in, sizeof *x);
            const uint8_t label[ROWS] = {0};
            rig_gradient(&r, x, label, ROWS, 1);
            allocations = 0;
            for (int rows = ROWS; rows >= 0; rows -= 7) rig_gradient(&r, x, label, rows, 1);
            (void)rig_forward(&r, x, ROWS);
            assert_int_equal(allocations, 0);
            mnd_free(x);
            rig_close(&r);
        }
}

/* Dense layers by their definition: x (N, in), h[l] what layer l leaves, d[l] its gradient. */
enum { DENSE = 3 };

/* Segments longer than what is done at a time, of a few samples and of none; many samples. */
static const struct {
    const char *spec;
    int width[DENSE + 1], start[5];
} dense[] = {{"dense:150,relu,dense:100,relu,dense:71", {133, 150, 100, 71}, {0, 70, 70, 75, 150}},
             {"dense:512,relu,dense:3,relu,dense:2", {3, 512, 3, 2}, {0, 400, 401, 700, 1020}}};

typedef struct net {
    const int *width;
    int n;
    const float *w[DENSE], *b[DENSE];
    float *h[DENSE + 1], *d[DENSE + 1];
} net;

/* Every sum is one chain; zeros come out as +0. */
static void define_forward(net *t) {
    const int *const width = t->width;
    for (int l = 0; l < DENSE; l++)
        for (int i = 0; i < t->n; i++)
            for (int j = 0; j < width[l + 1]; j++) {
                float sum = t->b[l][j];
                for (int k = 0; k < width[l]; k++)
                    sum = fmaf(t->h[l][i * width[l] + k], t->w[l][k * width[l + 1] + j], sum);
                t->h[l + 1][i * width[l + 1] + j] =
                    sum <= 0.0F && l + 1 < DENSE ? 0.0F : sum + 0.0F;
            }
}

static void define_backward(net *t) {
    const int *const width = t->width;
    for (int l = DENSE - 1; l > 0; l--)
        for (int i = 0; i < t->n; i++)
            for (int k = 0; k < width[l]; k++) {
                float sum = 0;
                for (int j = 0; j < width[l + 1]; j++)
                    sum =
                        fmaf(t->w[l][k * width[l + 1] + j], t->d[l + 1][i * width[l + 1] + j], sum);
                t->d[l][i * width[l] + k] = t->h[l][i * width[l] + k] > 0.0F ? sum + 0.0F : 0.0F;
            }
}

/* Weight (k, j) of layer l over segments [lo, lo + n) in the fixed tree. */
static float define_weight(const net *t, const int *start, int lo, int n, int l, int k, int j) {
    if (n > 1) {
        int half = 1;
        while (2 * half < n) half *= 2;
        return define_weight(t, start, lo, half, l, k, j) +
               define_weight(t, start, lo + half, n - half, l, k, j);
    }
    const int *const width = t->width;
    float sum = 0;
    for (int i = start[lo]; i < start[lo + 1]; i++)
        sum = fmaf(t->h[l][i * width[l] + k], t->d[l + 1][i * width[l + 1] + j], sum);
    return sum + 0.0F;
}

/* Inputs, about so many of 16 dark (0 or -0), in pieces; one sample is nothing else. */
static void draw(mnd_rng *rng, int dark_of_16, int n, int width, float *x) {
    for (int i = 0; i < n; i++)
        for (int k = 0; k < width;) {
            const bool dark = i == 11 || (int)mnd_rng_below(rng, 16) < dark_of_16;
            for (int left = 1 + (int)mnd_rng_below(rng, 20); left > 0 && k < width; left--, k++)
                x[i * width + k] = dark ? (k % 2 ? 0.0F : -0.0F) : mnd_rng_uniform(rng) - 0.3F;
        }
}

/* Logits and gradients of one kind of input by one table, bit by bit. */
static void check_bits(net *t, const char *spec, const int *start, int dark_of_16, float bias,
                       mnd_rng *rng) {
    const int *const width = t->width, part[] = {0, 4}, classes = width[DENSE];
    const mnd_segments rows = {.n_seg = 4, .start = start, .n_subtree = 1, .subtree = part};
    uint8_t label[1024];
    rig r;
    rig_open(&r, spec, (mnd_shape){1, {width[0]}}, classes, t->n, false);
    mnd_model_initialize(r.model, MND_INIT_HE, 5);
    float *at = r.param;
    for (int l = 0; l < DENSE; l++) {
        t->w[l] = at;
        t->b[l] = at += width[l] * width[l + 1];
        /* These decide how much a relu lets through. */
        for (int j = 0; j < width[l + 1]; j++) *at++ = mnd_rng_uniform(rng) + bias;
    }
    for (int i = 0; i < t->n; i++) label[i] = (uint8_t)(i % classes);
    draw(rng, dark_of_16, t->n, width[0], t->h[0]);
    define_forward(t);
    assert_memory_equal(rig_forward(&r, t->h[0], t->n), t->h[DENSE],
                        (size_t)(t->n * classes) * sizeof(float));
    rig_gradient_batch(
        &r, t->h[0],
        (mnd_batch){.seg = &rows, .label = label, .scale = 0.25F, .seed = 1, .epoch = 1});
    int64_t correct = 0;
    (void)mnd_cross_entropy(t->h[DENSE], label, t->n, classes, 0.25F, t->d[DENSE], &correct);
    define_backward(t);
    const float *got = r.grad;
    for (int l = 0; l < DENSE; got += width[++l])
        for (int k = 0; k < width[l]; k++)
            for (int j = 0; j < width[l + 1]; j++, got++) {
                const float want = define_weight(t, start, 0, 4, l, k, j);
                assert_memory_equal(got, &want, sizeof want);
            }
    rig_close(&r);
}

/*
 * Multiplications by 0 are left out, which shows in no bit: whether few or most inputs are 0, every
 * product is the chain of all multiply-adds over inputs or samples.
 */
static void zeros_change_no_bit(void **state) {
    (void)state;
    static const char *const tables[] = {"avx512", "avx2"};
    static const struct {
        int dark_of_16;
        float bias;
    } kind[] = {{15, -0.5F}, {9, -0.5F}, {0, 4.0F}};
    mnd_rng rng;
    mnd_rng_start(&rng, 6, MND_RNG_TEST, 0, 0);
    for (size_t n = 0; n < COUNT(dense); n++) {
        net t = {.width = dense[n].width, .n = dense[n].start[4]};
        for (int l = 0; l <= DENSE; l++) {
            t.h[l] = rig_alloc((size_t)(t.n * t.width[l]), sizeof(float));
            t.d[l] = rig_alloc((size_t)(t.n * t.width[l]), sizeof(float));
        }
        for (size_t table = 0; table < COUNT(tables); table++) {
            setenv("MNIST_DIST_KERNELS", tables[table], 1);
            /* A table that this CPU cannot run is not taken. */
            const bool taken = strstr(mnd_products_name(false), tables[table]) != NULL;
            assert_true(taken || !runs(tables[table]));
            for (size_t i = 0; taken && i < COUNT(kind); i++)
                check_bits(&t, dense[n].spec, dense[n].start, kind[i].dark_of_16, kind[i].bias,
                           &rng);
            unsetenv("MNIST_DIST_KERNELS");
        }
        for (int l = 0; l <= DENSE; l++) mnd_free(t.h[l]), mnd_free(t.d[l]);
    }
}

int main(void) {
    unsetenv("MNIST_DIST_KERNELS");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(native_tables_agree),
        cmocka_unit_test(nothing_allocates),
        cmocka_unit_test(zeros_change_no_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
