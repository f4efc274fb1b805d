/* scratch.h - a temporary folder for a test that writes files. Include test.h first. */
#ifndef MND_TEST_SCRATCH_H
#define MND_TEST_SCRATCH_H

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch_folder[256];

/* cmocka group set-up and tear-down. */
static inline int scratch_setup(void **state) {
    (void)state;
    /* In memory if possible: these tests write thousands of small files. */
    const char *base = getenv("TMPDIR");
    if (base == NULL) base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(scratch_folder, sizeof scratch_folder, "%s/mnd-test-XXXXXX", base);
    return mkdtemp(scratch_folder) == NULL;
}

static inline int scratch_teardown(void **state) {
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", scratch_folder);
    return system(command);
}

/* "FOLDER/name" in one of 256 buffers, used in turn. */
static inline const char *scratch(const char *name) {
    static char path[256][512];
    static int turn = 0;
    turn = (turn + 1) % 256;
    snprintf(path[turn], sizeof path[turn], "%s/%s", scratch_folder, name);
    return path[turn];
}

static inline void scratch_mkdir(const char *name) {
    assert_int_equal(mkdir(scratch(name), 0777), 0);
}

static inline void scratch_write(const char *path, const void *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(n == 0 ? 0 : fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static inline void scratch_text(const char *path, const char *text) {
    scratch_write(path, text, strlen(text));
}

/* The whole file; the caller frees it. */
static inline unsigned char *scratch_read(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *n = (size_t)ftell(f);
    rewind(f);
    unsigned char *bytes = malloc(*n + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *n, f), *n);
    fclose(f);
    return bytes;
}

/* The number of entries of a folder, hidden ones included: 0 if a failed write left no file. */
static inline int scratch_entries(const char *path) {
    DIR *dir = opendir(path);
    assert_non_null(dir);
    int n = -2; /* "." and ".." */
    while (readdir(dir) != NULL) n++;
    closedir(dir);
    return n;
}

#endif
