/* cmd_predict.c - classifies an image of a data file, or PNG and JPEG pictures. Without MPI. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "checkpoints.h"
#include "commands.h"
#include "mnist_dist/checkpoint.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/ensemble.h"
#include "mnist_dist/loops.h"
#include "mnist_dist/memory.h"
#include "mnist_dist/picture.h"
#include "mnist_dist/train.h"
#include "options.h"
#include "terminal.h"

enum { BAR = 40 };

typedef struct choices {
    const char *data; /* NULL: not given */
    const char *split;
    int64_t index; /* -1: not given */
    const char *color;
    bool as_is, json;
    int64_t top; /* 0: all, in the order of the classes */
} choices;

typedef struct network {
    mnd_model *model;
    float *param;
} network;

typedef struct predictor {
    checkpoint_names names;
    mnd_checkpoint ckpt;          /* the first; the others have the same images and classes */
    network *network;             /* (names.n), owned */
    mnd_dataset *data;            /* NULL: classes have no names, only numbers */
    uint8_t *image;               /* (height, width, channels) */
    uint8_t *grey;                /* (height, width): the image to be drawn */
    float *part;                  /* (classes) probabilities: the mean of the networks */
    double *sum;                  /* (classes) */
    int read[MND_PICTURE_DIGITS]; /* the answers to a picture of several digits */
    bool color, json;
    int top;
} predictor;

/* "Sneaker", or the number if there is no data file with names. Valid until the next call. */
static const char *class_name(const predictor *p, int class) {
    static char number[16];
    if (p->data != NULL) return mnd_dataset_about(p->data)->class_name[class];
    snprintf(number, sizeof number, "%d", class);
    return number;
}

/* Pixels of an image, not counting channels. */
static size_t plane_size(const predictor *p) {
    return (size_t)p->ckpt.input[0] * (size_t)p->ckpt.input[1];
}

/* Draws the mean of the channels. */
static void draw_image(predictor *p) {
    const int *input = p->ckpt.input, channels = input[2];
    const uint8_t *pixel = p->image;
    for (size_t i = 0; i < plane_size(p); i++) {
        int sum = 0;
        for (int c = 0; c < channels; c++) sum += *pixel++;
        p->grey[i] = (uint8_t)((sum + channels / 2) / channels);
    }
    mnd_picture_draw(stdout, p->grey, input[0], input[1], p->color);
}

/* Prints a bar for a probability; with colours its length is a multiple of 1/8 character. */
static void print_bar(float part, bool color, bool strong) {
    static const char *const piece[] = {"",       "\u258f", "\u258e", "\u258d",
                                        "\u258c", "\u258b", "\u258a", "\u2589"};
    const int step = color ? 8 : 1;
    const int length = (int)(part * (float)(BAR * step) + 0.5F);
    if (length == 0) return;
    fputs(color ? strong ? "  \x1b[1;32m" : "  \x1b[2m" : "  ", stdout);
    for (int i = 0; i < length / step; i++) fputs(color ? "\u2588" : "#", stdout);
    if (color) printf("%s\x1b[0m", piece[length % step]);
}

static const char *name_of(const void *context, int class) { return class_name(context, class); }

/* Classifies p->image: the probabilities. */
static void classify(predictor *p) {
    const int *input = p->ckpt.input, classes = p->ckpt.classes;
    memset(p->sum, 0, (size_t)classes * sizeof *p->sum);
    for (int i = 0; i < p->names.n; i++) {
        mnd_model *model = p->network[i].model;
        mnd_pixels(plane_size(p) * (size_t)input[2], p->image, mnd_model_input(model));
        memcpy(p->part, mnd_model_forward(model, 1), (size_t)classes * sizeof *p->part);
        mnd_ensemble_add(p->part, 1, classes, p->sum);
    }
    mnd_ensemble_mean(p->sum, p->names.n, 1, classes, p->part);
}

static mnd_status print_json(const predictor *p, answer *a) {
    a->checkpoints = &p->names;
    a->part = p->part;
    a->classes = p->ckpt.classes;
    a->top = p->top > 0 ? p->top : p->ckpt.classes;
    a->class_name = name_of;
    a->context = p;
    return answer_predict(a);
}

/* Classifies p->image; prints the picture, the probabilities and the answer, which it returns: the
 * first class of the highest probability. */
static int print_answer(predictor *p) {
    const int classes = p->ckpt.classes;
    int order[MND_MAX_CLASSES] = {0}, best, width = 1;
    classify(p);
    (void)answer_top(p->part, classes, 1, &best);
    const int n = p->top > 0 ? answer_top(p->part, classes, p->top, order) : classes;
    for (int i = 0; p->top == 0 && i < n; i++) order[i] = i;
    for (int i = 0; i < n; i++) {
        const int length = (int)strlen(class_name(p, order[i]));
        width = length > width ? length : width;
    }
    draw_image(p);
    for (int i = 0; i < n; i++) {
        printf("%*s  %8.6f", width, class_name(p, order[i]), (double)p->part[order[i]]);
        print_bar(p->part[order[i]], p->color, order[i] == best);
        putchar('\n');
    }
    printf("answer: %s (%.2f %%", class_name(p, best), 100.0 * (double)p->part[best]);
    if (p->names.n > 1) printf(", the mean of %d networks", p->names.n);
    printf(")\n");
    return best;
}

static mnd_status predict_index(predictor *p, const choices *k) {
    mnd_status status = MND_OK;
    const mnd_split split = strcmp(k->split, "train") == 0 ? MND_TRAIN : MND_TEST;
    uint8_t label;
    const mnd_dataset_info *info = mnd_dataset_about(p->data);
    if (info->count[split] == 0)
        MND_FAIL(MND_USAGE, "%s: holds no training images for --split %s", k->data, k->split);
    if (k->index >= info->count[split])
        MND_FAIL(MND_USAGE, "--index %lld: %s has %s images 0 to %lld", (long long)k->index,
                 k->data, k->split, (long long)info->count[split] - 1);
    MND_TRY(mnd_dataset_read(p->data, split, k->index, 1, p->image, &label));
    if (p->json) {
        answer a = {.file = k->data, .split = k->split, .index = k->index, .label = label};
        classify(p);
        return print_json(p, &a);
    }
    printf("%s: %s image %lld\n", k->data, k->split, (long long)k->index);
    const int best = print_answer(p);
    printf("actual: %s, one-hot [", info->class_name[label]);
    for (int i = 0; i < info->classes; i++) printf("%s%d", i > 0 ? ", " : "", i == label);
    printf("]: %s\n", best == label ? "right" : "wrong");
cleanup:
    return status;
}

static bool split_digits(const choices *k) { return strcmp(k->split, "digits") == 0; }

static void take_image(predictor *p, const mnd_picture_images *images, int i) {
    memcpy(p->image, images->pixel + (size_t)i * plane_size(p), plane_size(p));
}

/* The digits of a picture one by one, and what they say together. */
static void print_digits(predictor *p, const mnd_picture_images *digits) {
    for (int i = 0; i < digits->n; i++) {
        printf("digit %d of %d, seen as\n", i + 1, digits->n);
        take_image(p, digits, i);
        p->read[i] = print_answer(p);
    }
    fputs("read from left to right:", stdout);
    for (int i = 0; i < digits->n; i++) printf(" %s", class_name(p, p->read[i]));
    putchar('\n');
}

static void print_picture(predictor *p, const choices *k, const char *path,
                          const mnd_picture *picture, const mnd_picture_images *images) {
    printf("%s: %d x %d pixels, seen as\n", path, picture->width, picture->height);
    printf("(%s)\n", images->done);
    if (images->digits > 1 && !split_digits(k))
        printf("(%d digits in one picture? --split reads them one by one)\n", images->digits);
    if (images->n > 1) {
        print_digits(p, images);
        return;
    }
    take_image(p, images, 0);
    (void)print_answer(p);
}

/* A line for the picture, or for each of its digits. */
static mnd_status print_picture_json(predictor *p, const choices *k, const char *path,
                                     const mnd_picture_images *images) {
    mnd_status status = MND_OK;
    for (int i = 0; i < images->n && status == MND_OK; i++) {
        take_image(p, images, i);
        classify(p);
        status = print_json(p, &(answer){.file = path,
                                         .label = -1,
                                         .done = images->done,
                                         .digit = split_digits(k) ? i + 1 : 0,
                                         .digits = images->digits});
    }
    return status;
}

static mnd_status predict_picture(predictor *p, const choices *k, const char *path) {
    mnd_status status = MND_OK;
    mnd_picture picture = {0};
    mnd_picture_images images = {0};
    const mnd_picture_form *form = &p->ckpt.training_images;
    const mnd_picture_target target = {.height = p->ckpt.input[0],
                                       .width = p->ckpt.input[1],
                                       .form = form->images > 0.0 ? *form : mnd_picture_mnist,
                                       .as_is = k->as_is,
                                       .split = split_digits(k)};
    MND_TRY(mnd_picture_read(path, &picture));
    status = mnd_picture_prepare(&picture, &target, &images);
    if (status != MND_OK) MND_FAIL(status, "%s: %s", path, mnd_error());
    if (p->json)
        status = print_picture_json(p, k, path, &images);
    else
        print_picture(p, k, path, &picture, &images);
cleanup:
    mnd_picture_free(&picture);
    mnd_picture_images_free(&images);
    if (status == MND_OK || !p->json) return status;
    /* A line for every picture, so that a script can match lines with files. */
    char why[1024];
    snprintf(why, sizeof why, "%s", mnd_error());
    const mnd_status printed = print_json(p, &(answer){.file = path, .error = why});
    return printed == MND_OK ? mnd_fail(status, "%s", why) : printed;
}

/* The networks, and the first one's checkpoint. */
static mnd_status load_networks(predictor *p) {
    mnd_status status = MND_OK;
    mnd_checkpoint other = {0};
    MND_NEW(p->network, p->names.n, "the networks");
    for (int i = 0; i < p->names.n; i++) {
        mnd_checkpoint *ckpt = i == 0 ? &p->ckpt : &other;
        const char *path = p->names.path[i];
        mnd_checkpoint_free(ckpt);
        MND_TRY(mnd_checkpoint_read(path, ckpt));
        MND_TRY(checkpoint_fits_first(ckpt, path, &p->ckpt, p->names.path[0]));
        MND_TRY(mnd_model_from_checkpoint(ckpt, 1, 1, false, &p->network[i].model,
                                          &p->network[i].param));
    }
cleanup:
    mnd_checkpoint_free(&other);
    return status;
}

static mnd_status load(predictor *p, char **path, int n_path, const choices *k) {
    mnd_status status = MND_OK;
    MND_TRY(checkpoint_names_find(path, n_path, &p->names));
    MND_TRY(load_networks(p));
    const int *input = p->ckpt.input;
    if (k->data != NULL) {
        MND_TRY(mnd_dataset_open_any(k->data, &p->data));
        MND_TRY(
            checkpoint_fits_data(&p->ckpt, p->names.path[0], mnd_dataset_about(p->data), k->data));
        MND_TRY(mnd_dataset_widen(p->data, p->ckpt.classes));
    }
    if (k->index < 0 && input[2] != 1)
        MND_FAIL(MND_UNSUPPORTED, "%s takes images of %d channels; pictures are read as grey ones",
                 p->names.path[0], input[2]);
    MND_NEW(p->image, plane_size(p) * (size_t)input[2], "the image");
    MND_NEW(p->grey, plane_size(p), "the image");
    MND_NEW(p->part, p->ckpt.classes, "the probabilities");
    MND_NEW(p->sum, p->ckpt.classes, "the probabilities");
cleanup:
    return status;
}

static void unload(predictor *p) {
    for (int i = 0; p->network != NULL && i < p->names.n; i++) {
        mnd_model_destroy(&p->network[i].model);
        mnd_free(p->network[i].param);
    }
    mnd_free(p->network);
    checkpoint_names_free(&p->names);
    mnd_free(p->image);
    mnd_free(p->grey);
    mnd_free(p->part);
    mnd_free(p->sum);
    mnd_dataset_close(&p->data);
    mnd_checkpoint_free(&p->ckpt);
}

/* Whether an argument after the first is one more checkpoint: FILE.h5, latest, best or a folder. */
static bool names_checkpoint(const char *argument) {
    const char *slash = strrchr(argument, '/'), *name = slash != NULL ? slash + 1 : argument;
    const size_t n = strlen(name);
    int *member = NULL, n_member = 0;
    if (n > 3 && strcmp(name + n - 3, ".h5") == 0) return true;
    if (strcmp(name, "latest") == 0 || strcmp(name, "best") == 0) return true;
    const bool listed = mnd_checkpoint_members(argument, &member, &n_member) == MND_OK;
    free(member);
    return (listed && n_member > 0) || mnd_checkpoint_any(argument);
}

/* "--split" without a word, as for pictures, means "--split digits". */
static void complete_split(int argc, char **argv) {
    static char whole[] = "--split=digits";
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--split") != 0) continue;
        const char *next = i + 1 < argc ? argv[i + 1] : "-";
        if (next[0] == '-' || strpbrk(next, "./") != NULL) argv[i] = whole;
    }
}

/* Checks the command line; *n_path: how many of its arguments are checkpoints. */
static mnd_status check_line(const command_line *line, const choices *k, int *n_path) {
    *n_path = 1;
    while (*n_path < line->n_argument && names_checkpoint(line->argument[*n_path])) ++*n_path;
    if ((k->index < 0) == (line->n_argument == *n_path))
        return mnd_fail(MND_USAGE, "predict: needs either --index N or one or more FILE.png; see "
                                   "'mnist_dist predict --help'");
    if (k->index >= 0 && split_digits(k))
        return mnd_fail(MND_USAGE, "predict: --split without test or train is for pictures");
    return MND_OK;
}

int cmd_predict(int argc, char **argv) {
    static const command_usage usage = {
        .name = "predict",
        .arguments = "CKPT... [FILE.png|FILE.jpg...]",
        .text =
            "What the network of a checkpoint sees in image N of a data file (--index N), or in "
            "PNG\n"
            "or JPEG pictures of any size, dark on light or light on dark: the picture as it "
            "reaches\n"
            "the network, the probability of each class, and the answer. A picture of the size of\n"
            "the training images is taken as it is; the ink of any other is found, scaled and\n"
            "centred like theirs. CKPT is a file, or a folder for its newest one. Several, or the\n"
            "folder of an ensemble (train --members), answer together: the mean of their\n"
            "probabilities.",
        .min_arguments = 1,
        .max_arguments = -1};
    choices k = {.split = "test", .index = -1, .color = "auto"};
    const option_row rows[] = {
        {"index", OPTION_INT, &k.index, "N", 0, 2147483646, "image N of the data file, from 0"},
        {"split", OPTION_CHOICE, &k.split, "test|train|digits", 0, 0,
         "of which images (test); --split alone: each digit of a picture, from left to right"},
        {"as-is", OPTION_FLAG, &k.as_is, NULL, 0, 0,
         "take the whole picture as it is, only scaled to the network's size"},
        {"data", OPTION_TEXT, &k.data, "FILE", 0, 0,
         "HDF5 data file (data/mnist.h5); with pictures: names of the classes"},
        {"color", OPTION_CHOICE, &k.color, TERMINAL_COLOR_CHOICES, 0, 0,
         "draw with colours (auto: on a terminal)"},
        {"top", OPTION_INT, &k.top, "K", 1, MND_MAX_CLASSES,
         "only the K most probable classes, most probable first (all)"},
        {"json", OPTION_FLAG, &k.json, "", 0, 0,
         "one JSON object a line on stdout for each image, for scripts"},
    };
    command_line line;
    predictor p = {0};
    complete_split(argc, argv);
    mnd_status status = options_parse(&usage, rows, OPTION_COUNT(rows), argc, argv, &line);
    if (line.helped || !command_is_first()) return EXIT_DONE;
    int code = EXIT_DONE, n_path = 0;
    if (status == MND_OK) status = check_line(&line, &k, &n_path);
    if (status != MND_OK) return command_exit(status);
    if (k.index >= 0 && k.data == NULL) k.data = "data/mnist.h5";
    p.color = terminal_color(k.color);
    p.json = k.json;
    p.top = (int)k.top;
    status = load(&p, line.argument, n_path, &k);
    if (status == MND_OK && k.index >= 0) status = predict_index(&p, &k);
    code = command_exit(status);
    /* A picture that cannot be read does not prevent the others from being classified. */
    for (int i = n_path; status == MND_OK && i < line.n_argument; i++) {
        const int bad = command_exit(predict_picture(&p, &k, line.argument[i]));
        code = code == EXIT_DONE ? bad : code;
    }
    unload(&p);
    if (fflush(stdout) != 0 && code == EXIT_DONE)
        code = command_exit(mnd_fail(MND_IO, "predict: cannot write the output"));
    return code;
}
