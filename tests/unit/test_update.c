/*
 * What happens to parameters once their gradient is summed: clipping as PyTorch does it, any number
 * of threads for the same bits, arrays that the optimizer leaves alone, the moving average of all
 * arrays, and flipped bits noticed.
 */
#include "rig.h"

#include "golden.h"
#include "mnist_dist/comm.h"
#include "mnist_dist/layer.h"
#include "mnist_dist/rng.h"
#include "update.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static const char *const names[] = {"adam", "adamw", "rmsprop", "sgd"};

/* An updater of a model on one process; tests may set updater.ema before the first step. */
typedef struct bench {
    mnd_comm *comm;
    mnd_model *model;
    mnd_exchange *exchange;
    mnd_optimizer optimizer;
    mnd_updater updater;
    float *param, *grad;
    size_t n;
} bench;

static void open_bench(bench *b, const char *spec, int inputs, int classes, const char *optimizer,
                       double clip_norm, int threads) {
    const mnd_shape input = {1, {inputs}};
    const mnd_model_options options = {.max_seg = 1, .training = true, .threads = 1};
    *b = (bench){0};
    rig_ok(mnd_comm_self(&b->comm), "comm");
    rig_ok(mnd_model_create(spec, &input, classes, &options, &b->model), spec);
    rig_ok(mnd_optimizer_default(optimizer, &b->optimizer), optimizer);
    b->n = mnd_model_n_param(b->model);
    const mnd_exchange_options wanted = {.name = "local",
                                         .logical = 1,
                                         .n_param = b->n,
                                         .n_slot = mnd_updater_n_slot(&b->optimizer, 0.5),
                                         .n_value = mnd_updater_n_value(clip_norm)};
    rig_ok(mnd_exchange_create(b->comm, &wanted, &b->exchange), "exchange");
    size_t stride;
    b->param = mnd_exchange_param(b->exchange);
    b->grad = mnd_exchange_grad(b->exchange, &stride);
    b->updater = (mnd_updater){.model = b->model,
                               .exchange = b->exchange,
                               .optimizer = &b->optimizer,
                               .clip_norm = clip_norm,
                               .threads = threads};
}

static void close_bench(bench *b) {
    mnd_exchange_destroy(&b->exchange);
    mnd_model_destroy(&b->model);
    mnd_comm_finish(&b->comm);
}

static void fill(float *v, size_t n, uint32_t which) {
    mnd_rng rng;
    mnd_rng_start(&rng, 3, MND_RNG_TEST, which, 0);
    for (size_t i = 0; i < n; i++) v[i] = mnd_rng_normal(&rng);
}

static void step(bench *b, int64_t t) {
    uint32_t flags;
    rig_ok(mnd_updater_step(&b->updater, b->optimizer.lr, t, 5, &flags), "step");
    assert_int_equal(flags, 5);
}

/* Plain descent by 1 shows the gradient that was used. */
static void clips_as_pytorch(void **state) {
    (void)state;
    for (size_t c = 0; c < COUNT(golden_clips); c++) {
        const golden_clip *g = &golden_clips[c];
        bench b;
        open_bench(&b, "dense:7,relu,dense:3", 5, 3, "sgd", g->max_norm, 1);
        assert_int_equal(b.n, g->n);
        b.optimizer.lr = 1;
        rig_ok(mnd_optimizer_set(&b.optimizer, "momentum", 0), "momentum");
        memcpy(b.grad, g->grad, b.n * sizeof *b.grad);
        step(&b, 1);
        for (size_t i = 0; i < b.n; i++) b.param[i] = -b.param[i];
        rig_within(rig_error_f(b.param, g->clipped, b.n), 1e-6, g->name, "clipped gradient");
        close_bench(&b);
    }
}

/* Enough parameters for every thread. */
static void threads(void **state) {
    (void)state;
    for (size_t k = 0; k < COUNT(names); k++)
        for (int clip = 0; clip < 2; clip++) {
            bench one, many;
            open_bench(&one, "dense:311,relu,dense:2", 509, 2, names[k], clip ? 3.0 : 0.0, 1);
            for (int t = 2; t <= 5; t++) {
                open_bench(&many, "dense:311,relu,dense:2", 509, 2, names[k], clip ? 3.0 : 0.0, t);
                memset(one.param, 0, one.n * sizeof *one.param);
                one.updater.ema = many.updater.ema = 0.3;
                for (int s = 0; s <= one.optimizer.ops->n_slot; s++)
                    memset(mnd_exchange_slot(one.exchange, s), 0, one.n * sizeof(float));
                one.updater.last_known = false;
                for (int64_t i = 1; i <= 3; i++) {
                    fill(one.grad, one.n, (uint32_t)i);
                    memcpy(many.grad, one.grad, one.n * sizeof *one.grad);
                    step(&one, i);
                    step(&many, i);
                }
                assert_memory_equal(one.param, many.param, one.n * sizeof *one.param);
                const int n_slot = one.optimizer.ops->n_slot;
                assert_memory_equal(mnd_exchange_slot(one.exchange, n_slot),
                                    mnd_exchange_slot(many.exchange, n_slot),
                                    one.n * sizeof(float));
                assert_int_equal(one.updater.last_sum, many.updater.last_sum);
                close_bench(&many);
            }
            close_bench(&one);
        }
}

/* A bit of the parameters or of the state that changes between two steps. */
static void flipped_bits(void **state) {
    (void)state;
    for (size_t k = 0; k < COUNT(names); k++) {
        bench b;
        open_bench(&b, "dense:41,relu,dense:3", 50, 3, names[k], 0.0, 1);
        b.updater.ema = 0.99;
        fill(b.param, b.n, 7);
        fill(b.grad, b.n, 8);
        for (int64_t t = 1; t <= 3; t++) step(&b, t);
        assert_true(mnd_updater_intact(&b.updater) && !b.updater.damaged);
        for (int where = 0; where <= b.optimizer.ops->n_slot + 1; where++) {
            float *at = where == 0 ? b.param : mnd_exchange_slot(b.exchange, where - 1);
            uint32_t bits;
            for (int bit = 0; bit < 32; bit += 31) {
                memcpy(&bits, &at[b.n / 2], sizeof bits);
                bits ^= UINT32_C(1) << bit;
                memcpy(&at[b.n / 2], &bits, sizeof bits);
                assert_false(mnd_updater_intact(&b.updater));
                b.updater.damaged = false;
                step(&b, 4);
                assert_true(b.updater.damaged);
                b.updater.damaged = false;
                step(&b, 5);
                assert_false(b.updater.damaged);
            }
        }
        close_bench(&b);
    }
}

/* A layer whose array is a count that grows by what its gradient says. */
static mnd_status counter_plan(mnd_layer *layer, const mnd_plan *plan) {
    (void)plan;
    layer->out = layer->in;
    layer->array[0] = (mnd_array){
        .name = "count", .ndim = 1, .dim = {3}, .init = MND_INIT_ONES, .untrained = true};
    layer->n_array = 1;
    return MND_OK;
}

static void counter_forward(mnd_layer *layer, const mnd_pass *pass, const float *x, float *y) {
    memcpy(y, x, (size_t)pass->rows * mnd_shape_size(&layer->in) * sizeof *y);
}

static void counter_backward(mnd_layer *layer, const mnd_pass *pass, const float *x, const float *y,
                             float *dy, float *dx) {
    (void)x, (void)y;
    if (dx != NULL) memcpy(dx, dy, (size_t)pass->rows * mnd_shape_size(&layer->in) * sizeof *dx);
}

static const mnd_layer_ops counter = {.kind = "counter",
                                      .usage = "counter",
                                      .plan = counter_plan,
                                      .forward = counter_forward,
                                      .backward = counter_backward};

static void untrained_arrays(void **state) {
    (void)state;
    rig_ok(mnd_layer_register(&counter), "register");
    assert_int_equal(mnd_layer_register(&counter), MND_USAGE);
    for (size_t k = 0; k < COUNT(names); k++) {
        bench b;
        open_bench(&b, "dense:4,counter,dense:2", 5, 2, names[k], 1e-3, 1);
        const mnd_array_info count = mnd_model_array(b.model, 2),
                             last = mnd_model_array(b.model, 3);
        assert_string_equal(count.name, "count");
        assert_true(!count.trained && last.trained && count.offset + 3 == last.offset);
        mnd_model_bind(b.model, b.param, b.grad, 0);
        mnd_model_initialize(b.model, MND_INIT_GLOROT, 1);
        float *const value = b.param + count.offset;
        for (int i = 0; i < 3; i++) assert_true(value[i] == 1.0F);
        for (size_t i = 0; i < b.n; i++) b.grad[i] = 1e-9F;
        b.grad[count.offset] = 1000.0F; /* counts neither as a gradient nor in its norm */
        b.grad[count.offset + 1] = 0.5F;
        b.grad[count.offset + 2] = 0.0F;
        b.updater.ema = 0.5;
        float *const average = mnd_exchange_slot(b.exchange, b.optimizer.ops->n_slot);
        memcpy(average, b.param, b.n * sizeof *average);
        step(&b, 1);
        for (int i = 0; i < 3; i++) /* moves by 9/11 of the way: d is 2/11 in the first step */
            assert_true(fabs((double)average[count.offset + (size_t)i] - 1.0 -
                             9.0 / 11.0 * ((double)value[i] - 1.0)) < 1e-4);
        assert_true(value[0] == 1001.0F && value[1] == 1.5F && value[2] == 1.0F);
        assert_true(b.updater.clip == 1.0F);
        close_bench(&b);
    }
}

/* The formula in double, from the parameters of each step, also where the gradient is clipped. */
static void average_of_steps(void **state) {
    (void)state;
    for (size_t k = 0; k < COUNT(names); k++) {
        bench b;
        static double want[400];
        open_bench(&b, "dense:41,relu,dense:3", 5, 3, names[k], k % 2 ? 0.5 : 0.0, 1);
        assert_true(b.n <= COUNT(want));
        const float *const average = mnd_exchange_slot(b.exchange, b.optimizer.ops->n_slot);
        b.updater.ema = 0.8;
        fill(b.param, b.n, 7);
        memcpy(mnd_exchange_slot(b.exchange, b.optimizer.ops->n_slot), b.param,
               b.n * sizeof *b.param);
        for (size_t i = 0; i < b.n; i++) want[i] = (double)b.param[i];
        for (int t = 1; t <= 60; t++) { /* from t = 35 on d is 0.8 */
            fill(b.grad, b.n, (uint32_t)(100 + t));
            step(&b, t);
            const double d = fmin(0.8, (1.0 + t) / (10.0 + t));
            for (size_t i = 0; i < b.n; i++) want[i] = d * want[i] + (1.0 - d) * (double)b.param[i];
            rig_within(rig_error(average, want, b.n), 1e-6, names[k], "average");
        }
        assert_true(mnd_updater_intact(&b.updater) && !b.updater.damaged);
        close_bench(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clips_as_pytorch), cmocka_unit_test(threads),
        cmocka_unit_test(flipped_bits),     cmocka_unit_test(untrained_arrays),
        cmocka_unit_test(average_of_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
