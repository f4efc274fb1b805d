/* convert.c - converts images and labels in any of several formats to one HDF5 data file. */
#include "mnist_dist/convert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "convert_source.h"

enum {
    TEST_EVERY = 7,   /* as in MNIST, one test image for six training images */
    RARE = 100,       /* a label above a gap that is so many times rarer than the mean is damage */
    SHOWN_CLASSES = 8 /* in a note */
};

/* One conversion: what the source contains, what becomes of it, and the buffers. */
typedef struct conversion {
    mnd_source s;
    mnd_convert_options options;
    mnd_dataset_info info;               /* of the file to be written */
    int64_t images[MND_MAX_CLASSES + 1]; /* by label in the source; the last: labels of 256 */
    float min, max;                      /* of the pixels, if they are float */
    bool fractions;                      /* some pixels are not whole numbers */
    double scale, offset;                /* pixel = value * scale + offset */
    int brightest;                       /* of the pixels written */
    int test_every;                      /* 0: the source has test images */
    int64_t rows;                        /* images to convert at a time */
    size_t size;                         /* pixels of an image */
    void *raw;                           /* (rows, size) as in the source, owned */
    uint8_t *pixel, *label;              /* (rows, size) and (rows) as in the target, owned */
    uint8_t *one;                        /* one image, owned */
    int64_t *number;                     /* (rows) labels as in the source, owned */
    mnd_progress_fn progress;
    void *context;
    int64_t done;
} conversion;

static mnd_status allocate(conversion *c) {
    const int64_t *dim = c->s.dim;
    c->size = (size_t)(dim[0] * dim[1] * dim[2]);
    c->rows = c->size >= MND_SOURCE_BLOCK ? 1 : (int64_t)(MND_SOURCE_BLOCK / c->size);
    const size_t n = (size_t)c->rows;
    c->raw = malloc(n * c->size * (c->s.floats ? sizeof(float) : 1));
    c->pixel = malloc(n * c->size);
    c->one = malloc(c->size);
    c->label = malloc(n);
    c->number = malloc(n * sizeof *c->number);
    if (c->raw == NULL || c->pixel == NULL || c->one == NULL || c->label == NULL ||
        c->number == NULL)
        return mnd_fail(MND_NO_MEMORY, "%s: no memory for its images", c->s.path);
    return MND_OK;
}

static mnd_status survey_pixels(conversion *c, int64_t row, int64_t n) {
    const float *v = c->raw;
    for (size_t i = 0; i < (size_t)n * c->size; i++) {
        if (!isfinite(v[i]))
            return mnd_fail(MND_FORMAT, "%s: %s image %lld has a pixel that is %s", c->s.path,
                            c->s.split == MND_TEST ? "test" : "training",
                            (long long)row + (long long)(i / c->size),
                            isnan(v[i]) ? "not a number" : "infinite");
        if (v[i] < c->min) c->min = v[i];
        if (v[i] > c->max) c->max = v[i];
        c->fractions = c->fractions || v[i] != truncf(v[i]);
    }
    return MND_OK;
}

static mnd_status survey_labels(conversion *c, int64_t row, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (c->number[i] < 0 || c->number[i] > MND_MAX_CLASSES)
            return mnd_fail(MND_FORMAT, "%s: label %lld is %lld; labels of 0 to %d can be used",
                            c->s.label_file[c->s.split], (long long)(row + i),
                            (long long)c->number[i], MND_MAX_CLASSES - 1);
        c->images[c->number[i]]++;
    }
    return MND_OK;
}

/* Reads all labels of the source, and the pixels if their range is not known. */
static mnd_status survey(conversion *c) {
    mnd_status status = MND_OK;
    c->min = HUGE_VALF;
    c->max = -HUGE_VALF;
    for (int split = 0; split < 2; split++) {
        const int64_t count = c->s.count[split];
        if (count == 0) continue;
        c->s.split = (mnd_split)split;
        MND_TRY(c->s.format->start(&c->s, (mnd_split)split));
        for (int64_t row = 0; row < count; row += c->rows) {
            const int64_t n = count - row < c->rows ? count - row : c->rows;
            MND_TRY(c->s.format->next(&c->s, n, c->s.floats ? c->raw : NULL, c->number));
            if (c->s.floats) MND_TRY(survey_pixels(c, row, n));
            MND_TRY(survey_labels(c, row, n));
        }
    }
cleanup:
    return status;
}

/* The labels without an image, as text: "1, 2, 5 ...". Returns how many there are. */
static int list_empty(const conversion *c, int first, int end, char *text, size_t size) {
    int n = 0;
    text[0] = '\0';
    for (int i = first; i < end; i++) {
        if (c->images[i] > 0) continue;
        const size_t used = strlen(text);
        if (n < SHOWN_CLASSES)
            snprintf(text + used, size - used, n == 0 ? "%d" : ", %d", i);
        else if (n == SHOWN_CLASSES)
            snprintf(text + used, size - used, " ...");
        n++;
    }
    return n;
}

/*
 * A label that is far outside the others. Label `most` is the largest; `used` and `empty` are
 * numbers of classes.
 */
static mnd_status check_labels(const conversion *c, int most, int used, int empty) {
    int64_t total = 0;
    bool gap = false;
    for (int i = 0; i <= most; i++) total += c->images[i];
    for (int i = c->options.first_label; i <= most; i++) {
        const bool damage =
            gap &&
            (empty > used ? i == most : c->images[i] > 0 && c->images[i] * used * RARE < total);
        if (damage)
            return mnd_fail(MND_FORMAT,
                            "%s: %lld of %lld labels %s %d, but %d classes below have no image: "
                            "probably damage; correct the labels, or say --classes %d",
                            c->s.path, (long long)c->images[i], (long long)total,
                            c->images[i] == 1 ? "is" : "are", i, empty,
                            most + 1 - c->options.first_label);
        gap = gap || c->images[i] == 0;
    }
    return MND_OK;
}

/* Decides what the classes are: info.classes. */
static mnd_status judge_labels(conversion *c) {
    int most = MND_MAX_CLASSES, used = 0;
    char text[128];
    while (most > 0 && c->images[most] == 0) most--;
    if (c->s.letters && c->options.first_label == 0 && c->images[0] == 0) {
        c->options.first_label = 1;
        mnd_source_note(&c->s, "labels 1 to %d are stored as 0 to %d", most, most - 1);
    }
    const int first = c->options.first_label;
    for (int i = 0; i <= most; i++) {
        used += c->images[i] > 0;
        if (i < first && c->images[i] > 0)
            return mnd_fail(MND_FORMAT, "%s: %lld labels are %d, below --first-label %d", c->s.path,
                            (long long)c->images[i], i, first);
    }
    c->info.classes = most - first + 1;
    if (c->options.classes > 0 && c->info.classes > c->options.classes)
        return mnd_fail(MND_FORMAT, "%s: the labels go up to %d, too large for --classes %d",
                        c->s.path, most, c->options.classes);
    if (c->info.classes > MND_MAX_CLASSES)
        return mnd_fail(MND_FORMAT, "%s: label %d; labels of 0 to %d can be used%s", c->s.path,
                        most, MND_MAX_CLASSES - 1,
                        c->images[0] == 0 ? "; --first-label 1 subtracts 1" : "");
    if (c->options.classes > 0) c->info.classes = c->options.classes;
    const int empty = list_empty(c, first, first + c->info.classes, text, sizeof text);
    if (c->options.classes == 0 && empty > 0) {
        mnd_status status = check_labels(c, most, used, empty);
        if (status != MND_OK) return status;
    }
    if (empty > 0)
        mnd_source_note(&c->s, "no image of class%s %s%s", empty == 1 ? "" : "es", text,
                        empty == 1 && c->images[0] == 0 && first == 0 && c->info.classes > 2
                            ? "; if the labels count from 1, say --first-label 1"
                            : "");
    if (used == 1 && c->info.count[MND_TRAIN] > 0)
        mnd_source_note(&c->s, "all labels are %d: with one class there is nothing to learn", most);
    return MND_OK;
}

/* Decides how pixels become 0 to 255. */
static mnd_status judge_pixels(conversion *c) {
    const char *path = c->s.path;
    c->scale = c->options.scale > 0 ? c->options.scale : 1;
    if (!c->s.floats) return MND_OK;
    if (c->options.scale > 0) {
        if (c->min < 0 || c->max * c->scale > 255.5)
            return mnd_fail(MND_FORMAT,
                            "%s: pixels are %g to %g; --scale %g must make them 0 to 255", path,
                            c->min, c->max, c->options.scale);
        return MND_OK;
    }
    if (c->min < 0 && c->min >= -1 && c->max <= 1) {
        c->scale = c->offset = 127.5;
        mnd_source_note(&c->s, "pixels are %g to %g: -1 to 1 is stored as 0 to 255", c->min,
                        c->max);
    } else if (c->min < 0) {
        return mnd_fail(
            MND_FORMAT,
            "%s: pixels are %g to %g, as after subtracting the mean; store them as they "
            "were before, 0 to 255 or 0 to 1",
            path, c->min, c->max);
    } else if (c->max <= 1) {
        c->scale = 255;
        if (c->max > 0) mnd_source_note(&c->s, "pixels are 0 to 1: stored as 0 to 255");
    } else if (c->max > 255) {
        return mnd_fail(MND_FORMAT, "%s: pixels go up to %g; --scale %.6g makes them 0 to 255",
                        path, c->max, 255.0 / c->max);
    } else if (c->fractions && c->max < 16) {
        mnd_source_note(&c->s,
                        "pixels are %g to %g, nearly black; --scale %.6g makes them brighter",
                        c->min, c->max, 255.0 / c->max);
    }
    return MND_OK;
}

/* Fills in c->info from the source. */
static mnd_status plan(conversion *c) {
    mnd_status status = MND_OK;
    const bool turn = c->s.transpose;
    c->info.height = (int)c->s.dim[turn ? 1 : 0];
    c->info.width = (int)c->s.dim[turn ? 0 : 1];
    c->info.channels = (int)c->s.dim[2];
    memcpy(c->info.count, c->s.count, sizeof c->info.count);
    if (c->s.count[MND_TEST] == 0) {
        const int every = c->options.test_every > 0 ? c->options.test_every : TEST_EVERY;
        c->test_every = every;
        c->info.count[MND_TEST] = c->s.count[MND_TRAIN] / every;
        c->info.count[MND_TRAIN] = c->s.count[MND_TRAIN] - c->info.count[MND_TEST];
        if (c->info.count[MND_TEST] == 0)
            MND_FAIL(MND_FORMAT, "%s: %lld images are too few; %d at least", c->s.path,
                     (long long)c->s.count[MND_TRAIN], every);
        mnd_source_note(
            &c->s, "no labelled test images: every %dth image became one (--test-every)", every);
    }
    if (c->info.count[MND_TRAIN] == 0)
        mnd_source_note(&c->s, "no training images: the file is for 'evaluate' only");
    MND_TRY(survey(c));
    MND_TRY(judge_labels(c));
    MND_TRY(judge_pixels(c));
    MND_TRY(mnd_source_class_names(&c->s, &c->info));
cleanup:
    return status;
}

/* One image of the source in the order (height, width, channels) of the target. */
static void arrange(const conversion *c, const uint8_t *in, uint8_t *out) {
    const size_t height = (size_t)c->info.height, width = (size_t)c->info.width;
    const size_t channels = (size_t)c->info.channels;
    const size_t across = c->s.channels_first ? 1 : channels; /* from a pixel to the next one */
    const size_t down = (size_t)c->s.dim[1] * across;
    const size_t row = c->s.transpose ? across : down, column = c->s.transpose ? down : across;
    const size_t plane = c->s.channels_first ? height * width : 1;
    for (size_t i = 0; i < height; i++)
        for (size_t j = 0; j < width; j++)
            for (size_t k = 0; k < channels; k++) *out++ = in[i * row + j * column + k * plane];
}

/* c->raw becomes c->pixel: n images in the form of the target. */
static mnd_status convert_pixels(conversion *c, int64_t n) {
    const size_t total = (size_t)n * c->size;
    const bool plain = !c->s.floats && c->scale == 1;
    if (plain) memcpy(c->pixel, c->raw, total);
    for (size_t i = 0; plain && i < total; i++)
        if (c->pixel[i] > c->brightest) c->brightest = c->pixel[i];
    for (size_t i = 0; !plain && i < total; i++) {
        const double value = c->s.floats ? (double)((float *)c->raw)[i] : ((uint8_t *)c->raw)[i];
        const double v = floor(value * c->scale + c->offset + 0.5);
        if (v > 255)
            return mnd_fail(MND_FORMAT, "%s: --scale %g makes a pixel %g; 255 is the limit",
                            c->s.path, c->scale, v);
        c->pixel[i] = (uint8_t)v;
        if (c->pixel[i] > c->brightest) c->brightest = c->pixel[i];
    }
    if (!c->s.transpose && !(c->s.channels_first && c->info.channels > 1)) return MND_OK;
    for (int64_t i = 0; i < n; i++) {
        uint8_t *image = c->pixel + (size_t)i * c->size;
        arrange(c, image, c->one);
        memcpy(image, c->one, c->size);
    }
    return MND_OK;
}

/* Whether image `row` of the source belongs to `split` of the target. */
static bool belongs(const conversion *c, int64_t row, mnd_split split) {
    return c->test_every == 0 || (row % c->test_every == c->test_every - 1) == (split == MND_TEST);
}

static mnd_status copy_split(conversion *c, mnd_dataset_writer *writer, mnd_split split) {
    mnd_status status = MND_OK;
    const mnd_split from = c->test_every > 0 ? MND_TRAIN : split;
    const int64_t count = c->s.count[from];
    const int64_t total = c->info.count[MND_TRAIN] + c->info.count[MND_TEST];
    if (count == 0) return MND_OK;
    c->s.split = from;
    MND_TRY(c->s.format->start(&c->s, from));
    for (int64_t row = 0; row < count; row += c->rows) {
        const int64_t n = count - row < c->rows ? count - row : c->rows;
        MND_TRY(c->s.format->next(&c->s, n, c->raw, c->number));
        MND_TRY(convert_pixels(c, n));
        int64_t kept = 0;
        for (int64_t i = 0; i < n; i++) {
            if (!belongs(c, row + i, split)) continue;
            if (kept != i)
                memcpy(c->pixel + (size_t)kept * c->size, c->pixel + (size_t)i * c->size, c->size);
            c->label[kept++] = (uint8_t)(c->number[i] - c->options.first_label);
        }
        if (kept == 0) continue;
        MND_TRY(mnd_dataset_writer_append(writer, split, kept, c->pixel, c->label));
        c->done += kept;
        if (c->progress != NULL) c->progress(c->context, c->done, total);
    }
    /* With test images taken from the training images the files are read twice, named once. */
    if (c->test_every == 0 || split == MND_TEST) MND_TRY(c->s.format->end(&c->s, writer));
cleanup:
    return status;
}

/* Names a source that is one file, with its checksum. */
static mnd_status name_file(const conversion *c, mnd_dataset_writer *writer) {
    mnd_status status = MND_OK;
    struct stat st;
    char hex[MND_SHA256_HEX];
    if (stat(c->s.path, &st) != 0 || !S_ISREG(st.st_mode)) return MND_OK;
    MND_TRY(mnd_sha256_file(c->s.path, hex));
    MND_TRY(mnd_dataset_writer_source(writer, mnd_source_base(c->s.path), hex));
cleanup:
    return status;
}

mnd_status mnd_convert(const char *source, const char *target, const mnd_convert_options *options,
                       mnd_convert_report *report, mnd_progress_fn progress, void *context) {
    mnd_status status = MND_OK;
    mnd_dataset_writer *writer = NULL;
    conversion *c = calloc(1, sizeof *c);
    if (c == NULL) return mnd_fail(MND_NO_MEMORY, "%s: no memory to convert it", source);
    if (options != NULL) c->options = *options;
    if (report != NULL) report->n_note = 0;
    c->s.path = source;
    c->s.options = &c->options;
    c->s.report = report;
    c->progress = progress;
    c->context = context;
    MND_TRY(mnd_source_find(&c->s));
    c->s.transpose = c->options.transpose;
    MND_TRY(c->s.format->open(&c->s));
    MND_TRY(allocate(c));
    MND_TRY(plan(c));
    MND_TRY(mnd_dataset_writer_create(target, &c->info, &writer));
    MND_TRY(copy_split(c, writer, MND_TRAIN));
    MND_TRY(copy_split(c, writer, MND_TEST));
    if (c->brightest == 1)
        MND_FAIL(MND_FORMAT,
                 "%s: all pixels are 0 or 1: fractions 0 to 1 that were stored as uint8 are black; "
                 "convert the fractions themselves, or say --scale 255 if pictures are black and "
                 "white",
                 source);
    MND_TRY(name_file(c, writer));
    MND_TRY(mnd_dataset_writer_finish(&writer));
cleanup:
    mnd_dataset_writer_abort(&writer);
    if (c->s.format != NULL) c->s.format->close(&c->s);
    free(c->raw);
    free(c->pixel);
    free(c->one);
    free(c->label);
    free(c->number);
    free(c);
    return status;
}
