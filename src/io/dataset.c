/* dataset.c - reads and verifies data files. */
#include "mnist_dist/dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataset_format.h"
#include "h5.h"

#define CONVERT_HINT "convert it: 'mnist_dist convert FILE -o NEW.h5'"
#define NO_FILE_HINT "data/fetch.sh gets MNIST and 'mnist_dist convert data/mnist' makes this file"

struct mnd_dataset {
    char *path; /* owned */
    hid_t file; /* owned; closing it closes the data sets too */
    hid_t x[2], y[2];
    int64_t end; /* where the last of the four data sets ends in the file */
    mnd_dataset_info info;
};

/* Checks that a data set has type uint8 and is stored contiguously in this file. */
static mnd_status check_storage(const char *path, const char *name, hid_t array) {
    mnd_status status = MND_OK;
    const hid_t type = H5Dget_type(array), dcpl = H5Dget_create_plist(array);
    if (type < 0 || dcpl < 0)
        MND_FAIL(MND_FORMAT, "%s: /%s is damaged; make or fetch it again", path, name);
    if (H5Pget_layout(dcpl) == H5D_VIRTUAL)
        MND_FAIL(MND_FORMAT,
                 "%s: /%s is a virtual data set, whose values lie in other files; copy it into "
                 "this file as uint8 (in h5py: f.create_dataset(name, data=source[...]))",
                 path, name);
    if (H5Tequal(type, H5T_STD_U8LE) <= 0 && H5Tequal(type, H5T_STD_U8BE) <= 0)
        MND_FAIL(MND_FORMAT, "%s: /%s is not of type uint8; " CONVERT_HINT, path, name);
    if (H5Pget_layout(dcpl) != H5D_CONTIGUOUS || H5Pget_external_count(dcpl) != 0)
        MND_FAIL(MND_FORMAT,
                 "%s: /%s is stored in chunks, compressed or outside the file; " CONVERT_HINT, path,
                 name);
cleanup:
    if (dcpl >= 0) (void)H5Pclose(dcpl);
    if (type >= 0) (void)H5Tclose(type);
    return status;
}

/* Reads the shape of a data set; *bytes becomes the product of its dimensions. */
static mnd_status read_shape(const char *path, const char *name, hid_t array, int *ndim,
                             int64_t dim[4], int64_t *bytes) {
    mnd_status status = MND_OK;
    hsize_t size[H5S_MAX_RANK] = {0};
    const hid_t space = H5Dget_space(array);
    if (space < 0) MND_FAIL(MND_FORMAT, "%s: /%s is damaged; make or fetch it again", path, name);
    *ndim = H5Sget_simple_extent_ndims(space);
    if (*ndim < 1 || *ndim > 4 || H5Sget_simple_extent_dims(space, size, NULL) != *ndim)
        MND_FAIL(MND_FORMAT, "%s: /%s has %d dimensions; images have 3 or 4, labels have 1", path,
                 name, *ndim);
    *bytes = 1;
    for (int i = 0; i < *ndim; i++) {
        if (size[i] < 1 || size[i] > INT32_MAX)
            MND_FAIL(MND_FORMAT, "%s: dimension %d of /%s is %llu; 1 to %d can be used", path, i,
                     name, (unsigned long long)size[i], INT32_MAX);
        dim[i] = (int64_t)size[i];
        if (__builtin_mul_overflow(*bytes, dim[i], bytes))
            MND_FAIL(MND_FORMAT,
                     "%s: the dimensions of /%s overflow, no file is so large; make or fetch it "
                     "again",
                     path, name);
    }
cleanup:
    if (space >= 0) (void)H5Sclose(space);
    return status;
}

/*
 * Opens a data set and checks everything that reading relies on: it is not a link to another place,
 * has type uint8, is contiguous in this file and lies inside the file's present length.
 */
static mnd_status open_array(mnd_dataset *data, const char *name, int *ndim, int64_t dim[4],
                             hid_t *out) {
    mnd_status status = MND_OK;
    const char *path = data->path;
    int64_t bytes = 0;
    *out = -1;
    const htri_t exists = H5Lexists(data->file, name, H5P_DEFAULT);
    if (exists < 0)
        MND_FAIL(MND_FORMAT, "%s: its table of contents is damaged; make or fetch it again", path);
    if (exists == 0)
        MND_FAIL(MND_FORMAT,
                 "%s: holds no /%s; a data file holds x_train, y_train, x_test, y_test; "
                 "'mnist_dist convert FILE -o NEW.h5' knows other names",
                 path, name);
    H5L_info_t link;
    if (H5Lget_info(data->file, name, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD)
        MND_FAIL(MND_FORMAT, "%s: /%s is a link to somewhere else; store the data in this file",
                 path, name);
    *out = H5Dopen2(data->file, name, H5P_DEFAULT);
    if (*out < 0)
        MND_FAIL(MND_FORMAT, "%s: /%s is damaged or no data set; make or fetch it again", path,
                 name);
    MND_TRY(check_storage(path, name, *out));
    MND_TRY(read_shape(path, name, *out, ndim, dim, &bytes));
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
    return status;
}

/* MND_TRAIN first: MND_TEST is compared with it. */
static mnd_status open_split(mnd_dataset *data, int s) {
    mnd_status status = MND_OK;
    mnd_dataset_info *info = &data->info;
    int nx, ny;
    int64_t x[4], y[4];
    MND_TRY(open_array(data, mnd_dataset_x_name[s], &nx, x, &data->x[s]));
    MND_TRY(open_array(data, mnd_dataset_y_name[s], &ny, y, &data->y[s]));
    if (nx < 3)
        MND_FAIL(MND_FORMAT,
                 "%s: /%s has %d dimensions; store images as (count, height, width[, channels])",
                 data->path, mnd_dataset_x_name[s], nx);
    if (ny != 1)
        MND_FAIL(MND_FORMAT,
                 "%s: /%s has %d dimensions; store labels as (count), one number per "
                 "image; " CONVERT_HINT,
                 data->path, mnd_dataset_y_name[s], ny);
    if (x[0] != y[0])
        MND_FAIL(MND_FORMAT,
                 "%s: %lld images in /%s but %lld labels in /%s; every image needs one label",
                 data->path, (long long)x[0], mnd_dataset_x_name[s], (long long)y[0],
                 mnd_dataset_y_name[s]);
    const int height = (int)x[1], width = (int)x[2], channels = nx == 4 ? (int)x[3] : 1;
    if (s == MND_TEST && info->count[MND_TRAIN] > 0 &&
        (height != info->height || width != info->width || channels != info->channels))
        MND_FAIL(
            MND_FORMAT,
            "%s: training images are %d x %d x %d, test images %d x %d x %d; both must be equal",
            data->path, info->height, info->width, info->channels, height, width, channels);
    /* Files by this program are right; others may follow PyTorch: (count, channels, height, width).
     */
    if (nx == 4 && (x[1] == 1 || x[1] == 3) && x[2] == x[3] && x[3] > 4 &&
        H5Aexists(data->file, "format") == 0)
        MND_FAIL(MND_FORMAT,
                 "%s: /%s has its channels first, (%lld, %lld, %lld, %lld); store "
                 "x.transpose(0, 2, 3, 1), or " CONVERT_HINT,
                 data->path, mnd_dataset_x_name[s], (long long)x[0], (long long)x[1],
                 (long long)x[2], (long long)x[3]);
    info->count[s] = x[0];
    info->height = height;
    info->width = width;
    info->channels = channels;
cleanup:
    return status;
}

/* Reads rows [first, first + count) of a data set of any number of dimensions. */
static mnd_status read_rows(mnd_dataset *data, hid_t array, const char *name, int64_t first,
                            int64_t count, uint8_t *out) {
    mnd_status status = MND_OK;
    hid_t memory = -1;
    const hid_t space = H5Dget_space(array);
    hsize_t start[4] = {(hsize_t)first}, size[4] = {0}; /* of the array, then of the rows */
    const int ndim = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
    if (ndim < 1 || ndim > 4 || H5Sget_simple_extent_dims(space, size, NULL) != ndim)
        MND_FAIL(MND_INTERNAL, "%s: HDF5 cannot tell the shape of /%s", data->path, name);
    size[0] = (hsize_t)count;
    memory = H5Screate_simple(ndim, size, NULL);
    if (memory < 0 || H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL) < 0)
        MND_FAIL(MND_INTERNAL, "%s: HDF5 cannot select rows %lld to %lld of /%s", data->path,
                 (long long)first, (long long)(first + count - 1), name);
    /* HDF5 would read zeros beyond the end of the file and report no error. */
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

/* The number of classes where the attribute `classes` is missing or 0: the largest label + 1. */
static mnd_status count_classes(mnd_dataset *data) {
    mnd_status status = MND_OK;
    uint8_t *label = malloc(MND_DATASET_CHUNK);
    if (label == NULL)
        return mnd_fail(MND_NO_MEMORY, "%s: no memory to read the labels", data->path);
    int largest = 0;
    for (int s = 0; s < 2; s++)
        for (int64_t row = 0; row < data->info.count[s]; row += MND_DATASET_CHUNK) {
            const int64_t left = data->info.count[s] - row;
            const int64_t n = left < MND_DATASET_CHUNK ? left : MND_DATASET_CHUNK;
            MND_TRY(read_rows(data, data->y[s], mnd_dataset_y_name[s], row, n, label));
            for (int64_t i = 0; i < n; i++)
                if (label[i] > largest) largest = label[i];
        }
    data->info.classes = largest + 1;
cleanup:
    free(label);
    return status;
}

/* Reads a number; *value is unchanged if the file has no such attribute. */
static mnd_status read_int(mnd_dataset *data, const char *name, int *value) {
    mnd_status status = MND_OK;
    hid_t attribute = -1, type = -1, space = -1;
    const htri_t exists = H5Aexists(data->file, name);
    if (exists == 0) return MND_OK;
    attribute = exists < 0 ? -1 : H5Aopen(data->file, name, H5P_DEFAULT);
    type = attribute < 0 ? -1 : H5Aget_type(attribute);
    space = attribute < 0 ? -1 : H5Aget_space(attribute);
    if (type < 0 || space < 0 || H5Tget_class(type) != H5T_INTEGER ||
        H5Sget_simple_extent_npoints(space) != 1 || H5Aread(attribute, H5T_NATIVE_INT, value) < 0)
        MND_FAIL(MND_FORMAT, "%s: attribute '%s' is not a whole number; store one, or remove it",
                 data->path, name);
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
    if (n == 1 && strcmp(format, MND_DATASET_FORMAT) != 0)
        MND_FAIL(MND_FORMAT,
                 "%s: its format is '%s', but this program reads '%s'; make or fetch it again",
                 data->path, format, MND_DATASET_FORMAT);
    MND_TRY(mnd_h5_read_strings(data->path, data->file, "source", info->source, 1,
                                sizeof info->source, &n));
    MND_TRY(mnd_h5_read_strings(data->path, data->file, "data_sha256", info->data_sha256, 1,
                                sizeof info->data_sha256, &n));
    if (n == 1 && strspn(info->data_sha256, "0123456789abcdef") != MND_SHA256_HEX - 1)
        MND_FAIL(MND_FORMAT, "%s: attribute 'data_sha256' is no SHA-256 (64 hexadecimal digits)",
                 data->path);
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
    if (classes == 0 && n > info->classes) info->classes = n;
    if (n != 0 && n != info->classes)
        MND_FAIL(MND_FORMAT, "%s: %d class names for %d classes; store one name per class",
                 data->path, n, info->classes);
    if (n == 0)
        for (int i = 0; i < info->classes; i++)
            snprintf(info->class_name[i], sizeof info->class_name[i], "%d", i);
cleanup:
    return status;
}

/* Whether the file has test images, but nothing of the training data. */
static bool has_test_only(const mnd_dataset *data) {
    return H5Lexists(data->file, mnd_dataset_x_name[MND_TRAIN], H5P_DEFAULT) == 0 &&
           H5Lexists(data->file, mnd_dataset_y_name[MND_TRAIN], H5P_DEFAULT) == 0 &&
           H5Lexists(data->file, mnd_dataset_x_name[MND_TEST], H5P_DEFAULT) > 0;
}

static mnd_status open_file(const char *path, bool any, mnd_dataset **out) {
    mnd_status status = MND_OK;
    *out = NULL;
    mnd_dataset *data = calloc(1, sizeof *data);
    if (data == NULL) return mnd_fail(MND_NO_MEMORY, "%s: no memory to open it", path);
    data->file = data->x[0] = data->x[1] = data->y[0] = data->y[1] = -1;
    data->path = strdup(path);
    if (data->path == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory to open it", path);
    MND_TRY(mnd_h5_open(path, NO_FILE_HINT, &data->file));
    const bool test_only = has_test_only(data);
    if (test_only && !any)
        MND_FAIL(MND_FORMAT,
                 "%s: holds no /%s, only test images: it serves 'evaluate --data', not training",
                 path, mnd_dataset_x_name[MND_TRAIN]);
    if (!test_only) MND_TRY(open_split(data, MND_TRAIN));
    MND_TRY(open_split(data, MND_TEST));
    MND_TRY(mnd_dataset_check_sizes(path, &data->info));
    MND_TRY(read_attributes(data));
    *out = data;
    return MND_OK;
cleanup:
    mnd_dataset_close(&data);
    return status;
}

mnd_status mnd_dataset_open(const char *path, mnd_dataset **out) {
    return open_file(path, false, out);
}

mnd_status mnd_dataset_open_any(const char *path, mnd_dataset **out) {
    return open_file(path, true, out);
}

mnd_status mnd_dataset_widen(mnd_dataset *data, int classes) {
    mnd_dataset_info *info = &data->info;
    if (info->classes > classes || classes > MND_MAX_CLASSES)
        return mnd_fail(MND_MISMATCH, "%s: has %d classes, more than %d", data->path, info->classes,
                        classes);
    for (int i = info->classes; i < classes; i++)
        snprintf(info->class_name[i], sizeof info->class_name[i], "%d", i);
    info->classes = classes;
    return MND_OK;
}

const mnd_dataset_info *mnd_dataset_about(const mnd_dataset *data) { return &data->info; }

mnd_status mnd_dataset_read(mnd_dataset *data, mnd_split split, int64_t first, int64_t count,
                            uint8_t *images, uint8_t *labels) {
    mnd_status status = MND_OK;
    const int64_t n = data->info.count[split];
    if (first < 0 || count < 0 || first > n || count > n - first)
        MND_FAIL(MND_RANGE, "%s: /%s has images 0 to %lld, not %lld images from number %lld on",
                 data->path, mnd_dataset_x_name[split], (long long)n - 1, (long long)count,
                 (long long)first);
    if (count == 0) return MND_OK;
    if (images != NULL)
        MND_TRY(read_rows(data, data->x[split], mnd_dataset_x_name[split], first, count, images));
    if (labels != NULL) {
        MND_TRY(read_rows(data, data->y[split], mnd_dataset_y_name[split], first, count, labels));
        for (int64_t i = 0; i < count; i++)
            if (labels[i] >= data->info.classes)
                MND_FAIL(MND_FORMAT,
                         "%s: label %lld of /%s is %d, but there are only %d classes; correct the "
                         "label or the attribute 'classes'",
                         data->path, (long long)(first + i), mnd_dataset_y_name[split], labels[i],
                         data->info.classes);
    }
cleanup:
    return status;
}

/* Images to read at a time: about MND_DATASET_CHUNK bytes, at least one image. */
static int64_t rows_at_a_time(const mnd_dataset_info *info) {
    const int64_t rows = MND_DATASET_CHUNK / mnd_dataset_image_size(info);
    return rows < 1 ? 1 : rows;
}

mnd_status mnd_dataset_verify(mnd_dataset *data) {
    mnd_status status = MND_OK;
    mnd_sha256 *hash = NULL;
    uint8_t *buffer = NULL;
    char hex[MND_SHA256_HEX];
    if (data->info.data_sha256[0] == '\0') return MND_OK;
    MND_TRY(mnd_sha256_create(&hash));
    const int64_t size = mnd_dataset_image_size(&data->info), rows = rows_at_a_time(&data->info);
    const int64_t capacity = rows * size > MND_DATASET_CHUNK ? rows * size : MND_DATASET_CHUNK;
    buffer = malloc((size_t)capacity);
    if (buffer == NULL) MND_FAIL(MND_NO_MEMORY, "%s: no memory to verify it", data->path);
    for (int s = 0; s < 2; s++)
        for (int labels = 0; labels < 2; labels++) {
            const int64_t step = labels ? MND_DATASET_CHUNK : rows;
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
