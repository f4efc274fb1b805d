/*
 * dataset_sample.h - what the tests of src/io/dataset.c share: a small data set with known values,
 * written by the program itself or, in many variants, by HDF5 directly. Include test.h first.
 */
#ifndef MND_TEST_DATASET_SAMPLE_H
#define MND_TEST_DATASET_SAMPLE_H

#include <hdf5.h>
#include <sys/resource.h>

#include "mnist_dist/dataset.h"
#include "scratch.h"

enum { HEIGHT = 4, WIDTH = 3, SIZE = HEIGHT * WIDTH, TRAIN = 12, TEST = 5, CLASSES = 5 };
static const int count[2] = {TRAIN, TEST};

static inline uint8_t pixel(int split, int i) { return (uint8_t)(i * 7 + split * 100); }
static inline uint8_t label(int split, int i) { return (uint8_t)((i + split) % CLASSES); }

static inline mnd_dataset_info make_info(int channels) {
    mnd_dataset_info info = {.count = {TRAIN, TEST},
                             .height = HEIGHT,
                             .width = WIDTH,
                             .channels = channels,
                             .classes = CLASSES,
                             .source = "a test"};
    for (int i = 0; i < CLASSES; i++)
        snprintf(info.class_name[i], sizeof info.class_name[i], "class %d", i);
    return info;
}

/* The expected content of a split. */
typedef struct rows {
    uint8_t images[TRAIN * SIZE * 3], labels[TRAIN];
} rows;

static inline void make_rows(int split, int channels, rows *out) {
    for (int i = 0; i < TRAIN * SIZE * channels; i++) out->images[i] = pixel(split, i);
    for (int i = 0; i < TRAIN; i++) out->labels[i] = label(split, i);
}

/* Writes the small set, `step` rows at a time. */
static inline void write_set(const char *path, int channels, int step) {
    const mnd_dataset_info info = make_info(channels);
    mnd_dataset_writer *writer = NULL;
    assert_int_equal(mnd_dataset_writer_create(path, &info, &writer), MND_OK);
    assert_int_equal(mnd_dataset_writer_source(writer, "file", "0123"), MND_OK);
    for (int s = 0; s < 2; s++) {
        rows due;
        make_rows(s, channels, &due);
        for (int row = 0; row < count[s]; row += step) {
            const int n = count[s] - row < step ? count[s] - row : step;
            assert_int_equal(mnd_dataset_writer_append(writer, (mnd_split)s, n,
                                                       due.images + row * SIZE * channels,
                                                       due.labels + row),
                             MND_OK);
        }
    }
    if (mnd_dataset_writer_finish(&writer) != MND_OK) fail_msg("%s", mnd_error());
    assert_null(writer);
}

/* Reads every range of rows of the file and compares it with the expected content. */
static inline void expect_set(const char *path, int channels) {
    mnd_dataset *data = NULL;
    if (mnd_dataset_open(path, &data) != MND_OK) fail_msg("%s", mnd_error());
    const mnd_dataset_info *info = mnd_dataset_about(data);
    assert_int_equal(info->height, HEIGHT);
    assert_int_equal(info->width, WIDTH);
    assert_int_equal(info->channels, channels);
    assert_int_equal(info->classes, CLASSES);
    for (int s = 0; s < 2; s++) {
        rows due, got;
        make_rows(s, channels, &due);
        assert_int_equal(info->count[s], count[s]);
        for (int first = 0; first <= count[s]; first++)
            for (int n = 0; n <= count[s] - first; n++) {
                assert_int_equal(
                    mnd_dataset_read(data, (mnd_split)s, first, n, got.images, got.labels), MND_OK);
                assert_memory_equal(got.images, due.images + first * SIZE * channels,
                                    (size_t)(n * SIZE * channels));
                assert_memory_equal(got.labels, due.labels + first, (size_t)n);
            }
    }
    mnd_dataset_close(&data);
    assert_null(data);
}

/* --- files by other programs, made with HDF5 directly --- */

typedef struct array {
    int ndim;
    hsize_t dim[4];
    hid_t type; /* 0: uint8 */
    enum { PLAIN, CHUNKED, COMPACT, EXTERNAL, UNALLOCATED, SOFT_LINK, GROUP, ABSENT } kind;
} array;

static inline void put_array(hid_t file, const char *name, const array *a, int split, int images) {
    if (a->kind == ABSENT) return;
    if (a->kind == SOFT_LINK) {
        assert_true(H5Lcreate_soft("/somewhere", file, name, H5P_DEFAULT, H5P_DEFAULT) >= 0);
        return;
    }
    if (a->kind == GROUP) {
        H5Gclose(H5Gcreate2(file, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        return;
    }
    const hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);
    const hid_t space = H5Screate_simple(a->ndim, a->dim, NULL);
    size_t n = 1;
    for (int i = 0; i < a->ndim; i++) n *= a->dim[i];
    if (a->kind == CHUNKED) assert_true(H5Pset_chunk(dcpl, a->ndim, a->dim) >= 0);
    if (a->kind == COMPACT) assert_true(H5Pset_layout(dcpl, H5D_COMPACT) >= 0);
    if (a->kind == EXTERNAL)
        assert_true(H5Pset_external(dcpl, scratch("external"), 0, (hsize_t)n) >= 0);
    const hid_t set = H5Dcreate2(file, name, a->type != 0 ? a->type : H5T_STD_U8LE, space,
                                 H5P_DEFAULT, dcpl, H5P_DEFAULT);
    assert_true(set >= 0);
    if (a->kind != UNALLOCATED && n > 0) {
        uint8_t *value = malloc(n);
        assert_non_null(value);
        for (size_t i = 0; i < n; i++)
            value[i] = images ? pixel(split, (int)i) : label(split, (int)i);
        assert_true(H5Dwrite(set, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, value) >= 0);
        free(value);
    }
    H5Dclose(set);
    H5Sclose(space);
    H5Pclose(dcpl);
}

static const array good[4] = {{.ndim = 3, .dim = {TRAIN, HEIGHT, WIDTH}},
                              {.ndim = 1, .dim = {TRAIN}},
                              {.ndim = 3, .dim = {TEST, HEIGHT, WIDTH}},
                              {.ndim = 1, .dim = {TEST}}};

/* A file with the four arrays, created with these HDF5 properties; array `odd` is replaced by
 * `with`
 * (-1: none is). */
static inline const char *make_file(const char *name, hid_t fcpl, hid_t fapl, int odd,
                                    const array *with) {
    static const char *const array_name[4] = {"x_train", "y_train", "x_test", "y_test"};
    const hid_t file = H5Fcreate(scratch(name), H5F_ACC_TRUNC, fcpl, fapl);
    assert_true(file >= 0);
    for (int i = 0; i < 4; i++)
        put_array(file, array_name[i], i == odd ? with : &good[i], i / 2, i % 2 == 0);
    assert_true(H5Fclose(file) >= 0);
    return scratch(name);
}

/* The same in HDF5's oldest format, which h5py writes by default. */
static inline const char *make_foreign(const char *name, int odd, const array *with) {
    return make_file(name, H5P_DEFAULT, H5P_DEFAULT, odd, with);
}

/* n < 0: one string of variable length; n = 0: one int; n > 0: n strings of 8 bytes. */
static inline void add_attribute(const char *path, const char *name, int n, const void *value) {
    const hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    const hid_t type = n == 0 ? H5Tcopy(H5T_NATIVE_INT) : H5Tcopy(H5T_C_S1);
    if (n != 0) H5Tset_size(type, n < 0 ? H5T_VARIABLE : 8);
    const hsize_t dim = (hsize_t)n;
    const hid_t space = n <= 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &dim, NULL);
    const hid_t attribute = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(attribute >= 0 && H5Awrite(attribute, type, value) >= 0);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
    assert_true(H5Fclose(file) >= 0);
}

static inline void expect_refused(const char *path, mnd_status expected, const char *words) {
    mnd_dataset *data = NULL;
    const mnd_status status = mnd_dataset_open(path, &data);
    assert_null(data);
    if (status != expected || strstr(mnd_error(), words) == NULL ||
        strncmp(mnd_error(), path, strlen(path)) != 0)
        fail_msg("%s: '%s' does not contain '%s'", mnd_status_name(status), mnd_error(), words);
}

/*
 * Limits this process' memory, so that a mistake of HDF5 does not exhaust the machine's. Not under
 * the sanitizers, which reserve more address space. 0, or -1 if there is no such limit.
 */
static inline int limit_memory(void) {
    const struct rlimit most = {.rlim_cur = (rlim_t)4 << 30, .rlim_max = (rlim_t)4 << 30};
    return getenv("MND_SANITIZE") == NULL ? setrlimit(RLIMIT_DATA, &most) : 0;
}

#endif
