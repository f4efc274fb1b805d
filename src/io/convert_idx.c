/* convert_idx.c - reads a folder of IDX files. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "convert_source.h"

/* The four files, in the order of mnd_arrays. */
static const struct {
    const char *stem[2]; /* MNIST's name, and the other one in use */
    const char *example;
} kind[MND_ARRAYS] = {
    {{"train-images", "train-images"}, "train-images-idx3-ubyte"},
    {{"train-labels", "train-labels"}, "train-labels-idx1-ubyte"},
    {{"t10k-images", "test-images"}, "t10k-images-idx3-ubyte"},
    {{"t10k-labels", "test-labels"}, "t10k-labels-idx1-ubyte"},
};

/* Length of name without "-idxN-ubyte" (or another type, or a dot); 0 if it does not end so. */
static size_t strip_tail(const char *name, size_t n) {
    static const char *const tail[] = {"-ubyte", "-int", "-short", "-float", "-double"};
    for (size_t i = 0; i < sizeof tail / sizeof tail[0]; i++) {
        const size_t length = strlen(tail[i]) + 5;
        if (n <= length) continue;
        const char *end = name + n - length;
        if ((end[0] == '-' || end[0] == '.') && strncmp(end + 1, "idx", 3) == 0 && end[4] >= '1' &&
            end[4] <= '4' && strncmp(end + 5, tail[i], length - 5) == 0)
            return n - length;
    }
    return 0;
}

/*
 * How well a file name fits one of the four files: 0 if it does not fit, otherwise the higher the
 * better. A name without a prefix is better than one with ("emnist-letters-"); raw is better than
 * gzip. *prefix becomes the length of the prefix.
 */
static int fit(const char *name, int file, int *prefix) {
    size_t n = strlen(name);
    const bool packed = n > 3 && strcmp(name + n - 3, ".gz") == 0;
    if (packed) n -= 3;
    n = strip_tail(name, n);
    *prefix = 0;
    for (int i = 0; n > 0 && i < 2; i++) {
        const size_t length = strlen(kind[file].stem[i]);
        if (n < length || strncmp(name + n - length, kind[file].stem[i], length) != 0) continue;
        if (n > length && name[n - length - 1] != '-') continue;
        *prefix = (int)(n - length);
        return 1 + !packed + 2 * (n == length);
    }
    return 0;
}

bool mnd_source_holds_idx(const char *folder) {
    bool found = false;
    int prefix;
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    while (!found && dir != NULL && (entry = readdir(dir)) != NULL)
        for (int i = 0; i < MND_ARRAYS; i++) found = found || fit(entry->d_name, i, &prefix) > 0;
    if (dir != NULL) closedir(dir);
    return found;
}

/* What find_files knows of a name so far. */
typedef struct candidate {
    int score;
    char *path;               /* owned */
    char rival[NAME_MAX + 1]; /* another name that fits as well, or "" */
} candidate;

/* Whether the prefix of a name is that of the selected set: "emnist-letters-" for "letters". */
static bool in_set(const char *name, int prefix, const char *set) {
    const int n = (int)strlen(set);
    if (prefix < n + 1 || name[prefix - 1] != '-') return false;
    const int at = prefix - 1 - n;
    return strncmp(name + at, set, (size_t)n) == 0 && (at == 0 || name[at - 1] == '-');
}

/*
 * Compares a name with the best one so far. Kaggle's archive has each file twice: once as a file
 * and once in a folder of the same name; the file takes precedence.
 */
static mnd_status consider(const mnd_source *s, const char *name, int file, candidate *best) {
    int prefix;
    struct stat st;
    int score = 3 * fit(name, file, &prefix);
    if (score == 0 || (s->options->set != NULL && !in_set(name, prefix, s->options->set)))
        return MND_OK;
    char *path = mnd_source_join(s->path, name);
    if (path != NULL && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        char *inside = mnd_source_join(path, name);
        free(path);
        path = inside;
        score--;
        if (path != NULL && (stat(path, &st) != 0 || S_ISDIR(st.st_mode))) score = 0;
    }
    if (path == NULL) return mnd_fail(MND_NO_MEMORY, "%s: no memory for file names", s->path);
    if (score < best->score || score == 0) {
        free(path);
        return MND_OK;
    }
    best->rival[0] = '\0';
    if (score == best->score)
        snprintf(best->rival, sizeof best->rival, "%s", mnd_source_base(best->path));
    free(best->path);
    best->path = path;
    best->score = score;
    return MND_OK;
}

/* The error line for two names that fit as well: the sets of EMNIST's archive, or any. */
static mnd_status refuse_rivals(const mnd_source *s, const candidate *best, int file) {
    const char *a = mnd_source_base(best->path), *b = best->rival;
    int pa, pb;
    (void)fit(a, file, &pa);
    (void)fit(b, file, &pb);
    if (strcmp(a, b) > 0) {
        const char *swap = a;
        const int length = pa;
        a = b;
        b = swap;
        pa = pb;
        pb = length;
    }
    if (s->options->set == NULL && pa > 1 && pb > 1 &&
        (pa != pb || strncmp(a, b, (size_t)pa) != 0)) {
        const char *word = memrchr(a, '-', (size_t)pa - 1);
        const int skip = word == NULL ? 0 : (int)(word - a) + 1;
        return mnd_fail(MND_FORMAT,
                        "%s: both %s and %s fit; select a set of files, for instance --set %.*s",
                        s->path, a, b, pa - 1 - skip, a + skip);
    }
    return mnd_fail(MND_FORMAT,
                    "%s: both %s and %s fit; put the four files to convert into a folder of their "
                    "own",
                    s->path, a, b);
}

/* Finds the best name for each of the four files. */
static mnd_status find_files(const mnd_source *s, candidate best[MND_ARRAYS]) {
    mnd_status status = MND_OK;
    char **name = NULL;
    int n = 0;
    MND_TRY(mnd_source_list(s->path, &name, &n));
    for (int k = 0; k < n; k++)
        for (int i = 0; i < MND_ARRAYS; i++) MND_TRY(consider(s, name[k], i, &best[i]));
    for (int i = 0; i < MND_ARRAYS; i++)
        if (best[i].score > 0 && best[i].rival[0] != '\0') MND_TRY(refuse_rivals(s, &best[i], i));
    const bool train = best[0].score > 0 || best[1].score > 0;
    const bool test = best[2].score > 0 || best[3].score > 0;
    for (int i = 0; i < MND_ARRAYS; i++) {
        /* Test files alone are a test set; training files alone are so only if that is wanted. */
        if (i < 2 ? !train && test : !test && s->options->test_every > 0) continue;
        if (best[i].score == 0)
            MND_FAIL(MND_NOT_FOUND, "%s: holds no %s (or .gz)%s%s; all four IDX files are needed%s",
                     s->path, kind[i].example, s->options->set != NULL ? " of the set " : "",
                     s->options->set != NULL ? s->options->set : "",
                     train ? ""
                           : "; 'mnist_dist convert --help' lists what else a folder may hold");
    }
cleanup:
    mnd_source_list_free(&name, n);
    return status;
}

/* --- an IDX file as an array --- */

typedef struct file_state {
    mnd_idx *idx; /* owned, NULL before rewind */
    size_t row;   /* elements of a row */
} file_state;

static mnd_element element(int type) {
    return type == 0x0b   ? MND_I2
           : type == 0x0c ? MND_I4
           : type == 0x0d ? MND_F4
           : type == 0x0e ? MND_F8
                          : MND_U1;
}

static mnd_status file_rewind(mnd_array *a) {
    file_state *f = a->state;
    mnd_idx_close(&f->idx);
    return mnd_idx_open(a->where, &f->idx);
}

static mnd_status file_bytes(mnd_array *a, void *out, size_t bytes) {
    file_state *f = a->state;
    return mnd_idx_read(f->idx, out, bytes);
}

static mnd_status file_read(mnd_array *a, int64_t rows, void *out) {
    const file_state *f = a->state;
    return mnd_array_elements(a, file_bytes, element(mnd_idx_type(f->idx)), true,
                              (size_t)rows * f->row, out);
}

static mnd_status file_end(mnd_array *a, mnd_dataset_writer *writer) {
    mnd_status status = MND_OK;
    file_state *f = a->state;
    MND_TRY(mnd_idx_expect_end(f->idx));
    MND_TRY(mnd_dataset_writer_source(writer, a->name, mnd_idx_sha256(f->idx)));
cleanup:
    return status;
}

static void file_close(mnd_array *a) {
    file_state *f = a->state;
    if (f == NULL) return;
    mnd_idx_close(&f->idx);
    free(f);
}

static const mnd_array_ops file_ops = {file_rewind, file_read, file_end, file_close};

/* Makes an array of a file; takes over `path`. */
static mnd_status open_file(mnd_array *a, char *path) {
    mnd_status status = MND_OK;
    file_state *f = calloc(1, sizeof *f);
    a->ops = &file_ops;
    a->where = path;
    a->state = f;
    a->name = strdup(mnd_source_base(path));
    if (f == NULL || a->name == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory to read it", path);
    MND_TRY(file_rewind(a));
    a->ndim = mnd_idx_ndim(f->idx);
    f->row = 1;
    for (int i = 0; i < a->ndim; i++) {
        a->dim[i] = mnd_idx_dim(f->idx, i);
        if (i > 0) f->row *= (size_t)a->dim[i];
    }
    a->bytes = mnd_idx_type(f->idx) == 0x08;
    a->first_column = a->ndim == 2 && mnd_idx_type(f->idx) == 0x0c;
cleanup:
    return status;
}

/*
 * Reads EMNIST's class names. Its folders contain a file "emnist-letters-mapping.txt" or the like
 * with one line per class: its number and one or two character codes. Other lines are ignored.
 */
static void read_mapping(mnd_source *s, const char *x_train, int prefix) {
    char *path = NULL;
    if (prefix == 0) return;
    if (asprintf(&path, "%s/%.*smapping.txt", s->path, prefix, x_train) < 0) return;
    FILE *f = fopen(path, "re");
    free(path);
    if (f == NULL) return;
    char line[128];
    while (fgets(line, sizeof line, f) != NULL) {
        int label, code[2];
        const int n = sscanf(line, "%d %d %d", &label, &code[0], &code[1]);
        if (n < 2 || label < 0 || label >= MND_MAX_CLASSES) continue;
        char text[3] = {0};
        for (int i = 0; i < n - 1; i++)
            text[i] = (char)(code[i] > 0x20 && code[i] < 0x7f ? code[i] : '?');
        mnd_source_name(s, label, text);
    }
    fclose(f);
}

static mnd_status idx_open(mnd_source *s) {
    mnd_status status = MND_OK;
    candidate best[MND_ARRAYS] = {0};
    mnd_arrays *arrays = calloc(1, sizeof *arrays);
    s->state = arrays;
    if (arrays == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory to convert it", s->path);
    MND_TRY(find_files(s, best));
    for (int i = 0; i < MND_ARRAYS; i++) {
        if (best[i].score == 0) continue;
        char *path = best[i].path;
        best[i].path = NULL;
        MND_TRY(open_file(&arrays->array[i], path));
    }
    MND_TRY(mnd_arrays_examine(s));
    const int images = arrays->array[MND_X_TRAIN].ops != NULL ? MND_X_TRAIN : MND_X_TEST;
    const char *name = arrays->array[images].name;
    int prefix;
    (void)fit(name, images, &prefix);
    if (strncasecmp(name, "emnist-", 7) == 0 && !s->options->as_is) {
        if (!s->transpose) mnd_source_note(s, "EMNIST: rows and columns of every image exchanged");
        s->transpose = true;
        s->letters = in_set(name, prefix, "letters");
    }
    read_mapping(s, name, prefix);
cleanup:
    for (int i = 0; i < MND_ARRAYS; i++) free(best[i].path);
    return status;
}

const mnd_source_format mnd_source_idx = {"IDX files",     idx_open,       mnd_arrays_start,
                                          mnd_arrays_next, mnd_arrays_end, mnd_arrays_close};
