/*
 * A NaN, in an input pixel or in one or all elements of an array, makes the loss NaN: a rectifier
 * or a maximum that swallowed it would let a broken run go on with a network that is silently dead.
 */
#include "rig.h"

#include <stdio.h>

#include "mnist_dist/rng.h"

enum { ROWS = 2, CLASSES = 3, SIDE = 8, CHANNELS = 2, PIXELS = SIDE * SIDE * CHANNELS };

static const char *const nets[] = {
    "maxpool:2,flatten,dense:3",
    "maxpool:3:s2:same,flatten,dense:3",
    "residual(maxpool:3:s1:same),flatten,dense:3",
    "avgpool:3:s2:same,flatten,dense:3",
    "leakyrelu,globalavgpool,dense:3",
    "lstm:5,dense:3",
    "batchnorm,relu,flatten,dense:3",
    "batchnorm:sync,leakyrelu:0,flatten,dense:3",
    "flatten,dense:17,batchnorm,relu,dense:3",
    "conv:16:3:same,relu,conv:16:3:same,relu,maxpool:2,flatten,dense:3",
    "conv:16:3:same,residual(conv:16:3:same,batchnorm,relu),maxpool:2:s1,globalavgpool,dense:3",
};

static double loss_of(rig *r, const float *x) {
    static const uint8_t label[ROWS] = {2, 0};
    rig_gradient(r, x, label, ROWS, 0.5F);
    return r->loss[0];
}

/* Every pixel of the second image in turn. */
static void each_pixel(rig *r, float *x, const char *name) {
    for (int i = PIXELS; i < ROWS * PIXELS; i++) {
        const float before = x[i];
        x[i] = NAN;
        if (!isnan(loss_of(r, x)))
            fail_msg("%s: NaN in value %d of an image does not reach the loss", name, i - PIXELS);
        x[i] = before;
    }
}

/* The first, the middle and the last element of every array that the forward pass reads. */
static void each_array(rig *r, const float *x, const char *name) {
    for (int a = 0; a < mnd_model_n_array(r->model); a++) {
        const mnd_array_info info = mnd_model_array(r->model, a);
        if (strcmp(info.name, "moving_variance") == 0) continue; /* in training nobody reads it */
        for (size_t part = 0; part < 3; part++) {
            float *const value = r->param + info.offset + part * (info.count - 1) / 2;
            const float before = *value;
            *value = NAN;
            if (!isnan(loss_of(r, x)))
                fail_msg("%s: NaN in %s of layer %d does not reach the loss", name, info.name,
                         info.layer);
            *value = before;
        }
    }
}

static void reaches_the_loss(void **state) {
    (void)state;
    float x[ROWS * PIXELS];
    mnd_rng rng;
    mnd_rng_start(&rng, 11, MND_RNG_TEST, 0, 0);
    for (int i = 0; i < ROWS * PIXELS; i++) x[i] = mnd_rng_uniform(&rng);
    for (size_t n = 0; n < sizeof nets / sizeof nets[0]; n++)
        for (int plain = 0; plain < 2; plain++) {
            char name[128];
            rig r;
            snprintf(name, sizeof name, "%s (%s)", nets[n], plain ? "plain" : "fast");
            rig_open(&r, nets[n], (mnd_shape){3, {SIDE, SIDE, CHANNELS}}, CLASSES, ROWS, plain);
            mnd_model_initialize(r.model, MND_INIT_GLOROT, 1);
            assert_true(isfinite(loss_of(&r, x)));
            each_pixel(&r, x, name);
            each_array(&r, x, name);
            assert_true(isfinite(loss_of(&r, x)));
            rig_close(&r);
        }
}

/* Layers that are computed in one, too, and more rows than a tile has. */
static void from_whole_arrays(void **state) {
    (void)state;
    enum { MOST = 40, WIDEST = 28 * 28, OUTPUTS = 4 };
    static const struct {
        const char *spec;
        mnd_shape input;
        int rows;
    } net[] = {
        {"dense:6,relu,dense:4", {1, {5}}, 3},
        {"dense:20,relu,dense:4", {1, {5}}, MOST},
        {"dense:6,sigmoid,dense:4", {1, {5}}, 3},
        {"dense:6,tanh,dense:4", {1, {5}}, 3},
        {"conv:3:3,maxpool:2,flatten,dense:4", {3, {8, 8, 1}}, 3},
        {"conv:3:3,relu,maxpool:2,flatten,dense:4", {3, {8, 8, 1}}, 3},
        {"conv:3:3,maxpool:2,relu,flatten,dense:4", {3, {8, 8, 1}}, 3},
        {"conv:3:3,tanh,maxpool:2,flatten,dense:4", {3, {8, 8, 1}}, 3},
        {"conv:3:3:same,avgpool:3:s2,flatten,dense:4", {3, {8, 8, 1}}, 3},
        {"conv:28:3,maxpool:2,flatten,dense:16,relu,dense:4", {3, {28, 28, 1}}, 3},
        {"conv:3:3,maxpool:3:s2,flatten,dense:4", {3, {8, 8, 1}}, 3},
        {"conv:3:3,maxpool:3:s2:same,flatten,dense:4", {3, {8, 8, 1}}, 3},
        {"conv:3:3,leakyrelu:0,globalavgpool,dense:4", {3, {8, 8, 1}}, 3},
        {"conv:3:3,lstm:5,dense:4", {3, {8, 8, 1}}, 3},
    };
    static float x[MOST * WIDEST];
    uint8_t label[MOST];
    mnd_rng rng;
    mnd_rng_start(&rng, 11, MND_RNG_TEST, 0, 1);
    for (int i = 0; i < MOST * WIDEST; i++) x[i] = 2 * mnd_rng_uniform(&rng) - 1;
    for (int i = 0; i < MOST; i++) label[i] = (uint8_t)mnd_rng_below(&rng, OUTPUTS);
    for (size_t t = 0; t < sizeof net / sizeof net[0]; t++)
        for (int plain = 0; plain < 2; plain++) {
            rig r;
            rig_open(&r, net[t].spec, net[t].input, OUTPUTS, net[t].rows, plain);
            for (int a = 0; a < mnd_model_n_array(r.model); a++) {
                const mnd_array_info info = mnd_model_array(r.model, a);
                mnd_model_initialize(r.model, MND_INIT_GLOROT, 1);
                for (size_t k = 0; k < info.count; k++) r.param[info.offset + k] = NAN;
                rig_gradient(&r, x, label, net[t].rows, 1.0F);
                if (!isnan(r.loss[0]))
                    fail_msg("%s (%s): NaN in %s of layer %d does not reach the loss", net[t].spec,
                             plain ? "plain" : "fused", info.name, info.layer);
                assert_true(mnd_model_bad_array(r.model) >= 0);
            }
            mnd_model_initialize(r.model, MND_INIT_GLOROT, 1);
            rig_gradient(&r, x, label, net[t].rows, 1.0F);
            assert_int_equal(mnd_model_bad_array(r.model), -1);
            const float last = x[r.in - 1], middle = x[r.in / 2];
            x[r.in - 1] = x[r.in / 2] = NAN;
            rig_gradient(&r, x, label, net[t].rows, 1.0F);
            if (!isnan(r.loss[0]))
                fail_msg("%s (%s): NaN in the input does not reach the loss", net[t].spec,
                         plain ? "plain" : "fused");
            x[r.in - 1] = last, x[r.in / 2] = middle;
            rig_close(&r);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(reaches_the_loss),
                                       cmocka_unit_test(from_whole_arrays)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
