/* src/io/metrics.c: complete lines, exact numbers, and files that a resumed run can continue. */
#include "test.h"

#include <fcntl.h>
#include <float.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mnist_dist/metrics.h"
#include "mnist_dist/rng.h"

static char folder[512], path[600];

static int make_folder(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/mnd_metrics_XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(folder) == NULL) return -1;
    snprintf(path, sizeof path, "%s/m.jsonl", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    unlink(path);
    return rmdir(folder); /* fails if anything was left behind */
}

static void put_file(const char *text, size_t size) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, size), size);
    assert_int_equal(close(fd), 0);
}

static const char *get_file(void) {
    static char text[1 << 16];
    const int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    const ssize_t n = read(fd, text, sizeof text - 1);
    assert_true(n >= 0);
    text[n] = '\0';
    close(fd);
    return text;
}

static void add_epoch(mnd_metrics *m, int64_t epoch) {
    mnd_metrics_begin(m, "epoch");
    mnd_metrics_int(m, "epoch", epoch);
    assert_int_equal(mnd_metrics_end(m), MND_OK);
}

static void writes_objects_in_order(void **state) {
    (void)state;
    mnd_metrics *m = NULL;
    put_file("old", 3);
    assert_int_equal(mnd_metrics_open(path, -1, &m), MND_OK);
    assert_string_equal(get_file(), "");
    mnd_metrics_begin(m, "epoch");
    mnd_metrics_int(m, "epoch", 1);
    mnd_metrics_real(m, "loss", 0.25);
    mnd_metrics_enter(m, "time");
    mnd_metrics_real(m, "data", 0.1);
    mnd_metrics_real(m, "wait", NAN);
    mnd_metrics_leave(m);
    mnd_metrics_real(m, "val_loss", -INFINITY);
    mnd_metrics_int(m, "least", INT64_MIN);
    mnd_metrics_text(m, "text", "a \"b\"\\\n\x01 \xc3\xa9");
    assert_int_equal(mnd_metrics_end(m), MND_OK);
    const char *expected = "{\"event\":\"epoch\",\"epoch\":1,\"loss\":0.25,\"time\":{\"data\":0.1,"
                           "\"wait\":null},\"val_loss\":null,\"least\":-9223372036854775808,"
                           "\"text\":\"a \\\"b\\\"\\\\\\n\\u0001 \xc3\xa9\"}\n";
    assert_string_equal(get_file(), expected); /* written before the file is closed */
    assert_int_equal(mnd_metrics_last_epoch(m), 0);
    mnd_metrics_begin(m, "abandoned");
    mnd_metrics_close(&m);
    assert_null(m);
    mnd_metrics_close(&m);
    assert_string_equal(get_file(), expected);
}

static void numbers_read_back_exactly(void **state) {
    (void)state;
    enum { N = 1000 };
    static double value[N];
    const double special[] = {0.1,      1.0 / 3,     DBL_MAX, DBL_MIN, 5e-324, 0.30000000000000004,
                              -DBL_MAX, 123456789.0, 1e22,    1e23,    0.0,    -0.0};
    mnd_rng rng;
    mnd_rng_start(&rng, 1, MND_RNG_TEST, 0, 0);
    memcpy(value, special, sizeof special);
    for (size_t i = sizeof special / sizeof special[0]; i < N; i++) do {
            const uint64_t bits = (uint64_t)mnd_rng_u32(&rng) << 32 | mnd_rng_u32(&rng);
            memcpy(&value[i], &bits, sizeof bits);
        } while (!isfinite(value[i]));
    mnd_metrics *m = NULL;
    assert_int_equal(mnd_metrics_open(path, -1, &m), MND_OK);
    for (int i = 0; i < N; i++) {
        mnd_metrics_begin(m, "x");
        mnd_metrics_real(m, "v", value[i]);
        assert_int_equal(mnd_metrics_end(m), MND_OK);
    }
    mnd_metrics_close(&m);
    const char *text = get_file();
    for (int i = 0; i < N; i++) {
        text = strstr(text, "\"v\":");
        assert_non_null(text);
        text += 4;
        const double back = strtod(text, NULL);
        assert_memory_equal(&back, &value[i], sizeof back);
    }
    /* With as few digits as possible. */
    assert_int_equal(mnd_metrics_open(path, -1, &m), MND_OK);
    mnd_metrics_begin(m, "x");
    mnd_metrics_real(m, "v", 0.3);
    assert_int_equal(mnd_metrics_end(m), MND_OK);
    mnd_metrics_close(&m);
    assert_string_equal(get_file(), "{\"event\":\"x\",\"v\":0.3}\n");
}

static void text_is_always_utf8(void **state) {
    (void)state;
    static const struct {
        const char *in, *out;
    } text[] = {
        {"plain", "plain"},
        {"\xe2\x86\x92 \xf0\x9f\x98\x80", "\xe2\x86\x92 \xf0\x9f\x98\x80"},
        {"latin \xe9t\xe9", "latin ?t?"},
        {"\xc0\xaf \xed\xa0\x80 \xf5\x80\x80\x80 \xe2\x86", "?? ??? ???? ??"},
        {"\xe0\x80\x80 \xf0\x80\x80\x80 \xf4\x90\x80\x80 \x80", "??? ???? ???? ?"},
        {"", ""},
    };
    mnd_metrics *m = NULL;
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
        char expected[128];
        assert_int_equal(mnd_metrics_open(path, -1, &m), MND_OK);
        mnd_metrics_begin(m, "x");
        mnd_metrics_text(m, "t", text[i].in);
        assert_int_equal(mnd_metrics_end(m), MND_OK);
        mnd_metrics_close(&m);
        snprintf(expected, sizeof expected, "{\"event\":\"x\",\"t\":\"%s\"}\n", text[i].out);
        assert_string_equal(get_file(), expected);
    }
}

/* Another run's file is neither moved nor cut; an earlier run's file is moved. */
static void other_runs_lose_nothing(void **state) {
    (void)state;
    mnd_metrics *m = NULL, *second = NULL;
    char moved[700], expected[700];
    put_file("", 0);
    assert_int_equal(mnd_metrics_set_aside(path, "", moved, sizeof moved), MND_OK);
    assert_string_equal(moved, "");
    assert_int_equal(mnd_metrics_open(path, -1, &m), MND_OK);
    add_epoch(m, 1);
    assert_int_equal(mnd_metrics_check_free(path, 0.0), MND_IO);
    assert_int_equal(mnd_metrics_set_aside(path, folder, moved, sizeof moved), MND_IO);
    assert_non_null(strstr(mnd_error(), "another run"));
    assert_int_equal(mnd_metrics_open(path, -1, &second), MND_IO);
    assert_null(second);
    assert_non_null(strstr(get_file(), "\"epoch\":1"));
    mnd_metrics_close(&m);
    assert_int_equal(mnd_metrics_check_free(path, 0.0), MND_OK);
    /* A folder that does not exist, or has such a file: a new one beside the file. */
    for (int k = 1; k <= 2; k++) {
        put_file("{}\n", 3);
        assert_int_equal(
            mnd_metrics_set_aside(path, k == 1 ? "/nonexistent" : folder, moved, sizeof moved),
            MND_OK);
        snprintf(expected, sizeof expected, "%s/earlier-%d/m.jsonl", folder, k);
        assert_string_equal(moved, expected);
        assert_int_equal(access(path, F_OK), -1);
    }
    for (int k = 1; k <= 2; k++) {
        snprintf(expected, sizeof expected, "%s/earlier-%d/m.jsonl", folder, k);
        assert_int_equal(unlink(expected), 0);
        *strrchr(expected, '/') = '\0';
        assert_int_equal(rmdir(expected), 0);
    }
}

static void resume_keeps_lines_that_are_not_written_again(void **state) {
    (void)state;
    static const struct {
        const char *before;
        int64_t resume, last;
        const char *after;
    } test[] = {
        {"{\"event\":\"start\"}\n{\"event\":\"epoch\",\"epoch\":1}\n"
         "{\"event\":\"checkpoint\",\"step\":9}\n{\"event\":\"epoch\",\"epoch\":2,\"loss\":0.10}\n"
         "{\"event\":\"epoch\",\"epoch\":3}\n{\"event\":\"end\"}\n",
         2, 2,
         "{\"event\":\"start\"}\n{\"event\":\"epoch\",\"epoch\":1}\n"
         "{\"event\":\"checkpoint\",\"step\":9}\n"
         "{\"event\":\"epoch\",\"epoch\":2,\"loss\":0.10}\n"},
        /* Nothing to remove: all bytes are kept, spaces and unknown events included. */
        {"{ \"event\" : \"epoch\", \"epoch\": 1 } \r\n{\"note\":\"mine\"}\n", 7, 1,
         "{ \"event\" : \"epoch\", \"epoch\": 1 } \r\n{\"note\":\"mine\"}\n"},
        /* An incomplete last line is removed; one that lacks only its newline is kept. */
        {"{\"event\":\"epoch\",\"epoch\":1}\n{\"event\":\"epo", 5, 1,
         "{\"event\":\"epoch\",\"epoch\":1}\n"},
        {"{\"event\":\"epoch\",\"epoch\":4}", 5, 4, "{\"event\":\"epoch\",\"epoch\":4}\n"},
        {"{\"event\":\"epoch\",\"epoch\":1", 5, 0, ""},
        /* An incomplete line to which another line was appended. */
        {"{\"ev\n\n17\n{\"event\":\"start\"}}\n{\"event\":\"start\"}\n", 5, 0,
         "{\"event\":\"start\"}\n"},
        {"", 3, 0, ""},
        {"{\"event\":\"epoch\",\"epoch\":1}\n", 0, 0, ""},
    };
    for (size_t i = 0; i < sizeof test / sizeof test[0]; i++) {
        mnd_metrics *m = NULL;
        put_file(test[i].before, strlen(test[i].before));
        assert_int_equal(mnd_metrics_open(path, test[i].resume, &m), MND_OK);
        assert_int_equal(mnd_metrics_last_epoch(m), test[i].last);
        assert_string_equal(get_file(), test[i].after);
        /* The next event begins a new line. */
        add_epoch(m, test[i].resume + 1);
        mnd_metrics_close(&m);
        const char *text = get_file();
        assert_memory_equal(text, test[i].after, strlen(test[i].after));
        assert_int_equal(text[strlen(test[i].after)], '{');
        /* Resuming once more changes nothing. */
        char again[4096];
        assert_true(strlen(text) < sizeof again);
        memcpy(again, text, strlen(text) + 1);
        assert_int_equal(mnd_metrics_open(path, test[i].resume + 1, &m), MND_OK);
        assert_int_equal(mnd_metrics_last_epoch(m), test[i].resume + 1);
        mnd_metrics_close(&m);
        assert_string_equal(get_file(), again);
    }
}

static void going_back_keeps_a_copy(void **state) {
    (void)state;
    static const char *const before =
        "{\"event\":\"start\"}\n"
        "{\"event\":\"epoch\",\"epoch\":1,\"loss\":0.5,\"val_loss\":0.4}\n"
        "{\"event\":\"checkpoint\",\"step\":9}\n"
        "{\"event\":\"epoch\",\"epoch\":2,\"loss\":0.3,\"val_loss\":0.2}\n"
        "{\"event\":\"checkpoint\",\"step\":18}\n"
        "{\"event\":\"start\"}\n"
        "{\"event\":\"resume\",\"epoch\":2,\"step\":18}\n"
        "{\"event\":\"epoch\",\"epoch\":3,\"loss\":0.3,\"val_loss\":0.2}\n";
    mnd_epoch_record history[2] = {{.epoch = 1, .loss = 0.5, .val_loss = 0.4},
                                   {.epoch = 2, .loss = 0.3, .val_loss = 0.2}};
    mnd_metrics_point point = {.epoch = 2, .step = 18, .history = history, .n_history = 2};
    char copy[512];
    /* An epoch without its checkpoint, as a killed run leaves it: mnd_metrics_open removes it. */
    put_file(before, strlen(before));
    assert_int_equal(mnd_metrics_go_back(path, &point, copy, sizeof copy), MND_OK);
    assert_string_equal(copy, "");
    assert_string_equal(get_file(), before);
    /* The same point, chosen by the user. */
    point.branch = true;
    assert_int_equal(mnd_metrics_go_back(path, &point, copy, sizeof copy), MND_OK);
    assert_non_null(strstr(copy, ".earlier-1"));
    const char *last = strstr(before, "{\"event\":\"epoch\",\"epoch\":3");
    assert_memory_equal(get_file(), before, (size_t)(last - before));
    assert_int_equal(strlen(get_file()), last - before);
    assert_int_equal(unlink(copy), 0);
    /* An earlier one: the start in between goes with the lines that it belongs to. */
    put_file(before, strlen(before));
    point = (mnd_metrics_point){.epoch = 1, .step = 9, .history = history, .n_history = 1};
    assert_int_equal(mnd_metrics_go_back(path, &point, copy, sizeof copy), MND_OK);
    last = strstr(before, "{\"event\":\"epoch\",\"epoch\":2");
    assert_memory_equal(get_file(), before, (size_t)(last - before));
    assert_int_equal(strlen(get_file()), last - before);
    assert_int_equal(rename(copy, path), 0);
    assert_string_equal(get_file(), before); /* the copy is whole */
    /* The file of another run. */
    history[0].val_loss = 0.41;
    assert_int_equal(mnd_metrics_go_back(path, &point, copy, sizeof copy), MND_OK);
    assert_string_equal(get_file(), "");
    assert_int_equal(unlink(copy), 0);
    /* No file, and one that has no lines to read. */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mnd_metrics_go_back(path, &point, copy, sizeof copy), MND_OK);
    assert_int_equal(mnd_metrics_go_back("/dev/null", &point, copy, sizeof copy), MND_OK);
    assert_string_equal(copy, "");
}

static void zeros_left_by_a_crash_are_removed(void **state) {
    (void)state;
    mnd_metrics *m = NULL;
    const char text[] = "{\"event\":\"start\"}\n\0\0\0\0\0\0\0\0";
    put_file(text, sizeof text - 1);
    assert_int_equal(mnd_metrics_open(path, 0, &m), MND_OK);
    mnd_metrics_close(&m);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, strlen(text));
}

/* Whatever part of the last line was written before a crash, resuming loses at most this line. */
static void any_incomplete_end_can_be_resumed(void **state) {
    (void)state;
    const char *whole = "{\"event\":\"epoch\",\"epoch\":1,\"loss\":0.5}\n"
                        "{\"event\":\"epoch\",\"epoch\":2,\"loss\":0.25}\n";
    const size_t first = strcspn(whole, "\n") + 1, size = strlen(whole);
    for (size_t n = first; n <= size; n++) {
        mnd_metrics *m = NULL;
        put_file(whole, n);
        assert_int_equal(mnd_metrics_open(path, 2, &m), MND_OK);
        assert_int_equal(mnd_metrics_last_epoch(m), n >= size - 1 ? 2 : 1);
        mnd_metrics_close(&m);
        const char *text = get_file();
        assert_int_equal(strlen(text), n >= size - 1 ? size : first);
        assert_memory_equal(text, whole, strlen(text));
    }
}

static void a_missing_file_is_created(void **state) {
    (void)state;
    mnd_metrics *m = NULL;
    assert_int_equal(mnd_metrics_open(path, 3, &m), MND_OK);
    assert_int_equal(mnd_metrics_last_epoch(m), 0);
    /* Removed while in use: a new one is created. */
    add_epoch(m, 1);
    assert_int_equal(unlink(path), 0);
    add_epoch(m, 2);
    mnd_metrics_close(&m);
    assert_string_equal(get_file(), "{\"event\":\"epoch\",\"epoch\":2}\n");
}

static void a_symbolic_link_stays_one(void **state) {
    (void)state;
    mnd_metrics *m = NULL;
    char target[600];
    struct stat info;
    snprintf(target, sizeof target, "%s/target", folder);
    put_file("{\"event\":\"end\"}\n", 16);
    assert_int_equal(rename(path, target), 0);
    assert_int_equal(symlink("target", path), 0);
    assert_int_equal(mnd_metrics_open(path, 1, &m), MND_OK);
    add_epoch(m, 2);
    mnd_metrics_close(&m);
    assert_int_equal(lstat(path, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_string_equal(get_file(), "{\"event\":\"epoch\",\"epoch\":2}\n");
    assert_int_equal(unlink(target), 0);
}

static void pipes_and_devices_are_written_to(void **state) {
    (void)state;
    mnd_metrics *m = NULL;
    assert_int_equal(mnd_metrics_open("/dev/null", 1, &m), MND_OK);
    add_epoch(m, 2);
    mnd_metrics_close(&m);
}

/* The disk becomes full in the middle of a line: an error, and no incomplete line. */
static void a_full_disk_leaves_whole_lines(void **state) {
    (void)state;
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit limit = {100, 100};
        mnd_metrics *m = NULL;
        if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR || setrlimit(RLIMIT_FSIZE, &limit) != 0 ||
            mnd_metrics_open(path, -1, &m) != MND_OK)
            _exit(1);
        for (int i = 0; i < 10; i++) {
            mnd_metrics_begin(m, "epoch");
            mnd_metrics_int(m, "epoch", i);
            const mnd_status status = mnd_metrics_end(m);
            if (status == MND_OK) continue;
            _exit(i == 3 && status == MND_IO && strstr(mnd_error(), path) != NULL ? 0 : 2);
        }
        _exit(3);
    }
    int code = -1;
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_int_equal(code, 0);
    assert_string_equal(get_file(), "{\"event\":\"epoch\",\"epoch\":0}\n"
                                    "{\"event\":\"epoch\",\"epoch\":1}\n"
                                    "{\"event\":\"epoch\",\"epoch\":2}\n");
}

static void errors_name_the_file(void **state) {
    (void)state;
    mnd_metrics *m = NULL;
    char bad[600];
    snprintf(bad, sizeof bad, "%s/file/m.jsonl", folder);
    char file[600]; /* where the folder would have to be */
    snprintf(file, sizeof file, "%s/file", folder);
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    assert_int_equal(fclose(f), 0);
    for (int64_t resume = -1; resume <= 0; resume++) {
        assert_int_equal(mnd_metrics_open(bad, resume, &m), MND_IO);
        assert_null(m);
        assert_non_null(strstr(mnd_error(), bad));
        assert_int_equal(mnd_metrics_open(folder, resume, &m), MND_IO);
        assert_non_null(strstr(mnd_error(), folder));
    }
    assert_int_equal(remove(file), 0);
}

static void an_ensemble_is_gathered(void **state) {
    (void)state;
    char name[3][700];
    const char *const part[] = {name[0], name[1], name[2]};
    for (int i = 0; i < 3; i++) snprintf(name[i], sizeof name[i], "%s/part-%d", folder, i);
    FILE *file = fopen(part[0], "w");
    assert_non_null(file);
    fputs("{\"event\":\"start\"}\n{\"event\":\"epoch\",\"epoch\":1}\n{\"event\":\"ep", file);
    assert_int_equal(fclose(file), 0);
    file = fopen(part[2], "w"); /* part[1] has not begun */
    assert_non_null(file);
    fputs("\n{\"event\":\"end\"}\n", file);
    assert_int_equal(fclose(file), 0);
    assert_false(mnd_metrics_is_gathered(path));
    put_file("{\"event\":\"start\"}\n", 18);
    assert_false(mnd_metrics_is_gathered(path));
    static const char lines[] = "{\"member\":1,\"event\":\"start\"}\n"
                                "{\"member\":1,\"event\":\"epoch\",\"epoch\":1}\n"
                                "{\"member\":3,\"event\":\"end\"}\n";
    enum { N = sizeof lines - 1 };
    int lock = -1;
    for (int again = 0; again < 2; again++) { /* it replaces what was there */
        assert_int_equal(mnd_metrics_gather(path, part, 3, again == 0 ? NULL : "{}", &lock),
                         MND_OK);
        assert_true(mnd_metrics_is_gathered(path));
        assert_int_equal(strncmp(get_file(), lines, N), 0);
        assert_string_equal(get_file() + N, again == 0 ? "" : "{}\n");
        assert_int_equal(mnd_metrics_check_free(path, 0.0), MND_IO); /* for other runs */
    }
    assert_int_equal(mnd_metrics_gather("/dev/null", part, 3, "{}", &lock), MND_OK);
    assert_int_equal(mnd_metrics_gather("/dev/full", part, 3, NULL, &lock), MND_OK);
    assert_int_equal(mnd_metrics_gather("/dev/full", part, 3, "{}", &lock), MND_IO);
    assert_int_equal(close(lock), 0);
    assert_int_equal(mnd_metrics_check_free(path, 0.0), MND_OK);
    assert_int_equal(remove(part[0]) | remove(part[2]), 0);
}

int main(void) {
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(writes_objects_in_order),
        IN_FOLDER(numbers_read_back_exactly),
        IN_FOLDER(text_is_always_utf8),
        IN_FOLDER(other_runs_lose_nothing),
        IN_FOLDER(resume_keeps_lines_that_are_not_written_again),
        IN_FOLDER(going_back_keeps_a_copy),
        IN_FOLDER(zeros_left_by_a_crash_are_removed),
        IN_FOLDER(any_incomplete_end_can_be_resumed),
        IN_FOLDER(a_missing_file_is_created),
        IN_FOLDER(a_symbolic_link_stays_one),
        IN_FOLDER(pipes_and_devices_are_written_to),
        IN_FOLDER(a_full_disk_leaves_whole_lines),
        IN_FOLDER(errors_name_the_file),
        IN_FOLDER(an_ensemble_is_gathered),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
