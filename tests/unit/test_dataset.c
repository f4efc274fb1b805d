/* src/io/dataset.c: what is written is read back, and whatever does not fit is refused. */
#include "test.h"

#include "dataset_sample.h"

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
                                   {12, 0, 4, 3, 5},    {12, 5, 0, 3, 5},   {12, 5, 4, 0, 5},
                                   {12, 5, 4, 3, 0},    {12, 5, 4, 3, 257}, {-1, 5, 4, 3, 5},
                                   {12, 5, 40000, 3, 5}};
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
    /* A file larger than any disk is refused before anything is written. */
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
    /* After a failed append, every further append and the end fail. */
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
    /* What a signal handler does before it ends the process. */
    mnd_dataset_writer_unlink();
    assert_int_equal(mnd_dataset_writer_create(path, &info, &writer), MND_OK);
    assert_int_equal(scratch_entries(scratch("writer")), 1);
    mnd_dataset_writer_unlink();
    assert_int_equal(scratch_entries(scratch("writer")), 0);
    mnd_dataset_writer_abort(&writer);
    mnd_dataset_writer_unlink();
    assert_int_equal(scratch_entries(scratch("writer")), 0);
}

/* --- files by other programs --- */

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
    /* Control characters are replaced, and texts that do not fit are cut. */
    static const char names[5][8] = {
        "a", "\033[31mb", "c", {'1', '2', '3', '4', '5', '6', '7', '8'}, "e"};
    add_attribute(path, "class_names", 5, names);
    const char *word = "of variable length";
    add_attribute(path, "source", -1, &word);
    assert_int_equal(mnd_dataset_open(path, &data), MND_OK);
    assert_string_equal(mnd_dataset_about(data)->class_name[1], "?[31mb");
    assert_string_equal(mnd_dataset_about(data)->class_name[3], "12345678");
    assert_string_equal(mnd_dataset_about(data)->source, "of variable length");
    mnd_dataset_close(&data);
    /* The byte order of uint8 does not matter. */
    path = make_foreign("be.h5", 0,
                        &(array){.ndim = 3, .dim = {TRAIN, HEIGHT, WIDTH}, .type = H5T_STD_U8BE});
    expect_set(path, 1);
}

/* Where class names of variable length are stored there is no checksum: a damaged heap is refused.
 */
static void takes_names_of_variable_length(void **state) {
    (void)state;
    const char *path = make_foreign("variable.h5", -1, NULL);
    const hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    const hsize_t n = 5;
    const hid_t space = H5Screate_simple(1, &n, NULL);
    const hid_t attribute = H5Acreate2(file, "class_names", type, space, H5P_DEFAULT, H5P_DEFAULT);
    const char *name[5] = {"a", "", "the third one", "d", "a name that is longer than the limit"};
    assert_true(attribute >= 0 && H5Awrite(attribute, type, name) >= 0);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
    assert_true(H5Fclose(file) >= 0);
    mnd_dataset *data = NULL;
    assert_int_equal(mnd_dataset_open(path, &data), MND_OK);
    assert_string_equal(mnd_dataset_about(data)->class_name[1], "");
    assert_string_equal(mnd_dataset_about(data)->class_name[2], "the third one");
    assert_string_equal(mnd_dataset_about(data)->class_name[4], "a name that is longer than the ");
    /* More classes for a network of seven; not fewer. */
    assert_int_equal(mnd_dataset_widen(data, 4), MND_MISMATCH);
    assert_int_equal(mnd_dataset_widen(data, 7), MND_OK);
    assert_int_equal(mnd_dataset_about(data)->classes, 7);
    assert_string_equal(mnd_dataset_about(data)->class_name[6], "6");
    mnd_dataset_close(&data);
    size_t size;
    unsigned char *bytes = scratch_read(path, &size);
    unsigned char *heap = memmem(bytes, size, "GCOL", 4);
    assert_non_null(heap);
    static const int at[] = {0, 16, 24, 31}; /* signature, number and size of the first object */
    for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
        heap[at[i]] ^= 0xff;
        scratch_write(path, bytes, size);
        expect_refused(path, MND_FORMAT, "attribute 'class_names' is damaged");
        heap[at[i]] ^= 0xff;
    }
    free(bytes);
}

/* All versions of HDF5's superblock, and both formats of groups. */
static void takes_every_format_of_hdf5(void **state) {
    (void)state;
    const hid_t fcpl = H5Pcreate(H5P_FILE_CREATE), fapl = H5Pcreate(H5P_FILE_ACCESS);
    assert_true(H5Pset_istore_k(fcpl, 64) >= 0); /* superblock 1 */
    expect_set(make_file("v1.h5", fcpl, fapl, -1, NULL), 1);
    assert_true(H5Pset_userblock(fcpl, 2048) >= 0);
    expect_set(make_file("userblock.h5", fcpl, fapl, -1, NULL), 1);
    H5Pclose(fcpl);
    /* Superblock 2 with groups in the old format. */
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
    /* Hundreds of other objects beside the four, so that the tree has several levels and the heap
     * several blocks. */
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
    /* Fewer classes than labels use: the error names the row when the labels are read. */
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

int main(void) {
    if (limit_memory() != 0) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_and_reads),
        cmocka_unit_test(checksum_covers_the_four_arrays),
        cmocka_unit_test(writer_refuses_what_does_not_fit),
        cmocka_unit_test(takes_files_of_other_programs),
        cmocka_unit_test(takes_names_of_variable_length),
        cmocka_unit_test(takes_every_format_of_hdf5),
        cmocka_unit_test(refuses_unfit_arrays),
        cmocka_unit_test(refuses_unfit_attributes),
        cmocka_unit_test(refuses_other_files),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
