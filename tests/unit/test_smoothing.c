/*
 * Label smoothing in a model: loss and gradient of a batch are those of (1 - X) times the labels
 * and X / classes times every class, segment by segment.
 */
#include "rig.h"

#include "mnist_dist/rng.h"

enum { ROWS = 7, CLASSES = 4, IN = 5 };

static const double X = 0.3;
static const int start[] = {0, 3, 3, ROWS}, subtree[] = {0, 2, 3};
static const mnd_segments seg = {.n_seg = 3, .start = start, .n_subtree = 2, .subtree = subtree};

/* Adds weight times the losses and gradients of these labels. */
static void add(rig *r, const float *x, const uint8_t *label, double weight, double loss[3],
                double *grad) {
    rig_gradient_batch(r, x, (mnd_batch){.seg = &seg, .label = label, .scale = 0.25F});
    for (int s = 0; s < seg.n_seg; s++) loss[s] += weight * r->loss[s];
    for (int t = 0; t < 2; t++)
        for (size_t i = 0; i < r->n_param; i++)
            grad[(size_t)t * r->n_param + i] += weight * (double)r->grad[(size_t)t * r->stride + i];
}

static void mixes_all_labels(void **state) {
    (void)state;
    static const uint8_t label[ROWS] = {0, 3, 1, 1, 2, 0, 3};
    uint8_t same[ROWS];
    float x[ROWS * IN];
    mnd_rng rng;
    mnd_rng_start(&rng, 3, MND_RNG_TEST, 0, 0);
    for (int i = 0; i < ROWS * IN; i++) x[i] = mnd_rng_normal(&rng);
    rig r;
    rig_open(&r, "dense:6,tanh,dense:4", (mnd_shape){1, {IN}}, CLASSES, ROWS, false);
    mnd_model_initialize(r.model, MND_INIT_GLOROT, 1);
    double loss[3] = {0};
    double *const grad = rig_alloc(2 * r.n_param, sizeof *grad);
    add(&r, x, label, 1.0 - X, loss, grad);
    const int64_t correct[] = {r.correct[0], r.correct[1], r.correct[2]};
    for (int c = 0; c < CLASSES; c++) {
        memset(same, c, sizeof same);
        add(&r, x, same, X / CLASSES, loss, grad);
    }
    rig_gradient_batch(
        &r, x, (mnd_batch){.seg = &seg, .label = label, .scale = 0.25F, .smoothing = (float)X});
    for (int s = 0; s < seg.n_seg; s++) {
        rig_within(fabs(r.loss[s] - loss[s]) / fmax(loss[s], 1e-30), 1e-6, "loss", "segment");
        assert_int_equal(r.correct[s], correct[s]);
    }
    for (int t = 0; t < 2; t++)
        rig_within(
            rig_error(r.grad + (size_t)t * r.stride, grad + (size_t)t * r.n_param, r.n_param), 2e-6,
            "gradient", "subtree");
    mnd_free(grad);
    rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(mixes_all_labels)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
