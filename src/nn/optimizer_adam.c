/*
 * optimizer_adam.c - Adam (Kingma and Ba, ICLR 2015, algorithm 1) and AdamW (Loshchilov and Hutter,
 * ICLR 2019), which also shrinks the weights by lr * weight_decay before each step:
 *
 *     m = beta1 m + (1 - beta1) g
 *     v = beta2 v + (1 - beta2) g^2
 *     w = w - lr m' / (sqrt(v') + epsilon),    m' = m / (1 - beta1^t),  v' = v / (1 - beta2^t)
 */
#include <math.h>

#include "mnist_dist/optimizer.h"
#include "mnist_dist/vector.h"

enum { BETA1, BETA2, EPSILON, WEIGHT_DECAY };

/* Factors, rounded once: 1 - beta2 from a rounded beta2 would be off by 1e-5 of itself. */
enum { B1, ONE_LESS_B1, B2, ONE_LESS_B2, STEP, ROOT, EPS, KEEP };

static void prepare(const mnd_optimizer *opt, double lr, int64_t t, mnd_step_size *out) {
    const double b1 = opt->setting[BETA1], b2 = opt->setting[BETA2];
    const double decay = opt->ops->n_setting > WEIGHT_DECAY ? opt->setting[WEIGHT_DECAY] : 0.0;
    float *const f = out->factor;
    f[B1] = (float)b1;
    f[ONE_LESS_B1] = (float)(1.0 - b1);
    f[B2] = (float)b2;
    f[ONE_LESS_B2] = (float)(1.0 - b2);
    f[STEP] = (float)(lr / (1.0 - pow(b1, (double)t)));
    f[ROOT] = (float)(1.0 / sqrt(1.0 - pow(b2, (double)t)));
    f[EPS] = (float)opt->setting[EPSILON];
    f[KEEP] = (float)(1.0 - lr * decay);
}

MND_EACH_WIDTH static void adam(const float *f, size_t n, const float *restrict g,
                                float *restrict w, float *restrict m, float *restrict v,
                                mnd_bit_sum *restrict sum) {
    const float b1 = f[B1], c1 = f[ONE_LESS_B1], b2 = f[B2], c2 = f[ONE_LESS_B2];
    const float step = f[STEP], root = f[ROOT], epsilon = f[EPS], keep = f[KEEP];
    uint32_t before = 0, after = 0;
    for (size_t i = 0; i < n; i++) {
        before += mnd_bits(m[i]) + mnd_bits(v[i]) + mnd_bits(w[i]);
        m[i] = b1 * m[i] + c1 * g[i];
        v[i] = b2 * v[i] + c2 * (g[i] * g[i]);
        w[i] = keep * w[i] - step * m[i] / (sqrtf(v[i]) * root + epsilon);
        after += mnd_bits(m[i]) + mnd_bits(v[i]) + mnd_bits(w[i]);
    }
    sum->before += before;
    sum->after += after;
}

static void apply(const mnd_step_size *step, const mnd_slice *s) {
    adam(step->factor, s->count, s->grad, s->param, s->slot[0], s->slot[1], s->sum);
}

extern const mnd_optimizer_ops mnd_optimizer_adam, mnd_optimizer_adamw;

const mnd_optimizer_ops mnd_optimizer_adam = {
    .name = "adam",
    .lr = 0.001,
    .n_slot = 2,
    .slot_name = {"m", "v"},
    .n_setting = 3,
    .setting = {{"beta1", 0.9}, {"beta2", 0.999}, {"epsilon", 1e-8}},
    .prepare = prepare,
    .apply = apply,
    .sums_bits = true,
};

const mnd_optimizer_ops mnd_optimizer_adamw = {
    .name = "adamw",
    .lr = 0.001,
    .n_slot = 2,
    .slot_name = {"m", "v"},
    .n_setting = 4,
    .setting = {{"beta1", 0.9}, {"beta2", 0.999}, {"epsilon", 1e-8}, {"weight_decay", 0.01}},
    .prepare = prepare,
    .apply = apply,
    .sums_bits = true,
};
