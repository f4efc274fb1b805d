/*
 * optimizer_sgd.c - stochastic gradient descent with momentum, as in PyTorch:
 *
 *     v = momentum v + g',    g' = g + weight_decay w
 *     w = w - lr v
 *
 * and with nesterov 1 instead of 0 (Sutskever et al., ICML 2013) the gradient at about the place
 * where v will lead:
 *
 *     w = w - lr (g' + momentum v)
 */
#include "mnist_dist/optimizer.h"
#include "mnist_dist/vector.h"

enum { MOMENTUM, WEIGHT_DECAY, NESTEROV };
enum { MU, STEP, DECAY, AHEAD };

static void prepare(const mnd_optimizer *opt, double lr, int64_t t, mnd_step_size *out) {
    (void)t;
    out->factor[MU] = (float)opt->setting[MOMENTUM];
    out->factor[STEP] = (float)lr;
    out->factor[DECAY] = (float)opt->setting[WEIGHT_DECAY];
    out->factor[AHEAD] = (float)opt->setting[NESTEROV];
}

MND_EACH_WIDTH static void sgd(const float *f, size_t n, const float *restrict g, float *restrict w,
                               float *restrict v) {
    const float momentum = f[MU], step = f[STEP], decay = f[DECAY];
    for (size_t i = 0; i < n; i++) {
        v[i] = momentum * v[i] + (g[i] + decay * w[i]);
        w[i] -= step * v[i];
    }
}

MND_EACH_WIDTH static void nesterov(const float *f, size_t n, const float *restrict g,
                                    float *restrict w, float *restrict v) {
    const float momentum = f[MU], step = f[STEP], decay = f[DECAY];
    for (size_t i = 0; i < n; i++) {
        const float gradient = g[i] + decay * w[i];
        v[i] = momentum * v[i] + gradient;
        w[i] -= step * (gradient + momentum * v[i]);
    }
}

static void apply(const mnd_step_size *step, const mnd_slice *s) {
    if (step->factor[AHEAD] > 0.0F)
        nesterov(step->factor, s->count, s->grad, s->param, s->slot[0]);
    else
        sgd(step->factor, s->count, s->grad, s->param, s->slot[0]);
}

extern const mnd_optimizer_ops mnd_optimizer_sgd;

const mnd_optimizer_ops mnd_optimizer_sgd = {
    .name = "sgd",
    .lr = 0.01,
    .n_slot = 1,
    .slot_name = {"v"},
    .n_setting = 3,
    .setting = {{"momentum", 0.9}, {"weight_decay", 0.0}, {"nesterov", 0.0}},
    .prepare = prepare,
    .apply = apply,
};
