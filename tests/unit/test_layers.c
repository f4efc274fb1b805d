/*
 * Every layer, plain and fused, against its definition in double (naive.h), the definition's own
 * gradient against central differences, and the worked examples of the classic tutorials.
 */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>

#include "mnist_dist/rng.h"
#include "naive.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define LIMIT 1e-5

typedef enum fill { NOISE, DIGIT } fill;

typedef struct network {
    const char *spec;
    mnd_shape input;
    int classes, rows;
    fill fill;
} network;

/* Small enough for a difference quotient of every parameter. */
static const network tiny[] = {
    {"dense:4", {1, {6}}, 4, 5, NOISE},
    {"dense:7,relu,dense:4", {1, {6}}, 4, 5, NOISE},
    {"dense:7,sigmoid,dense:5,tanh,dense:4", {1, {6}}, 4, 5, NOISE},
    {"conv:3:3,flatten,dense:3", {3, {6, 5, 2}}, 3, 3, NOISE},
    {"conv:3:3:s2:same,flatten,dense:3", {3, {6, 7, 2}}, 3, 3, NOISE},
    {"conv:2:2x3,relu,conv:3:3x2:same,flatten,dense:3", {3, {6, 6, 1}}, 3, 3, NOISE},
    {"conv:3:3,maxpool:2,flatten,dense:3", {3, {7, 6, 1}}, 3, 3, NOISE},
    {"conv:3:3,relu,maxpool:2,flatten,dense:3", {3, {7, 9, 1}}, 3, 3, NOISE},
    {"conv:3:2,maxpool:3:s2,relu,flatten,dense:3", {3, {8, 8, 1}}, 3, 3, NOISE},
    {"conv:3:2,tanh,maxpool:2:s1,flatten,dense:3", {3, {5, 5, 1}}, 3, 3, NOISE},
    {"conv:3:2:same,avgpool:2,flatten,dense:3", {3, {5, 6, 1}}, 3, 3, NOISE},
    {"conv:3:2,sigmoid,avgpool:3:s2,flatten,dense:3", {3, {8, 6, 1}}, 3, 3, NOISE},
    {"residual(dense:6,tanh),dense:4", {1, {6}}, 4, 5, NOISE},
    {"dense:7,residual(relu),residual(dense:7,relu),dense:4", {1, {6}}, 4, 5, NOISE},
    {"residual(conv:2:3:same),relu,flatten,dense:3", {3, {5, 4, 2}}, 3, 3, NOISE},
    {"conv:3:3,residual(conv:3:3:same,relu,residual(tanh,residual(dropout:0),conv:3:2:same)),"
     "avgpool:2,flatten,residual(dense:12),dense:3",
     {3, {6, 7, 1}},
     3,
     3,
     NOISE},
    {"conv:3:2,maxpool:3:s2:same,flatten,dense:3", {3, {8, 7, 1}}, 3, 3, NOISE},
    {"conv:3:2,tanh,maxpool:2:same,conv:2:2,avgpool:2:same,flatten,dense:3",
     {3, {8, 7, 1}},
     3,
     3,
     NOISE},
    {"conv:3:2,avgpool:4:s3:same,leakyrelu,flatten,dense:3", {3, {6, 9, 1}}, 3, 3, NOISE},
    {"conv:4:2,leakyrelu:0.1,globalavgpool,dense:3", {3, {5, 6, 2}}, 3, 3, NOISE},
    {"lstm:5,dense:3", {3, {4, 3, 2}}, 3, 4, NOISE},
    {"lstm:3", {3, {1, 4, 1}}, 3, 4, NOISE},
    {"conv:3:2,tanh,lstm:4,relu,dense:3", {3, {6, 4, 1}}, 3, 3, NOISE},
    {"dense:7,leakyrelu:0,dense:5,leakyrelu:1.5,dense:4", {1, {6}}, 4, 5, NOISE},
};

/* The presets and what their fused kernels could trip over. */
static const network large[] = {
    {"mlp16", {3, {28, 28, 1}}, 10, 9, DIGIT},
    {"mlp512", {3, {28, 28, 1}}, 10, 7, DIGIT},
    {"cnn", {3, {28, 28, 1}}, 10, 5, DIGIT},
    {"cnn2", {3, {28, 28, 1}}, 10, 3, DIGIT},
    {"cnn", {3, {28, 28, 1}}, 47, 2, NOISE},
    {"cnn", {3, {32, 32, 3}}, 10, 2, NOISE},
    {"cnn", {3, {27, 29, 1}}, 10, 3, DIGIT},
    {"conv:28:3,relu,maxpool:2,flatten,dense:10", {3, {28, 28, 1}}, 10, 4, DIGIT},
    {"conv:28:3,maxpool:2,relu,flatten,dense:10", {3, {28, 28, 1}}, 10, 4, DIGIT},
    {"conv:32:5:same,relu,maxpool:2,flatten,dense:10", {3, {28, 28, 1}}, 10, 3, DIGIT},
    {"conv:17:3,sigmoid,maxpool:2,flatten,dense:10", {3, {28, 28, 1}}, 10, 3, DIGIT},
    {"conv:9:3,tanh,maxpool:2,flatten,dense:10", {3, {15, 13, 1}}, 10, 3, NOISE},
    {"conv:28:3,maxpool:3,flatten,dense:10", {3, {28, 28, 1}}, 10, 2, DIGIT},
    {"conv:28:3,maxpool:3:s2,flatten,dense:10", {3, {28, 28, 1}}, 10, 2, DIGIT},
    {"conv:28:3:s2,maxpool:2,flatten,dense:10", {3, {28, 28, 1}}, 10, 2, DIGIT},
    {"conv:28:3,relu,maxpool:2:same,flatten,dense:10", {3, {27, 28, 1}}, 10, 2, DIGIT},
    {"conv:17:4,leakyrelu,maxpool:3:same,globalavgpool,dense:10", {3, {28, 28, 1}}, 10, 3, DIGIT},
    {"lstm:32,dense:10", {3, {28, 28, 1}}, 10, 9, DIGIT},
    {"conv:9:3,relu,maxpool:2,lstm:21,dense:10", {3, {28, 28, 1}}, 10, 5, DIGIT},
    {"maxpool:5:s1:same,avgpool:30:same,flatten,dense:10", {3, {11, 10, 3}}, 10, 3, NOISE},
    {"conv:1:3,maxpool:2,flatten,dense:10", {3, {28, 28, 1}}, 10, 3, DIGIT},
    {"conv:33:3,maxpool:2,flatten,dense:10", {3, {12, 12, 1}}, 10, 3, NOISE},
    {"conv:16:3,avgpool:2,flatten,dense:10", {3, {14, 15, 1}}, 10, 3, NOISE},
    {"conv:8:3:same,relu,maxpool:2,conv:16:3:same,relu,maxpool:2,flatten,dense:32,relu,dense:10",
     {3, {28, 28, 1}},
     10,
     3,
     DIGIT},
    {"conv:6:5,tanh,avgpool:2,conv:16:5,tanh,avgpool:2,flatten,dense:120,tanh,dense:84,tanh,"
     "dense:10",
     {3, {28, 28, 1}},
     10,
     3,
     DIGIT},
    {"conv:8:3,conv:8:3,relu,conv:12:3:s2,relu,conv:12:3:s2:same,relu,flatten,dense:10",
     {3, {19, 17, 2}},
     10,
     3,
     NOISE},
    {"maxpool:2,conv:5:3,relu,maxpool:2,flatten,dense:10", {3, {21, 22, 3}}, 10, 3, NOISE},
    {"flatten,dense:33,relu,dense:31,relu,dense:17,relu,dense:10", {3, {5, 7, 1}}, 10, 70, NOISE},
    {"conv:16:3,relu,maxpool:2,residual(conv:16:3:same,relu,conv:16:3:same),relu,flatten,dense:10",
     {3, {28, 28, 1}},
     10,
     3,
     DIGIT},
};

typedef struct sample_data {
    float *x, *param;
    double *x64, *param64;
    uint8_t *label;
} sample_data;

static void data_close(sample_data *d) {
    mnd_free(d->x), mnd_free(d->param), mnd_free(d->x64), mnd_free(d->param64), mnd_free(d->label);
}

/*
 * Inputs, labels and parameters. A DIGIT is ink of 256 grey values on an exactly black ground, as
 * in MNIST; parameters are scaled by the fan-in so that deep networks neither die nor saturate.
 */
static sample_data data_open(const network *n, const naive_net *net, uint32_t variant) {
    mnd_rng rng;
    mnd_rng_start(&rng, 2024, MND_RNG_TEST, variant, (uint32_t)net->n_param);
    const size_t values = net->in * (size_t)n->rows;
    sample_data d = {.x = rig_alloc(values, sizeof(float)),
                     .param = rig_alloc(net->n_param, sizeof(float)),
                     .x64 = rig_alloc(values, sizeof(double)),
                     .param64 = rig_alloc(net->n_param, sizeof(double)),
                     .label = rig_alloc((size_t)n->rows, 1)};
    for (size_t i = 0; i < values; i++) {
        d.x[i] = 2 * mnd_rng_uniform(&rng) - 1;
        if (n->fill == DIGIT) {
            const int w = n->input.dim[1], h = n->input.dim[0];
            const int y = (int)(i % net->in) / w, x = (int)(i % net->in) % w;
            const bool ink = y > h / 5 && y < h - h / 5 && abs(x - w / 2) < 2 + y % 5;
            d.x[i] = ink ? (float)mnd_rng_below(&rng, 256) / 255.0F : 0;
        }
        d.x64[i] = (double)d.x[i];
    }
    for (int i = 0; i < net->n_layer; i++) {
        const naive_layer *l = &net->layer[i];
        if (l->kind != NAIVE_DENSE && l->kind != NAIVE_CONV && l->kind != NAIVE_LSTM) continue;
        const size_t columns = (size_t)l->oc * (l->kind == NAIVE_LSTM ? 4 : 1);
        const size_t fan = (l->bias - l->kernel) / columns;
        for (size_t k = l->kernel; k < l->bias + columns; k++) {
            const float u = 2 * mnd_rng_uniform(&rng) - 1;
            d.param[k] = k < l->bias ? 1.7F * u / sqrtf((float)fan) : 0.3F * u;
        }
    }
    for (size_t k = 0; k < net->n_param; k++) d.param64[k] = (double)d.param[k];
    for (int i = 0; i < n->rows; i++)
        d.label[i] = (uint8_t)mnd_rng_below(&rng, (uint32_t)n->classes);
    return d;
}

/* The spec with dropout taken out: its masks have a test of their own. */
static void without_dropout(const char *spec, int classes, char *out, size_t size) {
    char full[1024];
    rig_ok(mnd_model_spec(spec, classes, full, sizeof full), spec);
    for (char *at = strstr(full, ",dropout:"); at; at = strstr(full, ",dropout:")) {
        const char *end = strchr(at + 1, ',');
        memmove(at, end, strlen(end) + 1);
    }
    snprintf(out, size, "%s", full);
}

static void set_param(rig *r, const float *param) {
    memcpy(r->param, param, r->n_param * sizeof *param);
}

/* Logits and answers of all rows against the definition. */
static int64_t compare_forward(rig *r, const network *n, naive_net *net, const sample_data *d,
                               const char *what) {
    const float *logits = rig_forward(r, d->x, n->rows);
    int64_t correct = 0;
    const size_t n_logit = (size_t)n->rows * (size_t)n->classes;
    double *all = rig_alloc(n_logit, sizeof *all);
    for (int i = 0; i < n->rows; i++) {
        const double *z = naive_forward(net, d->param64, d->x64 + (size_t)i * net->in, i);
        memcpy(all + i * n->classes, z, (size_t)n->classes * sizeof *z);
        int best = 0;
        for (int k = 1; k < n->classes; k++)
            if (z[k] > z[best]) best = k;
        correct += best == d->label[i];
    }
    rig_within(rig_error(logits, all, n_logit), LIMIT, what, "logits");
    mnd_free(all);
    return correct;
}

/* Nothing of a step stays behind: the same again gives the same bits, also after a smaller batch
 * and an inference. */
static void repeat_step(rig *r, const network *n, const sample_data *d, double scale) {
    float *first = rig_alloc(r->n_param, sizeof *first);
    memcpy(first, r->grad, r->n_param * sizeof *first);
    const double first_loss = r->loss[0];
    if (n->rows > 1) rig_gradient(r, d->x, d->label, 1, 1.0F);
    (void)rig_forward(r, d->x, n->rows);
    rig_gradient(r, d->x, d->label, n->rows, (float)scale);
    assert_memory_equal(first, r->grad, r->n_param * sizeof *first);
    assert_true(first_loss == r->loss[0]);
    mnd_free(first);
}

/*
 * The error of gradients [first, first + count) when every parameter is off by half a unit in the
 * last place of a float: what float arithmetic cannot be much better than, whoever adds.
 */
static double rounding_error(naive_net *net, const sample_data *d, const network *n, double scale,
                             const double *want, size_t first, size_t count) {
    double *param = rig_alloc(net->n_param, sizeof *param);
    double *off = rig_alloc(net->n_param, sizeof *off);
    float *got = rig_alloc(count, sizeof *got);
    mnd_rng rng;
    mnd_rng_start(&rng, 8, MND_RNG_TEST, 0, 1);
    for (size_t k = 0; k < net->n_param; k++)
        param[k] = d->param64[k] * (1 + (mnd_rng_below(&rng, 2) == 0 ? -0x1p-24 : 0x1p-24));
    (void)naive_gradient(net, param, d->x64, d->label, n->rows, scale, off);
    for (size_t k = 0; k < count; k++) got[k] = (float)off[first + k];
    const double error = rig_error(got, want + first, count);
    mnd_free(got);
    mnd_free(off);
    mnd_free(param);
    return error;
}

static void compare(const network *n, bool plain) {
    char spec[1024], what[1100];
    without_dropout(n->spec, n->classes, spec, sizeof spec);
    snprintf(what, sizeof what, "%s (%s, %dx%dx%d)", spec, plain ? "plain" : "fused",
             n->input.dim[0], n->input.dim[1], n->input.dim[2]);
    naive_net net;
    naive_open(&net, spec, n->input, n->classes);
    rig r;
    rig_open(&r, spec, n->input, n->classes, n->rows, plain);
    assert_int_equal(r.n_param, net.n_param);

    /* Another draw where a rectifier or maximum depends on what float cannot tell. */
    sample_data d = {0};
    double *want = rig_alloc(net.n_param, sizeof *want);
    double loss = 0;
    const double scale = 1.0 / (n->rows + 3);
    for (uint32_t variant = 0; variant < 50; variant++) {
        data_close(&d);
        d = data_open(n, &net, variant);
        net.margin = INFINITY;
        loss = naive_gradient(&net, d.param64, d.x64, d.label, n->rows, scale, want);
        if (net.margin > 2e-7) break;
    }
    assert_true(net.margin > 2e-7);

    set_param(&r, d.param);
    const int64_t correct = compare_forward(&r, n, &net, &d, what);
    rig_gradient(&r, d.x, d.label, n->rows, (float)scale);
    rig_within(fabs(r.loss[0] - loss), LIMIT * fmax(loss, 1e-3), what, "loss");
    assert_int_equal(r.correct[0], correct);
    for (int i = 0; i < mnd_model_n_array(r.model); i++) {
        const mnd_array_info a = mnd_model_array(r.model, i);
        char detail[64];
        snprintf(detail, sizeof detail, "gradient of %s of layer %d", a.name, a.layer);
        const double error = rig_error(r.grad + a.offset, want + a.offset, a.count);
        double limit = LIMIT;
        if (error > limit) /* only a few random networks are so ill-conditioned */
            limit = fmax(limit, 10 * rounding_error(&net, &d, n, scale, want, a.offset, a.count));
        rig_within(error, limit, what, detail);
    }
    repeat_step(&r, n, &d, scale);
    mnd_free(want);
    data_close(&d);
    rig_close(&r);
    naive_close(&net);
}

/* Valgrind takes a hundred times as long: it gets the small ones. */
static bool quick(void) { return getenv("MND_VALGRIND") != NULL; }

static void definition_plain(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(tiny); i++) compare(&tiny[i], true);
    for (size_t i = 0; i < COUNT(large) && !quick(); i++) compare(&large[i], true);
}

static void definition_fused(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(tiny); i++) compare(&tiny[i], false);
    for (size_t i = 0; i < COUNT(large) && !quick(); i++) compare(&large[i], false);
}

static int between(mnd_rng *rng, int low, int high) {
    return low + (int)mnd_rng_below(rng, (uint32_t)(high - low + 1));
}

/* Appends a random convolution, its neuron and its pooling, while the picture is large enough. */
static void random_block(mnd_rng *rng, char *spec, size_t size, int *h, int *w) {
    static const char *const neuron[] = {"", "", "relu,", "leakyrelu:0.2,", "tanh,", "sigmoid,"};
    size_t n = strlen(spec);
    const int kh = between(rng, 1, *h < 5 ? *h : 5), kw = between(rng, 1, *w < 5 ? *w : 5);
    const int stride = between(rng, 1, 4) == 1 ? between(rng, 1, 3) : 1;
    const bool same = between(rng, 0, 2) == 0;
    const int filters = between(rng, 1, 36), neurons = between(rng, 0, 5);
    snprintf(spec + n, size - n, "conv:%d:%dx%d:s%d%s,%s", filters, kh, kw, stride,
             same ? ":same" : "", neuron[neurons]);
    *h = same ? (*h + stride - 1) / stride : (*h - kh) / stride + 1;
    *w = same ? (*w + stride - 1) / stride : (*w - kw) / stride + 1;
    const int least = *h < *w ? *h : *w, kind = between(rng, 0, 5);
    if (kind == 0 || least < 2) return;
    const int k = kind < 4 ? 2 : between(rng, 1, least < 4 ? least : 4);
    const int step = kind < 4 ? 2 : between(rng, 1, 4);
    const bool padded = (*h + *w) % 3 == 0;
    n = strlen(spec);
    snprintf(spec + n, size - n, "%s:%d:s%d%s,%s", kind == 5 ? "avgpool" : "maxpool", k, step,
             padded ? ":same" : "", neuron[between(rng, 0, 5)]);
    *h = padded ? (*h + step - 1) / step : (*h - k) / step + 1;
    *w = padded ? (*w + step - 1) / step : (*w - k) / step + 1;
}

/* Networks nobody thought of: sizes around every vector width and tile. */
static void random_networks(void **state) {
    (void)state;
    for (uint32_t seed = 0; seed < (quick() ? 12U : 150U); seed++) {
        mnd_rng rng;
        mnd_rng_start(&rng, 6, MND_RNG_TEST, seed, 1);
        char spec[512] = "";
        /* One draw a declarator: the order of arguments and initializers is the compiler's. */
        const int classes = between(&rng, 2, 20), rows = between(&rng, 1, 20);
        const fill content = between(&rng, 0, 1) ? DIGIT : NOISE;
        int h = between(&rng, 3, 17), w = between(&rng, 3, 17);
        const mnd_shape input = {3, {h, w, between(&rng, 1, 3)}};
        const network n = {spec, input, classes, rows, content};
        for (int blocks = between(&rng, 0, 2); blocks > 0; blocks--)
            random_block(&rng, spec, sizeof spec, &h, &w);
        strcat(spec, seed % 5 == 0 ? "globalavgpool," : "flatten,");
        for (int dense = between(&rng, 0, 2); dense > 0; dense--) {
            const size_t at = strlen(spec);
            const int width = between(&rng, 1, 150);
            const char *const neurons = between(&rng, 0, 2) ? "relu," : "tanh,";
            snprintf(spec + at, sizeof spec - at, "dense:%d,%s", width, neurons);
        }
        const size_t at = strlen(spec);
        snprintf(spec + at, sizeof spec - at, "dense:%d", n.classes);
        compare(&n, false);
        compare(&n, true);
    }
}

/*
 * (L(w + h) - L(w - h)) / 2h in double for every parameter, against the gradient of the model. A
 * step that crosses a kink shows as a second difference too large for a smooth function; such
 * parameters are few and left out.
 */
static void difference_quotients(void **state) {
    (void)state;
    const double h = 1e-5;
    for (size_t t = 0; t < COUNT(tiny); t++) {
        const network *n = &tiny[t];
        naive_net net;
        naive_open(&net, n->spec, n->input, n->classes);
        sample_data d = data_open(n, &net, 7);
        const double at = naive_gradient(&net, d.param64, d.x64, d.label, n->rows, 1, NULL);
        double *slope = rig_alloc(net.n_param, sizeof *slope);
        bool *kink = rig_alloc(net.n_param, sizeof *kink);
        size_t kinks = 0;
        for (size_t k = 0; k < net.n_param; k++) {
            const double w = d.param64[k];
            d.param64[k] = w + h;
            const double up = naive_gradient(&net, d.param64, d.x64, d.label, n->rows, 1, NULL);
            d.param64[k] = w - h;
            const double down = naive_gradient(&net, d.param64, d.x64, d.label, n->rows, 1, NULL);
            d.param64[k] = w;
            slope[k] = (up - down) / (2 * h) / n->rows;
            kink[k] = fabs(up - 2 * at + down) > 1e3 * h * h;
            kinks += kink[k];
        }
        assert_true(kinks * 20 <= net.n_param);
        for (int plain = 0; plain < 2; plain++) {
            rig r;
            rig_open(&r, n->spec, n->input, n->classes, n->rows, plain);
            set_param(&r, d.param);
            rig_gradient(&r, d.x, d.label, n->rows, 1.0F / (float)n->rows);
            for (size_t k = 0; k < net.n_param; k++)
                if (kink[k]) slope[k] = (double)r.grad[k];
            rig_within(rig_error(r.grad, slope, net.n_param), LIMIT, n->spec,
                       plain ? "difference quotients (plain)" : "difference quotients (fused)");
            rig_close(&r);
        }
        mnd_free(kink);
        mnd_free(slope);
        data_close(&d);
        naive_close(&net);
    }
}

/* A model for inference only gives the logits of a model for training. */
static void inference_model(void **state) {
    (void)state;
    for (size_t t = quick() ? COUNT(large) - 3 : 0; t < COUNT(large); t++) {
        const network *n = &large[t];
        char spec[1024];
        without_dropout(n->spec, n->classes, spec, sizeof spec);
        naive_net net;
        naive_open(&net, spec, n->input, n->classes);
        sample_data d = data_open(n, &net, 3);
        const mnd_model_options options = {.max_rows = n->rows, .max_seg = 1, .threads = 1};
        rig lean, full;
        rig_open_with(&lean, n->spec, n->input, n->classes, &options, 1);
        rig_open(&full, n->spec, n->input, n->classes, n->rows, false);
        assert_int_equal(lean.n_param, net.n_param);
        set_param(&lean, d.param), set_param(&full, d.param);
        const float *a = rig_forward(&lean, d.x, n->rows), *b = rig_forward(&full, d.x, n->rows);
        assert_memory_equal(a, b, (size_t)n->rows * (size_t)n->classes * sizeof *a);
        assert_true(mnd_model_workspace(lean.model) <= mnd_model_workspace(full.model));
        rig_close(&lean), rig_close(&full);
        data_close(&d);
        naive_close(&net);
    }
}

/*
 * The worked examples need no parameters, but a model does: a first layer that changes nothing. The
 * pooling is tried fused with it and, behind a layer between them, alone.
 */
static void tutorial_maxpool(void **state) {
    (void)state;
    /* From the course "Image Recognition with MNIST". */
    static const float picture[16] = {5, 10, 15, 10, 15, 20, 10, 12, 13, 16, 9, 8, 15, 19, 25, 20};
    static const float want[4] = {20, 15, 19, 25};
    static const char *const spec[] = {"conv:1:1,maxpool:2,flatten",
                                       "conv:1:1,relu,maxpool:2,flatten",
                                       "conv:1:1,dropout:0,maxpool:2,flatten"};
    for (size_t i = 0; i < COUNT(spec); i++)
        for (int plain = 0; plain < 2; plain++) {
            rig r;
            rig_open(&r, spec[i], (mnd_shape){3, {4, 4, 1}}, 4, 1, plain);
            assert_int_equal(r.n_param, 2);
            r.param[0] = 1;
            assert_memory_equal(rig_forward(&r, picture, 1), want, sizeof want);
            rig_close(&r);
        }
}

/* Its sharpening by convolution: a 5x5 picture with a short bright line. */
static void tutorial_sharpen(void **state) {
    (void)state;
    static const float kernel[9] = {0, -1, 0, -1, 5, -1, 0, -1, 0};
    static const float valid[9] = {-255, 1020, -255, -255, 765, -255, -255, 1020, -255};
    static const float same[25] = {0,    0, -255, 0,   0,    0, -255, 1020, -255,
                                   0,    0, -255, 765, -255, 0, 0,    -255, 1020,
                                   -255, 0, 0,    0,   -255, 0, 0};
    float picture[25] = {0};
    for (int row = 1; row <= 3; row++) picture[row * 5 + 2] = 255;
    for (int plain = 0; plain < 2; plain++) {
        rig r;
        rig_open(&r, "conv:1:3,flatten", (mnd_shape){3, {5, 5, 1}}, 9, 1, plain);
        memcpy(r.param, kernel, sizeof kernel);
        const float *out = rig_forward(&r, picture, 1);
        assert_true(out[3] == -255); /* the left of the middle row */
        for (int i = 0; i < 9; i++) assert_true(out[i] == valid[i]);
        rig_close(&r);

        rig_open(&r, "conv:1:3:same,flatten", (mnd_shape){3, {5, 5, 1}}, 25, 1, plain);
        memcpy(r.param, kernel, sizeof kernel);
        out = rig_forward(&r, picture, 1);
        for (int i = 0; i < 25; i++) assert_true(out[i] == same[i]);
        rig_close(&r);
    }
}

/* The three neurons of the slides, at values known to all; fused with a layer and alone. */
static void tutorial_neurons(void **state) {
    (void)state;
    static const float in[5] = {-1000, -1, 0, 1, 1000};
    static const struct {
        const char *name;
        double out[5];
    } neuron[] = {{"relu", {0, 0, 0, 1, 1000}},
                  {"sigmoid", {0, 0.26894142136999512, 0.5, 0.73105857863000488, 1}},
                  {"tanh", {-1, -0.76159415595576489, 0, 0.76159415595576489, 1}}};
    for (size_t i = 0; i < COUNT(neuron); i++)
        for (int variant = 0; variant < 4; variant++) {
            char spec[64];
            snprintf(spec, sizeof spec, variant & 1 ? "dense:5,%s" : "%s,dense:5", neuron[i].name);
            rig r;
            rig_open(&r, spec, (mnd_shape){1, {5}}, 5, 1, variant & 2);
            for (int k = 0; k < 5; k++) r.param[6 * k] = 1;
            const float *out = rig_forward(&r, in, 1);
            for (int k = 0; k < 5; k++)
                assert_true(fabs((double)out[k] - neuron[i].out[k]) <= 1e-6);
            rig_close(&r);
        }
}

/* Every neuron over its whole range, to a few units in the last place. */
static void neurons_are_accurate(void **state) {
    (void)state;
    enum { N = 64, ROWS = 256 };
    static const char *const spec[] = {"tanh,dense:64", "sigmoid,dense:64"};
    static float x[ROWS * N];
    for (int s = 0; s < 2; s++)
        for (int plain = 0; plain < 2; plain++) {
            rig r;
            rig_open(&r, spec[s], (mnd_shape){1, {N}}, N, ROWS, plain);
            for (int i = 0; i < N; i++) r.param[i * N + i] = 1; /* shows the neurons as they are */
            for (int i = 0; i < ROWS * N; i++) {
                const double t = (2.0 * i / (ROWS * N - 1) - 1);
                x[i] = (float)(86.5 * t * t * t);
            }
            const float *y = rig_forward(&r, x, ROWS);
            for (int i = 0; i < ROWS * N; i++) {
                const double v = (double)x[i], want = s == 0 ? tanh(v) : 1 / (1 + exp(-v));
                if (!(fabs((double)y[i] - want) <= 3e-7 * fabs(want)))
                    fail_msg("%s at %.9g: %.9g instead of %.9g", spec[s], v, (double)y[i], want);
            }
            rig_close(&r);
        }
}

/* Of equal values the first of the window is its maximum, and it alone gets the gradient. */
static void first_of_equals(void **state) {
    (void)state;
    static const char *const spec[] = {"conv:3:1x2,maxpool:2,flatten,dense:3",
                                       "conv:3:1x2,relu,maxpool:2,flatten,dense:3",
                                       "conv:3:1x2,maxpool:2:s1,flatten,dense:3"};
    /* Windows whose sums of neighbours are equal, of unequal neighbours. */
    static const float x[6] = {1, 2, 1, 0, 3, 0};
    static const uint8_t label = 1;
    for (size_t s = 0; s < COUNT(spec); s++)
        for (int plain = 0; plain < 2; plain++) {
            naive_net net;
            naive_open(&net, spec[s], (mnd_shape){3, {2, 3, 1}}, 3);
            rig r;
            rig_open(&r, spec[s], (mnd_shape){3, {2, 3, 1}}, 3, 1, plain);
            double param[64], x64[6], want[64];
            assert_true(net.n_param == r.n_param && r.n_param <= 64);
            for (size_t i = 0; i < r.n_param; i++) {
                r.param[i] = i < 6 ? 1 : (float)(i % 5) - 1.5F;
                param[i] = (double)r.param[i];
            }
            for (int i = 0; i < 6; i++) x64[i] = (double)x[i];
            (void)naive_gradient(&net, param, x64, &label, 1, 1, want);
            rig_gradient(&r, x, &label, 1, 1);
            rig_within(rig_error(r.grad, want, r.n_param), LIMIT, spec[s],
                       plain ? "equals (plain)" : "equals (fused)");
            rig_close(&r);
            naive_close(&net);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tutorial_maxpool),     cmocka_unit_test(tutorial_sharpen),
        cmocka_unit_test(tutorial_neurons),     cmocka_unit_test(neurons_are_accurate),
        cmocka_unit_test(first_of_equals),      cmocka_unit_test(definition_plain),
        cmocka_unit_test(definition_fused),     cmocka_unit_test(random_networks),
        cmocka_unit_test(difference_quotients), cmocka_unit_test(inference_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
