/* folder.c, and checkpoint_find.c: which checkpoint a folder means. */
#include "test.h"

#include <string.h>

#include "checkpoint_sample.h"
#include "mnist_dist/folder.h"
#include "scratch.h"

static bool is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static void test_make(void **state) {
    (void)state;
    assert_int_equal(mnd_folder_make(scratch("a//b/c/")), MND_OK);
    assert_true(is_folder(scratch("a/b/c")));
    assert_int_equal(mnd_folder_make(scratch("a/b/c")), MND_OK);
    assert_int_equal(mnd_folder_make_parents(scratch("d/e/file.h5")), MND_OK);
    assert_true(is_folder(scratch("d/e")));
    assert_false(is_folder(scratch("d/e/file.h5")));
    assert_int_equal(mnd_folder_make_parents("file-in-the-current-folder"), MND_OK);
    assert_int_equal(mnd_folder_make_parents("/file-in-the-root"), MND_OK);
    assert_int_equal(mnd_folder_make("/"), MND_OK);
    /* Through a symbolic link, and where a file lies in the way. */
    assert_int_equal(symlink("a", scratch("link")), 0);
    assert_int_equal(mnd_folder_make(scratch("link/x/y")), MND_OK);
    assert_true(is_folder(scratch("a/x/y")));
    scratch_text(scratch("file"), "x");
    assert_int_equal(mnd_folder_make(scratch("file/sub")), MND_IO);
    assert_non_null(strstr(mnd_error(), "/file: Not a directory"));
    char word[5000];
    memset(word, 'a', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    assert_int_equal(mnd_folder_make(word), MND_RANGE);
    assert_int_equal(mnd_folder_make_parents(word), MND_RANGE);
}

static void test_existing(void **state) {
    (void)state;
    char out[512];
    scratch_mkdir("here");
    assert_int_equal(mnd_folder_existing(scratch("here/no/such"), out, sizeof out), MND_OK);
    assert_string_equal(out, scratch("here"));
    assert_int_equal(mnd_folder_existing(scratch("here"), out, sizeof out), MND_OK);
    assert_string_equal(out, scratch("here"));
    assert_int_equal(mnd_folder_existing("no-such/sub", out, sizeof out), MND_OK);
    assert_string_equal(out, ".");
    assert_int_equal(mnd_folder_existing("/no-such/sub", out, sizeof out), MND_OK);
    assert_string_equal(out, "/");
    assert_int_equal(mnd_folder_existing("x", out, 1), MND_RANGE);
}

static int skipped;

static void count_skipped(void *context, const char *path, const char *why) {
    (void)context;
    assert_non_null(strstr(why, path));
    skipped++;
}

static void finds(const char *path, const char *expected) {
    char file[4096];
    assert_int_equal(mnd_checkpoint_find(path, count_skipped, NULL, file, sizeof file), MND_OK);
    assert_string_equal(file, expected);
}

static void test_find(void **state) {
    (void)state;
    char file[4096];
    static sample s;
    const char *dir = scratch("ck");
    for (int64_t step = 5; step <= 7; step++) {
        make_sample(&s, step);
        assert_int_equal(mnd_checkpoint_write(dir, &s.ckpt, 0, NULL, 0), MND_OK);
    }
    finds(dir, scratch("ck/ckpt-00000007.h5"));
    finds(scratch("ck//"), scratch("ck/ckpt-00000007.h5"));
    finds(scratch("ck/latest"), scratch("ck/latest"));
    finds(scratch("ck/ckpt-00000005.h5"), scratch("ck/ckpt-00000005.h5"));
    finds(scratch("ck/none.h5"), scratch("ck/none.h5")); /* reading it explains what is wrong */
    /* As on a file system without symbolic links, or after a copy that left the link out. */
    assert_int_equal(unlink(scratch("ck/latest")), 0);
    finds(scratch("ck/latest"), scratch("ck/ckpt-00000007.h5"));
    s.ckpt.epoch = 2;
    s.ckpt.best_epoch = 1;
    s.ckpt.step_in_epoch = 0;
    s.ckpt.step = 12;
    assert_int_equal(mnd_checkpoint_write(scratch("best-of"), &s.ckpt, 0, NULL, 0), MND_OK);
    finds(scratch("best-of/best"), scratch("best-of/ckpt-00000006.h5"));
    /* A damaged one is passed over, and said. */
    assert_int_equal(skipped, 0);
    assert_int_equal(truncate(scratch("ck/ckpt-00000007.h5"), 3000), 0);
    finds(dir, scratch("ck/ckpt-00000006.h5"));
    assert_int_equal(skipped, 1);
    scratch_mkdir("empty");
    assert_int_equal(mnd_checkpoint_find(scratch("empty"), NULL, NULL, file, sizeof file),
                     MND_NOT_FOUND);
    assert_non_null(strstr(mnd_error(), "empty: has no valid checkpoint"));
    assert_int_equal(mnd_checkpoint_find(scratch("nix/latest"), NULL, NULL, file, sizeof file),
                     MND_NOT_FOUND);
    assert_int_equal(mnd_checkpoint_find(dir, NULL, NULL, file, 4), MND_RANGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_make),
        cmocka_unit_test(test_existing),
        cmocka_unit_test(test_find),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
