/*
 * Learning rates over the steps of a run: numbers of PyTorch's and Keras' formulas, computed in
 * Python from their definitions, names, and texts that tell schedules apart.
 */
#include "test.h"

#include <math.h>
#include <string.h>

#include "mnist_dist/schedule.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

typedef struct point {
    int64_t t;
    double rate;
} point;

static void check(const mnd_schedule *s, const point *want, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const double rate = mnd_schedule_rate(s, want[i].t);
        if (!(fabs(rate - want[i].rate) <= 1e-12 * want[i].rate))
            fail_msg("kind %d, step %lld: %.17g, not %.17g", (int)s->kind, (long long)want[i].t,
                     rate, want[i].rate);
    }
}

/* torch.optim.lr_scheduler.OneCycleLR(max_lr=0.02, total_steps=50), its defaults, by the formula of
   its source. */
static void onecycle(void **state) {
    (void)state;
    const point of_pytorch[] = {{0, 0.0007999999999999986},
                                {1, 0.0010406920430544933},
                                {7, 0.0104},
                                {13, 0.019759307956945506},
                                {14, 0.02},
                                {15, 0.019959743100980632},
                                {30, 0.011342367288845922},
                                {48, 4.033689901936913e-05},
                                {49, 8e-08},
                                {60, 8e-08} /* after the end, where PyTorch refuses */};
    mnd_schedule s = {.kind = MND_ONECYCLE,
                      .lr = 0.02,
                      .warmup = 15,
                      .total = 50,
                      .final_fraction = MND_ONECYCLE_FINAL};
    check(&s, of_pytorch, COUNT(of_pytorch));
    s.warmup = 1; /* begins at the top */
    check(&s, (point[]){{0, 0.02}, {49, 8e-08}}, 2);
    s.warmup = 0;
    for (int64_t t = 0; t < 50; t++)
        assert_true(mnd_schedule_rate(&s, t) < (t == 0 ? 0.02 : mnd_schedule_rate(&s, t - 1)));
    s = (mnd_schedule){.kind = MND_ONECYCLE, .lr = 0.02, .warmup = 1, .total = 1};
    check(&s, (point[]){{0, 0.02}}, 1);
}

/* torch.optim.lr_scheduler.ExponentialLR(gamma=0.9) after whole epochs of 7 steps, and
   keras.optimizers.schedules.ExponentialDecay(0.003, 7, 0.9) between them; from the warm-up on. */
static void exponential(void **state) {
    (void)state;
    mnd_schedule s = {.kind = MND_EXPONENTIAL, .lr = 0.003, .period = 7, .gamma = 0.9};
    const point want[] = {{0, 0.003},     {7, 0.0027},     {14, 0.00243},
                          {21, 0.002187}, {28, 0.0019683}, {10, 0.0025807944200866868}};
    check(&s, want, COUNT(want));
    s.warmup = 3;
    check(&s, (point[]){{0, 0.001}, {1, 0.002}, {2, 0.003}, {3, 0.003}, {10, 0.0027}}, 5);
}

static void others(void **state) {
    (void)state;
    mnd_schedule s = {.kind = MND_CONSTANT, .lr = 0.5, .warmup = 2};
    check(&s, (point[]){{0, 0.25}, {1, 0.5}, {2, 0.5}, {1000, 0.5}}, 4);
    s = (mnd_schedule){.kind = MND_STEP, .lr = 0.5, .period = 3, .gamma = 0.1};
    check(&s, (point[]){{0, 0.5}, {2, 0.5}, {3, 0.05}, {5, 0.05}, {6, 0.005}}, 5);
    /* SGDR's half cosine from 1 to 0.2 over 8 steps after a warm-up of 4. */
    s = (mnd_schedule){
        .kind = MND_COSINE, .lr = 1.0, .warmup = 4, .total = 12, .final_fraction = 0.2};
    check(&s, (point[]){{0, 0.25}, {3, 1.0}, {4, 1.0}, {6, 0.882842712474619}, {8, 0.6}, {12, 0.2}},
          6);
}

static void names(void **state) {
    (void)state;
    static const char *const name[MND_N_SCHEDULE] = {"constant", "step", "exponential", "cosine",
                                                     "onecycle"};
    char text[MND_N_SCHEDULE][128];
    for (int i = 0; i < MND_N_SCHEDULE; i++) {
        mnd_schedule s = {.lr = 0.1, .warmup = 2, .period = 3, .gamma = 0.5, .total = 9};
        assert_int_equal(mnd_schedule_kind_of(name[i], &s.kind), MND_OK);
        assert_int_equal(s.kind, i);
        mnd_schedule_text(&s, text[i], sizeof text[i]);
        assert_ptr_equal(strstr(text[i], name[i]), text[i]);
        for (int k = 0; k < i; k++) assert_string_not_equal(text[i], text[k]);
        char other[128];
        s.warmup = 1;
        mnd_schedule_text(&s, other, sizeof other);
        assert_string_not_equal(other, text[i]);
    }
    mnd_schedule_kind kind;
    assert_int_equal(mnd_schedule_kind_of("one-cycle", &kind), MND_USAGE);
    for (int i = 0; i < MND_N_SCHEDULE; i++) assert_non_null(strstr(mnd_error(), name[i]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(onecycle),
        cmocka_unit_test(exponential),
        cmocka_unit_test(others),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
