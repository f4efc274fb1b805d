/*
 * Logical ranks within a model: the gradient of a batch cut into segments and parts is the gradient
 * of the batch, and its bits do not depend on which process would have held which segment.
 */
#include "rig.h"

#include <stdlib.h>

#include "mnist_dist/rng.h"
#include "mnist_dist/sha256.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

typedef struct network {
    const char *spec;
    mnd_shape input;
    int classes;
} network;

static const network nets[] = {
    {"dense:4", {1, {6}}, 4},
    {"dense:37,relu,dropout:0.3,dense:19,tanh,dense:5", {1, {13}}, 5},
    {"mlp16", {3, {28, 28, 1}}, 10},
    {"cnn", {3, {13, 14, 1}}, 7},
    {"cnn", {3, {9, 10, 2}}, 10},
    {"cnn2", {3, {14, 15, 1}}, 10},
    {"conv:8:3:same,relu,maxpool:2,conv:12:3,relu,avgpool:2,flatten,dropout:0.25,dense:10",
     {3, {14, 15, 1}},
     10},
    {"dense:17,relu,dense:300,tanh,dense:6", {1, {4100}}, 6},
    {"dense:256,relu,dense:130,tanh,dense:6", {1, {70}}, 6},
    {"conv:64:3,relu,maxpool:2,flatten,dense:12,relu,dense:6", {3, {20, 18, 1}}, 6},
    {"conv:5:3:s2:same,sigmoid,conv:7:2x3,maxpool:3:s2,flatten,dense:6", {3, {17, 16, 3}}, 6},
    {"residual(conv:3:3:same,relu,residual(tanh,conv:3:3:same)),flatten,residual(dense:105),dense:"
     "6",
     {3, {5, 7, 3}},
     6},
    {"lstm:37,dense:6", {3, {9, 13, 2}}, 6},
    {"conv:9:3,lstm:20,dense:6", {3, {8, 12, 1}}, 6},
    {"conv:17:3,relu,maxpool:2:same,conv:7:2,leakyrelu,globalavgpool,dense:6", {3, {17, 16, 1}}, 6},
    {"conv:8:3,batchnorm,relu,residual(conv:8:3:same,batchnorm:0.5),flatten,dense:70,batchnorm,"
     "dense:6",
     {3, {13, 11, 1}},
     6},
    {"conv:16:3:same,relu,residual(conv:16:3:same,relu),conv:18:3,flatten,dense:6",
     {3, {7, 6, 1}},
     6},
};

/* Rows of each of V segments. */
#define MAX_V 13
static const struct {
    int v, rows[MAX_V];
} cuts[] = {
    {8, {5, 5, 5, 5, 5, 4, 4, 4}},
    {8, {3, 0, 2, 1, 0, 0, 7, 1}},
    {8, {0, 0, 0, 0, 0, 0, 0, 0}},
    {5, {1, 1, 1, 0, 0}},
    {6, {0, 0, 9, 0, 0, 0}},
    {13, {3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2}},
    {2, {16, 17}},
    {7, {1, 2, 3, 4, 5, 6, 7}},
};

/* One batch, the same on every "process". */
typedef struct batch {
    float *x;
    uint8_t *label;
    uint32_t *sample;
    int rows;
} batch;

static batch batch_open(const network *n, const int *rows, int v) {
    batch b = {0};
    for (int s = 0; s < v; s++) b.rows += rows[s];
    const size_t size = mnd_shape_size(&n->input);
    b.x = rig_alloc(size * (size_t)b.rows, sizeof *b.x);
    b.label = rig_alloc((size_t)b.rows, sizeof *b.label);
    b.sample = rig_alloc((size_t)b.rows, sizeof *b.sample);
    mnd_rng rng;
    mnd_rng_start(&rng, 5, MND_RNG_TEST, (uint32_t)b.rows, (uint32_t)size);
    for (size_t i = 0; i < size * (size_t)b.rows; i++)
        b.x[i] = mnd_rng_below(&rng, 4) ? mnd_rng_uniform(&rng) : 0;
    for (int i = 0; i < b.rows; i++) {
        b.label[i] = (uint8_t)mnd_rng_below(&rng, (uint32_t)n->classes);
        b.sample[i] = mnd_rng_below(&rng, 60000);
    }
    return b;
}

static void batch_close(batch *b) { mnd_free(b->x), mnd_free(b->label), mnd_free(b->sample); }

/* Where the tree over n consecutive segments is split. */
static int split(int n) {
    int left = 1;
    while (left * 2 < n) left *= 2;
    return left;
}

/* The fewest sub-trees of the tree over [a, b) that make up [first, last). */
static int parts(int a, int b, int first, int last, int *part, int n) {
    if (b <= first || a >= last) return n;
    if (a >= first && b <= last) {
        part[n] = a;
        part[n + 1] = b;
        return n + 1;
    }
    const int middle = a + split(b - a);
    n = parts(a, middle, first, last, part, n);
    return parts(middle, b, first, last, part, n);
}

/* Sums what stands at the segments' places in the tree over [a, b) into the place of a. */
static void finish(float **at, size_t n, int a, int b) {
    if (b - a == 1) return;
    const int middle = a + split(b - a);
    if (!at[middle]) return; /* within one part: summed already */
    finish(at, n, a, middle);
    finish(at, n, middle, b);
    for (size_t i = 0; i < n; i++) at[a][i] += at[middle][i];
    at[middle] = NULL;
}

typedef struct outcome {
    float *grad;
    double loss[RIG_MAX_SEG];
    int64_t correct[RIG_MAX_SEG];
} outcome;

/*
 * The step of V logical ranks on `processes` processes in contiguous blocks, each with a model of
 * its own that sees nothing but its rows; then the tree over the results of all.
 */
static outcome run(const network *n, const batch *b, const int *rows, int v, int processes,
                   bool plain, int threads) {
    outcome o = {0};
    float *at[MAX_V + 1] = {0}, *owned[MAX_V + 1] = {0};
    size_t n_param = 0;
    for (int p = 0; p < processes; p++) {
        const int first = p * v / processes, last = (p + 1) * v / processes;
        int part[2 * MAX_V + 2], start[MAX_V + 1] = {0}, row = 0;
        for (int s = 0; s < first; s++) row += rows[s];
        for (int s = first; s < last; s++) start[s - first + 1] = start[s - first] + rows[s];
        const int n_part = parts(0, v, first, last, part, 0);
        for (int i = 0; i <= n_part; i++) part[i] -= first;
        const mnd_segments r_rows = {
            .n_seg = last - first, .start = start, .n_subtree = n_part, .subtree = part};
        /* Larger than needed: it must not matter either. */
        const mnd_model_options options = {.max_rows = start[last - first] + (p % 2) * 5 + 1,
                                           .max_seg = last - first + p % 3,
                                           .training = true,
                                           .plain = plain,
                                           .threads = threads};
        rig r;
        rig_open_with(&r, n->spec, n->input, n->classes, &options, n_part);
        mnd_model_initialize(r.model, MND_INIT_GLOROT, 11);
        n_param = r.n_param;
        const size_t in = mnd_shape_size(&n->input);
        rig_gradient_batch(&r, b->x + in * (size_t)row,
                           (mnd_batch){.seg = &r_rows,
                                       .label = b->label + row,
                                       .sample = b->sample + row,
                                       .scale = 1.0F / (float)(b->rows ? b->rows : 1),
                                       .seed = 3,
                                       .epoch = 2});
        for (int s = first; s < last; s++) {
            o.loss[s] = r.loss[s - first];
            o.correct[s] = r.correct[s - first];
        }
        for (int i = 0; i < n_part; i++) {
            const int s = first + part[i];
            at[s] = owned[s] = rig_alloc(n_param, sizeof(float));
            memcpy(at[s], r.grad + (size_t)i * r.stride, n_param * sizeof(float));
        }
        rig_close(&r);
    }
    finish(at, n_param, 0, v);
    o.grad = owned[0];
    for (int s = 1; s < v; s++) mnd_free(owned[s]);
    return o;
}

static uint32_t bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static void same_outcome(const network *n, const outcome *a, const outcome *b, int v,
                         size_t n_param, const char *what, int processes) {
    for (int s = 0; s < v; s++) {
        assert_true(a->loss[s] == b->loss[s]);
        assert_int_equal(a->correct[s], b->correct[s]);
    }
    if (memcmp(a->grad, b->grad, n_param * sizeof(float)) == 0) return;
    size_t k = 0;
    while (bits(a->grad[k]) == bits(b->grad[k])) k++;
    fail_msg("%s: V = %d, %s %d: gradient %zu is %a instead of %a", n->spec, v, what, processes, k,
             (double)b->grad[k], (double)a->grad[k]);
}

static size_t count_param(const network *n) {
    const mnd_model_options options = {.max_seg = 1, .threads = 1};
    mnd_model *model = NULL;
    rig_ok(mnd_model_create(n->spec, &n->input, n->classes, &options, &model), n->spec);
    const size_t count = mnd_model_n_param(model);
    mnd_model_destroy(&model);
    return count;
}

static void any_number_of_processes(bool plain) {
    for (size_t t = 0; t < COUNT(nets); t++)
        for (size_t c = 0; c < COUNT(cuts); c++) {
            const int v = cuts[c].v;
            const size_t n_param = count_param(&nets[t]);
            batch b = batch_open(&nets[t], cuts[c].rows, v);
            outcome one = run(&nets[t], &b, cuts[c].rows, v, 1, plain, 1);
            for (int p = 2; p <= v; p++) {
                if (p > 3 && p < v - 1) continue;
                outcome many = run(&nets[t], &b, cuts[c].rows, v, p, plain, 1);
                same_outcome(&nets[t], &one, &many, v, n_param, "processes", p);
                mnd_free(many.grad);
            }
            mnd_free(one.grad);
            batch_close(&b);
        }
}

static void same_bits_plain(void **state) {
    (void)state;
    any_number_of_processes(true);
}

static void same_bits_fused(void **state) {
    (void)state;
    any_number_of_processes(false);
}

static void same_bits_threads(void **state) {
    (void)state;
    for (size_t t = 0; t < COUNT(nets); t++)
        for (size_t c = 0; c < 2; c++) {
            const size_t n_param = count_param(&nets[t]);
            batch b = batch_open(&nets[t], cuts[c].rows, cuts[c].v);
            for (int plain = 0; plain < 2; plain++) {
                outcome one = run(&nets[t], &b, cuts[c].rows, cuts[c].v, 1, plain, 1);
                for (int threads = 2; threads <= 5; threads++) {
                    outcome two = run(&nets[t], &b, cuts[c].rows, cuts[c].v, 2, plain, threads);
                    same_outcome(&nets[t], &one, &two, cuts[c].v, n_param, "threads", threads);
                    mnd_free(two.grad);
                }
                mnd_free(one.grad);
            }
            batch_close(&b);
        }
}

/* However it is cut, it is the gradient of the whole batch, and the losses are those of its rows.
 */
static void cut_is_the_whole(void **state) {
    (void)state;
    for (size_t t = 0; t < COUNT(nets); t++)
        for (size_t c = 0; c < COUNT(cuts); c++) {
            /* Each segment has statistics of its own: test_batchnorm. */
            if (strstr(nets[t].spec, "batchnorm") != NULL) continue;
            const int v = cuts[c].v;
            batch b = batch_open(&nets[t], cuts[c].rows, v);
            const size_t n_param = count_param(&nets[t]);
            outcome cut = run(&nets[t], &b, cuts[c].rows, v, 1, false, 1);
            outcome whole = run(&nets[t], &b, &b.rows, 1, 1, false, 1);
            rig_within(rig_distance(cut.grad, whole.grad, n_param), 1e-6, nets[t].spec,
                       "gradient of segments");
            rig_within(rig_error_f(cut.grad, whole.grad, n_param), 1e-5, nets[t].spec,
                       "an element of the gradient of segments");
            double loss = 0;
            int64_t correct = 0;
            for (int s = 0; s < v; s++) {
                loss += cut.loss[s];
                correct += cut.correct[s];
                if (!cuts[c].rows[s]) assert_true(cut.loss[s] == 0 && cut.correct[s] == 0);
            }
            rig_within(fabs(loss - whole.loss[0]) / fmax(whole.loss[0], 1e-30), 1e-6, nets[t].spec,
                       "loss of segments");
            assert_int_equal(correct, whole.correct[0]);
            mnd_free(cut.grad), mnd_free(whole.grad);
            batch_close(&b);
        }
}

/* A batch without rows has a gradient too: zero. */
static void nothing_is_zero(void **state) {
    (void)state;
    for (size_t t = 0; t < COUNT(nets); t++) {
        static const int none[4] = {0};
        batch b = batch_open(&nets[t], none, 4);
        const size_t n_param = count_param(&nets[t]);
        outcome o = run(&nets[t], &b, none, 4, 3, false, 1);
        for (size_t i = 0; i < n_param; i++) assert_true(o.grad[i] == 0);
        mnd_free(o.grad);
        batch_close(&b);
    }
}

/*
 * The bits themselves: who changes an order of sums, and with it these, gives
 * MND_ARITHMETIC another number. The first digits of SHA-256, net by net.
 */
static void known_bits(void **state) {
    (void)state;
    static const char *const known[COUNT(nets)] = {
        "906ee8d9e9b6", "b2a4e5433bb2", "0aa90c276493", "2d21b04a7a68", "306855c8cce3",
        "60179b53f7f4", "84accf499809", "3859fd1fea5c", "dff2a1c7c52b", "5ebc2bbb2d04",
        "bc39c1db01e3", "3f20f842dd88", "6a0f199f7578", "291d7ca82b9e", "552349af0d35",
        "9da7df5533e2", "7629aa51ffa0"};
    if (strcmp(mnd_arithmetic(false), MND_ARITHMETIC) != 0) skip(); /* no native kernels here */
    for (size_t t = 0; t < COUNT(nets); t++) {
        batch b = batch_open(&nets[t], cuts[0].rows, cuts[0].v);
        outcome o = run(&nets[t], &b, cuts[0].rows, cuts[0].v, 1, false, 1);
        char sha256[MND_SHA256_HEX];
        rig_ok(mnd_sha256_buffer(o.grad, count_param(&nets[t]) * sizeof *o.grad, sha256), "hash");
        sha256[12] = '\0';
        if (known[t] == NULL || strcmp(sha256, known[t]) != 0)
            fail_msg("%s: %s, must be %s", nets[t].spec, sha256, known[t]);
        mnd_free(o.grad);
        batch_close(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_is_the_whole), cmocka_unit_test(same_bits_plain),
        cmocka_unit_test(same_bits_fused),  cmocka_unit_test(same_bits_threads),
        cmocka_unit_test(nothing_is_zero),  cmocka_unit_test(known_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
