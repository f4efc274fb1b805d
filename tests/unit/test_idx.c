/* src/io/idx.c: errors in any byte of a header, in the length of a file or in a gzip stream. */
#include "test.h"

#include <zlib.h>

#include "mnist_dist/idx.h"
#include "mnist_dist/sha256.h"
#include "scratch.h"

/* 2 images of 2 x 3. */
static const uint8_t plain[] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2,  0,  0,
                                0, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
enum { HEADER = 16, ELEMENTS = 12, N_PLAIN = sizeof plain };

static size_t pack(const uint8_t *in, size_t n, uint8_t *out, size_t capacity) {
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in, .avail_in = (uInt)n};
    z.next_out = out;
    z.avail_out = (uInt)capacity;
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    const size_t size = capacity - z.avail_out;
    deflateEnd(&z);
    return size;
}

/* Opens a file, reads all of it, `piece` bytes at a time, and expects the end. */
static mnd_status read_all(const char *path, uint8_t *out, size_t capacity, size_t piece) {
    mnd_idx *idx = NULL;
    mnd_status status = mnd_idx_open(path, &idx);
    if (status != MND_OK) {
        assert_null(idx);
        return status;
    }
    size_t left = 1;
    for (int i = 0; i < mnd_idx_ndim(idx); i++) left *= (size_t)mnd_idx_dim(idx, i);
    if (left > capacity) {
        mnd_idx_close(&idx);
        return MND_RANGE;
    }
    while (status == MND_OK && left > 0) {
        const size_t n = left < piece ? left : piece;
        status = mnd_idx_read(idx, out, n);
        out += n;
        left -= n;
    }
    if (status == MND_OK) status = mnd_idx_expect_end(idx);
    mnd_idx_close(&idx);
    assert_null(idx);
    return status;
}

/* A file of these bytes is refused, with an error line that contains its name and `words`. */
static void expect_refused(const uint8_t *bytes, size_t n, const char *words) {
    const char *path = scratch("refused");
    uint8_t out[256];
    scratch_write(path, bytes, n);
    assert_int_equal(read_all(path, out, sizeof out, 5), MND_FORMAT);
    if (strncmp(mnd_error(), path, strlen(path)) != 0 || strstr(mnd_error(), words) == NULL)
        fail_msg("'%s' does not contain '%s'", mnd_error(), words);
}

static void reads_raw_and_gzip(void **state) {
    (void)state;
    uint8_t packed[256], twice[512], out[ELEMENTS];
    const size_t n = pack(plain, N_PLAIN, packed, sizeof packed);
    char expected[MND_SHA256_HEX];
    assert_int_equal(mnd_sha256_buffer(plain, N_PLAIN, expected), MND_OK);
    scratch_write(scratch("raw"), plain, N_PLAIN);
    scratch_write(scratch("gz"), packed, n);
    /* Two gzip members, divided inside the IDX header, are one stream. */
    size_t n2 = pack(plain, 7, twice, sizeof twice);
    n2 += pack(plain + 7, N_PLAIN - 7, twice + n2, sizeof twice - n2);
    scratch_write(scratch("two"), twice, n2);
    static const char *const name[] = {"raw", "gz", "two"};
    for (int i = 0; i < 3; i++)
        for (size_t piece = 1; piece <= ELEMENTS; piece++) {
            memset(out, 0, sizeof out);
            assert_int_equal(read_all(scratch(name[i]), out, sizeof out, piece), MND_OK);
            assert_memory_equal(out, plain + HEADER, ELEMENTS);
        }
    for (int i = 0; i < 3; i++) {
        mnd_idx *idx = NULL;
        assert_int_equal(mnd_idx_open(scratch(name[i]), &idx), MND_OK);
        assert_int_equal(mnd_idx_ndim(idx), 3);
        assert_int_equal(mnd_idx_dim(idx, 0), 2);
        assert_int_equal(mnd_idx_dim(idx, 1), 2);
        assert_int_equal(mnd_idx_dim(idx, 2), 3);
        assert_int_equal(mnd_idx_dim(idx, 3), 0);
        assert_int_equal(mnd_idx_dim(idx, -1), 0);
        assert_string_equal(mnd_idx_sha256(idx), "");
        assert_int_equal(mnd_idx_expect_end(idx), MND_RANGE);
        assert_int_equal(mnd_idx_read(idx, out, ELEMENTS), MND_OK);
        assert_int_equal(mnd_idx_read(idx, out, 1), MND_RANGE);
        assert_int_equal(mnd_idx_expect_end(idx), MND_OK);
        assert_int_equal(mnd_idx_expect_end(idx), MND_OK);
        assert_string_equal(mnd_idx_sha256(idx), expected);
        mnd_idx_close(&idx);
        mnd_idx_close(&idx);
    }
}

/* In a raw file of the right length every header byte has only one acceptable value. */
static void checks_every_header_byte(void **state) {
    (void)state;
    for (size_t at = 0; at < HEADER; at++)
        for (int value = 0; value < 256; value++) {
            uint8_t bytes[N_PLAIN];
            memcpy(bytes, plain, N_PLAIN);
            if (bytes[at] == value) continue;
            bytes[at] = (uint8_t)value;
            expect_refused(bytes, N_PLAIN, "");
        }
    uint8_t bytes[N_PLAIN];
    static const struct {
        size_t at;
        uint8_t value;
        const char *words;
    } wrong[] = {
        {0, 1, "byte 0 is 0x01"},
        {1, 0x80, "byte 1 is 0x80"},
        {2, 0x0f, "byte 2, the element type, is 0x0f"},
        {2, 0x0d, "promises"},
        {3, 0, "byte 3, the number of dimensions, is 0"},
        {3, 5, "byte 3, the number of dimensions, is 5"},
        {3, 4, "promises"},
        {7, 0, "dimension 0 (bytes 4 to 7) is zero"},
        {15, 0, "dimension 2 (bytes 12 to 15) is zero"},
        {7, 3, "truncated"},
        {7, 1, "something was added"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        memcpy(bytes, plain, N_PLAIN);
        bytes[wrong[i].at] = wrong[i].value;
        expect_refused(bytes, N_PLAIN, wrong[i].words);
    }
}

static void refuses_sizes_that_overflow(void **state) {
    (void)state;
    uint8_t bytes[32] = {0, 0, 8, 4};
    memset(bytes + 4, 0xff, 16);
    expect_refused(bytes, sizeof bytes, "overflow");
    /* 2^63 - 1 elements do not overflow, but the sum of elements and header does. */
    static const uint8_t most[] = {0, 0, 8, 2, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1};
    expect_refused(most, sizeof most, "promises");
    /* The uncompressed length of gzip data is not known, but it has an upper bound. */
    uint8_t packed[256];
    const size_t n = pack(most, sizeof most, packed, sizeof packed);
    expect_refused(packed, n, "more than");
}

static void refuses_truncated_and_longer_files(void **state) {
    (void)state;
    uint8_t packed[256], longer[300];
    const size_t n = pack(plain, N_PLAIN, packed, sizeof packed);
    for (size_t length = 0; length < N_PLAIN; length++) expect_refused(plain, length, "");
    for (size_t length = 0; length < n; length++) expect_refused(packed, length, "");
    expect_refused(plain, 0, "0 bytes are too few");
    expect_refused(plain, 9, "ends inside its header, after 9 bytes");
    expect_refused(packed, n - 9, "gzip data is truncated");
    memcpy(longer, plain, N_PLAIN);
    longer[N_PLAIN] = 0;
    expect_refused(longer, N_PLAIN + 1, "29 bytes long, but its header promises 28");
    memcpy(longer, packed, n);
    memcpy(longer + n, "more", 4);
    expect_refused(longer, n + 4, "damaged");
    /* The uncompressed data is longer, then shorter, than its IDX header says. */
    uint8_t inside[N_PLAIN + 1] = {0};
    memcpy(inside, plain, N_PLAIN);
    expect_refused(longer, pack(inside, N_PLAIN + 1, longer, sizeof longer), "holds more than");
    expect_refused(longer, pack(inside, N_PLAIN - 1, longer, sizeof longer), "1 bytes too early");
}

/* Some bytes of a gzip header have no effect (time, system); no flipped bit may change the data. */
static void notices_every_flip_in_gzip(void **state) {
    (void)state;
    uint8_t packed[256], out[ELEMENTS];
    const size_t n = pack(plain, N_PLAIN, packed, sizeof packed);
    int refused = 0;
    for (size_t bit = 0; bit < 8 * n; bit++) {
        packed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        scratch_write(scratch("flip"), packed, n);
        const mnd_status status = read_all(scratch("flip"), out, sizeof out, 5);
        if (status == MND_OK)
            assert_memory_equal(out, plain + HEADER, ELEMENTS);
        else
            refused++;
        packed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(refused > (int)(8 * (n - 10)));
}

static void refuses_other_kinds_of_files(void **state) {
    (void)state;
    mnd_idx *idx = NULL;
    assert_int_equal(mnd_idx_open(scratch("missing"), &idx), MND_NOT_FOUND);
    assert_int_equal(mnd_idx_open(scratch_folder, &idx), MND_FORMAT);
    assert_non_null(strstr(mnd_error(), "not a regular file"));
    assert_int_equal(mkfifo(scratch("fifo"), 0666), 0);
    assert_int_equal(mnd_idx_open(scratch("fifo"), &idx), MND_FORMAT);
    assert_null(idx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_raw_and_gzip),
        cmocka_unit_test(checks_every_header_byte),
        cmocka_unit_test(refuses_sizes_that_overflow),
        cmocka_unit_test(refuses_truncated_and_longer_files),
        cmocka_unit_test(notices_every_flip_in_gzip),
        cmocka_unit_test(refuses_other_kinds_of_files),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
