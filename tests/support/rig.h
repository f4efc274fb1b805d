/* rig.h - a model with buffers of its own around it, for tests. Failures are cmocka's. */
#ifndef MND_RIG_H
#define MND_RIG_H

#include "test.h"

#include <math.h>
#include <string.h>

#include "mnist_dist/kernels.h"
#include "mnist_dist/loops.h"
#include "mnist_dist/loss.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/model.h"
#include "mnist_dist/optimizer.h"

#define RIG_GUARD 16 /* floats behind each gradient that nobody may touch */
#define RIG_MAX_SEG 64

typedef struct rig {
    mnd_model *model;
    float *param, *grad;
    size_t n_param, stride; /* stride between the parts of grad */
    size_t in;              /* elements of one sample */
    int classes, max_rows, max_part;
    mnd_segments rows; /* of the last rig_gradient */
    double loss[RIG_MAX_SEG];
    int64_t correct[RIG_MAX_SEG];
} rig;

static inline void rig_ok(mnd_status status, const char *what) {
    if (status != MND_OK) fail_msg("%s: %s: %s", what, mnd_status_name(status), mnd_error());
}

static inline void *rig_alloc(size_t count, size_t size) {
    void *p = NULL;
    rig_ok(mnd_alloc(&p, count, size, "a test"), "mnd_alloc");
    return p;
}

static inline void rig_open_with(rig *r, const char *spec, mnd_shape input, int classes,
                                 const mnd_model_options *options, int max_part) {
    *r = (rig){.classes = classes, .max_rows = options->max_rows, .max_part = max_part};
    rig_ok(mnd_model_create(spec, &input, classes, options, &r->model), spec);
    r->in = mnd_shape_size(&input);
    r->n_param = mnd_model_n_param(r->model);
    r->stride = (r->n_param + RIG_GUARD + 15) / 16 * 16;
    r->param = rig_alloc(r->n_param, sizeof(float));
    r->grad = rig_alloc(r->stride * (size_t)max_part, sizeof(float));
    mnd_model_bind(r->model, r->param, options->training ? r->grad : NULL, r->stride);
}

/* A model for training with up to max_rows rows in up to RIG_MAX_SEG segments and two parts. */
static inline void rig_open(rig *r, const char *spec, mnd_shape input, int classes, int max_rows,
                            bool plain) {
    const mnd_model_options options = {.max_rows = max_rows,
                                       .max_seg = RIG_MAX_SEG,
                                       .training = true,
                                       .plain = plain,
                                       .threads = 1};
    rig_open_with(r, spec, input, classes, &options, 2);
}

static inline void rig_close(rig *r) {
    mnd_model_destroy(&r->model);
    assert_null(r->model);
    mnd_free(r->param);
    mnd_free(r->grad);
}

/*
 * One gradient. Every gradient buffer is filled with NaN before, so that what the model does not
 * write shows, and what lies behind it must stay. Without sample numbers these are 0, 1, 2 ...
 */
static inline void rig_gradient_batch(rig *r, const float *x, mnd_batch batch) {
    const mnd_segments *rows = batch.seg;
    const int n = rows->start[rows->n_seg];
    assert_true(n <= r->max_rows && rows->n_subtree <= r->max_part && rows->n_seg <= RIG_MAX_SEG);
    for (size_t i = 0; i < r->stride * (size_t)rows->n_subtree; i++) r->grad[i] = NAN;
    memcpy(mnd_model_input(r->model), x, (size_t)n * r->in * sizeof *x);
    uint32_t counted[1024];
    assert_true(n <= 1024);
    for (int i = 0; i < n; i++) counted[i] = (uint32_t)i;
    if (!batch.sample) batch.sample = counted;
    for (int s = 0; s < RIG_MAX_SEG; s++) r->loss[s] = NAN, r->correct[s] = -1;
    mnd_model_gradient(r->model, &batch, r->loss, r->correct);
    for (int p = 0; p < rows->n_subtree; p++)
        for (size_t i = r->n_param; i < r->stride; i++)
            assert_true(isnan(r->grad[(size_t)p * r->stride + i]));
}

/* The same with all n rows in one segment and one part. */
static inline void rig_gradient(rig *r, const float *x, const uint8_t *label, int n, float scale) {
    const int start[2] = {0, n}, part[2] = {0, 1};
    const mnd_segments rows = {.n_seg = 1, .start = start, .n_subtree = 1, .subtree = part};
    rig_gradient_batch(
        r, x, (mnd_batch){.seg = &rows, .label = label, .scale = scale, .seed = 1, .epoch = 1});
}

/* Logits of n rows, (n, classes). */
static inline const float *rig_forward(rig *r, const float *x, int n) {
    memcpy(mnd_model_input(r->model), x, (size_t)n * r->in * sizeof *x);
    return mnd_model_forward(r->model, n);
}

/* Step t of an optimizer on n parameters. */
static inline void rig_optimize(const mnd_optimizer *opt, double lr, int64_t t, size_t n,
                                float *param, const float *grad, float *const *slot) {
    mnd_step_size step;
    mnd_bit_sum sum = {0};
    mnd_slice s = {.count = n, .param = param, .grad = grad, .sum = &sum};
    for (int i = 0; i < opt->ops->n_slot; i++) s.slot[i] = slot[i];
    opt->ops->prepare(opt, lr, t, &step);
    opt->ops->apply(&step, &s);
}

/*
 * The largest difference between n numbers and what they should be, relative to the greater of the
 * expected number and the root mean square of all expected numbers: an element that is a small
 * rest of large terms cannot be better than they are.
 */
static inline double rig_error(const float *got, const double *want, size_t n) {
    double square = 0, worst = 0;
    for (size_t i = 0; i < n; i++) square += want[i] * want[i];
    const double rms = sqrt(square / (double)(n ? n : 1));
    for (size_t i = 0; i < n; i++) {
        const double difference = fabs((double)got[i] - want[i]);
        if (difference == 0) continue;
        const double error = difference / fmax(fmax(fabs(want[i]), rms), 1e-30);
        if (!(error <= worst)) worst = error; /* NaN counts as worst */
        if (isnan(worst)) return INFINITY;
    }
    return worst;
}

/* Euclidean length of the difference, relative to that of `want`. */
static inline double rig_distance(const float *got, const float *want, size_t n) {
    double difference = 0, length = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)got[i] - (double)want[i];
        difference += d * d;
        length += (double)want[i] * (double)want[i];
    }
    return difference == 0 ? 0 : sqrt(difference / length);
}

static inline double rig_error_f(const float *got, const float *want, size_t n) {
    double *exact = rig_alloc(n, sizeof *exact);
    for (size_t i = 0; i < n; i++) exact[i] = (double)want[i];
    const double error = rig_error(got, exact, n);
    mnd_free(exact);
    return error;
}

/* Fails, naming what, unless the error is at most the limit. */
static inline void rig_within(double error, double limit, const char *what, const char *detail) {
    if (!(error <= limit)) fail_msg("%s, %s: error %.3g, limit %.3g", what, detail, error, limit);
}

#endif
