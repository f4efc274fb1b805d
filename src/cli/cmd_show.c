/* cmd_show.c - describes a split of a data file and shows one of its images. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/log.h"
#include "mnist_dist/picture.h"
#include "options.h"
#include "terminal.h"

static const command_usage usage = {"show", "",
                                    "Shows a split of a data file - shapes, types, smallest and "
                                    "largest value, images per class - and\n"
                                    "one of its images: label, one-hot vector, and the picture.",
                                    0, 0};

enum { CHUNK = 1 << 20, BAR = 40 };

typedef struct survey {
    int x_min, x_max, y_min, y_max;
    int64_t images[MND_MAX_CLASSES]; /* by class */
} survey;

static int64_t image_size(const mnd_dataset_info *info) {
    return (int64_t)info->height * info->width * info->channels;
}

/* Adds all images and labels of a split to *out. Reads about CHUNK bytes at a time. */
static mnd_status take_survey(mnd_dataset *data, mnd_split split, survey *out) {
    mnd_status status = MND_OK;
    const mnd_dataset_info *info = mnd_dataset_about(data);
    const int64_t size = image_size(info), count = info->count[split];
    const int64_t step = size >= CHUNK ? 1 : CHUNK / size;
    uint8_t *images = malloc((size_t)(step * size)), *labels = malloc((size_t)step);
    if (images == NULL || labels == NULL)
        MND_FAIL(MND_NO_MEMORY, "show: no memory for %lld images", (long long)step);
    for (int64_t row = 0; row < count; row += step) {
        const int64_t n = count - row < step ? count - row : step;
        MND_TRY(mnd_dataset_read(data, split, row, n, images, labels));
        uint8_t low = 255, high = 0;
        for (int64_t i = 0; i < n * size; i++) {
            low = images[i] < low ? images[i] : low;
            high = images[i] > high ? images[i] : high;
        }
        if (low < out->x_min) out->x_min = low;
        if (high > out->x_max) out->x_max = high;
        for (int64_t i = 0; i < n; i++) {
            if (labels[i] < out->y_min) out->y_min = labels[i];
            if (labels[i] > out->y_max) out->y_max = labels[i];
            out->images[labels[i]]++;
        }
    }
cleanup:
    free(images);
    free(labels);
    return status;
}

/* Whether the classes have names other than their numbers. */
static bool is_named(const mnd_dataset_info *info) {
    for (int i = 0; i < info->classes; i++) {
        char digits[16];
        snprintf(digits, sizeof digits, "%d", i);
        if (strcmp(digits, info->class_name[i]) != 0) return true;
    }
    return false;
}

static void print_array(const char *name, const char *shape, int low, int high) {
    printf("%-8s %-20s uint8   min %d, max %d\n", name, shape, low, high);
}

static void print_survey(const mnd_dataset_info *info, const char *split, int64_t count,
                         const survey *s) {
    char name[16], shape[64];
    int n =
        snprintf(shape, sizeof shape, "(%lld, %d, %d", (long long)count, info->height, info->width);
    if (info->channels > 1)
        n += snprintf(shape + n, sizeof shape - (size_t)n, ", %d", info->channels);
    snprintf(shape + n, sizeof shape - (size_t)n, ")");
    snprintf(name, sizeof name, "x_%s", split);
    print_array(name, shape, s->x_min, s->x_max);
    snprintf(name, sizeof name, "y_%s", split);
    snprintf(shape, sizeof shape, "(%lld,)", (long long)count);
    print_array(name, shape, s->y_min, s->y_max);

    const bool named = is_named(info);
    int64_t most = 1;
    int width = named ? 5 : 0;
    for (int i = 0; i < info->classes; i++) {
        const int length = (int)strlen(info->class_name[i]);
        if (s->images[i] > most) most = s->images[i];
        if (named && length > width) width = length;
    }
    printf("\nlabel  %-*s%10s\n", width, named ? "class" : "", "images");
    for (int i = 0; i < info->classes; i++) {
        printf("%5d  %-*s%10lld  ", i, width, named ? info->class_name[i] : "",
               (long long)s->images[i]);
        for (int64_t k = 0; k < (s->images[i] * BAR + most - 1) / most; k++) putchar('#');
        putchar('\n');
    }
}

/* Grey values to be drawn: the mean of the channels. */
static void make_grey(const mnd_dataset_info *info, const uint8_t *image, uint8_t *grey) {
    const int n = info->height * info->width, c = info->channels;
    for (int i = 0; i < n; i++) {
        int sum = 0;
        for (int k = 0; k < c; k++) sum += image[i * c + k];
        grey[i] = (uint8_t)((sum + c / 2) / c);
    }
}

/* Prints one channel after the other, as numbers. */
static void print_numbers(const mnd_dataset_info *info, const uint8_t *image, uint8_t *plane) {
    const int n = info->height * info->width, c = info->channels;
    for (int k = 0; k < c; k++) {
        if (c > 1) printf("channel %d:\n", k);
        for (int i = 0; i < n; i++) plane[i] = image[i * c + k];
        mnd_picture_numbers(stdout, plane, info->height, info->width);
    }
}

static mnd_status show_image(mnd_dataset *data, const char *split_name, mnd_split split,
                             int64_t index, bool numbers, bool color, const char *png) {
    mnd_status status = MND_OK;
    const mnd_dataset_info *info = mnd_dataset_about(data);
    const size_t size = (size_t)image_size(info);
    uint8_t label;
    uint8_t *image = malloc(2 * size);
    if (image == NULL) return mnd_fail(MND_NO_MEMORY, "show: no memory for an image");
    MND_TRY(mnd_dataset_read(data, split, index, 1, image, &label));
    printf("\n%s image %lld: label %d", split_name, (long long)index, label);
    if (is_named(info)) printf(", class \"%s\"", info->class_name[label]);
    printf("\none-hot: [");
    for (int i = 0; i < info->classes; i++) printf("%s%d", i > 0 ? ", " : "", i == label);
    printf("]\n\n");
    if (numbers) print_numbers(info, image, image + size);
    make_grey(info, image, image + size);
    if (png != NULL) {
        const mnd_picture picture = {info->height, info->width, image + size};
        MND_TRY(mnd_picture_write_png(png, &picture));
    }
    if (!numbers) mnd_picture_draw(stdout, image + size, info->height, info->width, color);
cleanup:
    free(image);
    return status;
}

int cmd_show(int argc, char **argv) {
    mnd_status status = MND_OK;
    mnd_dataset *data = NULL;
    const char *path = "data/mnist.h5", *split_name = "train", *color = "auto", *png = NULL;
    int64_t index = 0;
    bool numbers = false, check = false;
    const option_row row[] = {
        {"data", OPTION_TEXT, &path, "FILE", 0, 0, "the data file (data/mnist.h5)"},
        {"split", OPTION_CHOICE, &split_name, "train|test", 0, 0, "which images (train)"},
        {"index", OPTION_INT, &index, "N", 0, INT32_MAX, "which image, counted from 0 (0)"},
        {"numbers", OPTION_FLAG, &numbers, NULL, 0, 0, "the image as numbers, not as a picture"},
        {"png", OPTION_TEXT, &png, "FILE", 0, 0, "write the image as a grey PNG picture, too"},
        {"check", OPTION_FLAG, &check, NULL, 0, 0,
         "only compare the file with the checksum stored in it"},
        {"color", OPTION_CHOICE, &color, TERMINAL_COLOR_CHOICES, 0, 0,
         "draw with colours (auto: on a terminal)"},
    };
    command_line line;
    MND_TRY(options_parse(&usage, row, OPTION_COUNT(row), argc, argv, &line));
    if (line.helped || !command_is_first()) return EXIT_DONE;
    MND_TRY(mnd_dataset_open_any(path, &data));
    const mnd_dataset_info *info = mnd_dataset_about(data);
    const mnd_split split = strcmp(split_name, "test") == 0 ? MND_TEST : MND_TRAIN;
    if (check) {
        if (info->data_sha256[0] == '\0')
            MND_FAIL(MND_UNSUPPORTED, "%s: has no checksum to compare with; convert writes one",
                     path);
        MND_TRY(mnd_dataset_verify(data));
        printf("%s: right, sha256 %s\n", path, info->data_sha256);
        goto cleanup;
    }
    if (info->count[split] == 0)
        MND_FAIL(MND_USAGE, "%s: holds test images only; say --split test", path);
    if (index >= info->count[split])
        MND_FAIL(MND_USAGE, "--index: %lld is not between 0 and %lld, the last %s image of %s",
                 (long long)index, (long long)info->count[split] - 1, split_name, path);
    survey all = {.x_min = 255, .y_min = 255};
    MND_TRY(take_survey(data, split, &all));
    printf("%s%s%s, %d classes\n", path, info->source[0] != '\0' ? ": " : "", info->source,
           info->classes);
    print_survey(info, split_name, info->count[split], &all);
    status = show_image(data, split_name, split, index, numbers, terminal_color(color), png);
cleanup:
    mnd_dataset_close(&data);
    return command_exit(status);
}
