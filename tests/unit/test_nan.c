/*
 * A single NaN, in an input pixel or an element of an array, makes the loss NaN: no layer lets a
 * broken run go on.
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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(reaches_the_loss)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
