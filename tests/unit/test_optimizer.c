/*
 * Optimizers beyond the golden steps: slices give the bits of the whole, packing, names, many steps
 * against the formulas in double, and descent on a function whose minimum is known.
 */
#include "rig.h"

#include <stdlib.h>

#include "mnist_dist/optimizer.h"
#include "mnist_dist/rng.h"

#define N 1013 /* prime: no vector width divides it */

static const char *const names[] = {"adam", "adamw", "rmsprop", "sgd"};

static void fill(float *v, size_t n, uint32_t which, float scale) {
    mnd_rng rng;
    mnd_rng_start(&rng, 3, MND_RNG_TEST, which, 0);
    for (size_t i = 0; i < n; i++) v[i] = scale * mnd_rng_normal(&rng);
}

typedef struct state64 {
    double w, s[2];
} state64;

/* The formulas of optimizer.h, as they stand there. */
static void step64(const mnd_optimizer *o, double lr, int64_t t, double g, state64 *x) {
    switch (o->kind) {
    case MND_ADAMW: x->w *= 1 - lr * o->weight_decay; /* fall through */
    case MND_ADAM:
        x->s[0] = o->beta1 * x->s[0] + (1 - o->beta1) * g;
        x->s[1] = o->beta2 * x->s[1] + (1 - o->beta2) * g * g;
        x->w -= lr / (1 - pow(o->beta1, (double)t)) * x->s[0] /
                (sqrt(x->s[1]) / sqrt(1 - pow(o->beta2, (double)t)) + o->epsilon);
        break;
    case MND_RMSPROP:
        x->s[0] = o->rho * x->s[0] + (1 - o->rho) * g * g;
        x->w -= lr * g / sqrt(x->s[0] + o->epsilon);
        break;
    case MND_SGD:
        g += o->weight_decay * x->w;
        x->s[0] = t == 1 ? g : o->momentum * x->s[0] + g;
        x->w -= lr * x->s[0];
        break;
    default: abort();
    }
}

static void many_steps(void **state) {
    (void)state;
    for (int k = 0; k < 4; k++) {
        mnd_optimizer o;
        rig_ok(mnd_optimizer_default(names[k], &o), names[k]);
        if (o.kind == MND_SGD) o.weight_decay = 0.01;
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
            mnd_optimizer_step(&o, lr, t, N, w, g, slot);
            for (int i = 0; i < N; i++) step64(&o, lr, t, (double)g[i], &x[i]);
        }
        for (int i = 0; i < N; i++) want[i] = x[i].w;
        rig_within(rig_error(w, want, N), 2e-5, names[k], "parameters after 200 steps");
        for (int s = 0; s < mnd_optimizer_slots(o.kind); s++) {
            for (int i = 0; i < N; i++) want[i] = x[i].s[s];
            rig_within(rig_error(slot[s], want, N), 1e-5, names[k],
                       mnd_optimizer_slot_name(o.kind, s));
        }
        mnd_free(slot[0]), mnd_free(slot[1]), mnd_free(w), mnd_free(g);
    }
}

/* Any cut of the parameters into ranges, aligned or not, gives the bits of one call. */
static void slices(void **state) {
    (void)state;
    for (int k = 0; k < 4; k++) {
        mnd_optimizer o;
        rig_ok(mnd_optimizer_default(names[k], &o), names[k]);
        static float whole[3][N], cut[3][N], g[N];
        memset(whole, 0, sizeof whole);
        fill(whole[0], N, 0, 1);
        memcpy(cut, whole, sizeof cut);
        for (int64_t t = 1; t <= 5; t++) {
            fill(g, N, (uint32_t)(100 + t), 1);
            g[N / 2] = 0;
            g[N / 3] = 1e-30F;
            g[N / 4] = 1e18F;
            mnd_optimizer_step(&o, 0.01, t, N, whole[0], g, (float *const[2]){whole[1], whole[2]});
            mnd_rng rng;
            mnd_rng_start(&rng, (uint64_t)t, MND_RNG_TEST, 0, 0);
            for (size_t at = 0; at < N;) {
                size_t n = mnd_rng_below(&rng, 90); /* 0 now and then */
                if (n > N - at) n = N - at;
                mnd_optimizer_step(&o, 0.01, t, n, cut[0] + at, g + at,
                                   (float *const[2]){cut[1] + at, cut[2] + at});
                at += n;
            }
            assert_memory_equal(whole, cut, sizeof cut);
            for (size_t i = 0; i < N; i++) assert_true(isfinite(whole[0][i]));
        }
    }
}

/* Bits as integers, modulo 2^32. */
static void word_total(void **state) {
    (void)state;
    static const float x[] = {1.0F, -0.0F, -2.0F, 0.0F};
    assert_int_equal(mnd_word_total(0, x), 0);
    assert_int_equal(mnd_word_total(4, x), (uint32_t)(0x3f800000U + 0x80000000U + 0xc0000000U));
}

/* So does any number of threads, and the step in two parts, which adds up the words it saw. */
static void threads(void **state) {
    (void)state;
    enum { MANY = 100003 };
    for (int k = 0; k < 4; k++) {
        mnd_optimizer o;
        rig_ok(mnd_optimizer_default(names[k], &o), names[k]);
        static float one[3][MANY], many[3][MANY], g[MANY];
        memset(one, 0, sizeof one);
        fill(one[0], MANY, 0, 1);
        memcpy(many, one, sizeof many);
        for (int64_t t = 1; t <= 3; t++) {
            fill(g, MANY, (uint32_t)(200 + t), 1);
            mnd_optimizer_step(&o, 0.01, t, MANY, one[0], g, (float *const[2]){one[1], one[2]});
            mnd_optimizer_rates rates;
            mnd_optimizer_begin(&o, 0.01, t, &rates);
            float *const slot[2] = {many[1], o.kind < MND_RMSPROP ? many[2] : NULL};
            mnd_word_sum sum = {.before = 5, .after = 7}; /* it is added to */
            const uint32_t before = mnd_word_total(3 * MANY, many[0]);
            mnd_optimizer_apply(&rates, (int)t, MANY, many[0], g, slot, &sum);
            assert_int_equal(sum.before, before + 5);
            assert_int_equal(sum.after, mnd_word_total(3 * MANY, many[0]) + 7);
        }
        assert_memory_equal(one, many, sizeof many);
    }
}

/* Every one of them finds the minimum of sum (w - i/N)^2. */
static void descends(void **state) {
    (void)state;
    for (int k = 0; k < 4; k++) {
        mnd_optimizer o;
        rig_ok(mnd_optimizer_default(names[k], &o), names[k]);
        o.weight_decay = 0;
        static float w[N], g[N], slot[2][N];
        memset(slot, 0, sizeof slot);
        memset(w, 0, sizeof w);
        for (int64_t t = 1; t <= 2000; t++) {
            for (int i = 0; i < N; i++) g[i] = 2 * (w[i] - (float)i / N);
            mnd_optimizer_step(&o, 0.03 / sqrt((double)t), t, N, w, g,
                               (float *const[2]){slot[0], slot[1]});
        }
        for (int i = 0; i < N; i++)
            rig_within(fabs((double)(w[i] - (float)i / N)), 0.01, names[k], "minimum");
    }
}

static void packs(void **state) {
    (void)state;
    for (int k = 0; k < 4; k++) {
        mnd_optimizer o, back;
        rig_ok(mnd_optimizer_default(names[k], &o), names[k]);
        o.lr = 0.1 / 3, o.beta1 = 0.7, o.beta2 = 0.77, o.rho = 0.8, o.momentum = 0.6;
        o.epsilon = 1e-9, o.weight_decay = 0.03;
        double setting[8] = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
        mnd_optimizer_pack(&o, setting);
        for (int i = 0; i < 8; i++) assert_true(isfinite(setting[i]));
        rig_ok(mnd_optimizer_default(names[k], &back), names[k]);
        mnd_optimizer_unpack(setting, &back);
        assert_true(back.kind == o.kind && back.lr == o.lr && back.epsilon == o.epsilon);
        assert_true(back.beta1 == o.beta1 && back.beta2 == o.beta2 && back.rho == o.rho);
        assert_true(back.momentum == o.momentum && back.weight_decay == o.weight_decay);
    }
}

static void names_and_slots(void **state) {
    (void)state;
    static const int slots[] = {2, 2, 1, 1};
    for (int k = 0; k < 4; k++) {
        mnd_optimizer o;
        rig_ok(mnd_optimizer_default(names[k], &o), names[k]);
        assert_string_equal(mnd_optimizer_name(o.kind), names[k]);
        assert_int_equal(mnd_optimizer_slots(o.kind), slots[k]);
        for (int s = 0; s < slots[k]; s++) {
            const char *name = mnd_optimizer_slot_name(o.kind, s);
            assert_non_null(name);
            assert_true(name[0] != 0);
            for (int other = 0; other < s; other++)
                assert_string_not_equal(name, mnd_optimizer_slot_name(o.kind, other));
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
        cmocka_unit_test(many_steps),      cmocka_unit_test(slices),   cmocka_unit_test(word_total),
        cmocka_unit_test(threads),         cmocka_unit_test(descends), cmocka_unit_test(packs),
        cmocka_unit_test(names_and_slots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
