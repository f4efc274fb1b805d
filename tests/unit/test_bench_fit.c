/* src/train/bench_fit.c: models with known coefficients must come back from figures they made. */
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "mnist_dist/bench.h"
#include "mnist_dist/rng.h"

/* cmocka's own compares floats. */
#define assert_close(x, y, off) assert_true(fabs((x) - (y)) <= (off))

static void known_line(void **state) {
    (void)state;
    mnd_bench_point point[8];
    const double alpha = 3.5e-6, beta = 0.21e-9;
    for (int i = 0; i < 8; i++) {
        const double bytes = 1024.0 * pow(4.0, i);
        point[i] = (mnd_bench_point){1.0, bytes, alpha + beta * bytes};
    }
    mnd_bench_line line = mnd_bench_fit_line(8, point);
    assert_close(line.alpha / alpha, 1.0, 1e-9);
    assert_close(line.beta / beta, 1.0, 1e-9);
    assert_close(line.error, 0.0, 1e-9);
    assert_int_equal(line.points, 8);

    /* Off by 10 % up and down: the coefficients stay near, and the error says 10 %. */
    for (int i = 0; i < 8; i++) point[i].t *= i % 2 == 0 ? 1.1 : 0.9;
    line = mnd_bench_fit_line(8, point);
    assert_close(line.alpha / alpha, 1.0, 0.1);
    assert_close(line.beta / beta, 1.0, 0.1);
    assert_true(line.error > 0.08 && line.error < 0.105);
}

/* No other pair of coefficients has a smaller error. */
static void least_squares(void **state) {
    (void)state;
    mnd_bench_point point[12];
    mnd_rng rng;
    mnd_rng_start(&rng, 5, MND_RNG_TEST, 0, 0);
    for (int i = 0; i < 12; i++) {
        const double a = 1.0 + i % 3, b = 1e3 * pow(3.0, i);
        const double noise = 0.7 + 0.6 * (double)mnd_rng_uniform(&rng);
        point[i] = (mnd_bench_point){a, b, (2e-6 * a + 1e-9 * b) * noise};
    }
    const mnd_bench_line line = mnd_bench_fit_line(12, point);
    for (int k = 0; k < 4; k++) {
        const double alpha = line.alpha * (k == 0 ? 1.01 : k == 1 ? 0.99 : 1.0);
        const double beta = line.beta * (k == 2 ? 1.01 : k == 3 ? 0.99 : 1.0);
        double square = 0.0;
        for (int i = 0; i < 12; i++)
            square += pow((alpha * point[i].a + beta * point[i].b) / point[i].t - 1.0, 2.0);
        assert_true(sqrt(square / 12.0) > line.error);
    }
}

static void lines_at_the_edge(void **state) {
    (void)state;
    /* Faster the larger: beta would be negative. */
    const mnd_bench_point falling[] = {{1.0, 1.0, 4.0}, {1.0, 2.0, 3.0}, {1.0, 3.0, 1.0}};
    mnd_bench_line line = mnd_bench_fit_line(3, falling);
    assert_true(line.beta == 0.0 && line.alpha > 1.0 && line.alpha < 4.0 && line.error > 0.1);
    /* Steeper than through the origin: alpha would be. */
    const mnd_bench_point steep[] = {{1.0, 1.0, 1.0}, {1.0, 2.0, 4.0}, {1.0, 3.0, 9.0}};
    line = mnd_bench_fit_line(3, steep);
    assert_true(line.alpha == 0.0 && line.beta > 1.0 && line.beta < 3.0);
    /* One point, or the same one again, cannot tell the two apart. */
    const mnd_bench_point same[] = {{1.0, 8.0, 4.0}, {1.0, 8.0, 4.0}};
    for (int n = 1; n <= 2; n++) {
        line = mnd_bench_fit_line(n, same);
        assert_close(line.alpha + 8.0 * line.beta, 4.0, 1e-12);
    }
    line = mnd_bench_fit_line(0, same);
    assert_true(line.points == 0 && line.alpha == 0.0 && line.beta == 0.0);
}

/* Against the formulas of the paper, by hand. */
static void terms(void **state) {
    (void)state;
    static const struct {
        const char *way;
        int ranks, nodes;
        double a, c;
    } known[] = {{"mpi", 8, 1, 6.0, 1.75},
                 {"mpi", 5, 1, 6.0, 1.6},
                 {"tree", 8, 1, 14.0, 1.75},
                 {"shared", 4, 1, 6.0, 1.0},
                 {"hierarchical", 16, 4, 6.0, 0.375}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        double a, c;
        assert_int_equal(mnd_bench_terms(known[i].way, known[i].ranks, known[i].nodes, &a, &c),
                         MND_OK);
        assert_close(a, known[i].a, 1e-12);
        assert_close(c, known[i].c, 1e-12);
    }
    double a, c;
    assert_int_equal(mnd_bench_terms("pigeons", 2, 1, &a, &c), MND_USAGE);
}

enum { PARAM = 250000, BATCH = 240 };

/* A machine that follows the model exactly; `jump` spoils the step of its largest row. */
static const double work0 = 2e-4, work1 = 4e-6, step_all = 6e-4;

static double message_of(const char *way, int ranks, double bytes) {
    double a, c;
    assert_int_equal(mnd_bench_terms(way, ranks, 1, &a, &c), MND_OK);
    return 5e-6 * a + 0.3e-9 * c * bytes;
}

static double step_of(const char *way, int ranks, double batch) {
    const double optimizer = strcmp(way, "tree") == 0 ? step_all : step_all / ranks;
    const double exchange = ranks == 1 ? 0.0 : message_of(way, ranks, 4.0 * PARAM);
    return work0 + work1 * ceil(batch / ranks) + optimizer + exchange;
}

static void invented(mnd_bench *b, mnd_bench_row *row, mnd_bench_message *message, const char *way,
                     int most, double jump) {
    *b = (mnd_bench){.ranks = most,
                     .nodes = 1,
                     .batch_size = BATCH,
                     .n_param = PARAM,
                     .row = row,
                     .message = message};
    for (int weak = 0; weak < 2; weak++)
        for (int p = 1; p <= most; p *= 2) {
            mnd_bench_row *r = &row[b->n_row++];
            *r = (mnd_bench_row){.weak = weak, .ranks = p, .nodes = 1};
            r->batch = weak ? (int64_t)BATCH * p : BATCH;
            snprintf(r->exchange, sizeof r->exchange, "%s", p == 1 ? "local" : way);
            r->seconds = step_of(way, p, (double)r->batch) * (p == most ? jump : 1.0);
            r->busy = 1e-5;
            r->images_per_second = (double)r->batch / r->seconds;
            r->time.optimizer = step_all;
        }
    for (int p = 2; p <= most; p *= 2)
        for (size_t bytes = 1024; bytes <= 4194304; bytes *= 4) {
            static const char *const ways[] = {"mpi", "tree", "shared"};
            for (int w = 0; w < 3; w++) {
                mnd_bench_message *m = &message[b->n_message++];
                *m = (mnd_bench_message){.ranks = p, .nodes = 1, .bytes = bytes};
                snprintf(m->way, sizeof m->way, "%s", ways[w]);
                m->seconds = message_of(ways[w], p, (double)bytes);
            }
        }
}

/* Rows and messages are the caller's. */
static void release(mnd_bench *b) {
    b->row = NULL;
    b->message = NULL;
    b->n_row = 0;
    mnd_bench_free(b);
}

static void predictions(void **state) {
    (void)state;
    static const char *const ways[] = {"shared", "tree"};
    for (int w = 0; w < 2; w++) {
        mnd_bench b;
        mnd_bench_row row[16];
        mnd_bench_message message[128];
        invented(&b, row, message, ways[w], 8, 1.0);
        assert_int_equal(mnd_bench_predict(&b), MND_OK);
        /* P from fewer, strong and weak, then 16, 32, 64, 128. */
        assert_int_equal(b.n_prediction, 10);
        for (int i = 0; i < b.n_prediction; i++) {
            const mnd_bench_prediction *p = &b.prediction[i];
            const int ranks = 8 << i / 2;
            const double batch = p->weak ? (double)BATCH * ranks : BATCH;
            const double seconds = step_of(ways[w], ranks, batch);
            assert_int_equal(p->ranks, ranks);
            assert_int_equal(p->weak, i % 2);
            assert_close(p->seconds / seconds, 1.0, 1e-6);
            assert_close(p->images_per_second / (batch / seconds), 1.0, 1e-6);
            assert_close(p->efficiency, batch / seconds / (ranks * row[0].images_per_second), 1e-6);
            assert_int_equal(p->from, i < 2 ? 7 : 8);
            assert_true(i < 2 ? p->measured == row[3 + 4 * i].images_per_second
                              : p->measured == 0.0);
            assert_close(p->error, 0.0, 1e-6);
        }
        /* Every way on 2, 4 and 8 processes, and over all of them. */
        assert_int_equal(b.n_fit, 12);
        for (int i = 0; i < b.n_fit; i++) {
            assert_close(b.fit[i].line.error, 0.0, 1e-6);
            if (b.fit[i].ranks == 0) {
                assert_close(b.fit[i].line.alpha, 5e-6, 1e-12);
                assert_close(b.fit[i].line.beta, 0.3e-9, 1e-15);
                assert_int_equal(b.fit[i].line.points, 21);
            }
        }
        /* Again, with P a quarter slower than it should be: the check must say so. */
        release(&b);
        invented(&b, row, message, ways[w], 8, 1.25);
        assert_int_equal(mnd_bench_predict(&b), MND_OK);
        assert_close(b.prediction[0].error, 0.25, 1e-6);
        assert_close(b.prediction[1].error, 0.25, 1e-6);
        release(&b);
    }
}

static void too_few_to_predict(void **state) {
    (void)state;
    mnd_bench b;
    mnd_bench_row row[4];
    mnd_bench_message message[32];
    /* Two processes: more can be predicted, but not two from one. */
    invented(&b, row, message, "shared", 2, 1.0);
    assert_int_equal(mnd_bench_predict(&b), MND_OK);
    assert_int_equal(b.n_prediction, 8);
    assert_int_equal(b.prediction[0].ranks, 4);
    assert_true(b.prediction[0].measured == 0.0);
    release(&b);
    /* One: nothing. */
    invented(&b, row, message, "shared", 1, 1.0);
    assert_int_equal(mnd_bench_predict(&b), MND_OK);
    assert_int_equal(b.n_prediction, 0);
    assert_int_equal(b.n_fit, 0);
    release(&b);
}

int main(void) {
    const struct CMUnitTest test[] = {
        cmocka_unit_test(known_line),        cmocka_unit_test(least_squares),
        cmocka_unit_test(lines_at_the_edge), cmocka_unit_test(terms),
        cmocka_unit_test(predictions),       cmocka_unit_test(too_few_to_predict),
    };
    return cmocka_run_group_tests_name("bench_fit", test, NULL, NULL);
}
