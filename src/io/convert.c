/* convert.c - a folder of IDX files to one HDF5 data file. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mnist_dist/dataset.h"
#include "mnist_dist/idx.h"

enum { CHUNK = 1 << 20, MAX_PIXELS = 1 << 26 };

/* The four files, in the order in which they are stored. */
enum { X_TRAIN, Y_TRAIN, X_TEST, Y_TEST, N_FILES };
static const struct {
    const char *stem[2]; /* "t10k" as MNIST, "test" as others name it */
    const char *example;
} kind[N_FILES] = {
    {{"train-images", "train-images"}, "train-images-idx3-ubyte"},
    {{"train-labels", "train-labels"}, "train-labels-idx1-ubyte"},
    {{"t10k-images", "test-images"}, "t10k-images-idx3-ubyte"},
    {{"t10k-labels", "test-labels"}, "t10k-labels-idx1-ubyte"},
};

/* Class names known by the folder's name. */
static const struct {
    const char *folder;
    const char *name[10];
} known[] = {
    {"fashion",
     {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
      "Ankle boot"}},
    {"kmnist", {"o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"}},
};

/*
 * How well a file name fits one of the four: 0 not at all, else the higher the better. A name
 * without a prefix beats one with ("emnist-letters-"), raw beats gzip.
 */
static int fit(const char *name, int file) {
    char stem[NAME_MAX + 1];
    snprintf(stem, sizeof stem, "%s", name);
    size_t n = strlen(stem);
    const bool packed = n > 3 && strcmp(stem + n - 3, ".gz") == 0;
    if (packed) stem[n -= 3] = '\0';
    static const char tail[] = "-idx0-ubyte";
    const size_t n_tail = sizeof tail - 1;
    if (n <= n_tail) return 0;
    char *end = stem + n - n_tail;
    if ((end[0] != '-' && end[0] != '.') || end[4] < '1' || end[4] > '4') return 0;
    end[0] = '-';
    end[4] = '0';
    if (strcmp(end, tail) != 0) return 0;
    *end = '\0';
    n -= n_tail;
    for (int i = 0; i < 2; i++) {
        const size_t length = strlen(kind[file].stem[i]);
        if (n < length || strcmp(stem + n - length, kind[file].stem[i]) != 0) continue;
        if (n > length && stem[n - length - 1] != '-') continue;
        return 1 + !packed + 2 * (n == length);
    }
    return 0;
}

static mnd_status find_files(const char *folder, char *path[N_FILES]) {
    mnd_status status = MND_OK;
    int best[N_FILES] = {0};
    char rival[N_FILES][NAME_MAX + 1], found[N_FILES][NAME_MAX + 1];
    memset(rival, 0, sizeof rival);
    memset(found, 0, sizeof found);
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return mnd_fail(errno == ENOENT ? MND_NOT_FOUND : MND_IO, "%s: %s%s", folder,
                        strerror(errno),
                        errno == ENOTDIR  ? "; give the folder that holds the four IDX files"
                        : errno == ENOENT ? "; data/fetch.sh gets MNIST into data/mnist"
                                          : "");
    const struct dirent *entry;
    while (errno = 0, (entry = readdir(dir)) != NULL)
        for (int i = 0; i < N_FILES; i++) {
            const int now = fit(entry->d_name, i);
            if (now == 0 || now < best[i]) continue;
            snprintf(rival[i], sizeof rival[i], "%.255s", now == best[i] ? found[i] : "");
            snprintf(found[i], sizeof found[i], "%.255s", entry->d_name);
            best[i] = now;
        }
    if (errno != 0) MND_FAIL(MND_IO, "%s: cannot read the folder: %s", folder, strerror(errno));
    for (int i = 0; i < N_FILES; i++) {
        if (best[i] == 0)
            MND_FAIL(MND_NOT_FOUND, "%s: holds no %s (or .gz); all four IDX files are needed",
                     folder, kind[i].example);
        if (rival[i][0] != '\0') {
            const bool swap = strcmp(rival[i], found[i]) > 0;
            MND_FAIL(MND_FORMAT, "%s: %s or %s? Put the four files you mean into a folder alone",
                     folder, swap ? found[i] : rival[i], swap ? rival[i] : found[i]);
        }
        if (asprintf(&path[i], "%s/%s", folder, found[i]) < 0) {
            path[i] = NULL;
            MND_FAIL(MND_NO_MEMORY, "%s: no memory", folder);
        }
    }
cleanup:
    closedir(dir);
    return status;
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

/* Opens images or labels and tells apart what was swapped. */
static mnd_status open_file(const char *path, bool images, mnd_idx **out) {
    mnd_status status = MND_OK;
    MND_TRY(mnd_idx_open(path, out));
    const int ndim = mnd_idx_ndim(*out);
    if (images && ndim == 1)
        MND_FAIL(MND_FORMAT,
                 "%s: holds labels (1 dimension), not images: are the two files swapped?", path);
    if (!images && ndim >= 3)
        MND_FAIL(MND_FORMAT,
                 "%s: holds images (%d dimensions), not labels: are the two files swapped?", path,
                 ndim);
    if (images ? ndim < 3 : ndim != 1)
        MND_FAIL(MND_FORMAT, "%s: has %d dimensions instead of %s", path, ndim,
                 images ? "3 (count, height, width)" : "1 (count)");
cleanup:
    if (status != MND_OK) mnd_idx_close(out);
    return status;
}

/* The largest label, and with it the whole file checked. */
static mnd_status scan_labels(const char *path, uint8_t *buffer, int64_t *count, int *most) {
    mnd_status status = MND_OK;
    mnd_idx *y = NULL;
    MND_TRY(open_file(path, false, &y));
    *count = mnd_idx_dim(y, 0);
    for (int64_t row = 0; row < *count; row += CHUNK) {
        const int64_t left = *count - row, n = left < CHUNK ? left : CHUNK;
        MND_TRY(mnd_idx_read(y, buffer, (size_t)n));
        for (int64_t i = 0; i < n; i++)
            if (buffer[i] > *most) *most = buffer[i];
    }
    MND_TRY(mnd_idx_expect_end(y));
cleanup:
    mnd_idx_close(&y);
    return status;
}

static void set_name(mnd_dataset_info *info, int i, const char *text) {
    snprintf(info->class_name[i], sizeof info->class_name[i], "%s", text);
}

/*
 * EMNIST puts a file "emnist-letters-mapping.txt" beside its images: a line for each class with its
 * number and one or two character codes. Anything else in a file of that name is passed over.
 */
static void read_mapping(const char *folder, const char *x_train, mnd_dataset_info *info) {
    const char *name = base_name(x_train), *stem = strstr(name, "train-images");
    char *path = NULL;
    if (stem == NULL || stem == name) return;
    if (asprintf(&path, "%s/%.*smapping.txt", folder, (int)(stem - name), name) < 0) return;
    FILE *f = fopen(path, "re");
    free(path);
    if (f == NULL) return;
    char line[128];
    while (fgets(line, sizeof line, f) != NULL) {
        int label, code[2];
        const int n = sscanf(line, "%d %d %d", &label, &code[0], &code[1]);
        if (n < 2 || label < 0 || label >= info->classes) continue;
        char text[3] = {0};
        for (int i = 0; i < n - 1; i++)
            text[i] = (char)(code[i] > 0x20 && code[i] < 0x7f ? code[i] : '?');
        set_name(info, label, text);
    }
    fclose(f);
}

/* A folder may name its classes itself, one a line. */
static mnd_status read_class_names(const char *folder, mnd_dataset_info *info, bool *found) {
    mnd_status status = MND_OK;
    char *path = NULL;
    char line[256];
    int n = 0;
    FILE *f = NULL;
    *found = false;
    if (asprintf(&path, "%s/class-names.txt", folder) < 0) {
        path = NULL;
        MND_FAIL(MND_NO_MEMORY, "%s: no memory", folder);
    }
    f = fopen(path, "re");
    if (f == NULL && errno == ENOENT) goto cleanup;
    if (f == NULL) MND_FAIL(MND_IO, "%s: cannot open: %s", path, strerror(errno));
    for (; fgets(line, sizeof line, f) != NULL; n++) {
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] == '\0' || strlen(line) >= MND_CLASS_NAME)
            MND_FAIL(MND_FORMAT, "%s: line %d is %s; one name of at most %d bytes a line", path,
                     n + 1, line[0] == '\0' ? "empty" : "too long", MND_CLASS_NAME - 1);
        if (n < MND_MAX_CLASSES) set_name(info, n, line);
    }
    if (ferror(f)) MND_FAIL(MND_IO, "%s: cannot read: %s", path, strerror(errno));
    if (n > MND_MAX_CLASSES || n < info->classes)
        MND_FAIL(MND_FORMAT, "%s: names %d classes, but the labels go up to %d", path, n,
                 info->classes - 1);
    info->classes = n;
    *found = true;
cleanup:
    if (f != NULL) fclose(f);
    free(path);
    return status;
}

/* Class names and the source's name; the labels have been counted. */
static mnd_status describe(const char *folder, const char *x_train, mnd_dataset_info *info) {
    mnd_status status = MND_OK;
    bool named = false;
    char *real = realpath(folder, NULL);
    if (real == NULL) MND_FAIL(MND_IO, "%s: %s", folder, strerror(errno));
    /* Only the last part: where the folder lay must not change the bytes of the target. */
    const char *name = base_name(real);
    snprintf(info->source, sizeof info->source, "IDX files of folder %.200s", name);
    MND_TRY(read_class_names(folder, info, &named));
    if (named) goto cleanup;
    for (int i = 0; i < info->classes; i++)
        snprintf(info->class_name[i], sizeof info->class_name[i], "%d", i);
    for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
        if (info->classes == 10 && strcasestr(name, known[k].folder) != NULL)
            for (int i = 0; i < 10; i++) set_name(info, i, known[k].name[i]);
    read_mapping(folder, x_train, info);
cleanup:
    free(real);
    return status;
}

/* The shape of a split's images, checked before anything is sized by it. */
static mnd_status read_shape(const char *path, int64_t *count, int64_t shape[3]) {
    mnd_status status = MND_OK;
    mnd_idx *x = NULL;
    MND_TRY(open_file(path, true, &x));
    *count = mnd_idx_dim(x, 0);
    shape[0] = mnd_idx_dim(x, 1);
    shape[1] = mnd_idx_dim(x, 2);
    shape[2] = mnd_idx_ndim(x) == 4 ? mnd_idx_dim(x, 3) : 1;
    int64_t size = 1;
    for (int i = 0; i < 3; i++)
        if (__builtin_mul_overflow(size, shape[i], &size) || size > MAX_PIXELS)
            MND_FAIL(MND_FORMAT, "%s: images of %lld x %lld x %lld are too large; %d bytes at most",
                     path, (long long)shape[0], (long long)shape[1], (long long)shape[2],
                     MAX_PIXELS);
cleanup:
    mnd_idx_close(&x);
    return status;
}

typedef struct report {
    mnd_progress_fn progress;
    void *context;
    int64_t done, total;
} report;

/* One image, (height, width, channels) to (width, height, channels). */
static void turn(const uint8_t *in, int64_t height, int64_t width, int64_t channels, uint8_t *out) {
    for (int64_t i = 0; i < height; i++)
        for (int64_t j = 0; j < width; j++)
            memcpy(out + (j * height + i) * channels, in + (i * width + j) * channels,
                   (size_t)channels);
}

/* `spare`, one image, is there to turn them; NULL: they stay as they are. */
static mnd_status copy_split(mnd_dataset_writer *writer, mnd_split split, char *const path[2],
                             const mnd_dataset_info *info, uint8_t *images, uint8_t *spare,
                             uint8_t *labels, int64_t rows, report *to) {
    mnd_status status = MND_OK;
    mnd_idx *x = NULL, *y = NULL;
    const int64_t size = (int64_t)info->height * info->width * info->channels;
    MND_TRY(open_file(path[0], true, &x));
    MND_TRY(open_file(path[1], false, &y));
    for (int64_t row = 0; row < info->count[split]; row += rows) {
        const int64_t left = info->count[split] - row, n = left < rows ? left : rows;
        MND_TRY(mnd_idx_read(x, images, (size_t)(n * size)));
        for (int64_t i = 0; spare != NULL && i < n; i++) {
            turn(images + i * size, info->width, info->height, info->channels, spare);
            memcpy(images + i * size, spare, (size_t)size);
        }
        MND_TRY(mnd_idx_read(y, labels, (size_t)n));
        MND_TRY(mnd_dataset_writer_append(writer, split, n, images, labels));
        to->done += n;
        if (to->progress != NULL) to->progress(to->context, to->done, to->total);
    }
    MND_TRY(mnd_idx_expect_end(x));
    MND_TRY(mnd_idx_expect_end(y));
    MND_TRY(mnd_dataset_writer_source(writer, base_name(path[0]), mnd_idx_sha256(x)));
    MND_TRY(mnd_dataset_writer_source(writer, base_name(path[1]), mnd_idx_sha256(y)));
cleanup:
    mnd_idx_close(&x);
    mnd_idx_close(&y);
    return status;
}

mnd_status mnd_convert_idx(const char *source, const char *target, bool transpose,
                           mnd_progress_fn progress, void *context) {
    mnd_status status = MND_OK;
    char *path[N_FILES] = {NULL};
    uint8_t *images = NULL, *labels = NULL, *spare = NULL;
    mnd_dataset_writer *writer = NULL;
    mnd_dataset_info *info = calloc(1, sizeof *info);
    labels = malloc(CHUNK);
    if (info == NULL || labels == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory", source);
    MND_TRY(find_files(source, path));

    int64_t shape[2][3];
    int most = 0;
    for (int s = 0; s < 2; s++) {
        const char *x_path = path[2 * s], *y_path = path[2 * s + 1];
        int64_t n_label = 0;
        MND_TRY(read_shape(x_path, &info->count[s], shape[s]));
        MND_TRY(scan_labels(y_path, labels, &n_label, &most));
        if (info->count[s] != n_label)
            MND_FAIL(MND_FORMAT, "%s: %s has %lld images but %s has %lld labels", source,
                     base_name(x_path), (long long)info->count[s], base_name(y_path),
                     (long long)n_label);
    }
    if (memcmp(shape[0], shape[1], sizeof shape[0]) != 0)
        MND_FAIL(MND_FORMAT, "%s: training images are %lld x %lld, test images %lld x %lld", source,
                 (long long)shape[0][0], (long long)shape[0][1], (long long)shape[1][0],
                 (long long)shape[1][1]);
    info->height = (int)shape[0][transpose ? 1 : 0];
    info->width = (int)shape[0][transpose ? 0 : 1];
    info->channels = (int)shape[0][2];
    info->classes = most + 1;
    MND_TRY(describe(source, path[X_TRAIN], info));

    const int64_t size = shape[0][0] * shape[0][1] * shape[0][2];
    const int64_t rows = size >= CHUNK ? 1 : CHUNK / size;
    images = malloc((size_t)(rows * size));
    if (transpose) spare = malloc((size_t)size);
    if (images == NULL || (transpose && spare == NULL))
        MND_FAIL(MND_NO_MEMORY, "%s: no memory for its images", source);
    MND_TRY(mnd_dataset_writer_create(target, info, &writer));
    report to = {progress, context, 0, info->count[0] + info->count[1]};
    for (int s = 0; s < 2; s++)
        MND_TRY(
            copy_split(writer, (mnd_split)s, path + 2 * s, info, images, spare, labels, rows, &to));
    MND_TRY(mnd_dataset_writer_finish(&writer));
cleanup:
    mnd_dataset_writer_abort(&writer);
    for (int i = 0; i < N_FILES; i++) free(path[i]);
    free(images);
    free(spare);
    free(labels);
    free(info);
    return status;
}
