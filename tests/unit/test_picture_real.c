/*
 * src/io/picture*.c on pictures as users take them: uneven light, lines and frames, transparent
 * canvases, colours, JPEG, several digits, and the form of the training images.
 */
#include "test.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jpeglib.h>
#include <png.h>

#include "mnist_dist/dataset.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/picture.h"
#include "mnist_dist/synth.h"

enum { SIDE = 28, PIXELS = SIDE * SIDE, ZOOM = 6, PAGE = 240, AT = (PAGE - SIDE * ZOOM) / 2 };

/* Ink of digit k on a page, 0 to 1. */
static float ink(const uint8_t *digit, int y, int x) {
    const int dy = (y - AT) / ZOOM, dx = (x - AT) / ZOOM;
    if (y < AT || x < AT || dy >= SIDE || dx >= SIDE) return 0.0F;
    return (float)digit[dy * SIDE + dx] / 255.0F;
}

/* --- what surrounds a digit ------------------------------------------------------------------- */

/* Grey value of a page at (y, x), where there is ink `v`. */
typedef float (*page_fn)(int y, int x, float v);

static float dark(float v, float other) { return 235.0F - 200.0F * (v > other ? v : other); }
static float plain(int y, int x, float v) { return (void)y, (void)x, dark(v, 0.0F); }
static float chalk(int y, int x, float v) { return (void)y, (void)x, 30.0F + 200.0F * v; }
static float slope(int y, int x, float v) { return dark(v, 0.0F) * (1.0F - (float)(x + y) / 800); }
static float shadow(int y, int x, float v) {
    return dark(v, 0.0F) * (x + y / 3 > 150 ? 0.55F : 1.0F);
}
static float vignette(int y, int x, float v) {
    const float dy = (float)y - 120, dx = (float)x - 120;
    return dark(v, 0.0F) * (1.0F - (dx * dx + dy * dy) / 41000);
}
static float table(int y, int x, float v) { return x + y / 5 > 235 ? 60.0F : plain(y, x, v); }
static float bright_table(int y, int x, float v) {
    return x + y / 5 > 235 ? 250.0F : 170.0F - 140.0F * v;
}
static float frame(int y, int x, float v) {
    return dark(v, y < 4 || x < 4 || y >= PAGE - 4 || x >= PAGE - 4 ? 0.9F : 0.0F);
}
static float inner_frame(int y, int x, float v) {
    const int d = abs(2 * y - PAGE) > abs(2 * x - PAGE) ? abs(2 * y - PAGE) : abs(2 * x - PAGE);
    return dark(v, d > 212 && d < 222 ? 0.9F : 0.0F);
}
static float corner(int y, int x, float v) { return dark(v, y < 4 || x < 4 ? 0.9F : 0.0F); }
static float ruled(int y, int x, float v) { return dark(v, (y + x / 40) % 30 < 2 ? 0.5F : 0.0F); }
static float squared(int y, int x, float v) {
    return dark(v, y % 32 < 2 || x % 32 < 2 ? 0.3F : 0.0F);
}

static const struct {
    const char *name;
    page_fn page;
    double limit; /* of the mean absolute difference to the original, 0 to 255 */
} pages[] = {
    {"plain", plain, 1},
    {"chalk", chalk, 1},
    {"slope", slope, 3},
    {"shadow", shadow, 8},
    {"vignette", vignette, 6},
    {"table", table, 1},
    {"bright table", bright_table, 1},
    {"frame", frame, 1},
    {"inner frame", inner_frame, 1},
    {"corner", corner, 1},
    {"ruled", ruled, 3},
    {"squared", squared, 5},
};

static void finds_the_digit(void **state) {
    (void)state;
    enum { N = 20 };
    static uint8_t pixel[PAGE * PAGE];
    const mnd_picture p = {.height = PAGE, .width = PAGE, .pixel = pixel};
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        double mean = 0;
        for (int k = 0; k < N; k++) {
            uint8_t digit[PIXELS], back[PIXELS], label;
            mnd_synth_digit(9, MND_TEST, k, digit, &label);
            for (int y = 0; y < PAGE; y++)
                for (int x = 0; x < PAGE; x++)
                    pixel[y * PAGE + x] = (uint8_t)pages[i].page(y, x, ink(digit, y, x));
            assert_int_equal(mnd_picture_normalize(&p, SIDE, SIDE, back), MND_OK);
            double apart = 0;
            for (int j = 0; j < PIXELS; j++) apart += abs(digit[j] - back[j]);
            mean += apart / PIXELS / N;
        }
        print_message("%-14s %.2f of 255\n", pages[i].name, mean);
        assert_true(mean <= pages[i].limit);
    }
}

static void says_what_was_done(void **state) {
    (void)state;
    static uint8_t pixel[PAGE * PAGE];
    uint8_t digit[PIXELS], label;
    const mnd_picture p = {.height = PAGE, .width = PAGE, .pixel = pixel};
    const mnd_picture_target t = {.height = SIDE, .width = SIDE, .form = mnd_picture_mnist};
    static const struct {
        page_fn page;
        const char *word;
    } all[] = {{plain, "dark ink on light"}, {chalk, "light ink on dark"},
               {slope, "levelled"},          {table, "touches the border"},
               {inner_frame, "frame"},       {squared, "ruled lines"}};
    mnd_synth_digit(9, MND_TEST, 1, digit, &label);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        mnd_picture_images images;
        for (int y = 0; y < PAGE; y++)
            for (int x = 0; x < PAGE; x++)
                pixel[y * PAGE + x] = (uint8_t)all[i].page(y, x, ink(digit, y, x));
        assert_int_equal(mnd_picture_prepare(&p, &t, &images), MND_OK);
        if (strstr(images.done, all[i].word) == NULL) fail_msg("%s", images.done);
        assert_int_equal(images.digits, 1);
        mnd_picture_images_free(&images);
    }
}

static void splits_digits(void **state) {
    (void)state;
    enum { N = 5, STEP = 130, H = 200, W = N * STEP + 40 };
    static uint8_t pixel[H * W];
    uint8_t digit[N][PIXELS], label;
    const mnd_picture p = {.height = H, .width = W, .pixel = pixel};
    mnd_picture_target t = {
        .height = SIDE, .width = SIDE, .form = mnd_picture_mnist, .split = true};
    mnd_picture_images images;
    memset(pixel, 240, sizeof pixel);
    for (int k = 0; k < N; k++) {
        mnd_synth_digit(9, MND_TEST, k, digit[k], &label);
        for (int y = 0; y < 4 * SIDE; y++)
            for (int x = 0; x < 4 * SIDE; x++)
                pixel[(y + 20 + 10 * k) * W + 20 + k * STEP + x] =
                    (uint8_t)(240 - 200 * digit[k][y / 4 * SIDE + x / 4] / 255);
    }
    assert_int_equal(mnd_picture_prepare(&p, &t, &images), MND_OK);
    assert_int_equal(images.digits, N);
    assert_int_equal(images.n, N);
    for (int k = 0; k < N; k++) {
        double apart = 0;
        for (int j = 0; j < PIXELS; j++) apart += abs(digit[k][j] - images.pixel[k * PIXELS + j]);
        assert_true(apart / PIXELS < 2);
    }
    mnd_picture_images_free(&images);
    t.split = false;
    assert_int_equal(mnd_picture_prepare(&p, &t, &images), MND_OK);
    assert_int_equal(images.digits, N);
    assert_int_equal(images.n, 1);
    mnd_picture_images_free(&images);
}

/* --- the form of the training images ---------------------------------------------------------- */

enum { IMAGES = 300, MIDDLE = 18 };

/* How a data set differs from MNIST. */
typedef struct scene {
    int side;
    bool white, noise;
    double background, ink, extent;
} scene;

static void make_image(const scene *l, int k, uint8_t *image) {
    uint8_t digit[PIXELS], label;
    mnd_synth_digit(3, MND_TRAIN, k, digit, &label);
    const int from = (SIDE - l->side) / 2;
    for (int y = 0; y < l->side; y++)
        for (int x = 0; x < l->side; x++) {
            const int v = digit[(y + from) * SIDE + x + from];
            image[y * l->side + x] = (uint8_t)(l->noise   ? (y * 91 + x * 57 + k * 101) * 37 % 256
                                               : l->white ? 255 - v
                                                          : v);
        }
}

static mnd_picture_form measured(const scene *l) {
    char folder[] = "form-XXXXXX", path[64];
    mnd_dataset_info info = {
        .count = {IMAGES, 1}, .height = l->side, .width = l->side, .channels = 1, .classes = 10};
    mnd_dataset_writer *writer;
    mnd_dataset *data;
    mnd_picture_form form;
    uint8_t image[PIXELS];
    const uint8_t label = 0;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.h5", folder);
    assert_int_equal(mnd_dataset_writer_create(path, &info, &writer), MND_OK);
    for (int k = 0; k <= IMAGES; k++) {
        make_image(l, k, image);
        assert_int_equal(
            mnd_dataset_writer_append(writer, k < IMAGES ? MND_TRAIN : MND_TEST, 1, image, &label),
            MND_OK);
    }
    assert_int_equal(mnd_dataset_writer_finish(&writer), MND_OK);
    assert_int_equal(mnd_dataset_open(path, &data), MND_OK);
    assert_int_equal(mnd_picture_measure(data, &form), MND_OK);
    mnd_dataset_close(&data);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    return form;
}

/* Each training image is taken as it is; one with light and dark exchanged is recognised. */
static void training_images_stay(const scene *l, const mnd_picture_form *form) {
    const mnd_picture_target t = {.height = l->side, .width = l->side, .form = *form};
    const size_t size = (size_t)l->side * (size_t)l->side;
    for (int k = 0; k < IMAGES; k++) {
        uint8_t image[PIXELS];
        mnd_picture_images images;
        make_image(l, k, image);
        const mnd_picture p = {.height = l->side, .width = l->side, .pixel = image};
        assert_int_equal(mnd_picture_prepare(&p, &t, &images), MND_OK);
        assert_memory_equal(images.pixel, image, size);
        mnd_picture_images_free(&images);
        if (form->uniform < 1.0) continue;
        for (size_t i = 0; i < size; i++) image[i] = (uint8_t)(255 - image[i]);
        assert_int_equal(mnd_picture_prepare(&p, &t, &images), MND_OK);
        for (size_t i = 0; i < size; i++) assert_int_equal(images.pixel[i], 255 - image[i]);
        mnd_picture_images_free(&images);
        const mnd_picture_target forced = {
            .height = l->side, .width = l->side, .form = *form, .as_is = true};
        assert_int_equal(mnd_picture_prepare(&p, &forced, &images), MND_OK);
        assert_memory_equal(images.pixel, image, size);
        mnd_picture_images_free(&images);
    }
}

/* A large picture of a digit gets the shades and the size of the training images. */
static void large_pictures_follow(const scene *l, const mnd_picture_form *form) {
    static uint8_t pixel[PAGE * PAGE];
    uint8_t digit[PIXELS], label;
    const mnd_picture p = {.height = PAGE, .width = PAGE, .pixel = pixel};
    const mnd_picture_target t = {.height = l->side, .width = l->side, .form = *form};
    mnd_picture_images images;
    mnd_synth_digit(9, MND_TEST, 1, digit, &label);
    for (int y = 0; y < PAGE; y++)
        for (int x = 0; x < PAGE; x++) pixel[y * PAGE + x] = (uint8_t)plain(y, x, ink(digit, y, x));
    assert_int_equal(mnd_picture_prepare(&p, &t, &images), MND_OK);
    double part;
    const int border = mnd_picture_border(images.pixel, l->side, l->side, l->background, &part);
    if (!l->noise) assert_int_equal(border, (int)l->background);
    int longest = 0, most = 0;
    for (int y = 0; y < l->side; y++)
        for (int x = 0; x < l->side; x++) {
            const int v = abs(images.pixel[y * l->side + x] - (int)l->background);
            most = v > most ? v : most;
            if (v > 60) longest = y;
        }
    if (!l->noise) assert_int_equal(most, 255);
    assert_true(longest > 0);
    mnd_picture_images_free(&images);
}

static void follows_the_training_images(void **state) {
    (void)state;
    static const scene scenes[] = {{SIDE, false, false, 0, 255, 20.0 / 28},
                                   {SIDE, true, false, 255, 0, 20.0 / 28},
                                   {MIDDLE, false, false, 0, 255, 1},
                                   {SIDE, false, true, 0, 0, 0}};
    for (size_t i = 0; i < sizeof scenes / sizeof scenes[0]; i++) {
        const scene *l = &scenes[i];
        const mnd_picture_form form = measured(l);
        print_message("%g images, background %g, ink %g, uniform %.2f, extent %.2f\n", form.images,
                      form.background, form.ink, form.uniform, form.extent);
        assert_true(form.images == 256);
        if (l->noise) {
            assert_true(form.ink == form.background);
        } else {
            assert_true(form.background == l->background && form.ink == l->ink);
            assert_true(form.extent > l->extent - 0.06 && form.extent <= l->extent + 0.06);
            assert_true(l->side == SIDE ? form.uniform == 1.0 : form.uniform < 1.0);
        }
        training_images_stay(l, &form);
        large_pictures_follow(l, &form);
    }
}

/* --- transparency and colour ------------------------------------------------------------------ */

typedef struct writer {
    uint8_t *bytes;
    size_t n;
} writer;

static writer png_of(const uint8_t *value, int format, int side) {
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)side,
                       .height = (png_uint_32)side,
                       .format = (png_uint_32)format};
    png_alloc_size_t n = 0;
    assert_true(png_image_write_to_memory(&image, NULL, &n, 0, value, 0, NULL));
    writer w = {.bytes = malloc(n), .n = n};
    assert_non_null(w.bytes);
    assert_true(png_image_write_to_memory(&image, w.bytes, &n, 0, value, 0, NULL));
    return w;
}

/* Ink and paper, red, green, blue, alpha. */
typedef struct colours {
    const char *name;
    int ink[4], paper[4];
} colours;

static void reads_any_ink(void **state) {
    (void)state;
    static const colours all[] = {
        {"black on nothing", {0, 0, 0, 255}, {0, 0, 0, 0}},
        {"white on nothing", {255, 255, 255, 255}, {0, 0, 0, 0}},
        {"white on clear white", {255, 255, 255, 255}, {255, 255, 255, 0}},
        {"yellow on nothing", {255, 255, 0, 255}, {0, 0, 0, 0}},
        {"pale, half transparent", {200, 200, 250, 120}, {0, 0, 0, 0}},
        {"red on green of the same luma", {220, 90, 60, 255}, {60, 140, 70, 255}},
        {"blue on yellow", {40, 60, 160, 255}, {250, 230, 80, 255}},
    };
    static uint8_t value[PAGE * PAGE * 4];
    uint8_t digit[PIXELS], back[PIXELS], label;
    mnd_synth_digit(9, MND_TEST, 3, digit, &label);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        for (int y = 0; y < PAGE; y++)
            for (int x = 0; x < PAGE; x++) {
                const float v = ink(digit, y, x);
                const bool clear = all[i].paper[3] == 0;
                for (int c = 0; c < 4; c++) {
                    const float from = (float)all[i].paper[c], to = (float)all[i].ink[c];
                    const float mix =
                        clear && c < 3 ? (v > 0.0F ? to : from) : from + v * (to - from);
                    value[(y * PAGE + x) * 4 + c] = (uint8_t)mix;
                }
            }
        const bool clear = all[i].paper[3] == 0;
        for (int k = 0; !clear && k < PAGE * PAGE; k++) memmove(value + 3 * k, value + 4 * k, 3);
        writer w = png_of(value, clear ? PNG_FORMAT_RGBA : PNG_FORMAT_RGB, PAGE);
        mnd_picture p;
        assert_int_equal(mnd_picture_decode(w.bytes, w.n, "ink", &p), MND_OK);
        assert_int_equal(mnd_picture_normalize(&p, SIDE, SIDE, back), MND_OK);
        double apart = 0;
        for (int j = 0; j < PIXELS; j++) apart += abs(digit[j] - back[j]);
        print_message("%-32s %.2f of 255\n", all[i].name, apart / PIXELS);
        assert_true(apart / PIXELS < 3);
        mnd_picture_free(&p);
        free(w.bytes);
    }
}

static void refuses_what_shows_nothing(void **state) {
    (void)state;
    static uint8_t value[16 * 16 * 2];
    writer w = png_of(value, PNG_FORMAT_GA, 16);
    mnd_picture p;
    assert_int_equal(mnd_picture_decode(w.bytes, w.n, "nothing.png", &p), MND_FORMAT);
    assert_non_null(strstr(mnd_error(), "nothing.png: the picture is empty"));
    assert_null(p.pixel);
    free(w.bytes);
}

/* --- JPEG ------------------------------------------------------------------------------------- */

enum { JPEG_H = 24, JPEG_W = 40 };

/* Bright in the upper left quarter. */
static writer jpeg_of(int orientation) {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr error;
    writer w = {0};
    unsigned long n = 0;
    jpeg.err = jpeg_std_error(&error);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &w.bytes, &n);
    jpeg.image_width = JPEG_W;
    jpeg.image_height = JPEG_H;
    jpeg.input_components = 3;
    jpeg.in_color_space = JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    if (orientation > 0) {
        uint8_t exif[] = "Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0";
        exif[25] = (uint8_t)orientation;
        jpeg_write_marker(&jpeg, JPEG_APP0 + 1, exif, sizeof exif - 1);
    }
    for (int y = 0; y < JPEG_H; y++) {
        uint8_t row[3 * JPEG_W];
        for (int x = 0; x < 3 * JPEG_W; x++)
            row[x] = y < JPEG_H / 2 && x < 3 * JPEG_W / 2 ? 250 : 20;
        JSAMPROW rows = row;
        (void)jpeg_write_scanlines(&jpeg, &rows, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    w.n = n;
    return w;
}

static void reads_jpeg_upright(void **state) {
    (void)state;
    /* The corner that is bright, by Exif's orientation: y, x. */
    static const int bright[9][2] = {{0, 0}, {0, 0}, {0, 1}, {1, 1}, {1, 0},
                                     {0, 0}, {0, 1}, {1, 1}, {1, 0}};
    for (int turn = 0; turn <= 8; turn++) {
        writer w = jpeg_of(turn);
        mnd_picture p;
        assert_int_equal(mnd_picture_decode(w.bytes, w.n, "a.jpg", &p), MND_OK);
        assert_int_equal(p.height, turn >= 5 ? JPEG_W : JPEG_H);
        assert_int_equal(p.width, turn >= 5 ? JPEG_H : JPEG_W);
        for (int y = 0; y < 2; y++)
            for (int x = 0; x < 2; x++) {
                const int v =
                    p.pixel[(1 + 2 * y) * p.height / 4 * p.width + (1 + 2 * x) * p.width / 4];
                const bool here = y == bright[turn][0] && x == bright[turn][1];
                if (here ? v < 200 : v > 60) fail_msg("orientation %d: %d at %d %d", turn, v, y, x);
            }
        mnd_picture_free(&p);
        free(w.bytes);
    }
}

static void survives_damaged_jpeg(void **state) {
    (void)state;
    writer w = jpeg_of(6);
    mnd_picture p;
    for (size_t n = 0; n < w.n; n++) {
        uint8_t *copy = malloc(n > 0 ? n : 1);
        assert_non_null(copy);
        memcpy(copy, w.bytes, n);
        const mnd_status status = mnd_picture_decode(copy, n, "cut.jpg", &p);
        if (status == MND_OK) {
            assert_true(n + 2 >= w.n); /* only the end marker is missing */
            mnd_picture_free(&p);
        } else {
            assert_int_equal(status, MND_FORMAT);
            assert_non_null(strstr(mnd_error(), "cut.jpg"));
            assert_null(p.pixel);
        }
        free(copy);
    }
    for (size_t i = 0; i < w.n; i++)
        for (int bit = 0; bit < 8; bit += 3) {
            w.bytes[i] = (uint8_t)(w.bytes[i] ^ 1 << bit);
            const mnd_status status = mnd_picture_decode(w.bytes, w.n, "bad.jpg", &p);
            assert_true(status == MND_OK || status == MND_FORMAT);
            if (status == MND_OK) mnd_picture_free(&p);
            w.bytes[i] = (uint8_t)(w.bytes[i] ^ 1 << bit);
        }
    free(w.bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_digit),    cmocka_unit_test(says_what_was_done),
        cmocka_unit_test(splits_digits),      cmocka_unit_test(follows_the_training_images),
        cmocka_unit_test(reads_any_ink),      cmocka_unit_test(refuses_what_shows_nothing),
        cmocka_unit_test(reads_jpeg_upright), cmocka_unit_test(survives_damaged_jpeg),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
