/*
 * Augmentation: each part does what its name says, compared with a plain version in double
 * precision; what an image gets depends on seed, epoch and sample alone; the same bits with any
 * vectors and number of threads.
 */
#include "test.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "augment_rows.h"
#include "loader.h"
#include "mnist_dist/loops.h"
#include "mnist_dist/vector.h"

/* augment_rows.inc once more, for fixed vectors each. */
#undef MND_EACH_WIDTH
#define MND_EACH_WIDTH static
#define mnd_augment_where where_plain
#define mnd_augment_pack pack_plain
#define mnd_augment_blend blend_plain
#include "augment_rows.inc"
#undef MND_EACH_WIDTH
#undef mnd_augment_where
#undef mnd_augment_pack
#undef mnd_augment_blend
#ifdef __x86_64__
#define MND_EACH_WIDTH static __attribute__((target("avx2")))
#define mnd_augment_where where_avx2
#define mnd_augment_pack pack_avx2
#define mnd_augment_blend blend_avx2
#include "augment_rows.inc"
#undef MND_EACH_WIDTH
#undef mnd_augment_where
#undef mnd_augment_pack
#undef mnd_augment_blend
#define MND_EACH_WIDTH static __attribute__((target("avx512f")))
#define mnd_augment_where where_avx512
#define mnd_augment_pack pack_avx512
#define mnd_augment_blend blend_avx512
#include "augment_rows.inc"
#undef mnd_augment_where
#undef mnd_augment_pack
#undef mnd_augment_blend
#endif

enum { MOST = 64 * 64 * 3 };

static const mnd_augment all_parts = {
    .rotate = 12, .scale = 0.12, .shear = 0.15, .shift = 2, .elastic = 1.2, .erase = 5};
static const mnd_distortion nothing = {.scale = {1, 1}};

/* (height, width, channels) */
static const int shapes[][3] = {{28, 28, 1}, {5, 7, 3},   {1, 1, 1},
                                {17, 40, 2}, {33, 14, 1}, {1, 16, 1}};
enum { N_SHAPE = sizeof shapes / sizeof shapes[0] };

static void fill(uint8_t *image, int n, unsigned seed) {
    for (int i = 0; i < n; i++) image[i] = (uint8_t)((seed = seed * 1103515245U + 12345U) >> 16);
}

static void distort(const mnd_augment *how, const int shape[3], const mnd_distortion *d,
                    const uint8_t *in, float *out) {
    mnd_augmenter *a;
    assert_int_equal(mnd_augmenter_create(how, shape[0], shape[1], shape[2], 1, &a), MND_OK);
    mnd_augmenter_image(a, 0, d, in, out);
    mnd_augmenter_destroy(&a);
}

/* --- the result ------------------------------------------------------------------------------- */

/* Nothing changes a bit; a shift by whole pixels moves them and fills with 0. */
static void whole_shifts(void **state) {
    (void)state;
    static const double shift[][2] = {{0, 0}, {1, 0},   {0, -1},   {-3, 2},
                                      {5, 5}, {100, 0}, {0, -1000}};
    static uint8_t in[MOST];
    static float out[MOST], bytes[MOST];
    for (int s = 0; s < N_SHAPE; s++) {
        const int height = shapes[s][0], width = shapes[s][1], n = shapes[s][2];
        fill(in, height * width * n, (unsigned)s + 1);
        mnd_pixels((size_t)(height * width * n), in, bytes);
        for (size_t k = 0; k < sizeof shift / sizeof shift[0]; k++) {
            mnd_distortion d = nothing;
            memcpy(d.shift, shift[k], sizeof d.shift);
            distort(&(mnd_augment){0}, shapes[s], &d, in, out);
            for (int i = 0; i < height * width * n; i++) {
                const int x = i / n % width - (int)shift[k][0];
                const int y = i / n / width - (int)shift[k][1];
                const bool inside = x >= 0 && x < width && y >= 0 && y < height;
                const float want = inside ? bytes[(y * width + x) * n + i % n] : 0.0F;
                assert_memory_equal(&out[i], &want, sizeof want);
            }
        }
    }
}

/* Where a light point of a 9 x 9 image lies afterwards. */
static void follow(const mnd_distortion *d, int x, int y, int want_x, int want_y) {
    uint8_t in[81] = {0};
    float out[81];
    in[9 * y + x] = 255;
    distort(&(mnd_augment){0}, (int[]){9, 9, 1}, d, in, out);
    int most = 0;
    for (int i = 0; i < 81; i++)
        if (out[i] > out[most]) most = i;
    assert_int_equal(most, 9 * want_y + want_x);
    assert_true(out[most] > 0.99F);
}

/* No part mirrors, and each goes the way that the header says. */
static void directions(void **state) {
    (void)state;
    const double quarter = 2 * atan(1);
    mnd_distortion d = nothing;
    d.angle = quarter;
    follow(&d, 4, 0, 0, 4); /* counter-clockwise: from the top to the left */
    follow(&d, 8, 1, 1, 0);
    d.angle = -quarter;
    follow(&d, 4, 0, 8, 4);
    d = nothing;
    d.scale[0] = 2;
    follow(&d, 5, 7, 6, 7);
    d.scale[1] = 0.5;
    follow(&d, 3, 8, 2, 6);
    d = nothing;
    d.shear = 1;
    follow(&d, 4, 6, 6, 6); /* y grows downwards */
    follow(&d, 4, 2, 2, 2);
    d.angle = quarter;
    follow(&d, 4, 6, 6, 2); /* sheared first, then turned */
    d = nothing;
    for (int i = 0; i < 16; i++) d.bend[0][i] = 1, d.bend[1][i] = -2;
    follow(&d, 4, 4, 3, 6); /* displaced is where a pixel is taken from */
}

/* The interpolating polynomial through (0, v0) ... (3, v3), by Neville's scheme. */
static double neville(const double v[4], double t) {
    double p[4] = {v[0], v[1], v[2], v[3]};
    for (int k = 1; k < 4; k++)
        for (int i = 0; i + k < 4; i++) p[i] = ((i + k - t) * p[i] + (t - i) * p[i + 1]) / k;
    return p[0];
}

static double bent(const float grid[16], const int shape[3], int x, int y) {
    double row[4], at[4];
    const double tx = shape[1] > 1 ? 3.0 * x / (shape[1] - 1) : 1.5;
    const double ty = shape[0] > 1 ? 3.0 * y / (shape[0] - 1) : 1.5;
    for (int j = 0; j < 4; j++) {
        for (int i = 0; i < 4; i++) at[i] = (double)grid[4 * j + i];
        row[j] = neville(at, tx);
    }
    return neville(row, ty);
}

static double pixel(const uint8_t *in, const int shape[3], double y, double x, int c) {
    if (x < 0 || y < 0 || x >= shape[1] || y >= shape[0]) return 0;
    return in[((int)y * shape[1] + (int)x) * shape[2] + c];
}

/* One pixel of the result, as augment.h defines it. */
static double plain(const mnd_distortion *d, const int shape[3], const uint8_t *in, int x, int y,
                    int c) {
    const double co = cos(d->angle), si = sin(d->angle);
    const double m[2][2] = {{co * d->scale[0], (co * d->shear + si) * d->scale[1]},
                            {-si * d->scale[0], (co - si * d->shear) * d->scale[1]}};
    const double det = m[0][0] * m[1][1] - m[0][1] * m[1][0];
    const double cx = (shape[1] - 1) / 2.0, cy = (shape[0] - 1) / 2.0;
    const double dx = x - cx - d->shift[0], dy = y - cy - d->shift[1];
    const double u = cx + (m[1][1] * dx - m[0][1] * dy) / det + bent(d->bend[0], shape, x, y);
    const double v = cy + (m[0][0] * dy - m[1][0] * dx) / det + bent(d->bend[1], shape, x, y);
    const double fx = u - floor(u), fy = v - floor(v);
    const double upper = pixel(in, shape, floor(v), floor(u), c) * (1 - fx) +
                         pixel(in, shape, floor(v), floor(u) + 1, c) * fx;
    const double lower = pixel(in, shape, floor(v) + 1, floor(u), c) * (1 - fx) +
                         pixel(in, shape, floor(v) + 1, floor(u) + 1, c) * fx;
    return (upper * (1 - fy) + lower * fy) / 255;
}

static void compare_with_plain(const mnd_distortion *d) {
    static uint8_t in[MOST];
    static float out[MOST];
    for (int s = 0; s < N_SHAPE; s++) {
        const int height = shapes[s][0], width = shapes[s][1], n = shapes[s][2];
        fill(in, height * width * n, 7);
        distort(&(mnd_augment){0}, shapes[s], d, in, out);
        for (int i = 0; i < height * width * n; i++) {
            const double want = plain(d, shapes[s], in, i / n % width, i / n / width, i % n);
            assert_true(fabs((double)out[i] - want) < 2e-5);
        }
    }
}

static void as_plain(void **state) {
    (void)state;
    mnd_distortion d = nothing;
    for (int degrees = -180; degrees <= 180; degrees += 20) {
        d.angle = degrees * atan(1) / 45;
        compare_with_plain(&d);
    }
    mnd_augment strong = {.rotate = 90, .scale = 0.5, .shear = 1, .shift = 5, .elastic = 3};
    for (uint32_t sample = 0; sample < 50; sample++) {
        mnd_augment_draw(&all_parts, 1, 1, sample, &d);
        compare_with_plain(&d);
        mnd_augment_draw(&strong, 1, 1, sample, &d);
        compare_with_plain(&d);
    }
}

/* A square of 0, cut off at the border; everything else keeps its bits. */
static void erased(void **state) {
    (void)state;
    static uint8_t in[MOST];
    static float out[MOST];
    memset(in, 255, sizeof in);
    const mnd_augment how = {.erase = 4};
    int whole = 0, corner = 0;
    for (uint32_t sample = 0; sample < 500; sample++) {
        mnd_distortion d;
        mnd_augment_draw(&how, 3, 1, sample, &d);
        distort(&how, (int[]){12, 10, 3}, &d, in, out);
        int left = 10, right = -1, top = 12, bottom = -1, zeros = 0;
        for (int i = 0; i < 12 * 10 * 3; i++) {
            const int x = i / 3 % 10, y = i / 30;
            assert_true(out[i] == 0.0F || out[i] == 1.0F);
            if (out[i] != 0.0F) continue;
            zeros++;
            left = x < left ? x : left;
            right = x > right ? x : right;
            top = y < top ? y : top;
            bottom = y > bottom ? y : bottom;
        }
        const int w = right - left + 1, h = bottom - top + 1;
        assert_int_equal(zeros, 3 * w * h);
        assert_true(w >= 2 && w <= 4 && h >= 2 && h <= 4);
        assert_true((w == 4 || left == 0 || right == 9) && (h == 4 || top == 0 || bottom == 11));
        whole += w == 4 && h == 4;
        corner += w < 4 && h < 4;
    }
    assert_true(whole > 200 && corner > 5);
    mnd_augmenter *a;
    assert_int_equal(mnd_augmenter_create(&(mnd_augment){.erase = 11}, 12, 10, 1, 1, &a),
                     MND_USAGE);
    assert_null(a);
    assert_non_null(strstr(mnd_error(), "erase:11 is larger than the images of 12 x 10"));
}

/* --- the random numbers ----------------------------------------------------------------------- */

/* Mean and deviation, and smallest and largest, of a uniform or nearly normal number. */
typedef struct moments {
    double n, sum, squares, low, high;
} moments;

static void add(moments *m, double x) {
    m->low = m->n == 0 || x < m->low ? x : m->low;
    m->high = m->n == 0 || x > m->high ? x : m->high;
    m->n++;
    m->sum += x;
    m->squares += x * x;
}

static void check_moments(const moments *m, double deviation, double most) {
    assert_true(fabs(m->sum / m->n) < 4 * deviation / sqrt(m->n));
    assert_true(fabs(sqrt(m->squares / m->n) / deviation - 1) < 0.02);
    assert_true(m->low >= -most && m->high <= most);
    assert_true(m->low < -0.95 * most && m->high > 0.95 * most);
}

static void ranges(void **state) {
    (void)state;
    enum { SAMPLES = 20000 };
    static moments m[9], bend;
    const double most[8] = {12 * atan(1) / 45, 0.12, 0.12, 0.15, 2, 2, 0.5, 0.5};
    for (uint32_t i = 0; i < SAMPLES; i++) {
        mnd_distortion d;
        mnd_augment_draw(&all_parts, 5, 2, i, &d);
        const double value[8] = {d.angle,    d.scale[0] - 1, d.scale[1] - 1,   d.shear,
                                 d.shift[0], d.shift[1],     d.erase[0] - 0.5, d.erase[1] - 0.5};
        for (int k = 0; k < 8; k++) add(&m[k], value[k]);
        add(&m[8], (d.scale[0] - 1) * (d.scale[1] - 1)); /* two draws, not one */
        for (int k = 0; k < 32; k++) add(&bend, (double)d.bend[k / 16][k % 16]);
    }
    for (int k = 0; k < 8; k++) check_moments(&m[k], most[k] / sqrt(3), most[k]);
    assert_true(fabs(m[8].sum / SAMPLES) < 4 * 0.12 * 0.12 / 3 / sqrt(SAMPLES));
    assert_true(fabs(bend.sum / bend.n) < 4 * 1.2 / sqrt(bend.n));
    assert_true(fabs(sqrt(bend.squares / bend.n) / 1.2 - 1) < 0.01);
    assert_true(bend.low > -3.46 * 1.2 && bend.low < -2.5 * 1.2 && bend.high < 3.46 * 1.2);
}

static void one_draw_for_each(void **state) {
    (void)state;
    mnd_distortion d, other;
    memset(&d, 0, sizeof d);
    memset(&other, 0, sizeof other);
    mnd_augment_draw(&all_parts, 5, 2, 100, &d);
    mnd_augment_draw(&all_parts, 5, 2, 100, &other);
    assert_memory_equal(&d, &other, sizeof d);
    static const uint64_t key[][3] = {
        {6, 2, 100}, {5 + (1ULL << 32), 2, 100}, {5, 3, 100}, {5, 2, 101}, {5, 100, 2}};
    for (size_t i = 0; i < sizeof key / sizeof key[0]; i++) {
        mnd_augment_draw(&all_parts, key[i][0], (uint32_t)key[i][1], (uint32_t)key[i][2], &other);
        assert_true(d.angle != other.angle && d.shift[0] != other.shift[0]);
        assert_memory_not_equal(d.bend, other.bend, sizeof d.bend);
    }
    /* A part that is off changes no other. */
    mnd_augment_draw(&(mnd_augment){.shift = 2}, 5, 2, 100, &other);
    assert_true(other.angle == 0 && other.scale[0] == 1 && other.shear == 0);
    assert_memory_equal(d.shift, other.shift, sizeof d.shift);
    mnd_augment_draw(&(mnd_augment){.elastic = 1.2}, 5, 2, 100, &other);
    assert_memory_equal(d.bend, other.bend, sizeof d.bend);
}

/* --- vectors and threads ---------------------------------------------------------------------- */

typedef struct table {
    bool here;
    void (*where)(const mnd_augment_line *, int32_t *, float *, float *);
    void (*pack)(int, const uint8_t *, const uint8_t *, uint32_t *);
    void (*blend)(const mnd_augment_line *, const uint32_t *, const int32_t *, const float *,
                  const float *, float *);
} table;

static void any_vectors(void **state) {
    (void)state;
    const table tables[] = {
        {true, mnd_augment_where, mnd_augment_pack, mnd_augment_blend},
#ifdef __x86_64__
        {__builtin_cpu_supports("avx2"), where_avx2, pack_avx2, blend_avx2},
        {__builtin_cpu_supports("avx512f"), where_avx512, pack_avx512, blend_avx512},
#endif
    };
    enum { BLOCKS = 3, N = 16 * BLOCKS, ROWS = 40 };
    static uint8_t bytes[ROWS + 1][N + 1];
    static float basis[4][N];
    fill(bytes[0], sizeof bytes, 3);
    for (int i = 0; i < 4 * N; i++) basis[i / N][i % N] = (float)((i * 37) % 101) / 101.0F;
    for (int k = 0; k < 200; k++) {
        const float step = (float)k / 131.0F;
        const mnd_augment_line l = {.blocks = BLOCKS,
                                    .start = {0.3F * (float)(k - 50), 0.2F * (float)k},
                                    .step = {1.0F - 0.3F * step, 0.7F * step - 0.3F},
                                    .bend = {{1, -2, step, 0.3F}, {-step, 1, 1.7F, -0.2F}},
                                    .limit = {N - 1, ROWS - 1},
                                    .basis = {basis[0], basis[1], basis[2], basis[3]},
                                    .stride = N};
        static uint32_t square[2][ROWS][N];
        static struct {
            int32_t index[N];
            float right[N], below[N], out[N];
        } r[2];
        for (int y = 0; y < ROWS; y++) pack_plain(BLOCKS, bytes[y], bytes[y + 1], square[0][y]);
        where_plain(&l, r[0].index, r[0].right, r[0].below);
        blend_plain(&l, square[0][0], r[0].index, r[0].right, r[0].below, r[0].out);
        for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
            if (!tables[t].here) continue;
            for (int y = 0; y < ROWS; y++)
                tables[t].pack(BLOCKS, bytes[y], bytes[y + 1], square[1][y]);
            tables[t].where(&l, r[1].index, r[1].right, r[1].below);
            tables[t].blend(&l, square[1][0], r[1].index, r[1].right, r[1].below, r[1].out);
            assert_memory_equal(square[0], square[1], sizeof square[0]);
            assert_memory_equal(&r[0], &r[1], sizeof r[0]);
        }
    }
}

enum { IMAGES = 203, PIXELS = 33 * 30 * 3, BATCH = 64 };

/* All batches of two epochs, ordered by sample: x (2, IMAGES, PIXELS). */
static void load(int first, int n, int threads, float *x) {
    const mnd_loader_plan plan = {.images = IMAGES,
                                  .pixels = PIXELS,
                                  .batch = BATCH,
                                  .seed = 4,
                                  .logical = 8,
                                  .first = first,
                                  .n = n,
                                  .augment = all_parts,
                                  .size = {33, 30, 3},
                                  .threads = threads};
    mnd_loader loader = {0};
    assert_int_equal(mnd_loader_plan_for(&plan, &loader), MND_OK);
    for (int64_t i = 0; i < loader.rows; i++)
        fill(loader.image + i * PIXELS, PIXELS, (unsigned)(loader.row + i));
    float *batch_x = calloc((size_t)loader.max_rows * PIXELS, sizeof *batch_x);
    assert_non_null(batch_x);
    for (int64_t epoch = 1; epoch <= 2; epoch++) {
        mnd_loader_epoch(&loader, epoch);
        for (int64_t s = 0; s < mnd_loader_steps(&loader); s++) {
            mnd_batch batch;
            mnd_loader_batch(&loader, s, batch_x, &batch);
            for (int row = 0; row < batch.seg->start[batch.seg->n_seg]; row++)
                memcpy(x + ((size_t)(epoch - 1) * IMAGES + batch.sample[row]) * PIXELS,
                       batch_x + (size_t)row * PIXELS, PIXELS * sizeof *x);
        }
    }
    free(batch_x);
    mnd_loader_free(&loader);
}

/* The loader gives the network what the two functions give, on any number of ranks and threads. */
static void any_ranks_and_threads(void **state) {
    (void)state;
    const size_t n = 2 * (size_t)IMAGES * PIXELS;
    float *want = calloc(n, sizeof *want), *x = calloc(n, sizeof *x);
    assert_true(want != NULL && x != NULL);
    for (uint32_t epoch = 1; epoch <= 2; epoch++)
        for (uint32_t i = 0; i < IMAGES; i++) {
            uint8_t image[PIXELS];
            mnd_distortion d;
            fill(image, PIXELS, i);
            mnd_augment_draw(&all_parts, 4, epoch, i, &d);
            distort(&all_parts, (int[]){33, 30, 3}, &d, image,
                    want + ((epoch - 1) * IMAGES + i) * PIXELS);
        }
    assert_memory_not_equal(want, want + n / 2, n / 2 * sizeof *want);
    for (int i = 0; i < 12; i++) {
        memset(x, 0, n * sizeof *x);
        load(0, 8, 1 + i % 4, x);
        assert_memory_equal(want, x, n * sizeof *x);
    }
    memset(x, 0, n * sizeof *x);
    load(0, 3, 2, x);
    load(3, 4, 1, x);
    load(7, 1, 3, x);
    assert_memory_equal(want, x, n * sizeof *x);
    free(want);
    free(x);
}

/* --- text ------------------------------------------------------------------------------------- */

static void text(void **state) {
    (void)state;
    mnd_augment how;
    char out[MND_AUGMENT_TEXT];
    static const char *const valid[][2] = {
        {"none", ""},
        {"rotate:0", ""},
        {"rotate:12,scale:0.12,shear:0.15,shift:2,elastic:1.2,erase:6",
         "rotate:12,scale:0.12,shear:0.15,shift:2,elastic:1.2,erase:6"},
        {"erase:6,rotate:1e1", "rotate:10,erase:6"},
        {"shift:.5", "shift:0.5"}};
    for (size_t i = 0; i < sizeof valid / sizeof valid[0]; i++) {
        assert_int_equal(mnd_augment_parse(valid[i][0], &how), MND_OK);
        mnd_augment_text(&how, out);
        assert_string_equal(out, valid[i][1]);
        assert_int_equal(mnd_augment_any(&how), out[0] != '\0');
    }
    /* As long as it gets. */
    const double odd = 1.0 / 3.0;
    mnd_augment_text(
        &(mnd_augment){100 + odd, odd * 1e-100, odd * 1e-100, 100 + odd, odd * 1e-100, 999}, out);
    assert_non_null(strstr(out, ",erase:999"));
    static const char *const wrong[][2] = {
        {"", "'' is not one of rotate, scale, shear, shift, elastic and erase"},
        {"rotat:3", "'rotat' is not one of"},
        {"rotate:3,", "'' is not one of"},
        {"rotate:3,,shift:1", "'' is not one of"},
        {"shift:1,none", "'none' is not one of"},
        {"rotate", "'rotate': give rotate:N with N from 0 to 180 degrees"},
        {"rotate:", "give rotate:N"},
        {"rotate:-3", "'rotate:-3': give rotate:N"},
        {"rotate:181", "give rotate:N"},
        {"rotate:nan", "give rotate:N"},
        {"rotate:inf", "give rotate:N"},
        {"rotate:3x", "give rotate:N"},
        {"rotate:3:4", "give rotate:N"},
        {"rotate: 3", "give rotate:N"},
        {"scale:0.95", "give scale:N with N from 0 to 0.9"},
        {"elastic:1e9", "from 0 to 100 pixels"},
        {"erase:2.5", "'erase:2.5': give a whole number of pixels"},
        {"shift:1,rotate:2,shift:1", "shift is given twice"},
        {"rotate:000000000000000000000000000000000000000000000000000000000000000000000000000001",
         "give rotate:N"}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(mnd_augment_parse(wrong[i][0], &how), MND_USAGE);
        if (strstr(mnd_error(), wrong[i][1]) == NULL) fail_msg("%s: %s", wrong[i][0], mnd_error());
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_shifts), cmocka_unit_test(directions),
        cmocka_unit_test(as_plain),     cmocka_unit_test(erased),
        cmocka_unit_test(ranges),       cmocka_unit_test(one_draw_for_each),
        cmocka_unit_test(any_vectors),  cmocka_unit_test(any_ranks_and_threads),
        cmocka_unit_test(text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
