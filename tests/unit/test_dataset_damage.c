/*
 * src/io/dataset.c and h5_check.c: a damaged file of any kind is either refused or gives data of
 * the size that it should have.
 */
#include "test.h"

#include "dataset_sample.h"
#include "mnist_dist/rng.h"

/* Damage that makes HDF5 1.10 loop or recurse until memory or stack is exhausted. */
static void refuses_cyclic_structures(void **state) {
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
    /* A tree node that is its own child, then one whose level is too large. */
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

/* HDF5 itself would read zeros. */
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

/*
 * Opens a damaged file and reads everything. If it opens, its sizes must be possible for a file of
 * this length. Returns 0 if it was refused, 2 if it opened and its checksum is right, otherwise 1.
 */
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
    /* Truncated at about 60 places: no truncated file may open. */
    for (size_t length = 0; length < n; length += 1 + n / 60) {
        scratch_write(damaged, whole, length);
        assert_int_equal(survive(damaged, length), 0);
    }
    /* One to four bytes changed, mostly in the structures at the start of the file. */
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
    /* Both outcomes must occur, or this test would prove nothing. */
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

/* In a file that this program wrote, a flipped bit is found unless it is in unused padding. */
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
            /* Accepted, so the bit was in padding: everything that was read must be unchanged. */
            assert_int_equal(mnd_dataset_open(path, &data), MND_OK);
            assert_memory_equal(mnd_dataset_about(data), &before, sizeof before);
            mnd_dataset_close(&data);
        }
        bytes[at] ^= (unsigned char)(1u << at % 8);
    }
    free(bytes);
}

int main(void) {
    if (limit_memory() != 0) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_cyclic_structures),
        cmocka_unit_test(notices_a_file_cut_while_open),
        cmocka_unit_test(survives_damage_to_its_own_files),
        cmocka_unit_test(survives_damage_to_foreign_files),
        cmocka_unit_test(finds_every_flipped_bit),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
