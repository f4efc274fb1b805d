/*
 * lion.c - Lion (Chen et al., "Symbolic discovery of optimization algorithms", 2023):
 *
 *     w = w - lr (sign(beta1 m + (1 - beta1) g) + weight_decay w)
 *     m = beta2 m + (1 - beta2) g
 */
#include "extend.h"

enum { BETA1, BETA2, WEIGHT_DECAY };                    /* settings */
enum { B1, ONE_LESS_B1, B2, ONE_LESS_B2, STEP, DECAY }; /* factors */

static void prepare(const mnd_optimizer *opt, double lr, int64_t t, mnd_step_size *out) {
    (void)t;
    out->factor[B1] = (float)opt->setting[BETA1];
    out->factor[ONE_LESS_B1] = (float)(1.0 - opt->setting[BETA1]);
    out->factor[B2] = (float)opt->setting[BETA2];
    out->factor[ONE_LESS_B2] = (float)(1.0 - opt->setting[BETA2]);
    out->factor[STEP] = (float)lr;
    out->factor[DECAY] = (float)opt->setting[WEIGHT_DECAY];
}

static void apply(const mnd_step_size *step, const mnd_slice *s) {
    const float *f = step->factor, *g = s->grad;
    float *w = s->param, *m = s->slot[0];
    for (size_t i = 0; i < s->count; i++) {
        const float c = f[B1] * m[i] + f[ONE_LESS_B1] * g[i];
        const float sign = c > 0.0F ? 1.0F : c < 0.0F ? -1.0F : 0.0F;
        w[i] -= f[STEP] * (sign + f[DECAY] * w[i]);
        m[i] = f[B2] * m[i] + f[ONE_LESS_B2] * g[i];
    }
}

const mnd_optimizer_ops lion = {
    .name = "lion",
    .lr = 0.0001,
    .n_slot = 1,
    .slot_name = {"m"},
    .n_setting = 3,
    .setting = {{"beta1", 0.9}, {"beta2", 0.99}, {"weight_decay", 0.0}},
    .prepare = prepare,
    .apply = apply,
};
