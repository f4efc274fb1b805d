/* src/io/convert*.c: names of files and classes, refused input, and no unfinished files. */
#include "test.h"

#include <zlib.h>

#include "mnist_dist/convert.h"
#include "mnist_dist/dataset.h"
#include "scratch.h"

enum { HEIGHT = 4, WIDTH = 3, SIZE = HEIGHT * WIDTH, TRAIN = 7, TEST = 5, CLASSES = 6 };

static const mnd_convert_options as_is = {.as_is = true}, transpose = {.transpose = true};

/* One IDX file of a small data set; labels repeat 0 .. CLASSES-1, pixels count up. */
static size_t make_idx(uint8_t *out, int images, int count) {
    size_t n = 0;
    const int dim[3] = {count, HEIGHT, WIDTH};
    const int ndim = images ? 3 : 1;
    out[n++] = 0;
    out[n++] = 0;
    out[n++] = 8;
    out[n++] = (uint8_t)ndim;
    for (int i = 0; i < ndim; i++) {
        out[n++] = 0;
        out[n++] = 0;
        out[n++] = 0;
        out[n++] = (uint8_t)dim[i];
    }
    for (int i = 0; i < count * (images ? SIZE : 1); i++)
        out[n++] = (uint8_t)(images ? i + count : i % CLASSES);
    return n;
}

static void put(const char *folder, const char *name, int images, int count) {
    char path[600];
    uint8_t bytes[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    const size_t n = make_idx(bytes, images, count);
    const size_t length = strlen(name);
    if (length > 3 && strcmp(name + length - 3, ".gz") == 0) {
        gzFile f = gzopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(gzwrite(f, bytes, (unsigned)n), n);
        assert_int_equal(gzclose(f), Z_OK);
    } else {
        scratch_write(path, bytes, n);
    }
}

/* A new folder with the four files under these names. */
static const char *make_folder(const char *name, const char *const file[4]) {
    scratch_mkdir(name);
    const char *folder = scratch(name);
    put(folder, file[0], 1, TRAIN);
    put(folder, file[1], 0, TRAIN);
    put(folder, file[2], 1, TEST);
    put(folder, file[3], 0, TEST);
    return folder;
}

static const char *const usual[4] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                     "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};

static void remember(void *context, int64_t done, int64_t total) {
    int64_t *last = context;
    assert_true(done > last[0] && done <= total);
    last[0] = done;
    last[1] = total;
}

/* Converts and compares every value. */
static void expect_converted(const char *folder) {
    const char *target = scratch("target.h5");
    int64_t last[2] = {0, 0};
    const mnd_status status = mnd_convert(folder, target, &as_is, NULL, remember, last);
    if (status != MND_OK) fail_msg("%s", mnd_error());
    assert_int_equal(last[0], TRAIN + TEST);
    assert_int_equal(last[1], TRAIN + TEST);
    mnd_dataset *data = NULL;
    assert_int_equal(mnd_dataset_open(target, &data), MND_OK);
    const mnd_dataset_info *info = mnd_dataset_about(data);
    assert_int_equal(info->count[MND_TRAIN], TRAIN);
    assert_int_equal(info->count[MND_TEST], TEST);
    assert_int_equal(info->height, HEIGHT);
    assert_int_equal(info->width, WIDTH);
    assert_int_equal(info->channels, 1);
    for (int s = 0; s < 2; s++) {
        const int count = s == 0 ? TRAIN : TEST;
        uint8_t images[TRAIN * SIZE], labels[TRAIN];
        assert_int_equal(mnd_dataset_read(data, (mnd_split)s, 0, count, images, labels), MND_OK);
        for (int i = 0; i < count * SIZE; i++) assert_int_equal(images[i], i + count);
        for (int i = 0; i < count; i++) assert_int_equal(labels[i], i % CLASSES);
    }
    assert_int_equal(mnd_dataset_verify(data), MND_OK);
    mnd_dataset_close(&data);
}

static void expect_name(int label, const char *name) {
    mnd_dataset *data = NULL;
    assert_int_equal(mnd_dataset_open(scratch("target.h5"), &data), MND_OK);
    assert_string_equal(mnd_dataset_about(data)->class_name[label], name);
    mnd_dataset_close(&data);
}

static void expect_refused(const char *folder, mnd_status expected, const char *words) {
    const int before = scratch_entries(scratch_folder);
    const mnd_status status = mnd_convert(folder, scratch("refused.h5"), NULL, NULL, NULL, NULL);
    if (status != expected || strstr(mnd_error(), words) == NULL)
        fail_msg("%s: '%s' does not contain '%s'", mnd_status_name(status), mnd_error(), words);
    assert_int_equal(access(scratch("refused.h5"), F_OK), -1);
    assert_int_equal(scratch_entries(scratch_folder), before);
}

static void accepts_every_usual_name(void **state) {
    (void)state;
    static const char *const names[][4] = {
        {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
         "t10k-labels-idx1-ubyte"},
        {"train-images.idx3-ubyte", "train-labels.idx1-ubyte.gz", "t10k-images.idx3-ubyte.gz",
         "t10k-labels.idx1-ubyte"},
        {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "test-images-idx3-ubyte.gz",
         "test-labels-idx1-ubyte.gz"},
        {"emnist-letters-train-images-idx3-ubyte.gz", "emnist-letters-train-labels-idx1-ubyte",
         "emnist-letters-test-images-idx3-ubyte", "emnist-letters-test-labels-idx1-ubyte"},
    };
    for (int i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "names%d", i);
        expect_converted(make_folder(name, names[i]));
        expect_name(CLASSES - 1, "5");
    }
    /* A name without prefix is preferred to one with, and raw to gzip. */
    const char *folder = make_folder("both", usual);
    put(folder, "other-train-images-idx3-ubyte", 1, 1);
    put(folder, "train-images-idx3-ubyte.gz", 1, 1);
    put(folder, "retrain-images-idx3-ubyte", 1, 1);
    put(folder, "train-images-idx9-ubyte", 1, 1);
    expect_converted(folder);
}

static void same_input_same_bytes(void **state) {
    (void)state;
    size_t n[2];
    unsigned char *bytes[2];
    for (int i = 0; i < 2; i++) {
        scratch_mkdir(i == 0 ? "here" : "there");
        char name[32];
        snprintf(name, sizeof name, "%s/same", i == 0 ? "here" : "there");
        expect_converted(make_folder(name, usual));
        bytes[i] = scratch_read(scratch("target.h5"), &n[i]);
        if (i == 0) sleep(1); /* so that time stamps, in seconds, would differ */
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(bytes[0], bytes[1], n[0]);
    free(bytes[0]);
    free(bytes[1]);
}

static void names_classes(void **state) {
    (void)state;
    static const char *const emnist[4] = {
        "emnist-x-train-images-idx3-ubyte", "emnist-x-train-labels-idx1-ubyte",
        "emnist-x-test-images-idx3-ubyte", "emnist-x-test-labels-idx1-ubyte"};
    const char *folder = make_folder("emnist", emnist);
    char path[600];
    snprintf(path, sizeof path, "%s/emnist-x-mapping.txt", folder);
    scratch_text(path, "1 65 97\n2 66 98\n5 27\n99 67\nnonsense\n");
    expect_converted(folder);
    expect_name(0, "0");
    expect_name(1, "Aa");
    expect_name(2, "Bb");
    expect_name(5, "?");
    /* class-names.txt takes precedence and may name classes without images. */
    snprintf(path, sizeof path, "%s/class-names.txt", folder);
    scratch_text(path, "a\nb b\nc\r\nd\ne\nf\ng\n");
    expect_converted(folder);
    expect_name(1, "b b");
    expect_name(2, "c");
    expect_name(6, "g");
    scratch_text(path, "a\nb\n");
    expect_refused(folder, MND_FORMAT, "names 2 classes, but the labels go up to 5");
    /* A byte-order mark, CR LF, a gap and empty lines at the end. */
    scratch_text(path, "\xef\xbb\xbf"
                       "a\r\n\r\nc\r\nd\r\ne\r\nf\r\n\r\n\r\n");
    expect_converted(folder);
    expect_name(0, "a");
    expect_name(1, "1");
    expect_name(5, "f");
    scratch_text(path, "\xff\xfe"
                       "a");
    expect_refused(folder, MND_FORMAT, "is encoded as UTF-16; save it as UTF-8");
    scratch_text(path, "\n");
    expect_refused(folder, MND_FORMAT, "is empty");
    scratch_text(path, "a name that is much longer than the limit of 31 bytes\n");
    expect_refused(folder, MND_FORMAT, "line 1 is too long");
    /* With ten classes and such a folder name the class names are those of Fashion-MNIST. */
    folder = make_folder("my-Fashion-set", usual);
    expect_converted(folder);
    expect_name(5, "5");
    snprintf(path, sizeof path, "%s/train-labels-idx1-ubyte", folder);
    uint8_t labels[64];
    const size_t n = make_idx(labels, 0, TRAIN);
    labels[n - 1] = 9;
    scratch_write(path, labels, n);
    assert_int_equal(mnd_convert(folder, scratch("target.h5"), NULL, NULL, NULL, NULL), MND_OK);
    expect_name(9, "Ankle boot");
}

static void refuses_wrong_folders(void **state) {
    (void)state;
    expect_refused(scratch("nowhere"), MND_NOT_FOUND, "No such file");
    scratch_mkdir("empty");
    expect_refused(scratch("empty"), MND_NOT_FOUND, "holds no train-images-idx3-ubyte");
    const char *folder = make_folder("three", usual);
    char path[600];
    snprintf(path, sizeof path, "%s/t10k-labels-idx1-ubyte", folder);
    expect_refused(path, MND_IO, "give the folder");
    assert_int_equal(unlink(path), 0);
    expect_refused(folder, MND_NOT_FOUND, "holds no t10k-labels-idx1-ubyte");
    put(folder, "a-test-labels-idx1-ubyte", 0, TEST);
    put(folder, "b-test-labels-idx1-ubyte", 0, TEST);
    expect_refused(folder, MND_FORMAT,
                   "both a-test-labels-idx1-ubyte and b-test-labels-idx1-ubyte fit");
}

static void refuses_files_that_do_not_fit(void **state) {
    (void)state;
    const char *folder = make_folder("unfit", usual);
    put(folder, usual[0], 0, TRAIN);
    expect_refused(folder, MND_FORMAT, "holds labels (1 dimension), not images");
    put(folder, usual[0], 1, TRAIN);
    put(folder, usual[1], 1, TRAIN);
    expect_refused(folder, MND_FORMAT, "holds images (3 dimensions), not labels");
    put(folder, usual[1], 0, TRAIN - 1);
    expect_refused(folder, MND_FORMAT, "has 7 images but train-labels-idx1-ubyte has 6 labels");
    put(folder, usual[1], 0, TRAIN);
    char path[600];
    uint8_t bytes[256];
    size_t n = make_idx(bytes, 1, TEST);
    bytes[11] = WIDTH;
    bytes[15] = HEIGHT;
    snprintf(path, sizeof path, "%s/%s", folder, usual[2]);
    scratch_write(path, bytes, n);
    expect_refused(folder, MND_FORMAT, "training images are 4 x 3, test images 3 x 4");
    n = make_idx(bytes, 1, TEST);
    scratch_write(path, bytes, n - 1);
    expect_refused(folder, MND_FORMAT, "truncated");
    bytes[3] = 2; /* (count, height) */
    bytes[7] = SIZE;
    bytes[11] = TEST;
    scratch_write(path, bytes, 12 + TEST * SIZE);
    expect_refused(folder, MND_FORMAT, "has 2 dimensions instead of 3");
    /* An image larger than the limit, in a file of the right length. */
    static const uint8_t huge[] = {0, 0, 8, 3, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 8, 0};
    scratch_write(path, huge, sizeof huge);
    assert_int_equal(truncate(path, sizeof huge + 65536 * 2048), 0);
    expect_refused(folder, MND_FORMAT, "images of 65536 x 2048 x 1 are too large");
}

static void transposes_images(void **state) {
    (void)state;
    const char *folder = make_folder("sideways", usual);
    assert_int_equal(mnd_convert(folder, scratch("target.h5"), &transpose, NULL, NULL, NULL),
                     MND_OK);
    mnd_dataset *data = NULL;
    assert_int_equal(mnd_dataset_open(scratch("target.h5"), &data), MND_OK);
    assert_int_equal(mnd_dataset_about(data)->height, WIDTH);
    assert_int_equal(mnd_dataset_about(data)->width, HEIGHT);
    uint8_t images[TRAIN * SIZE];
    assert_int_equal(mnd_dataset_read(data, MND_TRAIN, 0, TRAIN, images, NULL), MND_OK);
    for (int n = 0; n < TRAIN; n++)
        for (int i = 0; i < HEIGHT; i++)
            for (int j = 0; j < WIDTH; j++)
                assert_int_equal(images[n * SIZE + j * HEIGHT + i],
                                 n * SIZE + i * WIDTH + j + TRAIN);
    mnd_dataset_close(&data);
}

/* A target is replaced completely or not at all. */
static void keeps_the_old_target(void **state) {
    (void)state;
    const char *folder = make_folder("source", usual);
    scratch_mkdir("out");
    const char *out = scratch("out");
    const char *target = scratch("out/target.h5");
    assert_int_equal(mnd_convert(folder, target, NULL, NULL, NULL, NULL), MND_OK);
    assert_int_equal(scratch_entries(out), 1);
    size_t n, again;
    unsigned char *before = scratch_read(target, &n);
    /* The damage is in the last byte, found when everything else has been written. */
    char path[600];
    uint8_t bytes[256], packed[256];
    snprintf(path, sizeof path, "%s/%s", folder, usual[2]);
    const size_t size = make_idx(bytes, 1, TEST);
    uLongf capacity = sizeof packed;
    z_stream z = {
        .next_in = bytes, .avail_in = (uInt)size, .next_out = packed, .avail_out = (uInt)capacity};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    packed[sizeof packed - z.avail_out - 1] ^= 1; /* the length stored by gzip */
    scratch_write(path, packed, sizeof packed - z.avail_out);
    assert_int_equal(mnd_convert(folder, target, NULL, NULL, NULL, NULL), MND_FORMAT);
    assert_non_null(strstr(mnd_error(), "gzip data is damaged"));
    assert_int_equal(scratch_entries(out), 1);
    unsigned char *after = scratch_read(target, &again);
    assert_int_equal(n, again);
    assert_memory_equal(before, after, n);
    free(before);
    free(after);
    /* Targets that cannot be written. */
    put(folder, usual[2], 1, TEST);
    assert_int_equal(mnd_convert(folder, out, NULL, NULL, NULL, NULL), MND_IO);
    assert_non_null(strstr(mnd_error(), "is a folder"));
    char below[600]; /* a file where a folder is needed */
    snprintf(below, sizeof below, "%s/target.h5", target);
    assert_int_equal(mnd_convert(folder, below, NULL, NULL, NULL, NULL), MND_IO);
    assert_non_null(strstr(mnd_error(), "cannot create the folder"));
    assert_int_equal(mnd_convert(folder, "/proc/target.h5", NULL, NULL, NULL, NULL), MND_IO);
    assert_int_equal(scratch_entries(out), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_every_usual_name),
        cmocka_unit_test(same_input_same_bytes),
        cmocka_unit_test(names_classes),
        cmocka_unit_test(refuses_wrong_folders),
        cmocka_unit_test(refuses_files_that_do_not_fit),
        cmocka_unit_test(transposes_images),
        cmocka_unit_test(keeps_the_old_target),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
