/*
 * optimizer_rmsprop.c - RMSprop (Tieleman and Hinton, 2012), epsilon inside the root as in Keras 3:
 *
 *     v = rho v + (1 - rho) g^2
 *     w = w - lr g / sqrt(v + epsilon)
 */
#include <math.h>

#include "mnist_dist/optimizer.h"
#include "mnist_dist/vector.h"

enum { RHO, EPSILON };
enum { R, ONE_LESS_R, STEP, EPS };

static void prepare(const mnd_optimizer *opt, double lr, int64_t t, mnd_step_size *out) {
    (void)t;
    out->factor[R] = (float)opt->setting[RHO];
    out->factor[ONE_LESS_R] = (float)(1.0 - opt->setting[RHO]);
    out->factor[STEP] = (float)lr;
    out->factor[EPS] = (float)opt->setting[EPSILON];
}

MND_EACH_WIDTH static void rmsprop(const float *f, size_t n, const float *restrict g,
                                   float *restrict w, float *restrict v) {
    const float rho = f[R], c = f[ONE_LESS_R], step = f[STEP], epsilon = f[EPS];
    for (size_t i = 0; i < n; i++) {
        v[i] = rho * v[i] + c * (g[i] * g[i]);
        w[i] -= step * g[i] / sqrtf(v[i] + epsilon);
    }
}

static void apply(const mnd_step_size *step, const mnd_slice *s) {
    rmsprop(step->factor, s->count, s->grad, s->param, s->slot[0]);
}

extern const mnd_optimizer_ops mnd_optimizer_rmsprop;

const mnd_optimizer_ops mnd_optimizer_rmsprop = {
    .name = "rmsprop",
    .lr = 0.001,
    .n_slot = 1,
    .slot_name = {"v"},
    .n_setting = 2,
    .setting = {{"rho", 0.9}, {"epsilon", 1e-7}},
    .prepare = prepare,
    .apply = apply,
};
