/* convert_arrays.c - shapes, names and labels of the arrays in IDX, npz and HDF5 files. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "convert_source.h"

enum { MAX_IMAGE = 1 << 26 /* pixels of one image */, MANY = 4 /* more are not channels */ };

static const char *const usual[MND_ARRAYS] = {"x_train", "y_train", "x_test", "y_test"};

/* --- names --- */

/* What a word of a name means: IMAGES, LABELS, TRAIN, TEST, VALIDATION, nothing, or UNKNOWN. */
enum { IMAGES = 1, LABELS = 2, TRAIN = 4, TEST = 8, VALIDATION = 16, UNKNOWN = 32 };

static int meaning(const char *word) {
    static const struct {
        const char *word;
        int flags;
    } table[] = {
        {"x", IMAGES},
        {"image", IMAGES},
        {"images", IMAGES},
        {"img", IMAGES},
        {"imgs", IMAGES},
        {"data", IMAGES},
        {"pixels", IMAGES},
        {"input", IMAGES},
        {"inputs", IMAGES},
        {"features", IMAGES},
        {"picture", IMAGES},
        {"pictures", IMAGES},
        {"y", LABELS},
        {"label", LABELS},
        {"labels", LABELS},
        {"target", LABELS},
        {"targets", LABELS},
        {"class", LABELS},
        {"classes", LABELS},
        {"output", LABELS},
        {"outputs", LABELS},
        {"train", TRAIN},
        {"training", TRAIN},
        {"test", TEST},
        {"testing", TEST},
        {"t10k", TEST},
        {"val", VALIDATION},
        {"valid", VALIDATION},
        {"validation", VALIDATION},
        {"dev", VALIDATION},
        {"set", 0},
        {"dataset", 0},
        {"arr", 0},
        {"xtrain", IMAGES | TRAIN},
        {"ytrain", LABELS | TRAIN},
        {"xtest", IMAGES | TEST},
        {"ytest", LABELS | TEST},
        {"trainx", IMAGES | TRAIN},
        {"trainy", LABELS | TRAIN},
        {"testx", IMAGES | TEST},
        {"testy", LABELS | TEST},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(word, table[i].word) == 0) return table[i].flags;
    return UNKNOWN;
}

/*
 * The next word of a name, in lower case; words are separated by other characters, or by a capital.
 * *p moves past it; false at the end.
 */
static bool next_word(const char **p, char *word, size_t size) {
    size_t n = 0;
    while (**p != '\0' && !isalnum((unsigned char)**p)) ++*p;
    for (; isalnum((unsigned char)**p); ++*p) {
        if (n > 0 && isupper((unsigned char)**p) && islower((unsigned char)(*p)[-1])) break;
        if (n + 1 < size) word[n++] = isupper((unsigned char)**p) ? (char)(**p | 0x20) : **p;
    }
    word[n] = '\0';
    return n > 0;
}

/* The meanings of all words of a name. */
static int role(const char *name) {
    int flags = 0;
    char word[24];
    for (const char *p = name; next_word(&p, word, sizeof word);) flags |= meaning(word);
    /* In "train/data" or "training_data" data means images, in "label_data" it does not. */
    if ((flags & LABELS) != 0 && strcasestr(name, "data") != NULL) flags &= ~IMAGES;
    return flags;
}

/* The array with this role, or -1; *rival is another one. */
static int find(char *const *name, int n, int wanted, int *rival) {
    int found = -1;
    *rival = -1;
    for (int i = 0; i < n; i++) {
        if (role(name[i]) != wanted) continue;
        if (found >= 0) *rival = found;
        found = i;
    }
    return found;
}

mnd_status mnd_arrays_choose(mnd_source *s, char *const *name, int n, int chosen[MND_ARRAYS]) {
    int validation[2], rival, plain[2];
    for (int i = 0; i < MND_ARRAYS; i++) {
        const int what = i % 2 == 0 ? IMAGES : LABELS;
        chosen[i] = find(name, n, what | (i < 2 ? TRAIN : TEST), &rival);
        if (rival >= 0)
            return mnd_fail(MND_FORMAT, "%s: both %s and %s could be %s; rename one", s->path,
                            name[chosen[i]], name[rival], usual[i]);
        validation[i % 2] = find(name, n, what | VALIDATION, &rival);
        plain[i % 2] = find(name, n, what, &rival);
        if (rival >= 0) plain[i % 2] = -1;
    }
    if (chosen[2] < 0 && chosen[3] < 0 && validation[0] >= 0 && validation[1] >= 0) {
        chosen[2] = validation[0];
        chosen[3] = validation[1];
        mnd_source_note(s, "%s became the test images", name[validation[0]]);
    } else if (validation[0] >= 0 && validation[1] >= 0) {
        mnd_source_note(s, "%s was left out: there are test images", name[validation[0]]);
    }
    if (chosen[0] < 0 && chosen[1] < 0 && plain[0] >= 0 && plain[1] >= 0) {
        chosen[0] = plain[0];
        chosen[1] = plain[1];
    }
    for (int i = 0; i < MND_ARRAYS; i++) {
        if (chosen[i] >= 0 || (chosen[i ^ 1] < 0 && (chosen[i ^ 2] >= 0 || chosen[i ^ 3] >= 0)))
            continue;
        char list[256] = "";
        for (int k = 0; k < n && strlen(list) < 200; k++) {
            const size_t used = strlen(list);
            snprintf(list + used, sizeof list - used, "%s%.40s", k > 0 ? ", " : "", name[k]);
        }
        return mnd_fail(MND_FORMAT,
                        "%s: holds no %s; name the arrays x_train, y_train, x_test and y_test "
                        "(found: %s)",
                        s->path, usual[i], list[0] != '\0' ? list : "none");
    }
    return MND_OK;
}

/* --- shapes --- */

/* Whether images of these dimensions have their channels first. */
static bool is_channels_first(const mnd_source *s, const int64_t *dim) {
    const char *said = s->options->channels;
    if (said != NULL && strcmp(said, "auto") != 0) return strcmp(said, "first") == 0;
    return dim[0] <= MANY && dim[0] != 2 && dim[1] > MANY && dim[2] > MANY;
}

/* Height, width and channels of the images of an array. */
static mnd_status image_shape(const mnd_source *s, const mnd_array *a, int64_t shape[3],
                              bool *channels_first) {
    const int64_t *dim = a->dim + 1;
    *channels_first = false;
    if (a->ndim == 1)
        return mnd_fail(MND_FORMAT,
                        "%s: holds labels (1 dimension), not images: are the two files swapped?",
                        a->where);
    shape[2] = 1;
    if (a->ndim == 2) {
        shape[0] = shape[1] = (int64_t)(sqrt((double)dim[0]) + 0.5);
        if (shape[0] * shape[1] != dim[0] || dim[0] < 2)
            return mnd_fail(MND_FORMAT,
                            "%s: has 2 dimensions instead of 3 (count, height, width), and %lld "
                            "pixels are no square",
                            a->where, (long long)dim[0]);
    } else if (a->ndim == 3) {
        memcpy(shape, dim, 2 * sizeof *shape);
    } else if (a->ndim == 4) {
        *channels_first = is_channels_first(s, dim);
        for (int i = 0; i < 3; i++) shape[i] = dim[*channels_first ? (i + 1) % 3 : i];
    } else {
        return mnd_fail(MND_FORMAT,
                        "%s: has %d dimensions; store images as (count, height, width[, channels])",
                        a->where, a->ndim);
    }
    int64_t size = 1;
    for (int i = 0; i < 3; i++)
        if (__builtin_mul_overflow(size, shape[i], &size) || size > MAX_IMAGE)
            return mnd_fail(
                MND_FORMAT, "%s: images of %lld x %lld x %lld are too large; %d bytes at most",
                a->where, (long long)shape[0], (long long)shape[1], (long long)shape[2], MAX_IMAGE);
    return MND_OK;
}

static mnd_status check_labels(const mnd_array *a) {
    if (a->ndim >= 3)
        return mnd_fail(MND_FORMAT,
                        "%s: holds images (%d dimensions), not labels: are the two files swapped?",
                        a->where, a->ndim);
    if (a->ndim == 2 && !a->first_column && a->dim[1] > MND_MAX_CLASSES)
        return mnd_fail(MND_FORMAT,
                        "%s: %lld numbers for each label; one, or one-hot for at most %d classes, "
                        "can be used",
                        a->where, (long long)a->dim[1], MND_MAX_CLASSES);
    return MND_OK;
}

/* Labels are read as they are in the source into a->numbers, this many at a time. */
enum { LABEL_BLOCK = 4096 };

static int64_t label_width(const mnd_array *a) { return a->ndim == 2 ? a->dim[1] : 1; }

mnd_status mnd_arrays_examine(mnd_source *s) {
    mnd_status status = MND_OK;
    mnd_arrays *arrays = s->state;
    int64_t shape[2][3], widest = 1;
    bool first[2], known = false;
    s->floats = false;
    for (int split = 0; split < 2; split++) {
        const mnd_array *x = &arrays->array[2 * split], *y = x + 1;
        if (x->ops == NULL || y->ops == NULL) continue;
        MND_TRY(image_shape(s, x, shape[split], &first[split]));
        MND_TRY(check_labels(y));
        if (x->dim[0] != y->dim[0])
            MND_FAIL(MND_FORMAT, "%s: %s has %lld images but %s has %lld labels", s->path, x->name,
                     (long long)x->dim[0], y->name, (long long)y->dim[0]);
        s->count[split] = x->dim[0];
        s->label_file[split] = y->where;
        s->floats = s->floats || !x->bytes;
        if (label_width(y) > widest) widest = label_width(y);
        if (known && (memcmp(shape[0], shape[1], sizeof shape[0]) != 0 || first[0] != first[1]))
            MND_FAIL(MND_FORMAT, "%s: training images are %lld x %lld, test images %lld x %lld",
                     s->path, (long long)shape[0][0], (long long)shape[0][1],
                     (long long)shape[1][0], (long long)shape[1][1]);
        memcpy(s->dim, shape[split], sizeof s->dim);
        s->channels_first = first[split];
        known = true;
    }
    if (s->channels_first && s->dim[2] > 1 && s->options->channels == NULL)
        mnd_source_note(s, "images have their %lld channels first; stored with channels last",
                        (long long)s->dim[2]);
    arrays->numbers = malloc((size_t)(widest * LABEL_BLOCK) * sizeof(float));
    if (arrays->numbers == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory for labels", s->path);
cleanup:
    return status;
}

/* --- rows --- */

mnd_status mnd_arrays_start(mnd_source *s, mnd_split split) {
    mnd_status status = MND_OK;
    mnd_arrays *arrays = s->state;
    s->split = split;
    for (int i = 2 * (int)split; i < 2 * (int)split + 2; i++)
        MND_TRY(arrays->array[i].ops->rewind(&arrays->array[i]));
cleanup:
    return status;
}

/* The class of a one-hot row: exactly one number is 1 and the others are 0; -1 if not. */
static int64_t hot(const float *row, int64_t n) {
    int64_t found = -1;
    for (int64_t i = 0; i < n; i++) {
        if (row[i] == 0) continue;
        if (row[i] != 1 || found >= 0) return -1;
        found = i;
    }
    return found;
}

static mnd_status take_label(const mnd_array *y, const float *row, int64_t *out) {
    const int64_t width = label_width(y);
    if (width > 1 && !y->first_column) {
        *out = hot(row, width);
        if (*out < 0)
            return mnd_fail(MND_FORMAT,
                            "%s: has %lld numbers for each label, but a row is not one-hot (one 1, "
                            "otherwise 0)",
                            y->where, (long long)width);
        return MND_OK;
    }
    if (!(row[0] > -1e9F && row[0] < 1e9F) || row[0] != truncf(row[0]))
        return mnd_fail(MND_FORMAT, "%s: label %g is not a whole number", y->where, (double)row[0]);
    *out = (int64_t)row[0];
    return MND_OK;
}

static mnd_status read_labels(mnd_arrays *arrays, mnd_array *y, int64_t n, int64_t *labels) {
    mnd_status status = MND_OK;
    const int64_t width = label_width(y);
    for (int64_t done = 0; done < n; done += LABEL_BLOCK) {
        const int64_t now = n - done < LABEL_BLOCK ? n - done : LABEL_BLOCK;
        float *number = arrays->numbers;
        MND_TRY(y->ops->read(y, now, arrays->numbers));
        for (int64_t i = now * width; y->bytes && i-- > 0;) /* from the end: bytes are shorter */
            number[i] = ((uint8_t *)arrays->numbers)[i];
        for (int64_t i = 0; i < now; i++)
            MND_TRY(take_label(y, number + i * width, &labels[done + i]));
    }
cleanup:
    return status;
}

mnd_status mnd_arrays_next(mnd_source *s, int64_t n, void *images, int64_t *labels) {
    mnd_status status = MND_OK;
    mnd_arrays *arrays = s->state;
    mnd_array *x = &arrays->array[2 * s->split];
    if (images != NULL) {
        MND_TRY(x->ops->read(x, n, images));
        const size_t total = (size_t)(n * s->dim[0] * s->dim[1] * s->dim[2]);
        for (size_t i = total; s->floats && x->bytes && i-- > 0;)
            ((float *)images)[i] = ((uint8_t *)images)[i];
    }
    MND_TRY(read_labels(arrays, x + 1, n, labels));
cleanup:
    return status;
}

mnd_status mnd_arrays_end(mnd_source *s, mnd_dataset_writer *writer) {
    mnd_status status = MND_OK;
    mnd_arrays *arrays = s->state;
    for (int i = 2 * (int)s->split; i < 2 * (int)s->split + 2; i++) {
        mnd_array *a = &arrays->array[i];
        if (a->ops->end != NULL) MND_TRY(a->ops->end(a, writer));
    }
cleanup:
    return status;
}

void mnd_arrays_close(mnd_source *s) {
    mnd_arrays *arrays = s->state;
    if (arrays == NULL) return;
    for (int i = 0; i < MND_ARRAYS; i++) {
        mnd_array *a = &arrays->array[i];
        if (a->ops != NULL) a->ops->close(a);
        free(a->where);
        free(a->name);
    }
    free(arrays->numbers);
    free(arrays);
    s->state = NULL;
}

/* --- elements --- */

static uint64_t gather(const uint8_t *p, int size, bool big_endian) {
    uint64_t x = 0;
    for (int i = 0; i < size; i++) x = x << 8 | p[big_endian ? i : size - 1 - i];
    return x;
}

static float as_float(mnd_element type, uint64_t bits) {
    const uint32_t low = (uint32_t)bits;
    float single;
    double wide;
    switch (type) {
    case MND_I1: return (float)(int8_t)low;
    case MND_I2: return (float)(int16_t)low;
    case MND_I4: return (float)(int32_t)low;
    case MND_I8: return (float)(int64_t)bits;
    case MND_F4: memcpy(&single, &low, sizeof single); return single;
    case MND_F8: memcpy(&wide, &bits, sizeof wide); return (float)wide;
    default: return (float)bits;
    }
}

mnd_status mnd_array_elements(mnd_array *a, mnd_bytes_fn *read, mnd_element type, bool big_endian,
                              size_t n, void *out) {
    enum { AT_A_TIME = 4096 };
    uint8_t block[AT_A_TIME * 8]; /* of the largest type */
    const int size = (int)type & 0xff;
    float *to = out;
    if (a->bytes) return read(a, out, n);
    for (size_t done = 0, now; done < n; done += now) {
        now = n - done < AT_A_TIME ? n - done : AT_A_TIME;
        const mnd_status status = read(a, block, now * (size_t)size);
        if (status != MND_OK) return status;
        const uint8_t *p = block;
        for (size_t i = 0; i < now; i++, p += size)
            *to++ = as_float(type, gather(p, size, big_endian));
    }
    return MND_OK;
}
