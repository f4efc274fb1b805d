/* cmd_show.c - describes a split of a data file and shows one of its images. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/log.h"
#include "mnist_dist/picture.h"
#include "options.h"
#include "sheet.h"
#include "terminal.h"

static const command_usage usage = {"show", "",
                                    "Shows a split of a data file - shapes, types, smallest and "
                                    "largest value, images per class - and\n"
                                    "one of its images: label, one-hot vector, and the picture.\n"
                                    "With --augment: the picture as it is, and as each epoch of a "
                                    "run with the same --augment and\n--seed sees it.",
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

/* What to show of an image. */
typedef struct choices {
    const char *split_name, *color, *png;
    bool numbers, augmented;
    int64_t index, seed;
    sheet_plan sheet;
} choices;

static mnd_status show_sheet(const mnd_dataset_info *info, const choices *k, const uint8_t *image) {
    mnd_picture sheet;
    mnd_status status = sheet_make(&k->sheet, info, k->index, image, &sheet);
    if (status != MND_OK) return status;
    printf("as it is, and in %lld epoch%s of a run with --seed %lld:\n\n",
           (long long)k->sheet.draws, k->sheet.draws == 1 ? "" : "s", (long long)k->seed);
    if (k->png != NULL) status = mnd_picture_write_png(k->png, &sheet);
    if (status == MND_OK)
        mnd_picture_draw(stdout, sheet.pixel, sheet.height, sheet.width, terminal_color(k->color));
    mnd_picture_free(&sheet);
    return status;
}

static mnd_status show_image(mnd_dataset *data, const choices *k, mnd_split split) {
    mnd_status status = MND_OK;
    const mnd_dataset_info *info = mnd_dataset_about(data);
    const size_t size = (size_t)image_size(info);
    uint8_t label;
    uint8_t *image = malloc(2 * size);
    if (image == NULL) return mnd_fail(MND_NO_MEMORY, "show: no memory for an image");
    MND_TRY(mnd_dataset_read(data, split, k->index, 1, image, &label));
    printf("\n%s image %lld: label %d", k->split_name, (long long)k->index, label);
    if (is_named(info)) printf(", class \"%s\"", info->class_name[label]);
    printf("\none-hot: [");
    for (int i = 0; i < info->classes; i++) printf("%s%d", i > 0 ? ", " : "", i == label);
    printf("]\n\n");
    if (k->augmented) {
        status = show_sheet(info, k, image);
        goto cleanup;
    }
    if (k->numbers) print_numbers(info, image, image + size);
    make_grey(info, image, image + size);
    if (k->png != NULL) {
        const mnd_picture picture = {info->height, info->width, image + size};
        MND_TRY(mnd_picture_write_png(k->png, &picture));
    }
    if (!k->numbers)
        mnd_picture_draw(stdout, image + size, info->height, info->width, terminal_color(k->color));
cleanup:
    free(image);
    return status;
}

/* --augment, and what contradicts it. */
static mnd_status settle(const char *augment, bool check, choices *k) {
    const mnd_status status = mnd_augment_parse(augment, &k->sheet.how);
    k->augmented = mnd_augment_any(&k->sheet.how);
    if (status != MND_OK || !k->augmented) return status;
    k->sheet.seed = (uint64_t)k->seed;
    const char *other = strcmp(k->split_name, "train") != 0 ? "--split test"
                        : k->numbers                        ? "--numbers"
                        : check                             ? "--check"
                                                            : NULL;
    if (other != NULL)
        return mnd_fail(MND_USAGE,
                        "--augment shows pictures of a training image, which contradicts %s: leave "
                        "one of them out",
                        other);
    return MND_OK;
}

static mnd_status check_file(const char *path, mnd_dataset *data) {
    const mnd_dataset_info *info = mnd_dataset_about(data);
    if (info->data_sha256[0] == '\0')
        return mnd_fail(MND_UNSUPPORTED, "%s: has no checksum to compare with; convert writes one",
                        path);
    const mnd_status status = mnd_dataset_verify(data);
    if (status == MND_OK) printf("%s: right, sha256 %s\n", path, info->data_sha256);
    return status;
}

static mnd_status show(const char *path, mnd_dataset *data, const choices *k) {
    const mnd_dataset_info *info = mnd_dataset_about(data);
    const mnd_split split = strcmp(k->split_name, "test") == 0 ? MND_TEST : MND_TRAIN;
    if (info->count[split] == 0)
        return mnd_fail(MND_USAGE, "%s: holds test images only; say --split test", path);
    if (k->index >= info->count[split])
        return mnd_fail(
            MND_USAGE, "--index: %lld is not between 0 and %lld, the last %s image of %s",
            (long long)k->index, (long long)info->count[split] - 1, k->split_name, path);
    survey all = {.x_min = 255, .y_min = 255};
    const mnd_status status = take_survey(data, split, &all);
    if (status != MND_OK) return status;
    printf("%s%s%s, %d classes\n", path, info->source[0] != '\0' ? ": " : "", info->source,
           info->classes);
    print_survey(info, k->split_name, info->count[split], &all);
    return show_image(data, k, split);
}

int cmd_show(int argc, char **argv) {
    mnd_status status = MND_OK;
    mnd_dataset *data = NULL;
    const char *path = "data/mnist.h5", *augment = "none";
    choices k = {
        .split_name = "train", .color = "auto", .seed = 1, .sheet = {.draws = 7, .columns = 4}};
    bool check = false;
    const option_row row[] = {
        {"data", OPTION_TEXT, &path, "FILE", 0, 0, "the data file (data/mnist.h5)"},
        {"split", OPTION_CHOICE, &k.split_name, "train|test", 0, 0, "which images (train)"},
        {"index", OPTION_INT, &k.index, "N", 0, INT32_MAX, "which image, counted from 0 (0)"},
        {"numbers", OPTION_FLAG, &k.numbers, NULL, 0, 0, "the image as numbers, not as a picture"},
        {"augment", OPTION_TEXT, &augment, "PARTS", 0, 0,
         "the image as train --augment PARTS distorts it: rotate:10,shift:2 ... (none)"},
        {"seed", OPTION_INT, &k.seed, "N", 0, 9e15, "with --augment: the seed of the run (1)"},
        {"draws", OPTION_INT, &k.sheet.draws, "N", 1, 100000,
         "with --augment: how many epochs to show (7)"},
        {"columns", OPTION_INT, &k.sheet.columns, "N", 1, 100000,
         "with --augment: pictures in a row (4)"},
        {"png", OPTION_TEXT, &k.png, "FILE", 0, 0, "write what is drawn as a grey PNG, too"},
        {"check", OPTION_FLAG, &check, NULL, 0, 0,
         "only compare the file with the checksum stored in it"},
        {"color", OPTION_CHOICE, &k.color, TERMINAL_COLOR_CHOICES, 0, 0,
         "draw with colours (auto: on a terminal)"},
    };
    command_line line;
    MND_TRY(options_parse(&usage, row, OPTION_COUNT(row), argc, argv, &line));
    if (line.helped || !command_is_first()) return EXIT_DONE;
    MND_TRY(settle(augment, check, &k));
    MND_TRY(mnd_dataset_open_any(path, &data));
    status = check ? check_file(path, data) : show(path, data, &k);
cleanup:
    mnd_dataset_close(&data);
    return command_exit(status);
}
