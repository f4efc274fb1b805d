/* src/io/synth*.c: digits are reproducible, resemble those of MNIST and can be classified. */
#include "test.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mnist_dist/dataset.h"
#include "mnist_dist/sha256.h"
#include "mnist_dist/synth.h"

enum { SIDE = 28, PIXELS = SIDE * SIDE };

static void is_a_pure_function(void **state) {
    (void)state;
    uint8_t a[PIXELS], b[PIXELS], label, again;
    for (int64_t i = 99; i >= 0; i--) {
        mnd_synth_digit(7, MND_TRAIN, i, a, &label);
        mnd_synth_digit(7, MND_TEST, 3 * i, b, &again);
        mnd_synth_digit(7, MND_TRAIN, i, b, &again);
        assert_int_equal(label, again);
        assert_memory_equal(a, b, PIXELS);
        mnd_synth_digit(7, MND_TEST, i, b, &again);
        assert_memory_not_equal(a, b, PIXELS);
        mnd_synth_digit(7, MND_TRAIN, i + 1, b, &again);
        assert_memory_not_equal(a, b, PIXELS);
        mnd_synth_digit(8, MND_TRAIN, i, b, &again);
        assert_memory_not_equal(a, b, PIXELS);
        mnd_synth_digit(7 + (UINT64_C(1) << 40), MND_TRAIN, i, b, &again);
        assert_memory_not_equal(a, b, PIXELS);
    }
}

/* Every compiler and machine must draw these bytes; a change of the drawing code changes them. */
static void known_bytes(void **state) {
    (void)state;
    enum { N = 1000 };
    static uint8_t all[N][PIXELS + 1];
    for (int i = 0; i < N; i++) mnd_synth_digit(1, MND_TRAIN, i, all[i], &all[i][PIXELS]);
    char hex[MND_SHA256_HEX];
    assert_int_equal(mnd_sha256_buffer(all, sizeof all, hex), MND_OK);
    assert_string_equal(hex, "780a8a0b37b78e35d94928cfe17264f5581b6bef95979e33f07bd46102bc8222");
}

static void has_the_form_of_mnist(void **state) {
    (void)state;
    enum { N = 5000 };
    int count[10] = {0};
    double ink = 0;
    for (int i = 0; i < N; i++) {
        uint8_t pixel[PIXELS], label;
        mnd_synth_digit(3, MND_TEST, i, pixel, &label);
        assert_in_range(label, 0, 9);
        count[label]++;
        int low[2] = {SIDE, SIDE}, high[2] = {-1, -1}, most = 0;
        bool at_border[2] = {false, false};
        double mass = 0, moment[2] = {0, 0};
        for (int p = 0; p < PIXELS; p++) {
            const int at[2] = {p / SIDE, p % SIDE}, v = pixel[p];
            most = v > most ? v : most;
            mass += v;
            for (int k = 0; k < 2; k++) {
                moment[k] += v * (at[k] + 0.5);
                at_border[k] = at_border[k] || (v > 0 && at[k] % (SIDE - 1) == 0);
                if (v < 64) continue;
                low[k] = at[k] < low[k] ? at[k] : low[k];
                high[k] = at[k] > high[k] ? at[k] : high[k];
            }
        }
        assert_true(most >= 240);
        const int h = high[0] - low[0] + 1, w = high[1] - low[1] + 1;
        assert_in_range(h > w ? h : w, 19, 20);
        /* Moved by whole pixels: the centre of mass is at most half a pixel off, unless the ink
         * would leave the picture. */
        for (int k = 0; k < 2; k++)
            assert_true(at_border[k] || fabs(moment[k] / mass - 14.0) <= 0.5001);
        const double mean = mass / PIXELS / 255;
        assert_true(mean > 0.02 && mean < 0.45);
        ink += mean / N;
    }
    assert_true(ink > 0.11 && ink < 0.16); /* MNIST: 0.131 */
    for (int d = 0; d < 10; d++) assert_in_range(count[d], N / 10 - 100, N / 10 + 100);
}

/*
 * A classifier that chooses the nearest mean image of a class is right for most digits of the other
 * split, but not for all: the digits are neither noise nor copies of one drawing. (On MNIST this
 * classifier has an accuracy of 82 %.)
 */
static void classes_differ_and_vary(void **state) {
    (void)state;
    enum { N = 5000 };
    static double mean[10][PIXELS];
    int count[10] = {0}, right = 0;
    uint8_t pixel[PIXELS], label;
    for (int i = 0; i < N; i++) {
        mnd_synth_digit(5, MND_TRAIN, i, pixel, &label);
        count[label]++;
        for (int p = 0; p < PIXELS; p++) mean[label][p] += pixel[p];
    }
    for (int d = 0; d < 10; d++)
        for (int p = 0; p < PIXELS; p++) mean[d][p] /= count[d];
    for (int i = 0; i < N; i++) {
        mnd_synth_digit(5, MND_TEST, i, pixel, &label);
        int best = 0;
        double least = INFINITY;
        for (int d = 0; d < 10; d++) {
            double apart = 0;
            for (int p = 0; p < PIXELS; p++)
                apart += (pixel[p] - mean[d][p]) * (pixel[p] - mean[d][p]);
            if (apart < least) {
                least = apart;
                best = d;
            }
        }
        right += best == label;
    }
    assert_in_range(right, N * 60 / 100, N * 93 / 100);
}

typedef struct seen {
    int64_t done, total, calls;
} seen;

static void note_progress(void *context, int64_t done, int64_t total) {
    seen *s = context;
    assert_true(done > s->done);
    *s = (seen){done, total, s->calls + 1};
}

static void writes_a_data_file(void **state) {
    (void)state;
    char path[] = "synth-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    seen s = {0};
    assert_int_equal(mnd_synth_file(path, 2500, 70, 11, note_progress, &s), MND_OK);
    assert_int_equal(s.done, 2570);
    assert_int_equal(s.total, 2570);
    assert_true(s.calls > 2);
    mnd_dataset *data;
    assert_int_equal(mnd_dataset_open(path, &data), MND_OK);
    const mnd_dataset_info *info = mnd_dataset_about(data);
    assert_int_equal(info->count[MND_TRAIN], 2500);
    assert_int_equal(info->count[MND_TEST], 70);
    assert_int_equal(info->classes, 10);
    assert_string_equal(info->class_name[7], "7");
    assert_non_null(strstr(info->source, "seed 11"));
    const struct {
        mnd_split split;
        int64_t row;
    } probe[] = {{MND_TRAIN, 0},    {MND_TRAIN, 1023}, {MND_TRAIN, 1024},
                 {MND_TRAIN, 2499}, {MND_TEST, 0},     {MND_TEST, 69}};
    for (size_t i = 0; i < sizeof probe / sizeof probe[0]; i++) {
        uint8_t file[PIXELS], drawn[PIXELS], label[2];
        assert_int_equal(mnd_dataset_read(data, probe[i].split, probe[i].row, 1, file, &label[0]),
                         MND_OK);
        mnd_synth_digit(11, probe[i].split, probe[i].row, drawn, &label[1]);
        assert_int_equal(label[0], label[1]);
        assert_memory_equal(file, drawn, PIXELS);
    }
    mnd_dataset_close(&data);
    unlink(path);
}

static void refuses(void **state) {
    (void)state;
    assert_int_equal(mnd_synth_file("synth-none.h5", 0, 10, 1, NULL, NULL), MND_RANGE);
    assert_int_equal(mnd_synth_file("synth-none.h5", 10, INT64_C(1) << 31, 1, NULL, NULL),
                     MND_RANGE);
    assert_int_not_equal(access("synth-none.h5", F_OK), 0);
    assert_int_not_equal(mnd_synth_file("/dev/null/x.h5", 10, 10, 1, NULL, NULL), MND_OK);
    assert_non_null(strstr(mnd_error(), "/dev/null/x.h5"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_a_pure_function),    cmocka_unit_test(known_bytes),
        cmocka_unit_test(has_the_form_of_mnist), cmocka_unit_test(classes_differ_and_vary),
        cmocka_unit_test(writes_a_data_file),    cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
