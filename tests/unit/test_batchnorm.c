/*
 * Batch normalization against its definition in double, its gradient against central differences,
 * the running statistics, groups of any size, and the same bits whoever computes them.
 */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>

#include "mnist_dist/rng.h"
#include "naive.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define LIMIT 1e-5
#define EPSILON 1e-3

enum { MAX_GROUPS = 6 };

/* A network with one batch normalization: what is before it and behind it. */
typedef struct network {
    const char *before, *norm, *after;
    mnd_shape input, middle;
    int classes;
    int n_group, rows[MAX_GROUPS];
} network;

static const network nets[] = {
    {"dense:7", "batchnorm", "tanh,dense:4", {1, {6}}, {1, {7}}, 4, 1, {9}},
    {"dense:7", "batchnorm", "relu,dense:4", {1, {6}}, {1, {7}}, 4, 2, {9, 5}},
    {"dense:70", "batchnorm:0.5", "tanh,dense:4", {1, {6}}, {1, {70}}, 4, 5, {9, 0, 1, 2, 8}},
    {"dense:7", "batchnorm:0.75:sync", "tanh,dense:4", {1, {6}}, {1, {7}}, 4, 4, {1, 0, 5, 2}},
    {"conv:3:3",
     "batchnorm",
     "relu,flatten,dense:3",
     {3, {6, 7, 2}},
     {3, {4, 5, 3}},
     3,
     3,
     {2, 1, 3}},
    {"conv:3:3",
     "batchnorm:sync",
     "relu,flatten,dense:3",
     {3, {6, 7, 2}},
     {3, {4, 5, 3}},
     3,
     3,
     {2, 1, 3}},
    {"conv:65:1",
     "batchnorm",
     "tanh,avgpool:4,flatten,dense:3",
     {3, {9, 9, 3}},
     {3, {9, 9, 65}},
     3,
     2,
     {2, 2}},
    {"conv:1:1",
     "batchnorm",
     "tanh,avgpool:7,flatten,dense:3",
     {3, {40, 29, 3}},
     {3, {40, 29, 1}},
     3,
     2,
     {5, 4}},
    {"conv:16:1",
     "batchnorm:0",
     "tanh,avgpool:10,flatten,dense:3",
     {3, {21, 23, 3}},
     {3, {21, 23, 16}},
     3,
     2,
     {3, 2}},
};

typedef struct sample {
    int rows, start[MAX_GROUPS + 1];
    float *x, *param;
    double *x64, *param64;
    uint8_t *label;
} sample;

/* Where the parameters of the parts begin. */
typedef struct parts {
    naive_net before, after;
    size_t norm, behind, n_param;
    int c, size; /* channels, elements of a row of the middle */
} parts;

static void parts_open(parts *p, const network *n) {
    p->size = (int)mnd_shape_size(&n->middle);
    p->c = n->middle.dim[n->middle.ndim - 1];
    naive_open(&p->before, n->before, n->input, p->size);
    naive_open(&p->after, n->after, n->middle, n->classes);
    p->norm = p->before.n_param;
    p->behind = p->norm + 4 * (size_t)p->c;
    p->n_param = p->behind + p->after.n_param;
}

static void parts_close(parts *p) { naive_close(&p->before), naive_close(&p->after); }

static void text_of(const network *n, char *out, size_t size) {
    snprintf(out, size, "%s,%s,%s", n->before, n->norm, n->after);
}

static sample sample_open(const network *n, const parts *p) {
    sample s = {0};
    mnd_rng rng;
    mnd_rng_start(&rng, 77, MND_RNG_TEST, (uint32_t)p->n_param, 0);
    for (int g = 0; g < n->n_group; g++) s.start[g + 1] = s.start[g] + n->rows[g];
    s.rows = s.start[n->n_group];
    const size_t values = p->before.in * (size_t)s.rows;
    s.x = rig_alloc(values, sizeof *s.x), s.x64 = rig_alloc(values, sizeof *s.x64);
    s.param = rig_alloc(p->n_param, sizeof *s.param);
    s.param64 = rig_alloc(p->n_param, sizeof *s.param64);
    s.label = rig_alloc((size_t)s.rows, 1);
    for (size_t i = 0; i < values; i++)
        s.x64[i] = (double)(s.x[i] = 2.0F * mnd_rng_uniform(&rng) - 0.5F);
    for (size_t i = 0; i < p->n_param; i++) {
        float v = 1.2F * mnd_rng_uniform(&rng) - 0.6F;
        if (i >= p->norm && i < p->norm + (size_t)p->c) v += 1.0F;     /* gamma */
        if (i >= p->behind - (size_t)p->c && i < p->behind) v += 1.0F; /* moving_variance */
        s.param64[i] = (double)(s.param[i] = v);
    }
    for (int i = 0; i < s.rows; i++)
        s.label[i] = (uint8_t)mnd_rng_below(&rng, (uint32_t)n->classes);
    return s;
}

static void sample_close(sample *s) {
    mnd_free(s->x), mnd_free(s->x64), mnd_free(s->param), mnd_free(s->param64), mnd_free(s->label);
}

static bool is_sync(const network *n) { return strstr(n->norm, "sync") != NULL; }

static double momentum_of(const network *n) {
    const char *colon = strchr(n->norm, ':');
    return colon != NULL && colon[1] != 's' ? atof(colon + 1) : 0.9;
}

/* Mean and variance of channel c of rows [first, last) of the middle. */
static void statistics(const parts *p, const double *h, int first, int last, int c, double *mean,
                       double *variance) {
    double sum = 0, square = 0;
    int n = 0;
    for (int i = first * p->size + c; i < last * p->size; i += p->c, n++) sum += h[i];
    *mean = n > 0 ? sum / n : 0;
    for (int i = first * p->size + c; i < last * p->size; i += p->c)
        square += (h[i] - *mean) * (h[i] - *mean);
    *variance = n > 0 ? square / n : 0;
}

/*
 * The sum of the losses. z (rows, classes) gets the logits, unless NULL; moved (2, c) what the
 * running statistics become more, unless NULL. inference: by the running statistics.
 */
static double definition(const network *n, parts *p, const sample *s, bool inference, double *z,
                         double *moved) {
    const double *param = s->param64, *norm = param + p->norm;
    double *h = rig_alloc((size_t)s->rows * (size_t)p->size, sizeof *h);
    for (int i = 0; i < s->rows; i++)
        memcpy(h + i * p->size,
               naive_forward(&p->before, param, s->x64 + (size_t)i * p->before.in, i),
               (size_t)p->size * sizeof *h);
    double *y = rig_alloc((size_t)s->rows * (size_t)p->size, sizeof *y);
    for (int g = 0; g < n->n_group; g++)
        for (int c = 0; c < p->c; c++) {
            double mean = norm[2 * p->c + c], variance = norm[3 * p->c + c], m, v;
            const int first = s->start[g], last = s->start[g + 1];
            statistics(p, h, is_sync(n) ? 0 : first, is_sync(n) ? s->rows : last, c, &m, &v);
            const double weight = (1 - momentum_of(n)) * (last - first) / s->rows;
            if (moved) moved[c] += weight * (m - mean), moved[p->c + c] += weight * (v - variance);
            if (!inference) mean = m, variance = v;
            for (int i = first * p->size + c; i < last * p->size; i += p->c)
                y[i] = norm[c] * (h[i] - mean) / sqrt(variance + EPSILON) + norm[p->c + c];
        }
    double loss = 0;
    for (int i = 0; i < s->rows; i++) {
        const double *out = naive_forward(&p->after, param + p->behind, y + i * p->size, i);
        if (z) memcpy(z + i * n->classes, out, (size_t)n->classes * sizeof *z);
        loss += naive_loss(out, n->classes, s->label[i]);
    }
    mnd_free(h), mnd_free(y);
    return loss;
}

/* One gradient of the model: all groups in one segment, or each a segment of its own. */
static void model_gradient(rig *r, const network *n, const sample *s, bool one_segment) {
    const int whole[2] = {0, s->rows}, part[2] = {0, one_segment ? 1 : n->n_group};
    const mnd_segments seg = {
        .n_seg = part[1], .start = one_segment ? whole : s->start, .n_subtree = 1, .subtree = part};
    rig_gradient_batch(r, s->x,
                       (mnd_batch){.seg = &seg,
                                   .label = s->label,
                                   .seed = 1,
                                   .epoch = 1,
                                   .scale = 1.0F / (float)s->rows,
                                   .group = one_segment ? s->start : NULL,
                                   .n_group = one_segment ? n->n_group : 0});
}

static void open_model(rig *r, const network *n, const sample *s, bool plain, int threads) {
    char spec[256];
    text_of(n, spec, sizeof spec);
    const mnd_model_options options = {.max_rows = s->rows + 1,
                                       .max_seg = n->n_group,
                                       .max_group = n->n_group,
                                       .training = true,
                                       .plain = plain,
                                       .threads = threads};
    rig_open_with(r, spec, n->input, n->classes, &options, 1);
    memcpy(r->param, s->param, r->n_param * sizeof *r->param);
}

/* Central differences of the definition, and what the running statistics become more. Where the
   second difference shows a kink, `got` counts as right. */
static void expected_gradient(const network *n, parts *p, sample *s, const float *got,
                              double *want) {
    const double h = 1e-5, at = definition(n, p, s, false, NULL, want + p->norm + 2 * p->c);
    size_t kinks = 0;
    for (size_t k = 0; k < p->n_param; k++) {
        if (k >= p->norm + 2 * (size_t)p->c && k < p->behind) continue;
        const double w = s->param64[k];
        s->param64[k] = w + h;
        const double up = definition(n, p, s, false, NULL, NULL);
        s->param64[k] = w - h;
        const double down = definition(n, p, s, false, NULL, NULL);
        s->param64[k] = w;
        const bool kink = fabs(up - 2 * at + down) > 2e4 * h * h;
        want[k] = kink ? (double)got[k] : (up - down) / (2 * h) / s->rows;
        kinks += kink;
    }
    assert_true(kinks * 10 <= p->n_param);
}

static void against_definition(void **state) {
    (void)state;
    for (size_t t = 0; t < COUNT(nets); t++) {
        const network *n = &nets[t];
        /* Valgrind takes a hundred times as long: it gets the small ones. */
        if (getenv("MND_VALGRIND") != NULL && mnd_shape_size(&n->middle) > 5000) continue;
        parts p;
        parts_open(&p, n);
        sample s = sample_open(n, &p);
        const size_t n_logit = (size_t)s.rows * (size_t)n->classes;
        double *z = rig_alloc(n_logit, sizeof *z), *want = rig_alloc(p.n_param, sizeof *want);
        for (int how = 0; how < 4; how++) {
            char what[256];
            text_of(n, what, sizeof what);
            rig r;
            open_model(&r, n, &s, how % 2 == 1, 1);
            assert_int_equal(r.n_param, p.n_param);
            model_gradient(&r, n, &s, how >= 2);
            if (how == 0) expected_gradient(n, &p, &s, r.grad, want);
            const double loss = definition(n, &p, &s, false, NULL, NULL);
            double got = 0;
            for (int i = 0; i < (how >= 2 ? 1 : n->n_group); i++) got += r.loss[i];
            rig_within(fabs(got - loss) / loss, LIMIT, what, "loss");
            for (int a = 0; a < mnd_model_n_array(r.model); a++) {
                const mnd_array_info info = mnd_model_array(r.model, a);
                /* A bias before the normalization changes nothing: its gradient is rounding. */
                if (info.layer == 0 && strcmp(info.name, "bias") == 0) continue;
                char detail[64];
                snprintf(detail, sizeof detail, "gradient of %s of layer %d (%d)", info.name,
                         info.layer, how);
                rig_within(rig_error(r.grad + info.offset, want + info.offset, info.count),
                           2 * LIMIT, what, detail);
            }
            (void)definition(n, &p, &s, true, z, NULL);
            rig_within(rig_error(rig_forward(&r, s.x, s.rows), z, n_logit), LIMIT, what,
                       "logits by the running statistics");
            rig_close(&r);
        }
        mnd_free(z), mnd_free(want);
        sample_close(&s);
        parts_close(&p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
