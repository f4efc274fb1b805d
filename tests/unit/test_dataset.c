/*
 * src/io/dataset.c: what is written is read back, whatever does not fit is refused, and a damaged
 * file of any kind is either refused or gives data of the size that it should have.
 */
#include "test.h"

#include <hdf5.h>
#include <sys/resource.h>

#include "mnist_dist/dataset.h"
#include "mnist_dist/rng.h"
#include "scratch.h"

enum { HEIGHT = 4, WIDTH = 3, SIZE = HEIGHT * WIDTH, TRAIN = 12, TEST = 5, CLASSES = 5 };
static const int count[2] = {TRAIN, TEST};

static uint8_t pixel(int split, int i) { return (uint8_t)(i * 7 + split * 100); }
static uint8_t label(int split, int i) { return (uint8_t)((i + split) % CLASSES); }

static mnd_dataset_info make_info(int channels) {
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

/* A split as it ought to be. */
typedef struct rows {
    uint8_t images[TRAIN * SIZE * 3], labels[TRAIN];
} rows;

static void make_rows(int split, int channels, rows *out) {
    for (int i = 0; i < TRAIN * SIZE * channels; i++) out->images[i] = pixel(split, i);
    for (int i = 0; i < TRAIN; i++) out->labels[i] = label(split, i);
}

/* Writes the small set, `step` rows at a time. */
static void write_set(const char *path, int channels, int step) {
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

/* Every range of rows of the file is what it ought to be. */
static void expect_set(const char *path, int channels) {
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

static void writes_and_reads(void **state) {
    (void)state;
    for (int channels = 1; channels <= 3; channels += 2)
        for (int step = 1; step <= TRAIN; step++) {
            const char *path = scratch("set.h5");
            write_set(path, channels, step);
            expect_set(path, channels);
        }
    mnd_dataset *data = NULL;
    assert_int_equal(mnd_dataset_open(scratch("set.h5"), &data), MND_OK);
    const mnd_dataset_info *info = mnd_dataset_about(data);
    assert_string_equal(info->source, "a test");
    assert_string_equal(info->class_name[4], "class 4");
    assert_int_equal(strlen(info->data_sha256), 64);
    assert_int_equal(mnd_dataset_verify(data), MND_OK);
    uint8_t images[SIZE * 3], labels[1];
    assert_int_equal(mnd_dataset_read(data, MND_TEST, 3, 1, images, NULL), MND_OK);
    assert_int_equal(images[0], pixel(1, 3 * SIZE * 3));
    assert_int_equal(mnd_dataset_read(data, MND_TEST, 3, 1, NULL, labels), MND_OK);
    assert_int_equal(labels[0], label(1, 3));
    static const int64_t beyond[][2] = {
        {0, TEST + 1}, {TEST, 1},      {TEST + 1, 0},         {-1, 1},
        {0, -1},       {1, INT64_MAX}, {INT64_MAX, INT64_MAX}};
    for (size_t i = 0; i < sizeof beyond / sizeof beyond[0]; i++) {
        assert_int_equal(
            mnd_dataset_read(data, MND_TEST, beyond[i][0], beyond[i][1], images, labels),
            MND_RANGE);
        assert_non_null(strstr(mnd_error(), "has images 0 to 4, not"));
    }
    mnd_dataset_close(&data);
    mnd_dataset_close(&data);
}

/* data_sha256 is what the header says: x_train, y_train, x_test, y_test. */
static void checksum_covers_the_four_arrays(void **state) {
    (void)state;
    rows due[2];
    char expected[MND_SHA256_HEX];
    mnd_sha256 *hash = NULL;
    assert_int_equal(mnd_sha256_create(&hash), MND_OK);
    for (int s = 0; s < 2; s++) {
        make_rows(s, 1, &due[s]);
        mnd_sha256_update(hash, due[s].images, (size_t)count[s] * SIZE);
        mnd_sha256_update(hash, due[s].labels, (size_t)count[s]);
    }
    assert_int_equal(mnd_sha256_finish(hash, expected), MND_OK);
    mnd_sha256_destroy(&hash);
    write_set(scratch("sum.h5"), 1, 5);
    mnd_dataset *data = NULL;
    assert_int_equal(mnd_dataset_open(scratch("sum.h5"), &data), MND_OK);
    assert_string_equal(mnd_dataset_about(data)->data_sha256, expected);
    mnd_dataset_close(&data);
    /* One changed pixel: the structure is whole, the checksum is not. */
    size_t n;
    unsigned char *file = scratch_read(scratch("sum.h5"), &n);
    unsigned char *at = memmem(file, n, due[0].images, TRAIN * SIZE);
    assert_non_null(at);
    at[17] ^= 4;
    scratch_write(scratch("sum.h5"), file, n);
    free(file);
    assert_int_equal(mnd_dataset_open(scratch("sum.h5"), &data), MND_OK);
    assert_int_equal(mnd_dataset_verify(data), MND_FORMAT);
    assert_non_null(strstr(mnd_error(), "damaged"));
    mnd_dataset_close(&data);
}

static void writer_refuses_what_does_not_fit(void **state) {
    (void)state;
    scratch_mkdir("writer");
    const char *path = scratch("writer/set.h5");
    mnd_dataset_writer *writer = NULL;
    uint8_t images[TRAIN * SIZE] = {0}, labels[TRAIN] = {0};
    static const int wrong[][5] = {/* train, test, height, width, classes */
                                   {0, 5, 4, 3, 5},  {12, 0, 4, 3, 5},    {12, 5, 0, 3, 5},
                                   {12, 5, 4, 0, 5}, {12, 5, 4, 3, 0},    {12, 5, 4, 3, 257},
                                   {-1, 5, 4, 3, 5}, {12, 5, 40000, 3, 5}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        mnd_dataset_info info = make_info(1);
        info.count[0] = wrong[i][0];
        info.count[1] = wrong[i][1];
        info.height = wrong[i][2];
        info.width = wrong[i][3];
        info.classes = wrong[i][4];
        assert_int_equal(mnd_dataset_writer_create(path, &info, &writer), MND_FORMAT);
        assert_null(writer);
    }
    /* What no disk has room for is refused before anything is written. */
    mnd_dataset_info info = make_info(1);
    info.count[0] = INT32_MAX;
    info.height = info.width = 8192;
    assert_int_equal(mnd_dataset_writer_create(path, &info, &writer), MND_IO);
    assert_non_null(strstr(mnd_error(), "MB"));
    assert_int_equal(scratch_entries(scratch("writer")), 0);

    info = make_info(1);
    assert_int_equal(mnd_dataset_writer_create(path, &info, &writer), MND_OK);
    assert_int_equal(mnd_dataset_writer_append(writer, MND_TEST, 1, images, labels), MND_RANGE);
    mnd_dataset_writer_abort(&writer);
    assert_int_equal(mnd_dataset_writer_create(path, &info, &writer), MND_OK);
    labels[2] = CLASSES;
    assert_int_equal(mnd_dataset_writer_append(writer, MND_TRAIN, 3, images, labels), MND_RANGE);
    assert_non_null(strstr(mnd_error(), "label 2 of /y_train is 5, but there are only 5 classes"));
    labels[2] = 0;
    /* After a failure nothing is taken any more, and finish says so. */
    assert_int_equal(mnd_dataset_writer_append(writer, MND_TRAIN, 3, images, labels), MND_IO);
    assert_int_equal(mnd_dataset_writer_finish(&writer), MND_IO);
    assert_null(writer);
    assert_int_equal(mnd_dataset_writer_create(path, &info, &writer), MND_OK);
    assert_int_equal(mnd_dataset_writer_append(writer, MND_TRAIN, TRAIN, images, labels), MND_OK);
    assert_int_equal(mnd_dataset_writer_append(writer, MND_TRAIN, 1, images, labels), MND_RANGE);
    mnd_dataset_writer_abort(&writer);
    assert_int_equal(mnd_dataset_writer_create(path, &info, &writer), MND_OK);
    assert_int_equal(mnd_dataset_writer_append(writer, MND_TRAIN, TRAIN, images, labels), MND_OK);
    assert_int_equal(mnd_dataset_writer_append(writer, MND_TEST, TEST - 1, images, labels), MND_OK);
    assert_int_equal(mnd_dataset_writer_finish(&writer), MND_RANGE);
    assert_non_null(strstr(mnd_error(), "/x_test got 4 of its 5 images"));
    mnd_dataset_writer_abort(&writer);
    /* A signal handler's way out. */
    mnd_dataset_writer_unlink();
    assert_int_equal(mnd_dataset_writer_create(path, &info, &writer), MND_OK);
    assert_int_equal(scratch_entries(scratch("writer")), 1);
    mnd_dataset_writer_unlink();
    assert_int_equal(scratch_entries(scratch("writer")), 0);
    mnd_dataset_writer_abort(&writer);
    mnd_dataset_writer_unlink();
    assert_int_equal(scratch_entries(scratch("writer")), 0);
}

/* --- files by other programs, made with HDF5 directly --- */

typedef struct array {
    int ndim;
    hsize_t dim[4];
    hid_t type; /* 0: uint8 */
    enum { PLAIN, CHUNKED, COMPACT, EXTERNAL, UNALLOCATED, SOFT_LINK, GROUP, ABSENT } kind;
} array;

static void put_array(hid_t file, const char *name, const array *a, int split, int images) {
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

/* A file of these properties with the four arrays, but for the array `odd`. */
static const char *make_file(const char *name, hid_t fcpl, hid_t fapl, int odd, const array *with) {
    static const char *const array_name[4] = {"x_train", "y_train", "x_test", "y_test"};
    const hid_t file = H5Fcreate(scratch(name), H5F_ACC_TRUNC, fcpl, fapl);
    assert_true(file >= 0);
    for (int i = 0; i < 4; i++)
        put_array(file, array_name[i], i == odd ? with : &good[i], i / 2, i % 2 == 0);
    assert_true(H5Fclose(file) >= 0);
    return scratch(name);
}

/* In HDF5's oldest format, as h5py writes by default. */
static const char *make_foreign(const char *name, int odd, const array *with) {
    return make_file(name, H5P_DEFAULT, H5P_DEFAULT, odd, with);
}

/* n < 0: one variable-length string; n = 0: one int; n > 0: n fixed-length strings of 8 bytes. */
static void add_attribute(const char *path, const char *name, int n, const void *value) {
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

static void expect_refused(const char *path, mnd_status expected, const char *words) {
    mnd_dataset *data = NULL;
    const mnd_status status = mnd_dataset_open(path, &data);
    assert_null(data);
    if (status != expected || strstr(mnd_error(), words) == NULL ||
        strncmp(mnd_error(), path, strlen(path)) != 0)
        fail_msg("%s: '%s' does not speak of '%s'", mnd_status_name(status), mnd_error(), words);
}

static void takes_files_of_other_programs(void **state) {
    (void)state;
    const char *path = make_foreign("foreign.h5", -1, NULL);
    expect_set(path, 1);
    mnd_dataset *data = NULL;
    assert_int_equal(mnd_dataset_open(path, &data), MND_OK);
    assert_string_equal(mnd_dataset_about(data)->data_sha256, "");
    assert_string_equal(mnd_dataset_about(data)->class_name[3], "3");
    assert_int_equal(mnd_dataset_verify(data), MND_OK); /* nothing to compare with */
    mnd_dataset_close(&data);
    /* Text that would steer the terminal, or does not fit, is made harmless. */
    static const char names[5][8] = {
        "a", "\033[31mb", "c", {'1', '2', '3', '4', '5', '6', '7', '8'}, "e"};
    add_attribute(path, "class_names", 5, names);
    const char *word = "of variable length";
    add_attribute(path, "source", -1, &word);
    assert_int_equal(mnd_dataset_open(path, &data), MND_OK);
    assert_string_equal(mnd_dataset_about(data)->class_name[1], "?[31mb");
    assert_string_equal(mnd_dataset_about(data)->class_name[3], "12345678");
    assert_string_equal(mnd_dataset_about(data)->source, "");
    mnd_dataset_close(&data);
    /* Big-endian bytes are bytes; a fourth dimension is channels. */
    path = make_foreign("be.h5", 0,
                        &(array){.ndim = 3, .dim = {TRAIN, HEIGHT, WIDTH}, .type = H5T_STD_U8BE});
    expect_set(path, 1);
}

/* The same in every format that HDF5 has for its first block and its groups. */
static void takes_every_format_of_hdf5(void **state) {
    (void)state;
    const hid_t fcpl = H5Pcreate(H5P_FILE_CREATE), fapl = H5Pcreate(H5P_FILE_ACCESS);
    assert_true(H5Pset_istore_k(fcpl, 64) >= 0); /* superblock 1 */
    expect_set(make_file("v1.h5", fcpl, fapl, -1, NULL), 1);
    assert_true(H5Pset_userblock(fcpl, 2048) >= 0);
    expect_set(make_file("userblock.h5", fcpl, fapl, -1, NULL), 1);
    H5Pclose(fcpl);
    /* Superblock 2 around old groups. */
    const hid_t paged = H5Pcreate(H5P_FILE_CREATE);
    assert_true(H5Pset_file_space_strategy(paged, H5F_FSPACE_STRATEGY_PAGE, 0, 1) >= 0);
    expect_set(make_file("paged.h5", paged, fapl, -1, NULL), 1);
    H5Pclose(paged);
    assert_true(H5Pset_libver_bounds(fapl, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST) >= 0);
    expect_set(make_file("latest.h5", H5P_DEFAULT, fapl, -1, NULL), 1);
    H5Pclose(fapl);
    const hid_t narrow = H5Pcreate(H5P_FILE_CREATE);
    assert_true(H5Pset_sizes(narrow, 4, 4) >= 0);
    expect_refused(make_file("narrow.h5", narrow, H5P_DEFAULT, -1, NULL), MND_FORMAT, "h5repack");
    H5Pclose(narrow);
    /* Hundreds of other objects beside the four: a tree of several levels, a heap of several sizes.
     */
    const char *path = make_foreign("crowded.h5", -1, NULL);
    const hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    for (int i = 0; i < 500; i++) {
        char name[64];
        snprintf(name, sizeof name, "another group, number %d", i);
        H5Gclose(H5Gcreate2(file, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        if (i % 3 == 0) assert_true(H5Ldelete(file, name, H5P_DEFAULT) >= 0);
    }
    assert_true(H5Fclose(file) >= 0);
    const int classes = 5;
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "other%d", i);
        add_attribute(path, name, 0, &classes);
    }
    expect_set(path, 1);
}

/* Damage that HDF5 1.10 would follow without end, all memory or all of the stack included. */
static void refuses_circles(void **state) {
    (void)state;
    size_t n;
    unsigned char *bytes = scratch_read(make_foreign("circle.h5", -1, NULL), &n);
    const char *path = scratch("circle.h5");
    unsigned char *heap = memmem(bytes, n, "HEAP", 4), *tree = memmem(bytes, n, "TREE", 4);
    assert_true(heap != NULL && tree != NULL);
    unsigned char kept[32];
    /* The free list of the heap: the block at 16 names itself as the next. */
    memcpy(kept, heap + 16, 8);
    uint64_t data;
    memcpy(&data, heap + 24, 8);
    const uint64_t at = 16;
    memcpy(heap + 16, &at, 8);
    unsigned char *block = bytes + data + at;
    unsigned char kept_block[8];
    memcpy(kept_block, block, 8);
    memcpy(block, &at, 8);
    scratch_write(path, bytes, n);
    expect_refused(path, MND_FORMAT, "its table of names");
    memcpy(heap + 16, kept, 8);
    memcpy(block, kept_block, 8);
    /* A tree node that is its own child, then one whose child is on its own level. */
    memcpy(kept, tree, sizeof kept);
    const uint64_t self = (uint64_t)(tree - bytes);
    tree[5] = 1;
    memcpy(tree + 32, &self, 8);
    scratch_write(path, bytes, n);
    expect_refused(path, MND_FORMAT, "its tree of names");
    tree[5] = 200;
    scratch_write(path, bytes, n);
    expect_refused(path, MND_FORMAT, "its tree of names");
    free(bytes);
}

static void refuses_unfit_arrays(void **state) {
    (void)state;
    static const struct {
        int odd;
        array with;
        const char *words;
    } unfit[] = {
        {0, {.kind = ABSENT}, "holds no /x_train"},
        {3, {.kind = ABSENT}, "holds no /y_test"},
        {1, {.kind = SOFT_LINK}, "/y_train is a link"},
        {2, {.kind = GROUP}, "/x_test is damaged or no data set"},
        {0, {3, {TRAIN, HEIGHT, WIDTH}, 0, CHUNKED}, "/x_train is stored in chunks"},
        {1, {1, {TRAIN}, 0, COMPACT}, "/y_train is stored in chunks"},
        {0, {3, {TRAIN, HEIGHT, WIDTH}, 0, EXTERNAL}, "outside the file"},
        {0, {3, {TRAIN, HEIGHT, WIDTH}, 0, UNALLOCATED}, "/x_train needs 144 bytes"},
        {0, {3, {INT32_MAX, 32768, 32768}, 0, UNALLOCATED}, "/x_train needs"},
        {0, {4, {INT32_MAX, INT32_MAX, INT32_MAX, 1}, 0, UNALLOCATED}, "overflow"},
        {0, {3, {(hsize_t)1 << 31, 1, 1}, 0, UNALLOCATED}, "dimension 0 of /x_train is 2147483648"},
        {2, {3, {TEST, 0, WIDTH}, 0, PLAIN}, "dimension 1 of /x_test is 0"},
        {0, {2, {TRAIN, SIZE}, 0, PLAIN}, "/x_train has 2 dimensions"},
        {1, {2, {TRAIN, 1}, 0, PLAIN}, "/y_train has 2 dimensions"},
        {1, {1, {TRAIN - 1}, 0, PLAIN}, "12 images in /x_train but 11 labels in /y_train"},
        {2, {3, {TEST, WIDTH, HEIGHT}, 0, PLAIN}, "training images are 4 x 3 x 1, test images 3 x"},
    };
    for (size_t i = 0; i < sizeof unfit / sizeof unfit[0]; i++)
        expect_refused(make_foreign("unfit.h5", unfit[i].odd, &unfit[i].with), MND_FORMAT,
                       unfit[i].words);
    const hid_t type[] = {H5T_STD_I8LE, H5T_STD_U16LE, H5T_STD_I64LE, H5T_IEEE_F32LE};
    for (size_t i = 0; i < sizeof type / sizeof type[0]; i++)
        expect_refused(
            make_foreign("unfit.h5", 1, &(array){.ndim = 1, .dim = {TRAIN}, .type = type[i]}),
            MND_FORMAT, "/y_train is not of type uint8");
}

static void refuses_unfit_attributes(void **state) {
    (void)state;
    static const int none = -1, many = 257, five = 5, three = 3;
    static const char text[4][8] = {"one", "two", "three", "four"};
    static const struct {
        const char *name;
        int n;
        const void *value;
        const char *words;
    } unfit[] = {
        {"format", 1, text, "its format is 'one'"},
        {"format", 2, text, "attribute 'format' holds 2 texts"},
        {"format", 0, &five, "attribute 'format' holds no text"},
        {"classes", 0, &none, "attribute 'classes' is -1"},
        {"classes", 0, &many, "attribute 'classes' is 257"},
        {"classes", 1, text, "attribute 'classes' is not a whole number"},
        {"class_names", 4, text, "4 class names for 5 classes"},
        {"data_sha256", 1, text, "attribute 'data_sha256' is no SHA-256"},
    };
    for (size_t i = 0; i < sizeof unfit / sizeof unfit[0]; i++) {
        const char *path = make_foreign("unfit.h5", -1, NULL);
        add_attribute(path, unfit[i].name, unfit[i].n, unfit[i].value);
        expect_refused(path, MND_FORMAT, unfit[i].words);
    }
    /* Fewer classes than labels: found when the labels are read, with the row. */
    const char *path = make_foreign("few.h5", -1, NULL);
    add_attribute(path, "classes", 0, &three);
    mnd_dataset *data = NULL;
    uint8_t labels[TRAIN];
    assert_int_equal(mnd_dataset_open(path, &data), MND_OK);
    assert_int_equal(mnd_dataset_read(data, MND_TRAIN, 0, 3, NULL, labels), MND_OK);
    assert_int_equal(mnd_dataset_read(data, MND_TRAIN, 2, 3, NULL, labels), MND_FORMAT);
    assert_non_null(strstr(mnd_error(), "label 3 of /y_train is 3, but there are only 3 classes"));
    mnd_dataset_close(&data);
}

static void refuses_other_files(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *words;
    } other[] = {
        {"", 0, "is empty"},
        {"\x1f\x8b\x08\0", 4, "is a gzip file"},
        {"\0\0\x08\x03\0\0\0\x01", 8, "is an IDX file"},
        {"PK\3\4 and so on", 13, "is a zip or npz file"},
        {"some text", 9, "is not an HDF5 file"},
        {"\x89HDF\r\n\x1a\n", 8, "damaged or truncated"},
    };
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
        scratch_write(scratch("other"), other[i].bytes, other[i].n);
        expect_refused(scratch("other"), MND_FORMAT, other[i].words);
    }
    expect_refused(scratch("missing.h5"), MND_NOT_FOUND, "data/fetch.sh");
    expect_refused(scratch_folder, MND_FORMAT, "is a folder");
    assert_int_equal(mkfifo(scratch("fifo"), 0666), 0);
    expect_refused(scratch("fifo"), MND_FORMAT, "not a regular file");
}

/* HDF5 would go on with zeros. */
static void notices_a_file_cut_while_open(void **state) {
    (void)state;
    write_set(scratch("cut.h5"), 1, TRAIN);
    mnd_dataset *data = NULL;
    uint8_t labels[TRAIN];
    assert_int_equal(mnd_dataset_open(scratch("cut.h5"), &data), MND_OK);
    assert_int_equal(truncate(scratch("cut.h5"), 100), 0);
    assert_int_equal(mnd_dataset_read(data, MND_TRAIN, 0, TRAIN, NULL, labels), MND_IO);
    assert_non_null(strstr(mnd_error(), "became shorter"));
    mnd_dataset_close(&data);
}

/* --- damage --- */

/* Opens and reads everything. What opens must have sizes that the file can back. */
static int survive(const char *path, size_t file_size) {
    mnd_dataset *data = NULL;
    const mnd_status status = mnd_dataset_open(path, &data);
    if (status != MND_OK) {
        assert_null(data);
        assert_true(status == MND_FORMAT || status == MND_IO);
        assert_int_equal(strncmp(mnd_error(), path, strlen(path)), 0);
        return 0;
    }
    const mnd_dataset_info *info = mnd_dataset_about(data);
    assert_in_range(info->classes, 1, MND_MAX_CLASSES);
    for (int i = 0; i < info->classes; i++)
        assert_non_null(memchr(info->class_name[i], '\0', MND_CLASS_NAME));
    for (int s = 0; s < 2; s++) {
        const size_t n = (size_t)info->count[s];
        const size_t size = (size_t)info->height * (size_t)info->width * (size_t)info->channels;
        assert_in_range(n, 1, file_size);
        assert_in_range(n * size, 1, file_size);
        uint8_t *images = malloc(n * size), *labels = malloc(n);
        assert_true(images != NULL && labels != NULL);
        const mnd_status got = mnd_dataset_read(data, (mnd_split)s, 0, (int64_t)n, images, labels);
        assert_true(got == MND_OK || got == MND_FORMAT || got == MND_IO);
        for (size_t i = 0; got == MND_OK && i < n; i++) assert_true(labels[i] < info->classes);
        free(images);
        free(labels);
    }
    const mnd_status verified = mnd_dataset_verify(data);
    assert_true(verified == MND_OK || verified == MND_FORMAT || verified == MND_IO);
    const int same = info->data_sha256[0] != '\0' && verified == MND_OK;
    mnd_dataset_close(&data);
    return same ? 2 : 1;
}

/* Kilobytes. */
static long peak_memory(void) {
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return usage.ru_maxrss;
}

static void damage(const char *path, int is_ours) {
    size_t n;
    unsigned char *whole = scratch_read(path, &n), *bytes = malloc(n);
    assert_non_null(bytes);
    const char *damaged = scratch("damaged.h5");
    const char *wish = getenv("MND_MUTATIONS");
    const long usual = getenv("MND_LONG") != NULL ? 100000 : 400;
    const long rounds = wish != NULL && atol(wish) > 0 ? atol(wish) : usual;
    int opened = 0;
    /* Cut anywhere, about 60 places: nothing that lacks its end may open. */
    for (size_t length = 0; length < n; length += 1 + n / 60) {
        scratch_write(damaged, whole, length);
        assert_int_equal(survive(damaged, length), 0);
    }
    /* A few bytes changed, more often than not among the structures at the start. */
    for (long round = 0; round < rounds; round++) {
        mnd_rng rng;
        mnd_rng_start(&rng, (uint64_t)round, MND_RNG_TEST, (uint32_t)is_ours, 0);
        memcpy(bytes, whole, n);
        const int changes = 1 + (int)(mnd_rng_u32(&rng) % 4);
        for (int i = 0; i < changes; i++) {
            const size_t near = n > 2400 ? 2400 : n;
            const size_t at = mnd_rng_u32(&rng) % (mnd_rng_u32(&rng) % 4 != 0 ? near : n);
            static const uint8_t edge[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
            switch (mnd_rng_u32(&rng) % 3) {
            case 0: bytes[at] ^= (uint8_t)(1u << mnd_rng_u32(&rng) % 8); break;
            case 1: bytes[at] = edge[mnd_rng_u32(&rng) % sizeof edge]; break;
            default: bytes[at] = (uint8_t)mnd_rng_u32(&rng); break;
            }
        }
        scratch_write(damaged, bytes, n);
        const long before = peak_memory();
        opened += survive(damaged, n) != 0;
        assert_in_range(peak_memory() - before, 0, 64 * 1024);
    }
    /* Both outcomes were met: otherwise this test tests nothing. */
    assert_true(opened > 0 && opened < rounds);
    free(whole);
    free(bytes);
}

static void survives_damage_to_its_own_files(void **state) {
    (void)state;
    write_set(scratch("own.h5"), 1, TRAIN);
    damage(scratch("own.h5"), 1);
}

static void survives_damage_to_foreign_files(void **state) {
    (void)state;
    const char *path = make_foreign("foreign.h5", -1, NULL);
    static const char names[5][8] = {"a", "b", "c", "d", "e"};
    static const int classes = 5;
    const char *word = "of variable length";
    add_attribute(path, "class_names", 5, names);
    add_attribute(path, "classes", 0, &classes);
    add_attribute(path, "source", -1, &word);
    damage(path, 0);
}

/* In a file of our own format a flipped bit is found unless nobody uses it. */
static void finds_every_flipped_bit(void **state) {
    (void)state;
    write_set(scratch("own.h5"), 1, TRAIN);
    size_t n;
    unsigned char *bytes = scratch_read(scratch("own.h5"), &n);
    mnd_dataset *data = NULL;
    assert_int_equal(mnd_dataset_open(scratch("own.h5"), &data), MND_OK);
    const mnd_dataset_info before = *mnd_dataset_about(data);
    mnd_dataset_close(&data);
    const char *path = scratch("flipped.h5");
    const size_t step = getenv("MND_LONG") != NULL ? 1 : 5;
    for (size_t at = 0; at < n; at += step) {
        bytes[at] ^= (unsigned char)(1u << at % 8);
        scratch_write(path, bytes, n);
        if (survive(path, n) == 2) {
            /* Padding, then: nothing that counts may have changed. */
            assert_int_equal(mnd_dataset_open(path, &data), MND_OK);
            assert_memory_equal(mnd_dataset_about(data), &before, sizeof before);
            mnd_dataset_close(&data);
        }
        bytes[at] ^= (unsigned char)(1u << at % 8);
    }
    free(bytes);
}

int main(void) {
    /* Should HDF5 ever eat all memory, then not that of the whole machine. Sanitizers reserve more.
     */
    const struct rlimit most = {.rlim_cur = (rlim_t)4 << 30, .rlim_max = (rlim_t)4 << 30};
    if (getenv("MND_SANITIZE") == NULL && setrlimit(RLIMIT_DATA, &most) != 0) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_and_reads),
        cmocka_unit_test(checksum_covers_the_four_arrays),
        cmocka_unit_test(writer_refuses_what_does_not_fit),
        cmocka_unit_test(takes_files_of_other_programs),
        cmocka_unit_test(takes_every_format_of_hdf5),
        cmocka_unit_test(refuses_circles),
        cmocka_unit_test(refuses_unfit_arrays),
        cmocka_unit_test(refuses_unfit_attributes),
        cmocka_unit_test(refuses_other_files),
        cmocka_unit_test(notices_a_file_cut_while_open),
        cmocka_unit_test(survives_damage_to_its_own_files),
        cmocka_unit_test(survives_damage_to_foreign_files),
        cmocka_unit_test(finds_every_flipped_bit),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
