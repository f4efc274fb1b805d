/*
 * convert_png.c - reads PNG files in one folder per class, with or without the folders train and
 * test above them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "convert_source.h"
#include "mnist_dist/picture.h"
#include "mnist_dist/rng.h"

typedef struct entry {
    char *path; /* owned */
    int label;
} entry;

typedef struct pictures {
    entry *list[2]; /* by split, owned */
    int64_t capacity[2];
    int64_t row;
    int64_t passed_over; /* files that are no PNG */
    char **class_name;   /* owned; the labels are indices, or the numbers that are the names */
    int n_class;
    bool numbers;
} pictures;

static bool is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_png(const char *name) {
    const size_t n = strlen(name);
    return n > 4 && strcasecmp(name + n - 4, ".png") == 0;
}

static mnd_status add(mnd_source *s, int split, char *path, int label) {
    pictures *p = s->state;
    if (s->count[split] == p->capacity[split]) {
        const int64_t more = p->capacity[split] == 0 ? 1024 : 2 * p->capacity[split];
        entry *list = realloc(p->list[split], (size_t)more * sizeof *list);
        if (list == NULL) {
            free(path);
            return mnd_fail(MND_NO_MEMORY, "%s: no memory for file names", s->path);
        }
        p->list[split] = list;
        p->capacity[split] = more;
    }
    p->list[split][s->count[split]++] = (entry){path, label};
    return MND_OK;
}

/* The label of a class folder: its number if all folders are numbers, otherwise its position. */
static int label_of(const pictures *p, const char *name) {
    if (p->numbers) return atoi(name);
    for (int i = 0; i < p->n_class; i++)
        if (strcmp(p->class_name[i], name) == 0) return i;
    return -1;
}

/* Adds all PNG files of one class. */
static mnd_status add_class(mnd_source *s, int split, const char *folder, int label) {
    mnd_status status = MND_OK;
    pictures *p = s->state;
    char **name = NULL;
    int n = 0;
    MND_TRY(mnd_source_list(folder, &name, &n));
    for (int i = 0; i < n; i++) {
        if (!is_png(name[i])) {
            p->passed_over++;
            continue;
        }
        char *path = mnd_source_join(folder, name[i]);
        if (path == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory for file names", folder);
        MND_TRY(add(s, split, path, label));
    }
cleanup:
    mnd_source_list_free(&name, n);
    return status;
}

/* Finds the classes: the folders in `folder`. */
static mnd_status find_classes(mnd_source *s, const char *folder) {
    mnd_status status = MND_OK;
    pictures *p = s->state;
    int n = 0;
    MND_TRY(mnd_source_list(folder, &p->class_name, &n));
    p->numbers = true;
    p->n_class = 0;
    for (int i = 0; i < n; i++) {
        char *path = mnd_source_join(folder, p->class_name[i]);
        char *name = p->class_name[i];
        const size_t digits = strspn(name, "0123456789");
        if (path != NULL && is_folder(path) && strcmp(name, "__MACOSX") != 0) {
            p->numbers = p->numbers && digits > 0 && digits < 4 && name[digits] == '\0' &&
                         atoi(name) < MND_MAX_CLASSES;
            p->class_name[p->n_class++] = name;
        } else {
            free(name);
        }
        free(path);
    }
    if (p->n_class == 0)
        MND_FAIL(
            MND_FORMAT,
            "%s: holds no folders; put the PNG files of each class into a folder with its name",
            folder);
    if (p->n_class > MND_MAX_CLASSES)
        MND_FAIL(MND_FORMAT, "%s: holds %d folders; %d classes at most can be used", folder,
                 p->n_class, MND_MAX_CLASSES);
    for (int i = 0; i < p->n_class; i++)
        mnd_source_name(s, p->numbers ? atoi(p->class_name[i]) : i, p->class_name[i]);
cleanup:
    return status;
}

static mnd_status add_split(mnd_source *s, int split, const char *folder) {
    mnd_status status = MND_OK;
    pictures *p = s->state;
    char **name = NULL, *path = NULL;
    int n = 0;
    MND_TRY(mnd_source_list(folder, &name, &n));
    for (int i = 0; i < n; i++) {
        free(path);
        path = mnd_source_join(folder, name[i]);
        if (path == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory for file names", folder);
        if (!is_folder(path) || strcmp(name[i], "__MACOSX") == 0) continue;
        const int label = label_of(p, name[i]);
        if (label < 0)
            MND_FAIL(MND_FORMAT, "%s: is a class that the training images do not have", path);
        MND_TRY(add_class(s, split, path, label));
    }
    /* Sorted by class they would not do for a split of the last or of every n-th image. */
    for (int64_t i = s->count[split] - 1; i > 0; i--) {
        mnd_rng rng;
        mnd_rng_start(&rng, 1, MND_RNG_SHUFFLE, (uint32_t)i, (uint32_t)split);
        const int64_t k = mnd_rng_below(&rng, (uint32_t)i + 1);
        const entry other = p->list[split][k];
        p->list[split][k] = p->list[split][i];
        p->list[split][i] = other;
    }
cleanup:
    free(path);
    mnd_source_list_free(&name, n);
    return status;
}

/* The first of these folders in s->path that exists, to be freed, or NULL. */
static char *find_folder(const mnd_source *s, const char *const name[3]) {
    for (int i = 0; i < 3; i++) {
        char *path = mnd_source_join(s->path, name[i]);
        if (path != NULL && is_folder(path)) return path;
        free(path);
    }
    return NULL;
}

/* The size of the first picture is that of all. */
static mnd_status measure(mnd_source *s) {
    pictures *p = s->state;
    mnd_picture picture = {0};
    const mnd_status status =
        mnd_picture_read_png(p->list[s->count[MND_TRAIN] > 0 ? 0 : 1][0].path, &picture);
    s->dim[0] = picture.height;
    s->dim[1] = picture.width;
    s->dim[2] = 1;
    mnd_picture_free(&picture);
    return status;
}

static mnd_status png_open(mnd_source *s) {
    static const char *const train_name[3] = {"train", "training", "Train"};
    static const char *const test_name[3] = {"test", "testing", "Test"};
    mnd_status status = MND_OK;
    pictures *p = calloc(1, sizeof *p);
    s->state = p;
    if (p == NULL) return mnd_fail(MND_NO_MEMORY, "%s: no memory to convert it", s->path);
    char *train = find_folder(s, train_name), *test = find_folder(s, test_name);
    const char *classes = train != NULL ? train : test != NULL ? test : s->path;
    MND_TRY(find_classes(s, classes));
    if (train != NULL || test == NULL)
        MND_TRY(add_split(s, MND_TRAIN, train != NULL ? train : s->path));
    if (test != NULL) MND_TRY(add_split(s, MND_TEST, test));
    if (s->count[MND_TRAIN] + s->count[MND_TEST] == 0)
        MND_FAIL(MND_FORMAT,
                 "%s: its folders hold no PNG files; 'mnist_dist convert --help' lists what can be "
                 "converted",
                 classes);
    if (p->passed_over > 0)
        mnd_source_note(s, "%lld files that are not .png were passed over",
                        (long long)p->passed_over);
    s->label_file[0] = s->label_file[1] = s->path;
    MND_TRY(measure(s));
    mnd_source_note(s, "pictures are stored as grey ones, as they are: light on dark stays so");
cleanup:
    free(train);
    free(test);
    return status;
}

static mnd_status png_start(mnd_source *s, mnd_split split) {
    s->split = split;
    ((pictures *)s->state)->row = 0;
    return MND_OK;
}

static mnd_status png_next(mnd_source *s, int64_t n, void *images, int64_t *labels) {
    mnd_status status = MND_OK;
    pictures *p = s->state;
    mnd_picture picture = {0};
    const size_t size = (size_t)(s->dim[0] * s->dim[1]);
    for (int64_t i = 0; i < n; i++) {
        const entry *e = &p->list[s->split][p->row++];
        labels[i] = e->label;
        if (images == NULL) continue;
        MND_TRY(mnd_picture_read_png(e->path, &picture));
        if (picture.height != s->dim[0] || picture.width != s->dim[1])
            MND_FAIL(MND_FORMAT,
                     "%s: is %d x %d, others are %lld x %lld; scale all pictures to one size",
                     e->path, picture.height, picture.width, (long long)s->dim[0],
                     (long long)s->dim[1]);
        memcpy((uint8_t *)images + (size_t)i * size, picture.pixel, size);
        mnd_picture_free(&picture);
    }
cleanup:
    mnd_picture_free(&picture);
    return status;
}

static mnd_status png_end(mnd_source *s, mnd_dataset_writer *writer) {
    (void)s;
    (void)writer; /* thousands of files: their checksums are not stored */
    return MND_OK;
}

static void png_close(mnd_source *s) {
    pictures *p = s->state;
    if (p == NULL) return;
    for (int split = 0; split < 2; split++) {
        for (int64_t i = 0; i < s->count[split]; i++) free(p->list[split][i].path);
        free(p->list[split]);
    }
    mnd_source_list_free(&p->class_name, p->n_class);
    free(p);
    s->state = NULL;
}

const mnd_source_format mnd_source_png = {"PNG files", png_open, png_start,
                                          png_next,    png_end,  png_close};
