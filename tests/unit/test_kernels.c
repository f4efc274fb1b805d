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
    const mnd_rows rows = {.n_seg = 3, .start = start, .n_part = 2, .part = part};
    for (int t = 1; t <= STEPS; t++) {
        rig_gradient_rows(&r, x, label, NULL, &rows, 1.0F / ROWS, 7, (uint32_t)t);
        for (size_t i = 0; i < r.n_param; i++) r.grad[i] += r.grad[r.stride + i];
        mnd_optimizer_step(&adam, adam.lr, t, r.n_param, r.param, r.grad, slot);
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
            const bool same = strcmp(mnd_arithmetic(false), "fma") == 0;
            unsetenv("MNIST_DIST_KERNELS");
            if (!taken) continue;
            train(n, tables[t], other, other_loss);
            if (same && strcmp(mnd_arithmetic(false), "fma") == 0) {
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

/*
 * A first layer leaves out multiplications by 0, which shows in no bit: every product is still the
 * one chain of multiply-adds over all inputs, or samples. Background in pieces of all lengths, also
 * -0 and images of nothing else.
 */
static void background_changes_no_bit(void **state) {
    (void)state;
    enum { IN = 613, OUT = 71, N = 23 };
    if (strcmp(mnd_arithmetic(false), "fma") != 0) skip();
    rig r;
    rig_open(&r, "dense:71", (mnd_shape){1, {IN}}, OUT, N, false);
    mnd_model_initialize(r.model, MND_INIT_HE, 5);
    mnd_rng rng;
    mnd_rng_start(&rng, 6, MND_RNG_TEST, 0, 0);
    for (int j = 0; j < OUT; j++) r.param[IN * OUT + j] = mnd_rng_uniform(&rng) - 0.5F;
    float *x = rig_alloc(N * IN, sizeof *x), *logits = rig_alloc(N * OUT, sizeof *logits);
    uint8_t label[N];
    for (int i = 0; i < N; i++) {
        label[i] = (uint8_t)(i % OUT);
        for (int k = 0; k < IN && i != 11;) {
            const bool dark = mnd_rng_below(&rng, 2) == 0;
            for (int left = 1 + (int)mnd_rng_below(&rng, 90); left > 0 && k < IN; left--, k++)
                x[i * IN + k] = dark ? (k % 2 ? 0.0F : -0.0F) : mnd_rng_uniform(&rng) - 0.3F;
        }
    }
    const float *got = rig_forward(&r, x, N);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < OUT; j++) {
            float sum = r.param[IN * OUT + j];
            for (int k = 0; k < IN; k++) sum = fmaf(x[i * IN + k], r.param[k * OUT + j], sum);
            assert_true(got[i * OUT + j] == sum);
        }
    memcpy(logits, got, (size_t)N * OUT * sizeof *logits);
    rig_gradient(&r, x, label, N, 0.25F);
    int64_t correct = 0;
    (void)mnd_cross_entropy(logits, label, N, OUT, 0.25F, logits, &correct);
    for (int k = 0; k < IN; k++)
        for (int j = 0; j < OUT; j++) {
            float sum = 0;
            for (int i = 0; i < N; i++) sum = fmaf(x[i * IN + k], logits[i * OUT + j], sum);
            assert_true(r.grad[k * OUT + j] == sum);
        }
    mnd_free(x), mnd_free(logits);
    rig_close(&r);
}

int main(void) {
    unsetenv("MNIST_DIST_KERNELS");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(native_tables_agree),
        cmocka_unit_test(nothing_allocates),
        cmocka_unit_test(background_changes_no_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
