/* src/io/picture*.c: every kind of PNG, damaged ones, and normalisation. */
#include "test.h"

#include <png.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mnist_dist/memory.h"
#include "mnist_dist/picture.h"
#include "mnist_dist/rng.h"
#include "mnist_dist/synth.h"

enum { SIDE = 28, PIXELS = SIDE * SIDE };

/* ---- writing PNGs of every kind into memory ---- */

typedef struct buffer {
    uint8_t *bytes;
    size_t n, capacity;
} buffer;

static void grow(png_structp png, png_bytep bytes, size_t n) {
    buffer *b = png_get_io_ptr(png);
    if (b->n + n > b->capacity) {
        b->capacity = 2 * (b->n + n);
        b->bytes = realloc(b->bytes, b->capacity);
        assert_non_null(b->bytes);
    }
    memcpy(b->bytes + b->n, bytes, n);
    b->n += n;
}

static void no_flush(png_structp png) { (void)png; }

typedef struct kind {
    int type, depth, interlace;
    bool transparent; /* a tRNS chunk: the first palette entry, or the sample value 0 */
} kind;

/* Writes row y of a picture in the format of the file. */
typedef void (*row_fn)(int y, int width, uint8_t *row);

static buffer encode(kind k, int height, int width, row_fn row) {
    buffer b = {0};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    assert_non_null(info);
    png_set_write_fn(png, &b, grow, no_flush);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, k.depth, k.type, k.interlace,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (k.type == PNG_COLOR_TYPE_PALETTE) {
        const png_color palette[2] = {{255, 0, 0}, {0, 0, 255}};
        png_set_PLTE(png, info, palette, 2);
    }
    if (k.transparent) {
        const png_byte alpha[1] = {0};
        const png_color_16 zero = {0};
        png_set_tRNS(png, info, k.type == PNG_COLOR_TYPE_PALETTE ? alpha : NULL, 1, &zero);
    }
    png_write_info(png, info);
    const size_t bytes = png_get_rowbytes(png, info);
    uint8_t *whole = calloc((size_t)height, bytes);
    png_bytep *rows = calloc((size_t)height, sizeof *rows);
    assert_true(whole != NULL && rows != NULL);
    for (int y = 0; y < height; y++) {
        rows[y] = whole + (size_t)y * bytes;
        row(y, width, rows[y]);
    }
    png_write_image(png, rows);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    free(rows);
    free(whole);
    return b;
}

static void grey_row(int y, int width, uint8_t *row) {
    for (int x = 0; x < width; x++) row[x] = (uint8_t)(10 * y + x);
}
static void bit_row(int y, int width, uint8_t *row) {
    for (int x = 0; x < width; x++)
        if ((x + y) % 3 == 0) row[x / 8] = (uint8_t)(row[x / 8] | 0x80 >> x % 8);
}
static void nibble_row(int y, int width, uint8_t *row) {
    for (int x = 0; x < width; x++)
        row[x / 2] = (uint8_t)(row[x / 2] | ((x + y) % 16) << (x % 2 == 0 ? 4 : 0));
}
static void deep_row(int y, int width, uint8_t *row) {
    for (int x = 0; x < width; x++) {
        row[2 * x] = (uint8_t)(10 * y + x);
        row[2 * x + 1] = (uint8_t)(10 * y + x); /* v * 257 is the 16-bit value of an 8-bit v */
    }
}
static void rgb_row(int y, int width, uint8_t *row) {
    for (int x = 0; x < width; x++)
        for (int c = 0; c < 3; c++) row[3 * x + c] = (y + x) % 3 == c ? 255 : 0;
}
static void rgba_row(int y, int width, uint8_t *row) {
    (void)y;
    for (int x = 0; x < width; x++) {
        row[4 * x] = row[4 * x + 1] = row[4 * x + 2] = 0;
        row[4 * x + 3] = (uint8_t)(x * 10);
    }
}
static void grey_alpha_row(int y, int width, uint8_t *row) {
    for (int x = 0; x < width; x++) {
        row[2 * x] = 100;
        row[2 * x + 1] = y % 2 == 0 ? 255 : 0;
    }
}

static void reads_every_kind(void **state) {
    (void)state;
    enum { H = 13, W = 21 };
    static const int luma[3] = {54, 182, 18}; /* Rec. 709 of pure red, green, blue */
    const struct {
        kind k;
        row_fn row;
    } all[] = {
        {{PNG_COLOR_TYPE_GRAY, 8, 0, false}, grey_row},
        {{PNG_COLOR_TYPE_GRAY, 1, 0, false}, bit_row},
        {{PNG_COLOR_TYPE_GRAY, 4, 0, false}, nibble_row},
        {{PNG_COLOR_TYPE_GRAY, 16, 0, false}, deep_row},
        {{PNG_COLOR_TYPE_RGB, 8, 0, false}, rgb_row},
        {{PNG_COLOR_TYPE_RGBA, 8, 0, false}, rgba_row},
        {{PNG_COLOR_TYPE_GRAY_ALPHA, 8, 0, false}, grey_alpha_row},
        {{PNG_COLOR_TYPE_PALETTE, 1, 0, false}, bit_row},
        {{PNG_COLOR_TYPE_PALETTE, 1, 0, true}, bit_row},
        {{PNG_COLOR_TYPE_GRAY, 8, 0, true}, grey_row},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        for (int interlace = 0; interlace < 2; interlace++) {
            kind k = all[i].k;
            k.interlace = interlace;
            buffer b = encode(k, H, W, all[i].row);
            mnd_picture p;
            assert_int_equal(mnd_picture_decode_png(b.bytes, b.n, "test", &p), MND_OK);
            assert_int_equal(p.height, H);
            assert_int_equal(p.width, W);
            for (int y = 0; y < H; y++)
                for (int x = 0; x < W; x++) {
                    const bool bit = (x + y) % 3 == 0;
                    int want = 10 * y + x;
                    switch (i) {
                    case 1: want = bit ? 255 : 0; break;
                    case 2: want = (x + y) % 16 * 17; break;
                    case 4: want = luma[(y + x) % 3]; break;
                    case 5: want = 255 - x * 10; break;
                    case 6: want = y % 2 == 0 ? 100 : 255; break;
                    case 7: want = luma[bit ? 2 : 0]; break;
                    case 8: want = bit ? luma[2] : 255; break;
                    case 9: want = x + y == 0 ? 70 : want; break; /* the median of the others */
                    default: break;
                    }
                    assert_int_equal(p.pixel[y * W + x], want);
                }
            mnd_picture_free(&p);
            free(b.bytes);
        }
}

/* Interlaced pictures so small that some of the seven passes are empty. */
static void reads_every_small_size(void **state) {
    (void)state;
    for (int h = 1; h <= 9; h++)
        for (int w = 1; w <= 9; w++) {
            buffer b = encode((kind){PNG_COLOR_TYPE_GRAY, 8, 1, false}, h, w, grey_row);
            mnd_picture p;
            assert_int_equal(mnd_picture_decode_png(b.bytes, b.n, "test", &p), MND_OK);
            for (int y = 0; y < h; y++)
                for (int x = 0; x < w; x++) assert_int_equal(p.pixel[y * w + x], 10 * y + x);
            mnd_picture_free(&p);
            free(b.bytes);
        }
}

static void survives_damage(void **state) {
    (void)state;
    for (int interlace = 0; interlace < 2; interlace++) {
        buffer b = encode((kind){PNG_COLOR_TYPE_RGB, 8, interlace, false}, 9, 11, rgb_row);
        mnd_picture p;
        for (size_t n = 0; n < b.n; n++) {
            /* A copy of exactly this size, so that a sanitizer detects a read beyond it. */
            uint8_t *copy = malloc(n + 1);
            assert_non_null(copy);
            memcpy(copy, b.bytes, n);
            uint8_t *exact = realloc(copy, n > 0 ? n : 1);
            assert_int_equal(mnd_picture_decode_png(exact, n, "cut.png", &p), MND_FORMAT);
            assert_null(p.pixel);
            assert_non_null(strstr(mnd_error(), "cut.png"));
            free(exact);
        }
        int refused = 0;
        for (size_t i = 0; i < b.n; i++)
            for (int bit = 0; bit < 8; bit++) {
                b.bytes[i] = (uint8_t)(b.bytes[i] ^ 1 << bit);
                const mnd_status status = mnd_picture_decode_png(b.bytes, b.n, "bad.png", &p);
                assert_true(status == MND_OK || status == MND_FORMAT);
                refused += status == MND_FORMAT;
                if (status == MND_OK) mnd_picture_free(&p);
                b.bytes[i] = (uint8_t)(b.bytes[i] ^ 1 << bit);
            }
        assert_true(refused > (int)(7 * b.n)); /* every chunk has a checksum */
        free(b.bytes);
    }
}

static void refuses_what_is_too_large(void **state) {
    (void)state;
    static const struct {
        uint32_t width, height;
    } size[] = {{65535, 65535}, {8192, 8193}, {1U << 30, 1}, {UINT32_MAX, 3}, {8000, 8000}};
    buffer b = encode((kind){PNG_COLOR_TYPE_GRAY, 8, 0, false}, 9, 11, grey_row);
    for (size_t i = 0; i < sizeof size / sizeof size[0]; i++) {
        png_save_uint_32(b.bytes + 16, size[i].width);
        png_save_uint_32(b.bytes + 20, size[i].height);
        /* CRC-32 of the chunk's type and data, bit by bit. */
        uint32_t crc = UINT32_MAX;
        for (int j = 12; j < 29; j++) {
            crc ^= b.bytes[j];
            for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0xEDB88320) : 0);
        }
        png_save_uint_32(b.bytes + 29, ~crc);
        mnd_picture p;
        assert_int_equal(mnd_picture_decode_png(b.bytes, b.n, "huge.png", &p), MND_FORMAT);
        assert_non_null(strstr(mnd_error(), "huge.png"));
    }
    free(b.bytes);
}

static void reads_and_writes_files(void **state) {
    (void)state;
    char folder[] = "picture-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.png", folder);
    uint8_t pixel[6] = {0, 50, 100, 150, 200, 255};
    const mnd_picture out = {.height = 2, .width = 3, .pixel = pixel};
    assert_int_equal(mnd_picture_write_png(path, &out), MND_OK);
    mnd_picture in;
    assert_int_equal(mnd_picture_read_png(path, &in), MND_OK);
    assert_int_equal(in.height, 2);
    assert_int_equal(in.width, 3);
    assert_memory_equal(in.pixel, pixel, 6);
    mnd_picture_free(&in);
    assert_null(in.pixel);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_true(fputs("GIF89a, not a PNG", f) >= 0 && fclose(f) == 0);
    assert_int_equal(mnd_picture_read_png(path, &in), MND_FORMAT);
    assert_non_null(strstr(mnd_error(), "not a PNG"));
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(mnd_picture_read_png(path, &in), MND_FORMAT);
    assert_int_equal(mnd_picture_read_png(folder, &in), MND_IO);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mnd_picture_read_png(path, &in), MND_NOT_FOUND);
    assert_int_equal(rmdir(folder), 0); /* no temporary file is left */
    assert_int_equal(mnd_picture_write_png("/dev/null/a.png", &out), MND_IO);
}

/* ---- normalisation ---- */

/* How an MNIST image is changed before it is normalised. */
typedef struct fate {
    const char *name;
    int height, width; /* of the paper */
    int zoom, y, x;    /* pixels are enlarged to zoom x zoom, the first one is at (y, x) */
    int paper, ink;    /* grey values */
    int noise;         /* amplitude */
    int shadow;        /* how much darker the right side of the paper is */
    bool specks;
    double limit; /* of the mean absolute difference to the original, 0 to 255 */
} fate;

static const fate fates[] = {
    {"dark on light", 280, 280, 10, 0, 0, 255, 0, 0, 0, false, 1},
    {"light on dark", 280, 280, 10, 0, 0, 0, 255, 0, 0, false, 1},
    {"off-centre", 400, 500, 10, 110, 215, 255, 0, 0, 0, false, 1},
    {"grey on grey", 300, 300, 10, 10, 20, 150, 110, 0, 0, false, 1},
    {"small", 50, 80, 1, 20, 3, 255, 0, 0, 0, false, 1},
    {"as small as it gets", 28, 28, 1, 0, 0, 255, 0, 0, 0, false, 1},
    {"huge", 2200, 2300, 70, 150, 250, 240, 20, 0, 0, false, 1},
    {"lost in a huge one", 1900, 2600, 10, 1300, 2200, 250, 10, 0, 0, false, 2},
    {"noisy", 400, 400, 10, 50, 50, 220, 30, 20, 0, false, 5},
    {"shadow", 400, 400, 10, 50, 50, 240, 20, 0, 50, false, 5},
    {"dirt", 400, 400, 10, 50, 50, 240, 20, 0, 0, true, 1},
};

static mnd_picture suffer(const fate *f, const uint8_t *digit, uint32_t index) {
    mnd_picture p = {.height = f->height, .width = f->width};
    void *memory;
    assert_int_equal(mnd_alloc(&memory, (size_t)f->height * (size_t)f->width, 1, "test"), MND_OK);
    p.pixel = memory;
    mnd_rng rng;
    mnd_rng_start(&rng, 1, MND_RNG_TEST, index, 0);
    for (int y = 0; y < f->height; y++)
        for (int x = 0; x < f->width; x++) {
            const int dy = y >= f->y ? (y - f->y) / f->zoom : SIDE;
            const int dx = x >= f->x ? (x - f->x) / f->zoom : SIDE;
            const int v = dy < SIDE && dx < SIDE ? digit[dy * SIDE + dx] : 0;
            int grey = f->paper - f->shadow * x / f->width;
            grey += (f->ink - grey) * v / 255;
            if (f->noise > 0)
                grey += (int)mnd_rng_below(&rng, (uint32_t)(2 * f->noise + 1)) - f->noise;
            p.pixel[y * f->width + x] = (uint8_t)(grey < 0 ? 0 : grey > 255 ? 255 : grey);
        }
    for (int i = 0; f->specks && i < 5; i++) {
        const int y = (int)mnd_rng_below(&rng, 40), x = (int)mnd_rng_below(&rng, 390);
        for (int j = 0; j < 9; j++) p.pixel[(y + j / 3) * f->width + x + j % 3] = (uint8_t)f->ink;
    }
    return p;
}

static void restores_digits(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof fates / sizeof fates[0]; i++) {
        const int n = fates[i].height > 1000 ? 1 : 40;
        double mean = 0;
        for (int k = 0; k < n; k++) {
            uint8_t digit[PIXELS], back[PIXELS], label;
            mnd_synth_digit(9, MND_TEST, k, digit, &label);
            mnd_picture p = suffer(&fates[i], digit, (uint32_t)k);
            assert_int_equal(mnd_picture_normalize(&p, SIDE, SIDE, back), MND_OK);
            double apart = 0;
            for (int j = 0; j < PIXELS; j++) apart += abs(digit[j] - back[j]);
            mean += apart / PIXELS / n;
            mnd_picture_free(&p);
        }
        print_message("%-22s %.2f of 255\n", fates[i].name, mean);
        assert_true(mean <= fates[i].limit);
    }
}

/* A line one pixel wide in a large picture must remain visible. */
static void thin_lines_stay_visible(void **state) {
    (void)state;
    enum { N = 600 };
    static uint8_t pixel[N * N];
    memset(pixel, 255, sizeof pixel);
    for (int y = 100; y < 500; y++) pixel[y * N + 300 + y / 20] = 0;
    const mnd_picture p = {.height = N, .width = N, .pixel = pixel};
    uint8_t out[PIXELS];
    assert_int_equal(mnd_picture_normalize(&p, SIDE, SIDE, out), MND_OK);
    int rows = 0, ink = 0;
    for (int y = 0; y < SIDE; y++) {
        int most = 0;
        for (int x = 0; x < SIDE; x++) {
            most = out[y * SIDE + x] > most ? out[y * SIDE + x] : most;
            ink += out[y * SIDE + x];
        }
        rows += most > 200;
    }
    assert_in_range(rows, 17, 22);
    assert_in_range(ink / 255, 25, 60); /* 20 rows, 1.2 to 3 pixels wide */
}

static void copies_normalised_pictures(void **state) {
    (void)state;
    uint8_t digit[PIXELS], back[PIXELS], label;
    for (int k = 0; k < 100; k++) {
        mnd_synth_digit(2, MND_TRAIN, k, digit, &label);
        const mnd_picture p = {.height = SIDE, .width = SIDE, .pixel = digit};
        assert_int_equal(mnd_picture_normalize(&p, SIDE, SIDE, back), MND_OK);
        assert_memory_equal(digit, back, PIXELS);
    }
}

static void refuses_empty_pictures(void **state) {
    (void)state;
    uint8_t pixel[100], out[PIXELS];
    for (int grey = 0; grey < 256; grey += 51) {
        memset(pixel, grey, sizeof pixel);
        const mnd_picture p = {.height = 5, .width = 20, .pixel = pixel};
        assert_int_equal(mnd_picture_normalize(&p, SIDE, SIDE, out), MND_FORMAT);
        assert_non_null(strstr(mnd_error(), "empty"));
    }
    const mnd_picture one = {.height = 1, .width = 1, .pixel = pixel};
    assert_int_equal(mnd_picture_normalize(&one, SIDE, SIDE, out), MND_FORMAT);
}

/* For any picture and any shape of the target the result has ink. */
static void any_picture_any_target(void **state) {
    (void)state;
    mnd_rng rng;
    mnd_rng_start(&rng, 4, MND_RNG_TEST, 0, 0);
    for (int k = 0; k < 300; k++) {
        const int h = 1 + (int)mnd_rng_below(&rng, 40), w = 1 + (int)mnd_rng_below(&rng, 40);
        const int th = 1 + (int)mnd_rng_below(&rng, 40), tw = 1 + (int)mnd_rng_below(&rng, 40);
        uint8_t pixel[1600], out[1600 + 1];
        for (int i = 0; i < h * w; i++)
            pixel[i] = (uint8_t)(k % 2 == 0                     ? mnd_rng_below(&rng, 256)
                                 : mnd_rng_below(&rng, 10) == 0 ? 7
                                                                : 6);
        out[th * tw] = 77;
        const mnd_picture p = {.height = h, .width = w, .pixel = pixel};
        const mnd_status status = mnd_picture_normalize(&p, th, tw, out);
        assert_true(status == MND_OK || status == MND_FORMAT);
        assert_int_equal(out[th * tw], 77);
        int most = 0;
        for (int i = 0; status == MND_OK && i < th * tw; i++) most = out[i] > most ? out[i] : most;
        if (status == MND_OK) assert_true(most > 0);
    }
}

/* ---- terminal ---- */

static char *printed(void (*draw)(FILE *)) {
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    draw(f);
    assert_int_equal(fclose(f), 0);
    return text;
}

static const uint8_t three[6] = {0, 255, 128, 7, 60, 255}; /* (3, 2) */
static void draw_plain(FILE *f) { mnd_picture_draw(f, three, 3, 2, 0); }
static void draw_colour(FILE *f) { mnd_picture_draw(f, three, 3, 2, 1); }
static void draw_numbers(FILE *f) { mnd_picture_numbers(f, three, 3, 2); }

static void draws(void **state) {
    (void)state;
    char *text = printed(draw_plain);
    assert_string_equal(text, "  @@\n++  \n::@@\n");
    free(text);
    text = printed(draw_colour);
    assert_string_equal(text, "\x1b[38;2;0;0;0m\x1b[48;2;128;128;128m\u2580"
                              "\x1b[38;2;255;255;255m\x1b[48;2;7;7;7m\u2580\x1b[0m\n"
                              "\x1b[38;2;60;60;60m\u2580\x1b[38;2;255;255;255m\u2580\x1b[0m\n");
    free(text);
    text = printed(draw_numbers);
    assert_string_equal(text, "  0 255\n128   7\n 60 255\n");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_kind),
        cmocka_unit_test(reads_every_small_size),
        cmocka_unit_test(survives_damage),
        cmocka_unit_test(refuses_what_is_too_large),
        cmocka_unit_test(reads_and_writes_files),
        cmocka_unit_test(restores_digits),
        cmocka_unit_test(thin_lines_stay_visible),
        cmocka_unit_test(copies_normalised_pictures),
        cmocka_unit_test(refuses_empty_pictures),
        cmocka_unit_test(any_picture_any_target),
        cmocka_unit_test(draws),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
