#include "mnist_dist/dataset.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "atomic_file.h"
#include "h5.h"

#define FORMAT_NAME "mnist_dist data 1"
#define NO_FILE_HINT "data/fetch.sh gets MNIST and 'mnist_dist convert data/mnist' makes this file"

enum { CHUNK = 1 << 20, MAX_SIDE = 1 << 15, MAX_PIXELS = 1 << 26, MAX_SOURCES = 16 };
enum { SOURCE_LINE = 384, METADATA_ROOM = 1 << 16 };

static const char *const x_name[2] = {"x_train", "x_test"};
static const char *const y_name[2] = {"y_train", "y_test"};

/* Bytes of one image. */
static int64_t pixels(const mnd_dataset_info *info) {
    return (int64_t)info->height * info->width * info->channels;
}

/* Rows of images to take at a time: about CHUNK bytes, at least one. */
static int64_t rows_at_a_time(const mnd_dataset_info *info) {
    const int64_t rows = CHUNK / pixels(info);
    return rows < 1 ? 1 : rows;
}

/* What a network and the buffers for it can take; says nothing about a file. */
static mnd_status check_sizes(const char *path, const mnd_dataset_info *info) {
    for (int s = 0; s < 2; s++)
        if (info->count[s] < 1 || info->count[s] > INT32_MAX)
            return mnd_fail(MND_FORMAT, "%s: %s has %lld images; 1 to %d can be used", path,
                            x_name[s], (long long)info->count[s], INT32_MAX);
    if (info->height < 1 || info->height > MAX_SIDE || info->width < 1 || info->width > MAX_SIDE ||
        info->channels < 1 || info->channels > MAX_SIDE || pixels(info) > MAX_PIXELS)
        return mnd_fail(MND_FORMAT, "%s: images of %d x %d x %d are too large; %d bytes at most",
                        path, info->height, info->width, info->channels, MAX_PIXELS);
    return MND_OK;
}

/* --- reading --- */

struct mnd_dataset {
    char *path; /* owned */
    hid_t file; /* owned; closing it closes the data sets too */
    hid_t x[2], y[2];
    int64_t end; /* the file is at least this long, as the data sets say */
    mnd_dataset_info info;
};

/*
 * Opens one data set and checks everything that reading it will rely on: a plain link, unsigned
 * bytes, contiguous in this very file and inside its present length.
 */
static mnd_status open_array(mnd_dataset *data, const char *name, int *ndim, int64_t dim[4],
                             hid_t *out) {
    mnd_status status = MND_OK;
    const char *path = data->path;
    hid_t type = -1, space = -1, dcpl = -1;
    *out = -1;
    const htri_t there = H5Lexists(data->file, name, H5P_DEFAULT);
    if (there < 0)
        MND_FAIL(MND_FORMAT, "%s: its table of contents is damaged; make or fetch it again", path);
    if (there == 0)
        MND_FAIL(MND_FORMAT, "%s: holds no /%s; a data file holds x_train, y_train, x_test, y_test",
                 path, name);
    H5L_info_t link;
    if (H5Lget_info(data->file, name, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD)
        MND_FAIL(MND_FORMAT, "%s: /%s is a link to somewhere else; store the data in this file",
                 path, name);
    *out = H5Dopen2(data->file, name, H5P_DEFAULT);
    if (*out < 0)
        MND_FAIL(MND_FORMAT, "%s: /%s is damaged or no data set; make or fetch it again", path,
                 name);
    type = H5Dget_type(*out);
    space = H5Dget_space(*out);
    dcpl = H5Dget_create_plist(*out);
    if (type < 0 || space < 0 || dcpl < 0)
        MND_FAIL(MND_FORMAT, "%s: /%s is damaged; make or fetch it again", path, name);
    if (H5Tequal(type, H5T_STD_U8LE) <= 0 && H5Tequal(type, H5T_STD_U8BE) <= 0)
        MND_FAIL(MND_FORMAT, "%s: /%s is not of type uint8; store it as uint8", path, name);
    if (H5Pget_layout(dcpl) != H5D_CONTIGUOUS || H5Pget_external_count(dcpl) != 0)
        MND_FAIL(MND_FORMAT,
                 "%s: /%s is stored in chunks, compressed or outside the file; store it contiguous "
                 "(h5repack -l CONTI does)",
                 path, name);
    *ndim = H5Sget_simple_extent_ndims(space);
    hsize_t size[H5S_MAX_RANK] = {0};
    if (*ndim < 1 || *ndim > 4 || H5Sget_simple_extent_dims(space, size, NULL) != *ndim)
        MND_FAIL(MND_FORMAT, "%s: /%s has %d dimensions", path, name, *ndim);
    int64_t bytes = 1;
    for (int i = 0; i < *ndim; i++) {
        if (size[i] < 1 || size[i] > INT32_MAX)
            MND_FAIL(MND_FORMAT, "%s: dimension %d of /%s is %llu", path, i, name,
                     (unsigned long long)size[i]);
        dim[i] = (int64_t)size[i];
        if (__builtin_mul_overflow(bytes, dim[i], &bytes))
            MND_FAIL(MND_FORMAT, "%s: the dimensions of /%s overflow", path, name);
    }
    const haddr_t offset = H5Dget_offset(*out);
    const int64_t length = mnd_h5_size(data->file);
    if (offset == HADDR_UNDEF || H5Dget_storage_size(*out) != (hsize_t)bytes || length < bytes ||
        offset > (haddr_t)(length - bytes))
        MND_FAIL(MND_FORMAT,
                 "%s: truncated or damaged: /%s needs %lld bytes, the file has %lld; make or fetch "
                 "it again",
                 path, name, (long long)bytes, (long long)length);
    if ((int64_t)offset + bytes > data->end) data->end = (int64_t)offset + bytes;
cleanup:
    if (dcpl >= 0) (void)H5Pclose(dcpl);
    if (space >= 0) (void)H5Sclose(space);
    if (type >= 0) (void)H5Tclose(type);
    return status;
}

static mnd_status open_split(mnd_dataset *data, int s) {
    mnd_status status = MND_OK;
    mnd_dataset_info *info = &data->info;
    int nx, ny;
    int64_t x[4], y[4];
    MND_TRY(open_array(data, x_name[s], &nx, x, &data->x[s]));
    MND_TRY(open_array(data, y_name[s], &ny, y, &data->y[s]));
    if (nx < 3)
        MND_FAIL(MND_FORMAT,
                 "%s: /%s has %d dimensions; images have (count, height, width[, channels])",
                 data->path, x_name[s], nx);
    if (ny != 1)
        MND_FAIL(MND_FORMAT, "%s: /%s has %d dimensions; labels are plain numbers, (count)",
                 data->path, y_name[s], ny);
    if (x[0] != y[0])
        MND_FAIL(MND_FORMAT, "%s: %lld images in /%s but %lld labels in /%s", data->path,
                 (long long)x[0], x_name[s], (long long)y[0], y_name[s]);
    const int height = (int)x[1], width = (int)x[2], channels = nx == 4 ? (int)x[3] : 1;
    if (s == 1 && (height != info->height || width != info->width || channels != info->channels))
        MND_FAIL(MND_FORMAT, "%s: training images are %d x %d x %d, test images %d x %d x %d",
                 data->path, info->height, info->width, info->channels, height, width, channels);
    info->count[s] = x[0];
    info->height = height;
    info->width = width;
    info->channels = channels;
cleanup:
    return status;
}

/* A hyperslab of whole rows; `rank` is 1 for labels. */
static mnd_status read_rows(mnd_dataset *data, hid_t array, const char *name, int64_t first,
                            int64_t count, uint8_t *out) {
    mnd_status status = MND_OK;
    hid_t memory = -1;
    const hid_t space = H5Dget_space(array);
    hsize_t start[4] = {(hsize_t)first}, size[4] = {0};
    const int ndim = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
    if (ndim < 1 || ndim > 4 || H5Sget_simple_extent_dims(space, size, NULL) != ndim)
        MND_FAIL(MND_INTERNAL, "%s: HDF5 lost the shape of /%s", data->path, name);
    size[0] = (hsize_t)count;
    memory = H5Screate_simple(ndim, size, NULL);
    if (memory < 0 || H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL) < 0)
        MND_FAIL(MND_INTERNAL, "%s: HDF5 refuses rows %lld to %lld of /%s", data->path,
                 (long long)first, (long long)(first + count - 1), name);
    /* Beyond the end of a file HDF5 reads zeros without a word. */
    if (mnd_h5_size(data->file) < data->end)
        MND_FAIL(MND_IO, "%s: became shorter while it was in use; make or fetch it again",
                 data->path);
    if (H5Dread(array, H5T_NATIVE_UINT8, memory, space, H5P_DEFAULT, out) < 0)
        status = mnd_h5_fail(data->path, "read");
cleanup:
    if (memory >= 0) (void)H5Sclose(memory);
    if (space >= 0) (void)H5Sclose(space);
    return status;
}

/* Classes of a file that does not name their number: the largest label + 1. */
static mnd_status count_classes(mnd_dataset *data) {
    mnd_status status = MND_OK;
    uint8_t *label = malloc(CHUNK);
    if (label == NULL) return mnd_fail(MND_NO_MEMORY, "%s: no memory", data->path);
    int most = 0;
    for (int s = 0; s < 2; s++)
        for (int64_t row = 0; row < data->info.count[s]; row += CHUNK) {
            const int64_t left = data->info.count[s] - row;
            const int64_t n = left < CHUNK ? left : CHUNK;
            MND_TRY(read_rows(data, data->y[s], y_name[s], row, n, label));
            for (int64_t i = 0; i < n; i++)
                if (label[i] > most) most = label[i];
        }
    data->info.classes = most + 1;
cleanup:
    free(label);
    return status;
}

/* *value stays as it is when the attribute is missing. */
static mnd_status read_int(mnd_dataset *data, const char *name, int *value) {
    mnd_status status = MND_OK;
    hid_t attribute = -1, type = -1, space = -1;
    const htri_t there = H5Aexists(data->file, name);
    if (there == 0) return MND_OK;
    attribute = there < 0 ? -1 : H5Aopen(data->file, name, H5P_DEFAULT);
    type = attribute < 0 ? -1 : H5Aget_type(attribute);
    space = attribute < 0 ? -1 : H5Aget_space(attribute);
    if (type < 0 || space < 0 || H5Tget_class(type) != H5T_INTEGER ||
        H5Sget_simple_extent_npoints(space) != 1 || H5Aread(attribute, H5T_NATIVE_INT, value) < 0)
        MND_FAIL(MND_FORMAT, "%s: attribute '%s' is not a whole number", data->path, name);
cleanup:
    if (space >= 0) (void)H5Sclose(space);
    if (type >= 0) (void)H5Tclose(type);
    if (attribute >= 0) (void)H5Aclose(attribute);
    return status;
}

static mnd_status read_attributes(mnd_dataset *data) {
    mnd_status status = MND_OK;
    mnd_dataset_info *info = &data->info;
    char format[64] = "";
    int n, classes = 0;
    MND_TRY(mnd_h5_read_strings(data->path, data->file, "format", format, 1, sizeof format, &n));
    if (n == 1 && strcmp(format, FORMAT_NAME) != 0)
        MND_FAIL(MND_FORMAT, "%s: its format is '%s'; this program reads '%s'", data->path, format,
                 FORMAT_NAME);
    MND_TRY(mnd_h5_read_strings(data->path, data->file, "source", info->source, 1,
                                sizeof info->source, &n));
    MND_TRY(mnd_h5_read_strings(data->path, data->file, "data_sha256", info->data_sha256, 1,
                                sizeof info->data_sha256, &n));
    if (n == 1 && strspn(info->data_sha256, "0123456789abcdef") != MND_SHA256_HEX - 1)
        MND_FAIL(MND_FORMAT, "%s: attribute 'data_sha256' is no SHA-256", data->path);
    MND_TRY(read_int(data, "classes", &classes));
    if (classes == 0)
        MND_TRY(count_classes(data));
    else if (classes < 0 || classes > MND_MAX_CLASSES)
        MND_FAIL(MND_FORMAT, "%s: attribute 'classes' is %d; 1 to %d can be used", data->path,
                 classes, MND_MAX_CLASSES);
    else
        info->classes = classes;
    MND_TRY(mnd_h5_read_strings(data->path, data->file, "class_names", info->class_name[0],
                                MND_MAX_CLASSES, sizeof info->class_name[0], &n));
    if (n != 0 && n != info->classes)
        MND_FAIL(MND_FORMAT, "%s: %d class names for %d classes", data->path, n, info->classes);
    if (n == 0)
        for (int i = 0; i < info->classes; i++)
            snprintf(info->class_name[i], sizeof info->class_name[i], "%d", i);
cleanup:
    return status;
}

mnd_status mnd_dataset_open(const char *path, mnd_dataset **out) {
    mnd_status status = MND_OK;
    *out = NULL;
    mnd_dataset *data = calloc(1, sizeof *data);
    if (data == NULL) return mnd_fail(MND_NO_MEMORY, "%s: no memory", path);
    data->file = data->x[0] = data->x[1] = data->y[0] = data->y[1] = -1;
    data->path = strdup(path);
    if (data->path == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory", path);
    MND_TRY(mnd_h5_open(path, NO_FILE_HINT, &data->file));
    MND_TRY(open_split(data, MND_TRAIN));
    MND_TRY(open_split(data, MND_TEST));
    MND_TRY(check_sizes(path, &data->info));
    MND_TRY(read_attributes(data));
    *out = data;
    return MND_OK;
cleanup:
    mnd_dataset_close(&data);
    return status;
}

const mnd_dataset_info *mnd_dataset_about(const mnd_dataset *data) { return &data->info; }

mnd_status mnd_dataset_read(mnd_dataset *data, mnd_split split, int64_t first, int64_t count,
                            uint8_t *images, uint8_t *labels) {
    mnd_status status = MND_OK;
    const int64_t n = data->info.count[split];
    if (first < 0 || count < 0 || first > n || count > n - first)
        MND_FAIL(MND_RANGE, "%s: /%s has images 0 to %lld, not %lld from %lld on", data->path,
                 x_name[split], (long long)n - 1, (long long)count, (long long)first);
    if (count == 0) return MND_OK;
    if (images != NULL)
        MND_TRY(read_rows(data, data->x[split], x_name[split], first, count, images));
    if (labels != NULL) {
        MND_TRY(read_rows(data, data->y[split], y_name[split], first, count, labels));
        for (int64_t i = 0; i < count; i++)
            if (labels[i] >= data->info.classes)
                MND_FAIL(MND_FORMAT, "%s: label %lld of /%s is %d, but there are only %d classes",
                         data->path, (long long)(first + i), y_name[split], labels[i],
                         data->info.classes);
    }
cleanup:
    return status;
}

mnd_status mnd_dataset_verify(mnd_dataset *data) {
    mnd_status status = MND_OK;
    mnd_sha256 *hash = NULL;
    uint8_t *buffer = NULL;
    char hex[MND_SHA256_HEX];
    if (data->info.data_sha256[0] == '\0') return MND_OK;
    MND_TRY(mnd_sha256_create(&hash));
    const int64_t size = pixels(&data->info), rows = rows_at_a_time(&data->info);
    const int64_t room = rows * size > CHUNK ? rows * size : CHUNK;
    buffer = malloc((size_t)room);
    if (buffer == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory", data->path);
    for (int s = 0; s < 2; s++)
        for (int labels = 0; labels < 2; labels++) {
            const int64_t step = labels ? CHUNK : rows;
            for (int64_t row = 0; row < data->info.count[s]; row += step) {
                const int64_t left = data->info.count[s] - row;
                const int64_t n = left < step ? left : step;
                MND_TRY(mnd_dataset_read(data, (mnd_split)s, row, n, labels ? NULL : buffer,
                                         labels ? buffer : NULL));
                mnd_sha256_update(hash, buffer, (size_t)(labels ? n : n * size));
            }
        }
    MND_TRY(mnd_sha256_finish(hash, hex));
    if (strcmp(hex, data->info.data_sha256) != 0)
        MND_FAIL(MND_FORMAT,
                 "%s: damaged: its images and labels do not have the checksum %.12s...; "
                 "make or fetch it again",
                 data->path, data->info.data_sha256);
cleanup:
    free(buffer);
    mnd_sha256_destroy(&hash);
    return status;
}

void mnd_dataset_close(mnd_dataset **data) {
    if (*data == NULL) return;
    mnd_h5_drop(&(*data)->file);
    free((*data)->path);
    free(*data);
    *data = NULL;
}

/* --- writing --- */

struct mnd_dataset_writer {
    char *path;      /* owned */
    char *temporary; /* owned */
    hid_t file;      /* owned; closing it closes the data sets too */
    hid_t x[2], y[2];
    int64_t done[2]; /* rows written so far */
    int split;       /* the one being written */
    bool damaged;    /* an append failed */
    mnd_sha256 *hash;
    mnd_dataset_info info;
    int n_source;
    char source[MAX_SOURCES][SOURCE_LINE];
};

/* The temporary file of the writer in progress, for mnd_dataset_writer_unlink alone. */
static char *volatile in_progress;

void mnd_dataset_writer_unlink(void) {
    const char *path = in_progress;
    if (path != NULL) (void)unlink(path);
}

static mnd_status create_array(mnd_dataset_writer *w, const char *name, int ndim,
                               const hsize_t *dim, hid_t *out) {
    mnd_status status = MND_OK;
    const hid_t dcpl = mnd_h5_plain_dcpl();
    const hid_t space = H5Screate_simple(ndim, dim, NULL);
    if (dcpl < 0 || space < 0) MND_FAIL(MND_INTERNAL, "%s: HDF5 refuses the shape", w->path);
    *out = H5Dcreate2(w->file, name, H5T_STD_U8LE, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    if (*out < 0) status = mnd_h5_fail(w->path, "write");
cleanup:
    if (space >= 0) (void)H5Sclose(space);
    if (dcpl >= 0) (void)H5Pclose(dcpl);
    return status;
}

/* Says at once what would otherwise show only after the disk has been filled. */
static mnd_status check_room(const char *path, const char *temporary, int64_t bytes) {
    struct statvfs fs;
    if (statvfs(temporary, &fs) != 0) return MND_OK; /* then the writes will tell */
    const double available = (double)fs.f_bavail * (double)fs.f_frsize;
    if (fs.f_blocks == 0 || available >= (double)bytes) return MND_OK;
    return mnd_fail(MND_IO, "%s: needs %.1f MB, but its disk has only %.1f MB left", path,
                    (double)bytes / 1e6, available / 1e6);
}

mnd_status mnd_dataset_writer_create(const char *path, const mnd_dataset_info *info,
                                     mnd_dataset_writer **out) {
    mnd_status status = MND_OK;
    *out = NULL;
    if (info->classes < 1 || info->classes > MND_MAX_CLASSES)
        return mnd_fail(MND_FORMAT, "%s: %d classes; 1 to %d can be stored", path, info->classes,
                        MND_MAX_CLASSES);
    mnd_dataset_writer *w = calloc(1, sizeof *w);
    if (w == NULL) return mnd_fail(MND_NO_MEMORY, "%s: no memory", path);
    w->file = -1;
    w->info = *info;
    MND_TRY(check_sizes(path, info));
    const size_t room = strlen(path) + 64;
    w->path = strdup(path);
    w->temporary = malloc(room);
    if (w->path == NULL || w->temporary == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory", path);
    w->temporary[0] = '\0';
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        MND_FAIL(MND_IO, "%s: is a folder; give the name of a file", path);
    MND_TRY(mnd_sha256_create(&w->hash));
    MND_TRY(mnd_atomic_name(path, w->temporary, room));
    in_progress = w->temporary;
    status = mnd_h5_create(w->temporary, &w->file);
    if (status != MND_OK) {
        /* People know the name they gave, not the temporary one. */
        const char *why = strstr(mnd_error(), ": ");
        MND_FAIL(status, "%s%s", path, why != NULL ? why : "");
    }
    int64_t bytes = METADATA_ROOM;
    for (int s = 0; s < 2; s++) bytes += info->count[s] * (pixels(info) + 1);
    MND_TRY(check_room(path, w->temporary, bytes));
    MND_TRY(mnd_h5_reserve(path, w->file, bytes));
    for (int s = 0; s < 2; s++) {
        const hsize_t dim[4] = {(hsize_t)info->count[s], (hsize_t)info->height,
                                (hsize_t)info->width, (hsize_t)info->channels};
        MND_TRY(create_array(w, x_name[s], info->channels > 1 ? 4 : 3, dim, &w->x[s]));
        MND_TRY(create_array(w, y_name[s], 1, dim, &w->y[s]));
    }
    *out = w;
    return MND_OK;
cleanup:
    mnd_dataset_writer_abort(&w);
    return status;
}

mnd_status mnd_dataset_writer_source(mnd_dataset_writer *w, const char *name, const char *sha256) {
    if (w->n_source == MAX_SOURCES)
        return mnd_fail(MND_RANGE, "%s: more than %d source files", w->path, MAX_SOURCES);
    const int n = snprintf(w->source[w->n_source], SOURCE_LINE, "%s %s", name, sha256);
    if (n < 0 || n >= SOURCE_LINE) return mnd_fail(MND_RANGE, "%s: the name is too long", name);
    w->n_source++;
    return MND_OK;
}

static mnd_status write_rows(mnd_dataset_writer *w, hid_t array, int ndim, int64_t count,
                             const uint8_t *in) {
    mnd_status status = MND_OK;
    hid_t memory = -1;
    const hsize_t start[4] = {(hsize_t)w->done[w->split]};
    const hsize_t size[4] = {(hsize_t)count, (hsize_t)w->info.height, (hsize_t)w->info.width,
                             (hsize_t)w->info.channels};
    const hid_t space = H5Dget_space(array);
    memory = H5Screate_simple(ndim, size, NULL);
    if (space < 0 || memory < 0 ||
        H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL) < 0)
        MND_FAIL(MND_INTERNAL, "%s: HDF5 refuses the rows", w->path);
    if (H5Dwrite(array, H5T_NATIVE_UINT8, memory, space, H5P_DEFAULT, in) < 0)
        status = mnd_h5_fail(w->path, "write");
cleanup:
    if (memory >= 0) (void)H5Sclose(memory);
    if (space >= 0) (void)H5Sclose(space);
    return status;
}

/*
 * The checksum covers a split's images, then its labels, but both come together. The labels go
 * through memory once more, from the file, so that memory stays constant.
 */
static mnd_status hash_labels(mnd_dataset_writer *w, int s) {
    mnd_status status = MND_OK;
    hid_t space = -1, memory = -1;
    uint8_t *buffer = malloc(CHUNK);
    if (buffer == NULL) return mnd_fail(MND_NO_MEMORY, "%s: no memory", w->path);
    for (int64_t row = 0; row < w->info.count[s]; row += CHUNK) {
        const int64_t left = w->info.count[s] - row;
        const hsize_t start = (hsize_t)row, n = (hsize_t)(left < CHUNK ? left : CHUNK);
        space = H5Dget_space(w->y[s]);
        memory = H5Screate_simple(1, &n, NULL);
        if (space < 0 || memory < 0 ||
            H5Sselect_hyperslab(space, H5S_SELECT_SET, &start, NULL, &n, NULL) < 0 ||
            H5Dread(w->y[s], H5T_NATIVE_UINT8, memory, space, H5P_DEFAULT, buffer) < 0)
            MND_FAIL(MND_IO, "%s: cannot read back the labels", w->path);
        mnd_sha256_update(w->hash, buffer, (size_t)n);
        (void)H5Sclose(memory);
        (void)H5Sclose(space);
        memory = space = -1;
    }
cleanup:
    if (memory >= 0) (void)H5Sclose(memory);
    if (space >= 0) (void)H5Sclose(space);
    free(buffer);
    return status;
}

mnd_status mnd_dataset_writer_append(mnd_dataset_writer *w, mnd_split split, int64_t count,
                                     const uint8_t *images, const uint8_t *labels) {
    mnd_status status = MND_OK;
    if (count == 0) return MND_OK;
    if (w->damaged) MND_FAIL(MND_IO, "%s: an earlier write failed", w->path);
    if (split == MND_TEST && w->split == MND_TRAIN && w->done[0] == w->info.count[0]) {
        MND_TRY(hash_labels(w, MND_TRAIN));
        w->split = MND_TEST;
    }
    if ((int)split != w->split)
        MND_FAIL(MND_RANGE, "%s: the training images come first, all of them, then the test images",
                 w->path);
    if (count < 0 || count > w->info.count[split] - w->done[split])
        MND_FAIL(MND_RANGE, "%s: more than the %lld images that /%s has room for", w->path,
                 (long long)w->info.count[split], x_name[split]);
    for (int64_t i = 0; i < count; i++)
        if (labels[i] >= w->info.classes)
            MND_FAIL(MND_RANGE, "%s: label %lld of /%s is %d, but there are only %d classes",
                     w->path, (long long)(w->done[split] + i), y_name[split], labels[i],
                     w->info.classes);
    MND_TRY(write_rows(w, w->x[split], w->info.channels > 1 ? 4 : 3, count, images));
    MND_TRY(write_rows(w, w->y[split], 1, count, labels));
    mnd_sha256_update(w->hash, images, (size_t)(count * pixels(&w->info)));
    w->done[split] += count;
cleanup:
    if (status != MND_OK) w->damaged = true;
    return status;
}

static mnd_status write_int(mnd_dataset_writer *w, const char *name, int value) {
    mnd_status status = MND_OK;
    const int32_t x = value;
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attribute =
        space < 0 ? -1 : H5Acreate2(w->file, name, H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute < 0 || H5Awrite(attribute, H5T_NATIVE_INT32, &x) < 0)
        status = mnd_h5_fail(w->path, "write");
    if (attribute >= 0) (void)H5Aclose(attribute);
    if (space >= 0) (void)H5Sclose(space);
    return status;
}

static mnd_status write_attributes(mnd_dataset_writer *w) {
    mnd_status status = MND_OK;
    mnd_dataset_info *info = &w->info;
    char format[] = FORMAT_NAME;
    info->source[sizeof info->source - 1] = '\0';
    MND_TRY(mnd_h5_write_strings(w->path, w->file, "format", format, -1, sizeof format));
    MND_TRY(write_int(w, "classes", info->classes));
    MND_TRY(mnd_h5_write_strings(w->path, w->file, "class_names", info->class_name[0],
                                 info->classes, sizeof info->class_name[0]));
    MND_TRY(mnd_h5_write_strings(w->path, w->file, "source", info->source, -1,
                                 strlen(info->source) + 1));
    if (w->n_source > 0)
        MND_TRY(mnd_h5_write_strings(w->path, w->file, "source_sha256", w->source[0], w->n_source,
                                     SOURCE_LINE));
    MND_TRY(mnd_h5_write_strings(w->path, w->file, "data_sha256", info->data_sha256, -1,
                                 MND_SHA256_HEX));
cleanup:
    return status;
}

mnd_status mnd_dataset_writer_finish(mnd_dataset_writer **writer) {
    mnd_status status = MND_OK;
    mnd_dataset_writer *w = *writer;
    if (w->damaged) MND_FAIL(MND_IO, "%s: an earlier write failed", w->path);
    for (int s = 0; s < 2; s++)
        if (w->done[s] != w->info.count[s])
            MND_FAIL(MND_RANGE, "%s: /%s got %lld of its %lld images", w->path, x_name[s],
                     (long long)w->done[s], (long long)w->info.count[s]);
    MND_TRY(hash_labels(w, MND_TEST));
    MND_TRY(mnd_sha256_finish(w->hash, w->info.data_sha256));
    MND_TRY(write_attributes(w));
    MND_TRY(mnd_h5_close(w->path, &w->file));
    status = mnd_atomic_commit(w->temporary, w->path);
cleanup:
    mnd_dataset_writer_abort(writer);
    return status;
}

void mnd_dataset_writer_abort(mnd_dataset_writer **writer) {
    mnd_dataset_writer *w = *writer;
    if (w == NULL) return;
    mnd_h5_drop(&w->file);
    if (w->temporary != NULL && w->temporary[0] != '\0') (void)unlink(w->temporary);
    if (in_progress == w->temporary) in_progress = NULL;
    mnd_sha256_destroy(&w->hash);
    free(w->temporary);
    free(w->path);
    free(w);
    *writer = NULL;
}
