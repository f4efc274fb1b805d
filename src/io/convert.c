/* convert.c - converts a folder of IDX files to one HDF5 data file. */
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

enum {
    CHUNK = 1 << 20,    /* bytes of images, or labels, to convert at a time */
    MAX_IMAGE = 1 << 26 /* bytes of one image */
};

/* The four files, in the order in which they are stored. */
enum { X_TRAIN, Y_TRAIN, X_TEST, Y_TEST, N_FILES };
static const struct {
    const char *stem[2]; /* MNIST's name, and the other one in use */
    const char *example;
} kind[N_FILES] = {
    {{"train-images", "train-images"}, "train-images-idx3-ubyte"},
    {{"train-labels", "train-labels"}, "train-labels-idx1-ubyte"},
    {{"t10k-images", "test-images"}, "t10k-images-idx3-ubyte"},
    {{"t10k-labels", "test-labels"}, "t10k-labels-idx1-ubyte"},
};

/* Class names of data sets that are recognised by the name of their folder. */
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
 * How well a file name fits one of the four files: 0 if it does not fit, otherwise the higher the
 * better. A name without a prefix is better than one with ("emnist-letters-"); raw is better than
 * gzip.
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

/* Finds the best name for each of the four files. path[] is to be freed, also after a failure. */
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
            MND_FAIL(
                MND_FORMAT,
                "%s: both %s and %s fit; put the four files to convert into a folder of their own",
                folder, swap ? found[i] : rival[i], swap ? rival[i] : found[i]);
        }
        if (asprintf(&path[i], "%s/%s", folder, found[i]) < 0) {
            path[i] = NULL;
            MND_FAIL(MND_NO_MEMORY, "%s: no memory for file names", folder);
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

/* Opens a file of images or of labels; the error line says if the two were swapped. */
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

/* Reads all labels: *most becomes the largest, if it is larger, and the whole file is checked. */
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
 * Reads EMNIST's class names. Its folders contain a file "emnist-letters-mapping.txt" or the like
 * with one line per class: its number and one or two character codes. Other lines are ignored.
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

/* Reads class-names.txt, one name per line, if the folder has one. */
static mnd_status read_class_names(const char *folder, mnd_dataset_info *info, bool *found) {
    mnd_status status = MND_OK;
    char *path = NULL;
    char line[256];
    int n = 0;
    FILE *f = NULL;
    *found = false;
    if (asprintf(&path, "%s/class-names.txt", folder) < 0) {
        path = NULL;
        MND_FAIL(MND_NO_MEMORY, "%s: no memory for file names", folder);
    }
    f = fopen(path, "re");
    if (f == NULL && errno == ENOENT) goto cleanup;
    if (f == NULL) MND_FAIL(MND_IO, "%s: cannot open: %s", path, strerror(errno));
    for (; fgets(line, sizeof line, f) != NULL; n++) {
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] == '\0' || strlen(line) >= MND_CLASS_NAME)
            MND_FAIL(MND_FORMAT, "%s: line %d is %s; write one name of at most %d bytes per line",
                     path, n + 1, line[0] == '\0' ? "empty" : "too long", MND_CLASS_NAME - 1);
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

/* Fills in class names and source. info->classes is the number of classes in the labels. */
static mnd_status describe(const char *folder, const char *x_train, mnd_dataset_info *info) {
    mnd_status status = MND_OK;
    bool named = false;
    char *real = realpath(folder, NULL);
    if (real == NULL) MND_FAIL(MND_IO, "%s: %s", folder, strerror(errno));
    /* Only the name of the folder: its path must not change the bytes of the target. */
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

/* Reads the shape of a split's images and checks it before any buffer depends on it. */
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
        if (__builtin_mul_overflow(size, shape[i], &size) || size > MAX_IMAGE)
            MND_FAIL(MND_FORMAT, "%s: images of %lld x %lld x %lld are too large; %d bytes at most",
                     path, (long long)shape[0], (long long)shape[1], (long long)shape[2],
                     MAX_IMAGE);
cleanup:
    mnd_idx_close(&x);
    return status;
}

/* One image, (height, width, channels) to (width, height, channels). */
static void transpose_image(const uint8_t *in, int64_t height, int64_t width, int64_t channels,
                            uint8_t *out) {
    for (int64_t i = 0; i < height; i++)
        for (int64_t j = 0; j < width; j++)
            memcpy(out + (j * height + i) * channels, in + (i * width + j) * channels,
                   (size_t)channels);
}

/* One conversion: its files, what they contain, and the buffers. */
typedef struct conversion {
    const char *source;    /* the folder, borrowed */
    char *path[N_FILES];   /* owned */
    mnd_dataset_info info; /* of the file to be written */
    int64_t rows;          /* images and labels to convert at a time */
    uint8_t *images;       /* owned */
    uint8_t *labels;       /* owned, CHUNK bytes */
    uint8_t *transposed;   /* one image, owned; NULL: images are not transposed */
    mnd_progress_fn progress;
    void *context;
    int64_t done;
} conversion;

static int64_t image_size(const mnd_dataset_info *info) {
    return (int64_t)info->height * info->width * info->channels;
}

/* Reads the next n images and labels of a split. */
static mnd_status read_batch(conversion *c, mnd_idx *x, mnd_idx *y, int64_t n) {
    mnd_status status = MND_OK;
    const mnd_dataset_info *info = &c->info;
    const int64_t size = image_size(info);
    MND_TRY(mnd_idx_read(x, c->images, (size_t)(n * size)));
    for (int64_t i = 0; c->transposed != NULL && i < n; i++) {
        uint8_t *image = c->images + i * size; /* info->width rows of info->height pixels */
        transpose_image(image, info->width, info->height, info->channels, c->transposed);
        memcpy(image, c->transposed, (size_t)size);
    }
    MND_TRY(mnd_idx_read(y, c->labels, (size_t)n));
cleanup:
    return status;
}

static mnd_status copy_split(conversion *c, mnd_dataset_writer *writer, mnd_split split) {
    mnd_status status = MND_OK;
    mnd_idx *x = NULL, *y = NULL;
    const char *x_path = c->path[2 * split], *y_path = c->path[2 * split + 1];
    const int64_t count = c->info.count[split];
    const int64_t total = c->info.count[MND_TRAIN] + c->info.count[MND_TEST];
    MND_TRY(open_file(x_path, true, &x));
    MND_TRY(open_file(y_path, false, &y));
    for (int64_t row = 0; row < count; row += c->rows) {
        const int64_t n = count - row < c->rows ? count - row : c->rows;
        MND_TRY(read_batch(c, x, y, n));
        MND_TRY(mnd_dataset_writer_append(writer, split, n, c->images, c->labels));
        c->done += n;
        if (c->progress != NULL) c->progress(c->context, c->done, total);
    }
    MND_TRY(mnd_idx_expect_end(x));
    MND_TRY(mnd_idx_expect_end(y));
    MND_TRY(mnd_dataset_writer_source(writer, base_name(x_path), mnd_idx_sha256(x)));
    MND_TRY(mnd_dataset_writer_source(writer, base_name(y_path), mnd_idx_sha256(y)));
cleanup:
    mnd_idx_close(&x);
    mnd_idx_close(&y);
    return status;
}

/* Checks the four files against one another and fills in c->info. */
static mnd_status examine(conversion *c, bool transpose) {
    mnd_status status = MND_OK;
    int64_t shape[2][3];
    int most = 0;
    for (int s = 0; s < 2; s++) {
        const char *x_path = c->path[2 * s], *y_path = c->path[2 * s + 1];
        int64_t n_label = 0;
        MND_TRY(read_shape(x_path, &c->info.count[s], shape[s]));
        MND_TRY(scan_labels(y_path, c->labels, &n_label, &most));
        if (c->info.count[s] != n_label)
            MND_FAIL(MND_FORMAT, "%s: %s has %lld images but %s has %lld labels", c->source,
                     base_name(x_path), (long long)c->info.count[s], base_name(y_path),
                     (long long)n_label);
    }
    if (memcmp(shape[0], shape[1], sizeof shape[0]) != 0)
        MND_FAIL(MND_FORMAT, "%s: training images are %lld x %lld, test images %lld x %lld",
                 c->source, (long long)shape[0][0], (long long)shape[0][1], (long long)shape[1][0],
                 (long long)shape[1][1]);
    c->info.height = (int)shape[0][transpose ? 1 : 0];
    c->info.width = (int)shape[0][transpose ? 0 : 1];
    c->info.channels = (int)shape[0][2];
    c->info.classes = most + 1;
    MND_TRY(describe(c->source, c->path[X_TRAIN], &c->info));
cleanup:
    return status;
}

/* The buffers for images, about CHUNK bytes at a time. */
static mnd_status allocate(conversion *c, bool transpose) {
    const int64_t size = image_size(&c->info);
    c->rows = size >= CHUNK ? 1 : CHUNK / size;
    c->images = malloc((size_t)(c->rows * size));
    if (transpose) c->transposed = malloc((size_t)size);
    if (c->images == NULL || (transpose && c->transposed == NULL))
        return mnd_fail(MND_NO_MEMORY, "%s: no memory for its images", c->source);
    return MND_OK;
}

mnd_status mnd_convert_idx(const char *source, const char *target, bool transpose,
                           mnd_progress_fn progress, void *context) {
    mnd_status status = MND_OK;
    mnd_dataset_writer *writer = NULL;
    conversion c = {.source = source, .progress = progress, .context = context};
    c.labels = malloc(CHUNK);
    if (c.labels == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory to convert it", source);
    MND_TRY(find_files(source, c.path));
    MND_TRY(examine(&c, transpose));
    MND_TRY(allocate(&c, transpose));
    MND_TRY(mnd_dataset_writer_create(target, &c.info, &writer));
    MND_TRY(copy_split(&c, writer, MND_TRAIN));
    MND_TRY(copy_split(&c, writer, MND_TEST));
    MND_TRY(mnd_dataset_writer_finish(&writer));
cleanup:
    mnd_dataset_writer_abort(&writer);
    for (int i = 0; i < N_FILES; i++) free(c.path[i]);
    free(c.images);
    free(c.transposed);
    free(c.labels);
    return status;
}
