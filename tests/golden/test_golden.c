/*
 * The program's numbers against PyTorch's (golden.h, made by make_golden.py): logits, losses and
 * all gradients of small networks, cross-entropy at the edges of float32, and optimizer steps; to
 * 1e-5 relative.
 */
#include "rig.h"

#include <stdio.h>

#include "golden.h"
#include "mnist_dist/optimizer.h"

#define LIMIT 1e-5
#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static double largest(const float *x, size_t n) {
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs((double)x[i]));
    return most;
}

static void check_network(const golden_network *g, bool plain) {
    rig r;
    rig_open(&r, g->spec, g->input, g->classes, g->rows, plain);
    assert_int_equal(r.n_param, g->n_param);
    memcpy(r.param, g->param, r.n_param * sizeof(float));

    const float *logits = rig_forward(&r, g->x, g->rows);
    const size_t n = (size_t)g->rows * (size_t)g->classes;
    rig_within(rig_error_f(logits, g->logits, n), LIMIT, g->name, "logits");

    rig_gradient(&r, g->x, g->label, g->rows, 1.0F / (float)g->rows);
    rig_within(fabs(r.loss[0] - g->loss) / fmax(fabs(g->loss), 1e-3), LIMIT, g->name, "loss");
    assert_int_equal(r.correct[0], g->correct);
    /* Array by array, so that a small gradient does not hide behind a large one. */
    for (int i = 0; i < mnd_model_n_array(r.model); i++) {
        const mnd_array_info a = mnd_model_array(r.model, i);
        char what[128];
        snprintf(what, sizeof what, "%s %s", g->name, plain ? "(plain)" : "(fused)");
        char detail[64];
        snprintf(detail, sizeof detail, "gradient of %s of layer %d", a.name, a.layer);
        /* A bias that a batch normalization takes away again: zero, but for rounding. */
        if (largest(g->grad + a.offset, a.count) < 1e-12)
            rig_within(largest(r.grad + a.offset, a.count), 1e-6, what, detail);
        else
            rig_within(rig_error_f(r.grad + a.offset, g->grad + a.offset, a.count), LIMIT, what,
                       detail);
    }
    rig_close(&r);
}

static void networks_plain(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(golden_networks); i++) check_network(&golden_networks[i], true);
}

static void networks_fused(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(golden_networks); i++) check_network(&golden_networks[i], false);
}

static void losses(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(golden_losses); i++) {
        const golden_loss *g = &golden_losses[i];
        const size_t n = (size_t)g->rows * (size_t)g->classes;
        float *d = rig_alloc(n, sizeof *d);
        int64_t correct = 100;
        double loss =
            mnd_cross_entropy(g->logits, g->label, g->rows, g->classes, g->scale, d, &correct);
        rig_within(fabs(loss - g->loss) / fmax(fabs(g->loss), 1), LIMIT, g->name, "loss");
        assert_int_equal(correct, 100 + g->correct); /* counted on top of what was there */
        rig_within(rig_error_f(d, g->d, n), LIMIT, g->name, "derivative");

        /* Without a derivative, and in place. */
        correct = 0;
        assert_true(loss == mnd_cross_entropy(g->logits, g->label, g->rows, g->classes, g->scale,
                                              NULL, &correct));
        assert_int_equal(correct, g->correct);
        float *same = rig_alloc(n, sizeof *same);
        memcpy(same, g->logits, n * sizeof *same);
        assert_true(loss == mnd_cross_entropy(same, g->label, g->rows, g->classes, g->scale, same,
                                              &correct));
        assert_memory_equal(same, d, n * sizeof *d);

        memcpy(d, g->logits, n * sizeof *d);
        mnd_softmax(d, g->rows, g->classes);
        rig_within(rig_error_f(d, g->softmax, n), LIMIT, g->name, "softmax");
        mnd_free(same);
        mnd_free(d);
    }
}

static void smoothed_losses(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(golden_smoothed_losses); i++) {
        const golden_smoothed *g = &golden_smoothed_losses[i];
        const size_t n = (size_t)g->rows * (size_t)g->classes;
        float *d = rig_alloc(n, sizeof *d);
        int64_t correct = 0;
        double loss =
            mnd_cross_entropy(g->logits, g->label, g->rows, g->classes, g->scale, d, &correct);
        loss +=
            mnd_smooth_labels(g->logits, g->label, g->rows, g->classes, g->smoothing, g->scale, d);
        rig_within(fabs(loss / (double)*g->loss - 1), LIMIT, g->name, "loss");
        rig_within(rig_error_f(d, g->d, n), LIMIT, g->name, "derivative");
        mnd_free(d);
    }
}

static void optimizers(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(golden_optimizers); i++) {
        const golden_optimizer *g = &golden_optimizers[i];
        mnd_optimizer opt;
        rig_ok(mnd_optimizer_default(g->kind, &opt), g->kind);
        opt.lr = g->lr;
        const struct {
            const char *name;
            double value;
        } settings[] = {{"beta1", g->beta1},      {"beta2", g->beta2},
                        {"rho", g->rho},          {"momentum", g->momentum},
                        {"epsilon", g->epsilon},  {"weight_decay", g->weight_decay},
                        {"nesterov", g->nesterov}};
        for (size_t k = 0; k < COUNT(settings); k++)
            for (int n = 0; n < opt.ops->n_setting; n++)
                if (strcmp(opt.ops->setting[n].name, settings[k].name) == 0)
                    opt.setting[n] = settings[k].value;
        float *slot[MND_MAX_SLOTS];
        for (int s = 0; s < MND_MAX_SLOTS; s++)
            slot[s] = rig_alloc(GOLDEN_OPTIMIZER_N, sizeof(float));
        float *param = rig_alloc(GOLDEN_OPTIMIZER_N, sizeof(float));
        memcpy(param, g->start, GOLDEN_OPTIMIZER_N * sizeof(float));
        for (int t = 0; t < GOLDEN_STEPS; t++) {
            const size_t at = (size_t)t * GOLDEN_OPTIMIZER_N;
            rig_optimize(&opt, opt.lr, t + 1, GOLDEN_OPTIMIZER_N, param, g->grad + at, slot);
            rig_within(rig_error_f(param, g->param + at, GOLDEN_OPTIMIZER_N), LIMIT, g->name,
                       "parameters");
            for (int s = 0; s < opt.ops->n_slot; s++)
                if (g->slot[s])
                    rig_within(rig_error_f(slot[s], g->slot[s] + at, GOLDEN_OPTIMIZER_N), LIMIT,
                               g->name, opt.ops->slot_name[s]);
        }
        mnd_free(param);
        for (int s = 0; s < MND_MAX_SLOTS; s++) mnd_free(slot[s]);
    }
}

/* The default settings are the golden ones: a run without options is Keras' or PyTorch's. */
static void optimizer_defaults(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(golden_optimizers); i++) {
        const golden_optimizer *g = &golden_optimizers[i];
        if (!strstr(g->name, "_default")) continue;
        mnd_optimizer opt;
        rig_ok(mnd_optimizer_default(g->kind, &opt), g->kind);
        assert_true(opt.lr == g->lr);
        if (strncmp(g->kind, "adam", 4) == 0) {
            assert_true(mnd_optimizer_get(&opt, "beta1") == g->beta1);
            assert_true(mnd_optimizer_get(&opt, "beta2") == g->beta2);
        }
        if (strcmp(g->kind, "sgd") != 0)
            assert_true(mnd_optimizer_get(&opt, "epsilon") == g->epsilon);
        assert_true(mnd_optimizer_get(&opt, "weight_decay") == g->weight_decay);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_plain), cmocka_unit_test(networks_fused),
        cmocka_unit_test(losses),         cmocka_unit_test(smoothed_losses),
        cmocka_unit_test(optimizers),     cmocka_unit_test(optimizer_defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
