/*
 * The entries for convolutions of every table of kernels that this CPU can run, over odd shapes,
 * against their definition in sums.h.
 */
#include "sums.h"
#include "winograd_sums.h"

/* Images, filters, stride, whether padded as "same". */
typedef struct shape {
    int rows, h, w, c, kh, kw, n, stride;
    bool same;
} shape;

static const shape plain[] = {
    {1, 1, 1, 1, 1, 1, 1, 1, false},
    {3, 13, 13, 16, 3, 3, 32, 1, false},
    {2, 9, 11, 2, 5, 5, 33, 1, true},
    {3, 7, 6, 3, 3, 2, 5, 2, true},
    {2, 8, 9, 17, 3, 3, 12, 2, false},
    {2, 6, 70, 1, 3, 1, 20, 1, false},
    {2, 5, 4, 40, 1, 1, 70, 1, false},
    {2, 10, 10, 28, 3, 3, 48, 1, true},
    {0, 5, 5, 8, 3, 3, 16, 1, false},
    {5, 6, 7, 24, 2, 4, 65, 1, false},
    {2, 7, 7, 32, 5, 5, 17, 3, true},
    {1, 11, 9, 64, 4, 3, 130, 1, true},
    {2, 12, 12, 48, 7, 2, 16, 2, false},
    /* By winograd.inc: sizes that 4 does not divide, tails of vectors, several blocks of filters,
       of tiles; only dx of one that is 1 wide. */
    {3, 7, 7, 33, 3, 3, 18, 1, true},
    {2, 4, 5, 17, 3, 3, 70, 1, true},
    {120, 3, 3, 16, 3, 3, 16, 1, true},
    {2, 14, 3, 16, 3, 3, 16, 1, false},
    {1, 9, 6, 16, 3, 3, 130, 1, false},
};

/* Without padding, stride 1, at most MND_CONVPOOL_TAPS taps, at least MND_CONVPOOL_FILTERS. */
static const shape pooled[] = {
    {3, 28, 28, 1, 3, 3, 28, 1, false}, {2, 28, 28, 1, 3, 3, 16, 1, false},
    {0, 6, 6, 1, 3, 3, 16, 1, false},   {2, 7, 9, 2, 3, 3, 31, 1, false},
    {2, 5, 4, 1, 2, 2, 17, 1, false},   {1, 4, 140, 1, 3, 3, 33, 1, false},
    {2, 12, 8, 4, 4, 4, 50, 1, false},  {2, 9, 12, 3, 5, 2, 66, 1, false},
};

static const int zeros[] = {0, 8, 14, 16}; /* in sixteenths */

/* As layer_conv.c: TensorFlow's rule. */
static int outputs(int in, int k, int stride, bool same, int *pad) {
    *pad = 0;
    if (!same) return (in - k) / stride + 1;
    const int out = (in + stride - 1) / stride, needed = (out - 1) * stride + k - in;
    if (needed > 0) *pad = needed / 2;
    return out;
}

static mnd_conv conv_of(const shape *s) {
    mnd_conv g = {.h = s->h, .w = s->w, .c = s->c, .kh = s->kh, .kw = s->kw, .n = s->n};
    g.stride = s->stride;
    g.oh = outputs(s->h, s->kh, s->stride, s->same, &g.pad_top);
    g.ow = outputs(s->w, s->kw, s->stride, s->same, &g.pad_left);
    return g;
}

/* Inputs and results of all entries, with GUARD behind what is written. */
typedef struct trial {
    mnd_conv g;
    int rows;
    size_t image, out, pooled, weights; /* floats of one image, its outputs, the filters */
    float *x, *w, *bias, *dy, *start;   /* start: (weights + n), what gradients are added to */
    float *got;
    uint8_t *arg, *got_arg; /* (pooled), of the definition and of the entry */
    float *pool;            /* (pooled) outputs of the definition */
    sum *want;
} trial;

static void open_trial(trial *t, const shape *s, int zero_of_16, mnd_rng *rng) {
    *t = (trial){.g = conv_of(s), .rows = s->rows};
    const mnd_conv *g = &t->g;
    const size_t rows = (size_t)s->rows, n = (size_t)g->n;
    t->image = (size_t)(g->h * g->w * g->c);
    t->out = (size_t)(g->oh * g->ow) * n;
    t->pooled = (size_t)(g->oh / 2 * (g->ow / 2)) * n;
    t->weights = (size_t)(g->kh * g->kw * g->c) * n;
    const size_t most = rows * (t->image + t->out) + t->weights + n + SCRATCH_GUARD;
    t->x = sums_alloc(rows * t->image, sizeof(float));
    t->w = sums_alloc(t->weights, sizeof(float));
    t->bias = sums_alloc(n, sizeof(float));
    t->dy = sums_alloc(rows * t->out, sizeof(float));
    t->start = sums_alloc(t->weights + n, sizeof(float));
    t->got = sums_alloc(most, sizeof(float));
    t->want = sums_alloc(most, sizeof(sum));
    t->pool = sums_alloc(rows * t->pooled, sizeof(float));
    t->arg = sums_alloc(rows * t->pooled, 1);
    t->got_arg = sums_alloc(rows * t->pooled + 1, 1);
    draw(rng, zero_of_16, rows * t->image, t->x);
    draw(rng, 1, t->weights, t->w);
    draw(rng, 4, n, t->bias);
    draw(rng, zero_of_16, rows * t->out, t->dy);
    draw(rng, 4, t->weights + n, t->start);
    for (size_t i = 0; i < t->weights + n; i++) t->start[i] += 0.0F; /* no result is -0 */
}

static void close_trial(trial *t) {
    mnd_free(t->x), mnd_free(t->w), mnd_free(t->bias), mnd_free(t->dy), mnd_free(t->start);
    mnd_free(t->got), mnd_free(t->want), mnd_free(t->pool), mnd_free(t->arg), mnd_free(t->got_arg);
}

/* The input that output (y, x) multiplies by tap (ky, kx), channel c; -1: it is padding. */
static ptrdiff_t input_of(const mnd_conv *g, int o, int ky, int kx, int c) {
    const int y = o / g->ow * g->stride + ky - g->pad_top;
    const int x = o % g->ow * g->stride + kx - g->pad_left;
    if (y < 0 || y >= g->h || x < 0 || x >= g->w) return -1;
    return ((ptrdiff_t)y * g->w + x) * g->c + c;
}

/* Output o of filter f of an image, from the bias on. */
static sum output(const trial *t, const float *x, float start, int o, int f) {
    const mnd_conv *g = &t->g;
    sum s = sum_from(start);
    for (int k = 0; k < g->kh * g->kw * g->c; k++) {
        const ptrdiff_t at = input_of(g, o, k / g->c / g->kw, k / g->c % g->kw, k % g->c);
        if (at >= 0) sum_product(&s, x[at], t->w[k * g->n + f]);
    }
    return s;
}

static void define_forward(trial *t, bool with_bias, bool relu) {
    sum *want = t->want;
    for (int i = 0; i < t->rows; i++)
        for (int o = 0; o < t->g.oh * t->g.ow; o++)
            for (int f = 0; f < t->g.n; f++)
                *want++ = sum_finished(
                    output(t, t->x + (size_t)i * t->image, with_bias ? t->bias[f] : 0.0F, o, f),
                    relu);
}

/* Where the kernels use F(4x4, 3x3), that is what they must match. */
static void forward_by_tiles(const trial *t, bool with_bias, bool relu) {
    for (int i = 0; i < t->rows && w_fits(&t->g); i++)
        w_convolve(&t->g, t->x + (size_t)i * t->image, t->w, false, with_bias ? t->bias : NULL,
                   relu, t->want + (size_t)i * t->out);
}

static void input_grad_by_tiles(const trial *t) {
    const mnd_conv *g = &t->g;
    mnd_conv back = *g;
    back.h = g->oh, back.w = g->ow, back.c = g->n;
    back.oh = g->h, back.ow = g->w, back.n = g->c;
    back.pad_top = 2 - g->pad_top, back.pad_left = 2 - g->pad_left;
    for (int i = 0; i < t->rows && w_fits(&back); i++) {
        const float *const dy = t->dy + (size_t)i * t->out;
        if (w_few(dy, t->out)) continue;
        w_convolve(&back, dy, t->w, true, NULL, false, t->want + (size_t)i * t->image);
    }
}

static void weight_grad_by_tiles(const trial *t) {
    if (t->rows > 0 && w_fits(&t->g) && !w_few(t->dy, (size_t)t->rows * t->out))
        w_weight_grad(&t->g, t->rows, t->x, t->dy, t->start, t->want);
}

/* Each output in ascending order gives to its inputs, filter by filter. */
static void define_input_grad(trial *t) {
    const mnd_conv *g = &t->g;
    for (size_t i = 0; i < (size_t)t->rows * t->image; i++) t->want[i] = sum_from(0.0F);
    for (int i = 0; i < t->rows; i++)
        for (int o = 0; o < g->oh * g->ow; o++)
            for (int k = 0; k < g->kh * g->kw * g->c; k++) {
                const ptrdiff_t at = input_of(g, o, k / g->c / g->kw, k / g->c % g->kw, k % g->c);
                for (int f = 0; f < g->n && at >= 0; f++)
                    sum_product(&t->want[(size_t)i * t->image + (size_t)at],
                                t->dy[(size_t)i * t->out + (size_t)(o * g->n + f)],
                                t->w[k * g->n + f]);
            }
    for (size_t i = 0; i < (size_t)t->rows * t->image; i++)
        t->want[i] = sum_finished(t->want[i], false);
}

/* One chain per image, over its outputs; images are added in order. Filters, then biases. */
static void define_weight_grad(trial *t, const float *dy) {
    const mnd_conv *g = &t->g;
    const int taps = g->kh * g->kw * g->c;
    for (int k = 0; k <= taps; k++)
        for (int f = 0; f < g->n; f++) {
            sum *const want = &t->want[k * g->n + f];
            *want = sum_from(t->start[k * g->n + f]);
            for (int i = 0; i < t->rows; i++) {
                sum image = sum_from(0.0F);
                for (int o = 0; o < g->oh * g->ow; o++) {
                    const float d = dy[(size_t)i * t->out + (size_t)(o * g->n + f)];
                    const ptrdiff_t at =
                        k < taps ? input_of(g, o, k / g->c / g->kw, k / g->c % g->kw, k % g->c) : 0;
                    if (k == taps)
                        sum_add(&image, d);
                    else if (at >= 0)
                        sum_product(&image, t->x[(size_t)i * t->image + (size_t)at], d);
                }
                *want = sum_of(*want, image);
            }
            *want = sum_finished(*want, false);
        }
}

/* The first largest of the four outputs of each window. */
static void define_pool(trial *t, bool with_bias, bool relu) {
    const mnd_conv *g = &t->g;
    const int pw = g->ow / 2, windows = g->oh / 2 * pw;
    sum *want = t->want;
    for (int i = 0; i < t->rows; i++)
        for (int p = 0; p < windows; p++)
            for (int f = 0; f < g->n; f++, want++) {
                const ptrdiff_t at = want - t->want;
                for (int q = 0; q < 4; q++) {
                    const int o = (p / pw * 2 + q / 2) * g->ow + p % pw * 2 + q % 2;
                    const sum s = sum_finished(
                        output(t, t->x + (size_t)i * t->image, with_bias ? t->bias[f] : 0.0F, o, f),
                        relu);
                    if (q > 0 && s.chain <= want->chain) continue;
                    *want = s;
                    t->arg[at] = (uint8_t)q;
                }
                t->pool[at] = want->chain;
            }
}

/* What the gradient of pooled outputs is as one of all outputs. */
static float *unpool(const trial *t, bool relu) {
    const mnd_conv *g = &t->g;
    const int pw = g->ow / 2;
    float *const all = sums_alloc((size_t)t->rows * t->out, sizeof *all);
    for (size_t at = 0; at < (size_t)t->rows * t->pooled; at++) {
        const size_t i = at / t->pooled;
        const int p = (int)(at % t->pooled) / g->n, f = (int)at % g->n, q = t->arg[at];
        const int o = (p / pw * 2 + q / 2) * g->ow + p % pw * 2 + q % 2;
        if (!relu || t->pool[at] > 0.0F) all[i * t->out + (size_t)(o * g->n + f)] = t->dy[at];
    }
    return all;
}

typedef enum entry { FORWARD, INPUT, WEIGHT, POOL, POOL_WEIGHT } entry;
static const char *const entry_name[] = {"conv_forward", "conv_input_grad", "conv_weight_grad",
                                         "convpool_forward", "convpool_weight_grad"};

static void run(const bench *b, trial *t, entry e, bool with_bias, bool relu) {
    const mnd_convolution c = {.shape = &t->g,
                               .rows = t->rows,
                               .x = t->x,
                               .w = t->w,
                               .bias = with_bias ? t->bias : NULL,
                               .relu = relu,
                               .y = e == POOL_WEIGHT ? t->pool : t->got,
                               .arg = e == POOL_WEIGHT ? t->arg : t->got_arg,
                               .dy = t->dy,
                               .dx = t->got,
                               .dw = t->got,
                               .dbias = t->got + t->weights};
    (e == FORWARD  ? b->table->conv_forward
     : e == INPUT  ? b->table->conv_input_grad
     : e == WEIGHT ? b->table->conv_weight_grad
     : e == POOL   ? b->table->convpool_forward
                   : b->table->convpool_weight_grad)(&b->workers, &c);
}

/* The entry by every table, on one thread and on three, over n results. */
static void check(trial *t, entry e, size_t n, bool with_bias, bool relu) {
    for (int i = 0; table_at(i) != NULL; i++)
        for (int threads = 1; threads <= 3; threads += 2) {
            const mnd_kernels *k = table_at(i);
            bench b;
            snprintf(b.name, sizeof b.name,
                     "%s, %d threads, %d images of %d x %d x %d, %d filters of %d x %d, stride %d",
                     k->name, threads, t->rows, t->g.h, t->g.w, t->g.c, t->g.n, t->g.kh, t->g.kw,
                     t->g.stride);
            bench_open(&b, k, threads, k->conv_scratch(&t->g));
            for (size_t at = 0; at < n + SCRATCH_GUARD; at++) t->got[at] = GUARD;
            if (e == WEIGHT || e == POOL_WEIGHT) memcpy(t->got, t->start, n * sizeof *t->got);
            run(&b, t, e, with_bias, relu);
            check_sums(&b, entry_name[e], n, t->got, t->want);
            for (size_t at = n; at < n + SCRATCH_GUARD; at++)
                if (t->got[at] != GUARD)
                    fail_msg("%s: %s writes behind its result", b.name, entry_name[e]);
            /* Another order of additions may choose another of nearly equal outputs. */
            if (e == POOL && b.fast) assert_memory_equal(t->got_arg, t->arg, n);
            bench_close(&b);
        }
}

static void convolutions(void **state) {
    (void)state;
    mnd_rng rng;
    mnd_rng_start(&rng, 4, MND_RNG_TEST, 0, 0);
    for (size_t s = 0; s < COUNT(plain); s++)
        for (size_t z = 0; z < (plain[s].rows < 100 ? COUNT(zeros) : 1); z++) {
            trial t;
            open_trial(&t, &plain[s], zeros[z], &rng);
            const size_t rows = (size_t)t.rows;
            const bool with_bias = z % 2 == 0, relu = z / 2 % 2 == 0;
            define_forward(&t, with_bias, relu);
            forward_by_tiles(&t, with_bias, relu);
            check(&t, FORWARD, rows * t.out, with_bias, relu);
            define_input_grad(&t);
            input_grad_by_tiles(&t);
            check(&t, INPUT, rows * t.image, false, false);
            define_weight_grad(&t, t.dy);
            weight_grad_by_tiles(&t);
            check(&t, WEIGHT, t.weights + (size_t)t.g.n, false, false);
            close_trial(&t);
        }
}

static void convolutions_with_pooling(void **state) {
    (void)state;
    mnd_rng rng;
    mnd_rng_start(&rng, 5, MND_RNG_TEST, 0, 0);
    for (size_t s = 0; s < COUNT(pooled); s++)
        for (size_t z = 0; z < COUNT(zeros); z++)
            for (int relu = 0; relu < 2; relu++) {
                trial t;
                open_trial(&t, &pooled[s], zeros[z], &rng);
                assert_true(t.g.kh * t.g.kw * t.g.c <= MND_CONVPOOL_TAPS);
                assert_true(t.g.n >= MND_CONVPOOL_FILTERS);
                define_pool(&t, z % 2 == 0, relu);
                check(&t, POOL, (size_t)t.rows * t.pooled, z % 2 == 0, relu);
                float *const all = unpool(&t, relu);
                define_weight_grad(&t, all);
                check(&t, POOL_WEIGHT, t.weights + (size_t)t.g.n, false, relu);
                mnd_free(all);
                close_trial(&t);
            }
}

/* A gradient with a NaN among few values that are not 0, as pooling leaves it, or among many. */
static void nan_reaches_gradients(void **state) {
    (void)state;
    mnd_rng rng;
    mnd_rng_start(&rng, 6, MND_RNG_TEST, 0, 0);
    for (int i = 0; table_at(i) != NULL; i++)
        for (int z = 14; z >= 0; z -= 14) {
            const mnd_kernels *k = table_at(i);
            const bool by_tiles = z == 0 && k != mnd_kernels_base();
            trial t;
            bench b = {.name = "nan"};
            open_trial(&t, &plain[1], z, &rng);
            t.dy[t.out + 5 * (size_t)t.g.n + 3] = NAN; /* the second image, filter 3 */
            bench_open(&b, k, 1, k->conv_scratch(&t.g));
            run(&b, &t, INPUT, false, false);
            for (int at = 0; at < t.rows * (int)t.image; at++) {
                const int pixel = at % (int)t.image / t.g.c, y = pixel / t.g.w, x = pixel % t.g.w;
                const bool reached = at / (int)t.image == 1 && y < 3 && x >= 5 && x < 8;
                const bool tile = at / (int)t.image == 1 && y < 4 && x >= 4 && x < 8;
                if (reached || !(by_tiles && tile))
                    assert_int_equal(isnan(t.got[at]) != 0, reached);
            }
            memset(t.got, 0, (t.weights + (size_t)t.g.n) * sizeof *t.got);
            run(&b, &t, WEIGHT, false, false);
            for (size_t at = 0; at < t.weights + (size_t)t.g.n; at++)
                assert_int_equal(isnan(t.got[at]) != 0, at % (size_t)t.g.n == 3);
            bench_close(&b);
            close_trial(&t);
        }
}

/* An input that is not finite is seen in all outputs that it reaches. */
static void infinity_reaches_outputs(void **state) {
    (void)state;
    mnd_rng rng;
    mnd_rng_start(&rng, 7, MND_RNG_TEST, 0, 0);
    for (int i = 0; table_at(i) != NULL; i++)
        for (int relu = 0; relu < 2; relu++) {
            const mnd_kernels *k = table_at(i);
            trial t;
            bench b = {.name = "infinity"};
            open_trial(&t, &plain[1], 0, &rng);
            t.x[(4 * t.g.w + 6) * t.g.c + 2] = relu ? NAN : INFINITY;
            bench_open(&b, k, 1, k->conv_scratch(&t.g));
            run(&b, &t, FORWARD, true, relu);
            for (int o = 0; o < t.g.oh * t.g.ow; o++)
                for (int f = 0; f < t.g.n; f++) {
                    const float got = t.got[o * t.g.n + f];
                    const int y = o / t.g.ow, x = o % t.g.ow;
                    const bool reached = y >= 2 && y <= 4 && x >= 4 && x <= 6;
                    if (reached) assert_int_equal(isfinite(got) != 0, false);
                    if (y >= 8 || x >= 8) assert_int_equal(isfinite(got) != 0, true);
                }
            bench_close(&b);
            close_trial(&t);
        }
}

static double rms_error(size_t n, const float *got, const sum *want) {
    double square = 0.0;
    for (size_t i = 0; i < n; i++) square += pow((double)got[i] - want[i].exact, 2.0);
    return sqrt(square / (double)n);
}

/* The errors of F(4x4, 3x3) are 2 to 5 times those of direct sums in float, most where the sums
   are short. (The bound that check_sum asserts for each result is a worst case, far above.) */
static void errors_are_small(void **state) {
    static const shape some[] = {{2, 12, 12, 16, 3, 3, 16, 1, true},
                                 {2, 7, 7, 64, 3, 3, 16, 1, true},
                                 {1, 8, 8, 192, 3, 3, 16, 1, true}};
    (void)state;
    mnd_rng rng;
    mnd_rng_start(&rng, 8, MND_RNG_TEST, 0, 0);
    for (size_t s = 0; s < COUNT(some); s++) {
        const mnd_kernels *k = mnd_kernels_fast();
        trial t;
        bench b = {.name = "errors"};
        double error[3], chain[3];
        open_trial(&t, &some[s], 0, &rng);
        bench_open(&b, k, 1, k->conv_scratch(&t.g));
        for (entry e = FORWARD; e <= WEIGHT; e++) {
            const size_t rows = (size_t)t.rows;
            const size_t n = e == FORWARD ? rows * t.out : e == INPUT ? rows * t.image : t.weights;
            if (e == FORWARD) define_forward(&t, true, false);
            if (e == INPUT) define_input_grad(&t);
            if (e == WEIGHT) define_weight_grad(&t, t.dy);
            memcpy(t.got, t.start, (t.weights + (size_t)t.g.n) * sizeof *t.got);
            run(&b, &t, e, true, false);
            error[e] = rms_error(n, t.got, t.want);
            for (size_t i = 0; i < n; i++) t.got[i] = t.want[i].chain;
            chain[e] = rms_error(n, t.got, t.want);
            if (!(error[e] <= 6.0 * chain[e]))
                fail_msg("%d channels: %s has errors of %.3g, sums of %.3g", t.g.c, entry_name[e],
                         error[e], chain[e]);
        }
        bench_close(&b);
        close_trial(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions),          cmocka_unit_test(convolutions_with_pooling),
        cmocka_unit_test(nan_reaches_gradients), cmocka_unit_test(infinity_reaches_outputs),
        cmocka_unit_test(errors_are_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
