/*
 * Dropout: the right rate and scale in training, nothing at inference, and a mask that depends on
 * seed, epoch, sample and layer alone.
 */
#include "rig.h"

#include <stdio.h>

#include "mnist_dist/rng.h"
#include "naive.h"

#define N 1000 /* features */

/* A model with a gradient of its own for each row. */
static void open_probe(rig *r, const char *spec, int features, int rows, bool plain) {
    const mnd_model_options options = {
        .max_rows = rows, .max_seg = rows, .training = true, .plain = plain, .threads = 1};
    rig_open_with(r, spec, (mnd_shape){1, {features}}, 2, &options, rows);
}

/*
 * Masks made visible: with inputs 1 and weights 0, the kernel's gradient of one sample is
 * mask[i] * d[j] with d = softmax - onehot = {-1/2, 1/2}.
 */
static void masks_of(rig *r, int rows, const uint32_t *sample, uint64_t seed, uint32_t epoch,
                     size_t features, float *mask) {
    float *x = rig_alloc((size_t)rows * r->in, sizeof *x);
    for (size_t i = 0; i < (size_t)rows * r->in; i++) x[i] = 1;
    uint8_t *label = rig_alloc((size_t)rows, 1);
    int *start = rig_alloc((size_t)rows + 1, sizeof *start);
    for (int i = 0; i <= rows; i++) start[i] = i;
    const mnd_segments cut = {.n_seg = rows, .start = start, .n_subtree = rows, .subtree = start};
    memset(r->param, 0, r->n_param * sizeof(float));
    rig_gradient_batch(r, x,
                       (mnd_batch){.seg = &cut,
                                   .label = label,
                                   .sample = sample,
                                   .scale = 1.0F,
                                   .seed = seed,
                                   .epoch = epoch});
    for (int i = 0; i < rows; i++)
        for (size_t k = 0; k < features; k++)
            mask[(size_t)i * features + k] = 2 * r->grad[(size_t)i * r->stride + 2 * k + 1];
    mnd_free(start), mnd_free(label), mnd_free(x);
}

static void rate_and_scale(void **state) {
    (void)state;
    static const char *const spec[] = {"dropout:0.2,dense:2", "dropout:0.5,dense:2",
                                       "dropout:0.9,dense:2", "dropout:0,dense:2"};
    static const double rate[] = {0.2, 0.5, 0.9, 0};
    for (int s = 0; s < 4; s++) {
        rig r;
        open_probe(&r, spec[s], N, 40, false);
        static float mask[40 * N];
        masks_of(&r, 40, NULL, 1, 1, N, mask);
        int dropped = 0;
        for (int i = 0; i < 40 * N; i++) {
            if (mask[i] == 0)
                dropped++;
            else
                /* The rate is a multiple of 2^-16; the scale is that of the rate in use. */
                assert_true(fabs((double)mask[i] * (1 - rate[s]) - 1) <
                            0x1p-17 / (1 - rate[s]) + 1e-6);
        }
        const double deviation = sqrt(rate[s] * (1 - rate[s]) / (40 * N));
        assert_true(fabs(dropped / (40.0 * N) - rate[s]) <= 4.5 * deviation);
        rig_close(&r);
    }
}

/* How many of n masks differ. */
static int differ(const float *a, const float *b, int n) {
    int count = 0;
    for (int i = 0; i < n; i++) count += a[i] != b[i];
    return count;
}

static void mask_belongs_to_the_sample(void **state) {
    (void)state;
    for (int plain = 0; plain < 2; plain++) {
        static float a[5 * N], b[5 * N], c[N];
        rig r;
        open_probe(&r, "dropout:0.5,dense:2", N, 5, plain);
        static const uint32_t here[5] = {0, 7, 59999, 12, 3}, there[5] = {12, 3, 7, 0, 59999};
        static const int place[5] = {3, 2, 4, 0, 1}; /* of here[i] in there */
        masks_of(&r, 5, here, 9, 4, N, a);
        masks_of(&r, 5, there, 9, 4, N, b);
        for (int i = 0; i < 5; i++) assert_int_equal(differ(a + i * N, b + place[i] * N, N), 0);
        /* Two samples differ in about half of all places, and so do two epochs and two seeds. */
        for (int i = 1; i < 5; i++) assert_true(abs(differ(a, a + i * N, N) - N / 2) < 80);
        masks_of(&r, 1, here, 9, 5, N, c);
        assert_true(abs(differ(a, c, N) - N / 2) < 80);
        masks_of(&r, 1, here, 10, 4, N, c);
        assert_true(abs(differ(a, c, N) - N / 2) < 80);
        masks_of(&r, 1, here, 9 + (UINT64_C(1) << 32), 4, N, c);
        assert_true(abs(differ(a, c, N) - N / 2) < 80);
        masks_of(&r, 1, here, 9, 4, N, c);
        assert_int_equal(differ(a, c, N), 0);
        rig_close(&r);
    }
}

/* Two dropouts in a row draw independently: a quarter is left, not a half. */
static void layers_draw_apart(void **state) {
    (void)state;
    static float mask[20 * N];
    rig r;
    open_probe(&r, "dropout:0.5,dropout:0.5,dense:2", N, 20, false);
    masks_of(&r, 20, NULL, 1, 1, N, mask);
    int kept = 0;
    for (int i = 0; i < 20 * N; i++) kept += mask[i] != 0;
    assert_true(fabs(kept / (20.0 * N) - 0.25) < 4.5 * sqrt(0.25 * 0.75 / (20 * N)));
    rig_close(&r);
}

/* Neighbouring elements are independent too: among pairs, each of the four cases a quarter. */
static void elements_draw_apart(void **state) {
    (void)state;
    static float mask[40 * N];
    rig r;
    open_probe(&r, "dropout:0.5,dense:2", N, 40, false);
    masks_of(&r, 40, NULL, 3, 1, N, mask);
    for (int apart = 1; apart <= 32; apart++) {
        int equal = 0, total = 0;
        for (int i = 0; i < 40; i++)
            for (int k = 0; k + apart < N; k++) {
                const float *m = mask + i * N + k;
                equal += (m[0] != 0) == (m[apart] != 0);
                total++;
            }
        assert_true(fabs(equal / (double)total - 0.5) < 5 * 0.5 / sqrt(total));
    }
    rig_close(&r);
}

static void none_at_inference(void **state) {
    (void)state;
    for (int plain = 0; plain < 2; plain++) {
        rig with, without;
        const mnd_shape in = {1, {50}};
        rig_open(&with, "dense:40,relu,dropout:0.5,dense:3", in, 3, 4, plain);
        rig_open(&without, "dense:40,relu,dense:3", in, 3, 4, plain);
        assert_int_equal(with.n_param, without.n_param);
        mnd_model_initialize(with.model, MND_INIT_GLOROT, 5);
        memcpy(without.param, with.param, with.n_param * sizeof(float));
        float x[200];
        for (int i = 0; i < 200; i++) x[i] = (float)(i % 17) / 17 - 0.4F;
        const float *a = rig_forward(&with, x, 4), *b = rig_forward(&without, x, 4);
        assert_memory_equal(a, b, 12 * sizeof *a);
        /* Also right after a training step. */
        const uint8_t label[4] = {0, 1, 2, 0};
        rig_gradient(&with, x, label, 4, 1);
        a = rig_forward(&with, x, 4);
        assert_memory_equal(a, b, 12 * sizeof *a);
        rig_close(&with), rig_close(&without);
    }
}

/*
 * In the middle of a network, forward and backward use one and the same mask: against the
 * definition, with the masks a probe of the same layer, seed, epoch and samples shows.
 */
typedef struct middle {
    const char *spec, *probe;
    mnd_shape input;
    int layer, features;
} middle;

static void in_the_middle(const middle *m, bool plain) {
    enum { ROWS = 6 };
    static const uint32_t sample[ROWS] = {5, 4, 99, 0, 1000, 77};
    static const uint8_t label[ROWS] = {0, 1, 1, 0, 1, 0};
    float mask[ROWS * 36];
    const size_t features = (size_t)m->features;
    rig probe, r;
    open_probe(&probe, m->probe, m->features, ROWS, plain);
    masks_of(&probe, ROWS, sample, 21, 3, features, mask);
    rig_close(&probe);
    double mask64[ROWS * 36];
    for (size_t i = 0; i < ROWS * features; i++) mask64[i] = (double)mask[i];

    naive_net naive;
    naive_open(&naive, m->spec, m->input, 2);
    naive.layer[m->layer].mask = mask64;
    rig_open(&r, m->spec, m->input, 2, ROWS, plain);
    mnd_model_initialize(r.model, MND_INIT_HE, 8);
    float *x = rig_alloc(ROWS * r.in, sizeof *x);
    double *x64 = rig_alloc(ROWS * r.in, sizeof *x64);
    double *param = rig_alloc(r.n_param, sizeof *param);
    double *want = rig_alloc(r.n_param, sizeof *want);
    mnd_rng rng;
    mnd_rng_start(&rng, 1, MND_RNG_TEST, 2, 3);
    for (size_t i = 0; i < ROWS * r.in; i++) {
        x[i] = mnd_rng_normal(&rng);
        x64[i] = (double)x[i];
    }
    for (size_t i = 0; i < r.n_param; i++) param[i] = (double)r.param[i];
    const double loss = naive_gradient(&naive, param, x64, label, ROWS, 0.5, want);
    const int start[3] = {0, 2, ROWS}, part[2] = {0, 2};
    const mnd_segments cut = {.n_seg = 2, .start = start, .n_subtree = 1, .subtree = part};
    rig_gradient_batch(
        &r, x,
        (mnd_batch){
            .seg = &cut, .label = label, .sample = sample, .scale = 0.5F, .seed = 21, .epoch = 3});
    rig_within(fabs(r.loss[0] + r.loss[1] - loss) / loss, 1e-5, m->spec, "loss");
    rig_within(rig_error(r.grad, want, r.n_param), 1e-5, m->spec, "gradient");
    mnd_free(want), mnd_free(param), mnd_free(x64), mnd_free(x);
    rig_close(&r);
    naive_close(&naive);
}

static void middle_of_a_network(void **state) {
    (void)state;
    static const middle net[] = {
        {"dense:30,relu,dropout:0.4,dense:2", "relu,relu,dropout:0.4,dense:2", {1, {12}}, 2, 30},
        {"dense:30,sigmoid,dropout:0.4,dense:2", "relu,relu,dropout:0.4,dense:2", {1, {12}}, 2, 30},
        {"dense:30,tanh,dropout:0.4,dense:2", "relu,relu,dropout:0.4,dense:2", {1, {12}}, 2, 30},
        {"conv:3:3,relu,maxpool:2,dropout:0.2,flatten,dense:2",
         "relu,relu,relu,dropout:0.2,dense:2",
         {3, {8, 8, 1}},
         3,
         27},
        {"conv:3:3,maxpool:2,dropout:0.2,tanh,flatten,dense:2",
         "relu,relu,dropout:0.2,dense:2",
         {3, {8, 8, 1}},
         2,
         27},
        {"dense:30,dropout:0.4,relu,dense:2", "relu,dropout:0.4,dense:2", {1, {12}}, 1, 30},
        {"conv:3:3,dropout:0.2,flatten,dense:2", "relu,dropout:0.2,dense:2", {3, {6, 5, 2}}, 1, 36},
        {"conv:3:3,maxpool:2,dropout:0.2,flatten,dense:2",
         "relu,relu,dropout:0.2,dense:2",
         {3, {8, 8, 1}},
         2,
         27},
    };
    for (size_t t = 0; t < sizeof net / sizeof net[0]; t++)
        for (int plain = 0; plain < 2; plain++) in_the_middle(&net[t], plain);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rate_and_scale),    cmocka_unit_test(mask_belongs_to_the_sample),
        cmocka_unit_test(layers_draw_apart), cmocka_unit_test(elements_draw_apart),
        cmocka_unit_test(none_at_inference), cmocka_unit_test(middle_of_a_network),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
