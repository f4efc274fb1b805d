/*
 * Optimizers beyond the golden steps: slices give the bits of the whole, settings, names, many
 * steps against the formulas in double, and descent on a function whose minimum is known.
 */
#include "rig.h"

#include <stdlib.h>

#include "mnist_dist/optimizer.h"
#include "mnist_dist/rng.h"

#define N 1013 /* prime: no vector width divides it */

enum { NESTEROV = 4 }; /* sgd once more, with that setting */
static const char *const names[] = {"adam", "adamw", "rmsprop", "sgd", "sgd"};

static void fill(float *v, size_t n, uint32_t which, float scale) {
    mnd_rng rng;
    mnd_rng_start(&rng, 3, MND_RNG_TEST, which, 0);
    for (size_t i = 0; i < n; i++) v[i] = scale * mnd_rng_normal(&rng);
}

typedef struct state64 {
    double w, s[2];
} state64;

/* The formulas, as the optimizers' files state them. */
static void step64(const mnd_optimizer *o, double lr, int64_t t, double g, state64 *x) {
    const char *name = o->ops->name;
    const double beta1 = mnd_optimizer_get(o, "beta1"), beta2 = mnd_optimizer_get(o, "beta2");
    const double epsilon = mnd_optimizer_get(o, "epsilon");
    const double decay = mnd_optimizer_get(o, "weight_decay");
    if (strcmp(name, "adam") == 0 || strcmp(name, "adamw") == 0) {
        x->w *= 1 - lr * decay;
        x->s[0] = beta1 * x->s[0] + (1 - beta1) * g;
        x->s[1] = beta2 * x->s[1] + (1 - beta2) * g * g;
        x->w -= lr / (1 - pow(beta1, (double)t)) * x->s[0] /
                (sqrt(x->s[1]) / sqrt(1 - pow(beta2, (double)t)) + epsilon);
    } else if (strcmp(name, "rmsprop") == 0) {
        const double rho = mnd_optimizer_get(o, "rho");
        x->s[0] = rho * x->s[0] + (1 - rho) * g * g;
        x->w -= lr * g / sqrt(x->s[0] + epsilon);
    } else {
        const double momentum = mnd_optimizer_get(o, "momentum");
        g += decay * x->w;
        x->s[0] = momentum * x->s[0] + g;
        x->w -= lr * (mnd_optimizer_get(o, "nesterov") > 0 ? g + momentum * x->s[0] : x->s[0]);
    }
}

static void many_steps(void **state) {
    (void)state;
    for (int k = 0; k < 5; k++) {
        mnd_optimizer o;
        rig_ok(mnd_optimizer_default(names[k], &o), names[k]);
        if (strcmp(names[k], "sgd") == 0)
            rig_ok(mnd_optimizer_set(&o, "weight_decay", 0.01), "sgd");
        if (k == NESTEROV) rig_ok(mnd_optimizer_set(&o, "nesterov", 1), "nesterov");
        float *w = rig_alloc(N, sizeof *w), *g = rig_alloc(N, sizeof *g);
        float *slot[2] = {rig_alloc(N, sizeof(float)), rig_alloc(N, sizeof(float))};
        static state64 x[N];
        static double want[N];
        memset(x, 0, sizeof x);
        fill(w, N, 0, 0.5F);
        for (int i = 0; i < N; i++) x[i].w = (double)w[i];
        for (int64_t t = 1; t <= 200; t++) {
            const double lr = o.lr * (1 + 0.5 * sin((double)t)); /* as a schedule would */
            fill(g, N, (uint32_t)t, 0.1F);
            rig_optimize(&o, lr, t, N, w, g, slot);
            for (int i = 0; i < N; i++) step64(&o, lr, t, (double)g[i], &x[i]);
        }
        for (int i = 0; i < N; i++) want[i] = x[i].w;
        rig_within(rig_error(w, want, N), 2e-5, names[k], "parameters after 200 steps");
        for (int s = 0; s < o.ops->n_slot; s++) {
            for (int i = 0; i < N; i++) want[i] = x[i].s[s];
            rig_within(rig_error(slot[s], want, N), 1e-5, names[k], o.ops->slot_name[s]);
        }
        mnd_free(slot[0]), mnd_free(slot[1]), mnd_free(w), mnd_free(g);
    }
}

/* Any cut of the parameters into ranges, aligned or not, gives the bits of one call. */
static void slices(void **state) {
    (void)state;
    for (int k = 0; k < 5; k++) {
        mnd_optimizer o;
        rig_ok(mnd_optimizer_default(names[k], &o), names[k]);
        if (k == NESTEROV) rig_ok(mnd_optimizer_set(&o, "nesterov", 1), "nesterov");
        static float whole[3][N], cut[3][N], g[N];
        memset(whole, 0, sizeof whole);
        fill(whole[0], N, 0, 1);
        memcpy(cut, whole, sizeof cut);
        for (int64_t t = 1; t <= 5; t++) {
            fill(g, N, (uint32_t)(100 + t), 1);
            g[N / 2] = 0;
            g[N / 3] = 1e-30F;
            g[N / 4] = 1e18F;
            rig_optimize(&o, 0.01, t, N, whole[0], g, (float *const[2]){whole[1], whole[2]});
            mnd_rng rng;
            mnd_rng_start(&rng, (uint64_t)t, MND_RNG_TEST, 0, 0);
            for (size_t at = 0; at < N;) {
                size_t n = mnd_rng_below(&rng, 90); /* 0 now and then */
                if (n > N - at) n = N - at;
                rig_optimize(&o, 0.01, t, n, cut[0] + at, g + at,
                             (float *const[2]){cut[1] + at, cut[2] + at});
                at += n;
            }
            assert_memory_equal(whole, cut, sizeof cut);
            for (size_t i = 0; i < N; i++) assert_true(isfinite(whole[0][i]));
        }
    }
}

/* Every one of them finds the minimum of sum (w - i/N)^2. */
static void descends(void **state) {
    (void)state;
    for (int k = 0; k < 4; k++) {
        mnd_optimizer o;
        rig_ok(mnd_optimizer_default(names[k], &o), names[k]);
        if (strcmp(names[k], "adamw") == 0)
            rig_ok(mnd_optimizer_set(&o, "weight_decay", 0), "adamw");
        static float w[N], g[N], slot[2][N];
        memset(slot, 0, sizeof slot);
        memset(w, 0, sizeof w);
        for (int64_t t = 1; t <= 2000; t++) {
            for (int i = 0; i < N; i++) g[i] = 2 * (w[i] - (float)i / N);
            rig_optimize(&o, 0.03 / sqrt((double)t), t, N, w, g,
                         (float *const[2]){slot[0], slot[1]});
        }
        for (int i = 0; i < N; i++)
            rig_within(fabs((double)(w[i] - (float)i / N)), 0.01, names[k], "minimum");
    }
}

static void settings(void **state) {
    (void)state;
    mnd_optimizer o;
    rig_ok(mnd_optimizer_default("sgd", &o), "sgd");
    assert_true(mnd_optimizer_get(&o, "momentum") == 0.9);
    rig_ok(mnd_optimizer_set(&o, "momentum", 0.5), "momentum");
    assert_true(mnd_optimizer_get(&o, "momentum") == 0.5);
    assert_true(mnd_optimizer_get(&o, "beta1") == 0.0);
    assert_int_equal(mnd_optimizer_set(&o, "beta1", 0.5), MND_USAGE);
    assert_non_null(strstr(mnd_error(), "sgd"));
    assert_non_null(strstr(mnd_error(), "beta1"));
}

static void names_and_slots(void **state) {
    (void)state;
    static const int slots[] = {2, 2, 1, 1};
    for (int k = 0; k < 4; k++) {
        mnd_optimizer o;
        rig_ok(mnd_optimizer_default(names[k], &o), names[k]);
        assert_string_equal(o.ops->name, names[k]);
        assert_int_equal(o.ops->n_slot, slots[k]);
        for (int s = 0; s < slots[k]; s++) {
            const char *name = o.ops->slot_name[s];
            assert_non_null(name);
            assert_true(name[0] != 0);
            for (int other = 0; other < s; other++)
                assert_string_not_equal(name, o.ops->slot_name[other]);
        }
    }
    static const char *const bad[] = {"", "Adam", "adamm", "ada", "rmsprop ", "lbfgs"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        mnd_optimizer o;
        assert_int_equal(mnd_optimizer_default(bad[i], &o), MND_USAGE);
        for (int k = 0; k < 4; k++) assert_non_null(strstr(mnd_error(), names[k]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_steps), cmocka_unit_test(slices),          cmocka_unit_test(descends),
        cmocka_unit_test(settings),   cmocka_unit_test(names_and_slots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
