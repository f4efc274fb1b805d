/*
 * A layer's bits do not depend on the kinds of its neighbours: a model, in which layers are fused
 * where they can be, gives the bits that its layers give one by one, each alone with its inputs.
 */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>

#include "mnist_dist/layer.h"
#include "mnist_dist/rng.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

enum { ROWS = 21, MOST = 16, SEED = 5, EPOCH = 2 };

static const int start[4] = {0, 8, 8, ROWS}, subtree[3] = {0, 2, 3};
static const mnd_segments seg = {.n_seg = 3, .start = start, .n_subtree = 2, .subtree = subtree};

/* A layer by itself, with arrays and memory of its own. */
typedef struct alone {
    mnd_layer layer;
    mnd_workers workers;
    float *grad;
    size_t n_param;
} alone;

static void open_alone(alone *a, const char *text, int index, mnd_shape in, const float *param) {
    char kind[MND_LAYER_TEXT];
    mnd_layer *l = &a->layer;
    *a = (alone){.layer = {.index = index, .in = in}};
    snprintf(l->text, sizeof l->text, "%s", text);
    snprintf(kind, sizeof kind, "%s", text);
    char *at = strtok(kind, ":");
    l->ops = mnd_layer_find(at);
    assert_non_null(l->ops);
    while ((at = strtok(NULL, ":")) != NULL)
        snprintf(l->args.word[l->args.n++], MND_LAYER_WORD, "%s", at);
    l->self = rig_alloc(l->ops->self_size, 1);
    const mnd_plan plan = {.kernels = mnd_kernels_fast(),
                           .rows = ROWS,
                           .max_seg = seg.n_seg,
                           .threads = 1,
                           .training = true};
    rig_ok(l->ops->plan(l, &plan), text);
    l->state = rig_alloc(l->state_size, 1);
    l->y = rig_alloc(ROWS * mnd_shape_size(&l->out), sizeof(float));
    a->workers = (mnd_workers){.threads = 1, .each = (l->scratch + 15) / 16 * 16};
    a->workers.scratch = rig_alloc(a->workers.each, sizeof(float));
    for (int i = 0; i < l->n_array; i++) {
        mnd_array *array = &l->array[i];
        array->count = 1;
        for (int d = 0; d < array->ndim; d++) array->count *= (size_t)array->dim[d];
        array->offset = a->n_param;
        a->n_param += array->count;
    }
    a->grad = rig_alloc(2 * a->n_param, sizeof(float));
    for (int i = 0; i < l->n_array; i++) {
        l->array[i].value = (float *)(uintptr_t)(param + l->array[i].offset);
        l->array[i].grad = a->grad + l->array[i].offset;
    }
}

static void close_alone(alone *a) {
    mnd_free(a->layer.self), mnd_free(a->layer.state), mnd_free(a->layer.y);
    mnd_free(a->workers.scratch), mnd_free(a->grad);
}

static mnd_pass pass_of(const alone *a, const mnd_batch *batch) {
    return (mnd_pass){.kernels = mnd_kernels_fast(),
                      .workers = &a->workers,
                      .rows = ROWS,
                      .seg = &seg,
                      .batch = batch,
                      .grad_stride = a->n_param};
}

/* Forward and backward through layers alone; grad (2, n_param) as the model's two subtrees. */
static void one_by_one(alone *layer, int n, const float *x, const mnd_batch *batch, float *grad,
                       size_t n_param, double *loss) {
    const float *in[MOST];
    int first = 0;
    while (layer[first].n_param == 0) first++;
    for (int i = 0; i < n; i++) {
        const mnd_pass pass = pass_of(&layer[i], batch);
        in[i] = i == 0 ? x : layer[i - 1].layer.y;
        mnd_layer *l = &layer[i].layer;
        if (l->ops->forward != NULL)
            l->ops->forward(l, &pass, in[i], l->y);
        else
            memcpy(l->y, in[i], ROWS * mnd_shape_size(&l->in) * sizeof *x);
    }
    const int classes = layer[n - 1].layer.out.dim[0];
    float *dy = rig_alloc((size_t)(ROWS * classes), sizeof *dy);
    for (int s = 0; s < seg.n_seg; s++) {
        int64_t correct = 0;
        const ptrdiff_t at = (ptrdiff_t)start[s] * classes;
        loss[s] =
            mnd_cross_entropy(layer[n - 1].layer.y + at, batch->label + start[s],
                              start[s + 1] - start[s], classes, batch->scale, dy + at, &correct);
    }
    size_t end = n_param;
    for (int i = n - 1; i >= first; i--) {
        const mnd_pass pass = pass_of(&layer[i], batch);
        mnd_layer *l = &layer[i].layer;
        float *dx = rig_alloc(ROWS * mnd_shape_size(&l->in), sizeof *dx);
        if (l->ops->backward != NULL)
            l->ops->backward(l, &pass, in[i], l->y, dy, i > first ? dx : NULL);
        else
            memcpy(dx, dy, ROWS * mnd_shape_size(&l->in) * sizeof *dx);
        end -= layer[i].n_param;
        for (size_t t = 0; t < 2; t++)
            memcpy(grad + t * n_param + end, layer[i].grad + t * layer[i].n_param,
                   layer[i].n_param * sizeof *grad);
        mnd_free(dy);
        dy = dx;
    }
    mnd_free(dy);
}

static void compare(const char *const *text, int n, mnd_shape input) {
    char spec[256] = "";
    for (int i = 0; i < n; i++)
        snprintf(spec + strlen(spec), sizeof spec - strlen(spec), "%s%s", i > 0 ? "," : "",
                 text[i]);
    rig r;
    const mnd_model_options options = {
        .max_rows = ROWS, .max_seg = seg.n_seg, .training = true, .threads = 1};
    rig_open_with(&r, spec, input, 5, &options, 2);
    mnd_model_initialize(r.model, MND_INIT_HE, 3);
    mnd_rng rng;
    mnd_rng_start(&rng, 7, MND_RNG_TEST, (uint32_t)r.n_param, 0);
    for (int a = 0; a < mnd_model_n_array(r.model); a++) {
        const mnd_array_info info = mnd_model_array(r.model, a);
        for (size_t i = 0; i < info.count && strcmp(info.name, "bias") == 0; i++)
            r.param[info.offset + i] = 0.2F * mnd_rng_normal(&rng);
    }
    float *x = rig_alloc(ROWS * r.in, sizeof *x);
    for (size_t i = 0; i < ROWS * r.in; i++)
        x[i] = mnd_rng_below(&rng, 3) ? mnd_rng_uniform(&rng) : 0.0F;
    uint8_t label[ROWS];
    uint32_t sample[ROWS];
    for (int i = 0; i < ROWS; i++) {
        label[i] = (uint8_t)mnd_rng_below(&rng, 5);
        sample[i] = mnd_rng_below(&rng, 60000);
    }
    const mnd_batch batch = {.seg = &seg,
                             .label = label,
                             .sample = sample,
                             .seed = SEED,
                             .epoch = EPOCH,
                             .scale = 1.0F / ROWS};
    rig_gradient_batch(&r, x,
                       (mnd_batch){.seg = &seg,
                                   .label = label,
                                   .sample = sample,
                                   .scale = batch.scale,
                                   .seed = SEED,
                                   .epoch = EPOCH});

    alone layer[MOST];
    mnd_shape shape = input;
    const float *param = r.param;
    for (int i = 0; i < n; i++) {
        open_alone(&layer[i], text[i], i, shape, param);
        shape = layer[i].layer.out;
        param += layer[i].n_param;
    }
    float *grad = rig_alloc(2 * r.n_param, sizeof *grad);
    double loss[3];
    one_by_one(layer, n, x, &batch, grad, r.n_param, loss);
    assert_memory_equal(loss, r.loss, sizeof loss);
    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; i < r.n_param; i++)
            if (memcmp(&grad[t * r.n_param + i], &r.grad[t * r.stride + i], sizeof *grad) != 0)
                fail_msg("%s: gradient %zu of subtree %zu is %a, alone %a", spec, i, t,
                         (double)r.grad[t * r.stride + i], (double)grad[t * r.n_param + i]);
    for (int i = 0; i < n; i++) close_alone(&layer[i]);
    mnd_free(grad), mnd_free(x);
    rig_close(&r);
}

/* Every layer between every two others. */
static void images(void **state) {
    (void)state;
    static const char *const kind[] = {
        "conv:6:3", "conv:17:2:s2:same", "maxpool:2", "maxpool:2:same", "avgpool:2", "dropout:0.3",
        "relu",     "leakyrelu",         "tanh",      "sigmoid"};
    for (size_t a = 0; a < COUNT(kind); a++)
        for (size_t b = 0; b < COUNT(kind); b++)
            for (size_t c = 0; c < COUNT(kind); c++) {
                const char *const text[] = {kind[a], kind[b], kind[c], "flatten", "dense:5"};
                compare(text, 5, (mnd_shape){3, {15, 16, 2}});
            }
}

static void flat(void **state) {
    (void)state;
    static const char *const kind[] = {"dense:96", "dense:256", "dropout:0.3",
                                       "relu",     "tanh",      "flatten"};
    for (size_t a = 0; a < COUNT(kind); a++)
        for (size_t b = 0; b < COUNT(kind); b++)
            for (size_t c = 0; c < COUNT(kind); c++) {
                const char *const text[] = {kind[a], kind[b], kind[c], "dense:5"};
                compare(text, 4, (mnd_shape){1, {300}});
            }
}

/* The combination that the presets are made of, at their sizes. */
static void presets(void **state) {
    (void)state;
    static const char *const cnn[] = {"conv:28:3", "maxpool:2",   "flatten", "dense:128",
                                      "relu",      "dropout:0.2", "dense:5"};
    static const char *const cnn2[] = {"conv:16:3", "relu",      "maxpool:2", "conv:32:3",
                                       "relu",      "maxpool:2", "flatten",   "dense:5"};
    static const char *const mlp[] = {"flatten",   "dense:512", "relu",
                                      "dense:512", "relu",      "dense:5"};
    compare(cnn, 7, (mnd_shape){3, {28, 28, 1}});
    compare(cnn2, 8, (mnd_shape){3, {28, 28, 1}});
    static const char *const global[] = {"conv:16:3", "relu", "maxpool:2:same", "globalavgpool",
                                         "dense:5"};
    compare(mlp, 6, (mnd_shape){3, {28, 28, 1}});
    static const char *const norm[] = {"conv:6:3",  "batchnorm", "relu",      "conv:65:3",
                                       "relu",      "batchnorm", "maxpool:2", "conv:16:1",
                                       "batchnorm", "relu",      "flatten",   "dense:37",
                                       "batchnorm", "relu",      "dense:5"};
    compare(norm, COUNT(norm), (mnd_shape){3, {13, 12, 1}});
    static const char *const sequence[] = {"conv:16:3", "relu", "lstm:24", "relu", "dense:5"};
    compare(sequence, 5, (mnd_shape){3, {13, 12, 1}});
    compare(global, 5, (mnd_shape){3, {27, 28, 1}});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images),
        cmocka_unit_test(flat),
        cmocka_unit_test(presets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
