/*
 * Initial values of a model's arrays: their distribution, that they depend on seed and layer, and
 * on nothing else.
 */
#include "rig.h"

#include <stdlib.h>

static size_t equal_values(const float *a, const float *b, size_t n) {
    size_t equal = 0;
    for (size_t k = 0; k < n; k++) equal += a[k] == b[k];
    return equal;
}

/* A kernel's width, and its shape, uniform or normal, by its moments. */
static void moments_of(const mnd_array_info *p, const float *v, mnd_init init) {
    const double taps = p->ndim == 4 ? (double)(p->dim[0] * p->dim[1]) : 1;
    const double in = taps * (double)p->dim[p->ndim - 2], out = taps * (double)p->dim[p->ndim - 1];
    const double limit = sqrt(6 / (in + out)), n = (double)p->count;
    const double want = init == MND_INIT_GLOROT ? limit * limit / 3 : 2 / in;
    double sum = 0, square = 0, fourth = 0, most = 0;
    for (size_t k = 0; k < p->count; k++) {
        const double x = (double)v[k];
        sum += x, square += x * x, fourth += x * x * x * x;
        most = fmax(most, fabs(x));
    }
    const double kurtosis = init == MND_INIT_GLOROT ? 9.0 / 5 : 3;
    assert_true(fabs(sum / n) < 4.5 * sqrt(want / n));
    assert_true(fabs(square / n / want - 1) < 4.5 * sqrt((kurtosis - 1) / n));
    const double eighth = init == MND_INIT_GLOROT ? 9 : 105;
    assert_true(fabs(fourth / n / (want * want) - kurtosis) <
                4.5 * sqrt((eighth - kurtosis * kurtosis) / n));
    if (init == MND_INIT_GLOROT) assert_true(most <= limit * 1.000001 && most > 0.98 * limit);
    if (init == MND_INIT_HE) assert_true(most < 6 * sqrt(want) && most > 2.5 * sqrt(want));
}

/* All arrays of a model, a; b has another seed. */
static void check_initial(const rig *a, const rig *b, mnd_init init) {
    mnd_array_info twin = {0};
    for (int i = 0; i < mnd_model_n_array(a->model); i++) {
        const mnd_array_info p = mnd_model_array(a->model, i);
        const float *v = a->param + p.offset;
        if (strcmp(p.name, "bias") == 0) {
            for (size_t k = 0; k < p.count; k++) assert_true(v[k] == 0);
            continue;
        }
        moments_of(&p, v, init);
        assert_true((double)equal_values(v, b->param + p.offset, p.count) <
                    1e-3 * (double)p.count + 3);
        /* Layers of equal shape draw different numbers. */
        if (p.ndim != 2 || p.dim[0] != 40) continue;
        if (twin.count) assert_true(equal_values(a->param + twin.offset, v, p.count) < 5);
        twin = p;
    }
}

static void initial_values(void **state) {
    (void)state;
    const char *const spec = "conv:64:5,maxpool:2,conv:48:3:same,flatten,dense:40,relu,dense:40,"
                             "relu,dense:40,dense:40";
    const mnd_shape input = {3, {16, 16, 3}};
    for (int init = MND_INIT_GLOROT; init <= MND_INIT_HE; init++) {
        rig a, b;
        rig_open(&a, spec, input, 40, 1, false);
        rig_open(&b, spec, input, 40, 1, true);
        for (size_t i = 0; i < a.n_param; i++) a.param[i] = b.param[i] = NAN;
        mnd_model_initialize(a.model, (mnd_init)init, 17);
        mnd_model_initialize(b.model, (mnd_init)init, 17);
        assert_memory_equal(a.param, b.param, a.n_param * sizeof(float));
        mnd_model_initialize(b.model, (mnd_init)init, 18);
        check_initial(&a, &b, (mnd_init)init);
        rig_close(&a), rig_close(&b);
    }
}

/* An LSTM's: orthonormal rows of the recurrent kernel, the forget gate's bias 1. */
static void initial_lstm(void **state) {
    (void)state;
    enum { N = 40, F = 9 };
    for (int init = MND_INIT_GLOROT; init <= MND_INIT_HE; init++) {
        rig r;
        rig_open(&r, "lstm:40", (mnd_shape){3, {7, 3, 3}}, N, 1, false);
        mnd_model_initialize(r.model, (mnd_init)init, 17);
        assert_int_equal(mnd_model_n_array(r.model), 3);
        const mnd_array_info kernel = mnd_model_array(r.model, 0);
        const mnd_array_info recurrent = mnd_model_array(r.model, 1);
        const mnd_array_info bias = mnd_model_array(r.model, 2);
        assert_string_equal(recurrent.name, "recurrent_kernel");
        assert_true(kernel.count == 4 * F * N && recurrent.count == 4 * N * N);
        assert_true(bias.count == 4 * N);
        moments_of(&kernel, r.param, (mnd_init)init);
        const float *w = r.param + recurrent.offset, *b = r.param + bias.offset;
        for (int i = 0; i < N; i++)
            for (int j = 0; j <= i; j++) {
                double product = 0;
                for (int k = 0; k < 4 * N; k++)
                    product += (double)w[i * 4 * N + k] * (double)w[j * 4 * N + k];
                assert_true(fabs(product - (i == j)) < 1e-6);
            }
        double sum = 0;
        for (int k = 0; k < 4 * N * N; k++) sum += (double)w[k];
        assert_true(fabs(sum) < 4.5 * sqrt(N)); /* N rows of length 1 */
        for (int k = 0; k < 4 * N; k++) assert_true(b[k] == (k / N == 1 ? 1.0F : 0.0F));
        rig_close(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(initial_values),
        cmocka_unit_test(initial_lstm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
