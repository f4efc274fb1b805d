/*
 * The entries for dense layers of every table of kernels that this CPU can run, over odd shapes,
 * against their definition in sums.h.
 */
#include "sums.h"

enum { MAX_SEG = 9, PAD = 3 };

/* Rows of the batch (m of forward, k of the weight gradient), inputs and outputs. */
static const struct {
    int rows, in, out;
} shapes[] = {
    {0, 5, 70},    {1, 1, 1},     {1, 784, 10},  {2, 3, 65},    {7, 17, 33},   {12, 65, 64},
    {13, 64, 16},  {16, 128, 96}, {31, 16, 16},  {5, 600, 128}, {40, 530, 67}, {64, 9, 130},
    {65, 66, 515}, {130, 40, 71}, {260, 33, 34}, {300, 70, 68}, {33, 300, 80},
};

/* In sixteenths: none, few, half, most, all. */
static const int zeros[] = {0, 3, 8, 14, 16};

typedef enum entry { FORWARD, INPUT, WEIGHT } entry;
static const char *const entry_name[] = {"forward", "input_grad", "weight_grad"};

/* A product, what it must give, and memory for what it gives. */
typedef struct trial {
    entry entry;
    mnd_product p;
    int rows, in, out;
    float *a, *b, *c, *bias; /* owned */
    sum *want;               /* (subtrees, m, n) */
    int n_result;
} trial;

/* Element (i, j): the inner indices [from, to), from `start` on. */
static sum element(const trial *t, float start, int from, int to, int i, int j) {
    const mnd_product *p = &t->p;
    sum s = sum_from(start);
    for (int k = from; k < to; k++)
        sum_product(&s, t->entry == WEIGHT ? p->a[k * p->lda + i] : p->a[i * p->lda + k],
                    t->entry == INPUT ? p->b[j * p->ldb + k] : p->b[k * p->ldb + j]);
    return s;
}

/* Segments [first, first + n) in the tree that splits after the largest power of two below n. */
static sum tree(const trial *t, int first, int n, int i, int j) {
    const int *const start = t->p.seg->start;
    if (n == 0) return sum_from(0.0F);
    if (n == 1) return sum_finished(element(t, 0.0F, start[first], start[first + 1], i, j), false);
    int half = 1;
    while (2 * half < n) half *= 2;
    return sum_of(tree(t, first, half, i, j), tree(t, first + half, n - half, i, j));
}

static void define(trial *t) {
    const mnd_product *p = &t->p;
    sum *want = t->want;
    for (int r = 0; r < t->n_result; r++)
        for (int i = 0; i < p->m; i++)
            for (int j = 0; j < p->n; j++, want++) {
                const float start = p->bias != NULL ? p->bias[j] : 0.0F;
                if (t->entry == WEIGHT && p->seg != NULL) {
                    const int first = p->seg->subtree[r];
                    *want =
                        sum_finished(tree(t, first, p->seg->subtree[r + 1] - first, i, j), false);
                } else {
                    *want = sum_finished(element(t, start, 0, p->k, i, j), p->relu);
                }
            }
}

/* Memory and factors; c is large enough for two results. */
static void open_trial(trial *t, int zero_of_16, mnd_rng *rng) {
    mnd_product *const p = &t->p;
    const int m[] = {t->rows, t->rows, t->in}, n[] = {t->out, t->in, t->out};
    const int k[] = {t->in, t->out, t->rows};
    p->m = m[t->entry], p->n = n[t->entry], p->k = k[t->entry];
    p->lda = (t->entry == WEIGHT ? p->m : p->k) + PAD;
    p->ldb = (t->entry == INPUT ? p->k : p->n) + 2 * PAD;
    p->ldc = t->entry == WEIGHT ? p->n : p->n + PAD;
    const size_t a = (size_t)(t->entry == WEIGHT ? p->k : p->m) * (size_t)p->lda;
    const size_t b = (size_t)(t->entry == INPUT ? p->n : p->k) * (size_t)p->ldb;
    p->stride = (size_t)p->m * (size_t)p->ldc + PAD;
    p->a = t->a = sums_alloc(a, sizeof(float));
    p->b = t->b = sums_alloc(b, sizeof(float));
    p->c = t->c = sums_alloc(2 * p->stride, sizeof(float));
    t->bias = sums_alloc((size_t)p->n, sizeof(float));
    t->want = sums_alloc(2 * (size_t)p->m * (size_t)p->n, sizeof(sum));
    draw(rng, zero_of_16, a, t->a);
    draw(rng, 1, b, t->b);
    draw(rng, 4, (size_t)p->n, t->bias);
}

static void close_trial(trial *t) {
    mnd_free(t->a), mnd_free(t->b), mnd_free(t->c), mnd_free(t->bias), mnd_free(t->want);
}

/* Results where they belong, and nothing written elsewhere. */
static void check_result(const trial *t, const bench *b) {
    const mnd_product *p = &t->p;
    const sum *want = t->want;
    for (size_t at = 0; at < 2 * p->stride; at++) {
        const size_t r = at / p->stride, i = at % p->stride / (size_t)p->ldc;
        const size_t j = at % p->stride % (size_t)p->ldc;
        if (r < (size_t)t->n_result && i < (size_t)p->m && j < (size_t)p->n)
            check_sum(b, entry_name[t->entry], at, t->c[at], want++);
        else if (t->c[at] != GUARD)
            fail_msg("%s: %s writes outside its result", b->name, entry_name[t->entry]);
    }
}

/* By every table, on one thread and on three. */
static void check(trial *t) {
    const mnd_product *p = &t->p;
    define(t);
    for (int i = 0; table_at(i) != NULL; i++)
        for (int threads = 1; threads <= 3; threads += 2) {
            const mnd_kernels *k = table_at(i);
            bench b;
            snprintf(b.name, sizeof b.name, "%s, %d threads, %d rows, %d inputs, %d outputs",
                     k->name, threads, t->rows, t->in, t->out);
            bench_open(&b, k, threads, k->product_scratch(t->rows, t->in, t->out, MAX_SEG));
            for (size_t at = 0; at < 2 * p->stride; at++) t->c[at] = GUARD;
            (t->entry == FORWARD ? k->forward
             : t->entry == INPUT ? k->input_grad
                                 : k->weight_grad)(&b.workers, p);
            check_result(t, &b);
            bench_close(&b);
        }
}

static void rows_times_weights(void **state) {
    (void)state;
    mnd_rng rng;
    mnd_rng_start(&rng, 1, MND_RNG_TEST, 0, 0);
    for (size_t s = 0; s < COUNT(shapes); s++)
        for (size_t z = 0; z < COUNT(zeros); z++)
            for (int kind = 0; kind < 3; kind++) {
                const int rows = shapes[s].rows, start[] = {0, rows / 3, rows / 3, rows};
                const mnd_segments seg = {.n_seg = 3, .start = start};
                trial t = {.entry = kind == 2 ? INPUT : FORWARD, .rows = rows, .n_result = 1};
                t.in = shapes[s].in, t.out = shapes[s].out;
                open_trial(&t, zeros[z], &rng);
                if (kind < 2) t.p.bias = kind == 0 ? t.bias : NULL;
                t.p.relu = kind == 0 && z % 2 == 0;
                if (kind != 0) t.p.seg = &seg;
                check(&t);
                close_trial(&t);
            }
}

/* Segments in 64ths of the rows: one, two with none between, of all sizes, many, in two subtrees.
 */
static const struct {
    int n_seg, n_subtree, start[MAX_SEG + 1], subtree[3];
} division[] = {
    {1, 1, {0, 64}, {0, 1}},
    {3, 1, {0, 24, 24, 64}, {0, 3}},
    {5, 2, {0, 1, 40, 40, 41, 64}, {0, 3, 5}},
    {8, 1, {0, 8, 16, 24, 32, 40, 48, 56, 64}, {0, 8}},
    {8, 2, {0, 8, 16, 24, 32, 40, 48, 56, 64}, {0, 5, 8}},
    {9, 2, {0, 0, 0, 8, 9, 9, 20, 30, 50, 64}, {0, 2, 9}},
};

static void gradients_of_weights(void **state) {
    (void)state;
    mnd_rng rng;
    mnd_rng_start(&rng, 2, MND_RNG_TEST, 0, 0);
    for (size_t s = 0; s < COUNT(shapes); s++)
        for (size_t z = 0; z < COUNT(zeros); z++)
            for (size_t d = (s + z) % 2; d < COUNT(division); d += 2) {
                int start[MAX_SEG + 1];
                for (int q = 0; q <= division[d].n_seg; q++)
                    start[q] = division[d].start[q] * shapes[s].rows / 64;
                const mnd_segments seg = {.n_seg = division[d].n_seg,
                                          .start = start,
                                          .n_subtree = division[d].n_subtree,
                                          .subtree = division[d].subtree};
                trial t = {.entry = WEIGHT, .rows = shapes[s].rows, .n_result = seg.n_subtree};
                t.in = shapes[s].in, t.out = shapes[s].out;
                open_trial(&t, zeros[z], &rng);
                t.p.seg = &seg;
                check(&t);
                close_trial(&t);
            }
}

/* A NaN passes the relu, so that the loss shows it, and no other row's result has it. */
static void nan_passes_relu(void **state) {
    (void)state;
    enum { ROWS = 9, IN = 40, OUT = 70, BAD = 4 };
    mnd_rng rng;
    mnd_rng_start(&rng, 3, MND_RNG_TEST, 0, 0);
    for (int zero = 0; zero <= 14; zero += 14)
        for (int i = 0; table_at(i) != NULL; i++) {
            const mnd_kernels *k = table_at(i);
            trial t = {.rows = ROWS, .in = IN, .out = OUT};
            bench b = {.name = "nan"};
            open_trial(&t, zero, &rng);
            bench_open(&b, k, 1, k->product_scratch(ROWS, IN, OUT, 1));
            t.a[BAD * t.p.lda + 7] = NAN;
            t.p.bias = t.bias;
            t.p.relu = true;
            k->forward(&b.workers, &t.p);
            for (int r = 0; r < ROWS; r++)
                for (int j = 0; j < OUT; j++)
                    assert_int_equal(isnan(t.c[r * t.p.ldc + j]) != 0, r == BAD);
            bench_close(&b);
            close_trial(&t);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_times_weights),
        cmocka_unit_test(gradients_of_weights),
        cmocka_unit_test(nan_passes_relu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
