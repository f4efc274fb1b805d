/*
 * src/io/checkpoint*.c: what is written is read back, and the file on disk is always whole.
 * `test_checkpoint --write DIR` writes the sample that checkpoint_h5py.py reads.
 */
#include "test.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "checkpoint_sample.h"

static void assert_one_line(const char *mention) {
    assert_non_null(strstr(mnd_error(), mention));
    assert_null(strchr(mnd_error(), '\n'));
}

/* --- content ---------------------------------------------------------------------------------- */

static void reads_back_what_was_written(void **state) {
    (void)state;
    static sample s;
    mnd_checkpoint back;
    char path[PATH_SIZE];
    make_sample(&s, 938);
    assert_int_equal(mnd_checkpoint_write(folder, &s.ckpt, 0, path, sizeof path), MND_OK);
    assert_string_equal(path, in_folder("ckpt-00000938.h5"));
    assert_int_equal(mnd_checkpoint_read(path, &back), MND_OK);
    assert_true(same_content(&s.ckpt, &back));
    mnd_checkpoint_free(&back);
    assert_null(back.array);
    mnd_checkpoint_free(&back); /* again: does nothing */
}

static void keeps_unusual_values(void **state) {
    (void)state;
    static sample s;
    mnd_checkpoint back;
    make_sample(&s, 123456789012); /* more than eight digits */
    s.param[0] = -0.0f;
    s.param[1] = 1e-45f;
    s.param[2] = 3.402823466e38f;
    s.v[0] = INFINITY; /* allowed in an optimizer slot */
    s.history[0].val_loss = NAN;
    s.ckpt.best_accuracy = -1;
    s.ckpt.n_history = 0;
    s.ckpt.history = NULL;
    s.ckpt.schedule[0] = '\0';
    s.ckpt.blas[0] = '\0';
    s.ckpt.data_sha256[0] = '\0';
    memset(s.ckpt.spec, 'x', MND_SPEC_MAX - 1); /* the longest */
    memset(s.ckpt.array[3].name, 'n', MND_CKPT_NAME - 1);
    s.ckpt.n_slot = 0;
    snprintf(s.ckpt.monitor, sizeof s.ckpt.monitor, "loss");
    s.ckpt.patience = 3;
    s.ckpt.label_smoothing = 0.125;
    snprintf(s.ckpt.more_settings, sizeof s.ckpt.more_settings, "nesterov=1 eta=0.5");
    s.ckpt.target_accuracy = 0.98;
    s.ckpt.validation = 6000;
    s.ckpt.training_images = mnd_picture_mnist;
    s.ckpt.training_images.images = 256;
    assert_int_equal(mnd_checkpoint_write(folder, &s.ckpt, 0, NULL, 0), MND_OK);
    assert_true(exists("ckpt-123456789012.h5"));
    assert_int_equal(mnd_checkpoint_read(in_folder("latest"), &back), MND_OK);
    assert_true(same_content(&s.ckpt, &back));
    mnd_checkpoint_free(&back);
    s.ckpt.ema = 0.75; /* the model is an average; the weights are a slot */
    s.ckpt.n_slot = 1;
    snprintf(s.slot[0].name, sizeof s.slot[0].name, "weights");
    assert_int_equal(mnd_checkpoint_write(folder, &s.ckpt, 0, NULL, 0), MND_OK);
    assert_int_equal(mnd_checkpoint_read(in_folder("latest"), &back), MND_OK);
    assert_true(same_content(&s.ckpt, &back));
    mnd_checkpoint_free(&back);
}

static void order_does_not_depend_on_names(void **state) {
    (void)state;
    enum { N = 300 };
    static sample s;
    static mnd_ckpt_array array[N];
    static float value[N];
    mnd_checkpoint back;
    make_sample(&s, 1);
    for (int i = 0; i < N; i++) {
        value[i] = (float)i;
        array[i] = (mnd_ckpt_array){.name = "kernel", .ndim = 1, .dim = {1}, .data = &value[i]};
        snprintf(array[i].group, sizeof array[i].group, "%d_dense", N - i);
    }
    s.ckpt.array = array;
    s.ckpt.n_array = N;
    s.ckpt.n_slot = 0;
    assert_int_equal(mnd_checkpoint_write(folder, &s.ckpt, 0, NULL, 0), MND_OK);
    assert_int_equal(mnd_checkpoint_read(in_folder("latest"), &back), MND_OK);
    assert_true(same_content(&s.ckpt, &back));
    mnd_checkpoint_free(&back);
}

static void same_content_gives_same_bytes(void **state) {
    (void)state;
    size_t size[2];
    unsigned char *bytes[2];
    for (int i = 0; i < 2; i++) {
        write_step(5, 0);
        bytes[i] = slurp(in_folder("ckpt-00000005.h5"), &size[i]);
        if (i == 0) usleep(1100000); /* a time stamp would have changed */
    }
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(bytes[0], bytes[1], size[0]);
    free(bytes[0]);
    free(bytes[1]);
}

static void refuses_what_could_not_be_read(void **state) {
    (void)state;
    static sample s;
    write_step(1, 0);
#define REFUSED(expected, change)                                                                  \
    do {                                                                                           \
        make_sample(&s, 2);                                                                        \
        change;                                                                                    \
        assert_int_equal(mnd_checkpoint_write(folder, &s.ckpt, 1, NULL, 0), expected);             \
        assert_one_line("ckpt-00000002.h5");                                                       \
    } while (0)
    REFUSED(MND_NUMERIC, s.param[N_PARAM - 1] = NAN);
    REFUSED(MND_NUMERIC, s.param[0] = -INFINITY);
    REFUSED(MND_RANGE, s.slot[1].dim[0]--);
    REFUSED(MND_RANGE, s.array[0].dim[2] = 0);
    REFUSED(MND_RANGE, s.array[0].dim[2] = INT64_MAX / 2);
    REFUSED(MND_RANGE, s.array[0].ndim = 5);
    REFUSED(MND_RANGE, s.array[1].name[0] = '/');
    REFUSED(MND_RANGE, s.array[1].group[0] = '\0');
    REFUSED(MND_RANGE, snprintf(s.array[1].name, MND_CKPT_NAME, "kernel"));
    REFUSED(MND_RANGE, memset(s.array[1].name, 'n', MND_CKPT_NAME));
    REFUSED(MND_RANGE, memset(s.ckpt.spec, 'n', MND_SPEC_MAX));
    REFUSED(MND_RANGE, s.ckpt.spec[0] = '\0');
    REFUSED(MND_RANGE, s.ckpt.logical_ranks = 0);
    REFUSED(MND_RANGE, s.ckpt.step_in_epoch = 3);
    REFUSED(MND_RANGE, s.ckpt.n_array = 0);
    REFUSED(MND_RANGE, s.ckpt.loss_sum = NULL);
    REFUSED(MND_RANGE, s.ckpt.n_history = 3);
    REFUSED(MND_RANGE, s.ckpt.patience = -1);
    REFUSED(MND_RANGE, s.ckpt.label_smoothing = 1.0);
    REFUSED(MND_RANGE, s.ckpt.ema = 0.5); /* no slot "weights" */
    REFUSED(MND_RANGE, s.ckpt.ema = -0.5);
    REFUSED(MND_RANGE, s.ckpt.label_smoothing = NAN);
    REFUSED(MND_RANGE, s.ckpt.validation = -1);
    REFUSED(MND_RANGE, s.ckpt.training_images.images = NAN);
    REFUSED(MND_RANGE, s.ckpt.training_images.ink = 256);
    REFUSED(MND_RANGE, s.ckpt.target_accuracy = NAN);
    REFUSED(MND_RANGE, memset(s.ckpt.more_settings, 'n', sizeof s.ckpt.more_settings));
    REFUSED(MND_RANGE, memset(s.ckpt.monitor, 'n', sizeof s.ckpt.monitor));
#undef REFUSED
    assert_true(step_is_sound(1));
    assert_int_equal(count_entries(), 2);
}

/* --- the folder ------------------------------------------------------------------------------- */

static void latest_and_keep(void **state) {
    (void)state;
    char target[64] = "";
    for (int64_t step = 1; step <= 5; step++) write_step(step, 3);
    assert_false(exists("ckpt-00000001.h5"));
    assert_false(exists("ckpt-00000002.h5"));
    for (int64_t step = 3; step <= 5; step++) assert_true(step_is_sound(step));
    assert_int_equal(readlink(in_folder("latest"), target, sizeof target - 1),
                     strlen("ckpt-00000005.h5"));
    assert_string_equal(target, "ckpt-00000005.h5"); /* relative: the folder may move */
    /* A run that continued from an earlier step: its file stays although three have higher steps.
     */
    write_step(2, 3);
    assert_true(step_is_sound(2));
    assert_int_equal(count_entries(), 5);
    write_step(6, 0);
    assert_int_equal(count_entries(), 6);
    write_step(7, 1);
    assert_int_equal(count_entries(), 2);
    assert_true(step_is_sound(7));
}

/* The end of an epoch of 10 steps. */
static void write_epoch(int64_t epoch, int64_t best, int keep) {
    static sample s;
    make_sample(&s, 10 * epoch);
    s.ckpt.epoch = epoch;
    s.ckpt.step_in_epoch = 0;
    s.ckpt.best_epoch = best;
    assert_int_equal(mnd_checkpoint_write(folder, &s.ckpt, keep, NULL, 0), MND_OK);
    assert_int_equal(mnd_checkpoint_best_step(&s.ckpt), best > 0 ? 10 * best : -1);
}

/* Whether the link of this name points to the checkpoint of this step. */
static bool points_to(const char *name, int64_t step) {
    char target[64] = "", expected[64];
    snprintf(expected, sizeof expected, "ckpt-%08" PRId64 ".h5", step);
    return readlink(in_folder(name), target, sizeof target - 1) > 0 &&
           strcmp(target, expected) == 0;
}

static void the_best_is_kept(void **state) {
    (void)state;
    write_epoch(2, 0, 2);
    assert_false(exists("best"));
    for (int64_t epoch = 3; epoch <= 7; epoch++) {
        write_epoch(epoch, 3, 2);
        assert_true(points_to("best", 30));
        assert_true(points_to("latest", 10 * epoch));
    }
    assert_true(exists("ckpt-00000030.h5"));
    assert_int_equal(count_entries(), 5); /* two of 60 and 70, the best, two links */
    write_epoch(8, 8, 2);
    assert_true(points_to("best", 80));
    assert_false(exists("ckpt-00000030.h5"));
    assert_int_equal(count_entries(), 4);
    /* A best epoch whose checkpoint is not here: no link rather than a wrong one. */
    write_epoch(9, 5, 0);
    assert_false(exists("best"));
}

static void going_back_sets_the_others_aside(void **state) {
    (void)state;
    mnd_checkpoint from;
    char aside[PATH_SIZE];
    bool here;
    for (int64_t epoch = 2; epoch <= 6; epoch++) write_epoch(epoch, epoch, 0);
    assert_int_equal(mnd_checkpoint_read(in_folder("ckpt-00000040.h5"), &from), MND_OK);
    assert_int_equal(mnd_checkpoint_go_back(folder, in_folder("ckpt-00000040.h5"), &from, &here,
                                            aside, sizeof aside),
                     MND_OK);
    assert_true(here);
    assert_string_equal(aside, in_folder("earlier-1"));
    assert_true(exists("earlier-1/ckpt-00000050.h5") && exists("earlier-1/ckpt-00000060.h5"));
    assert_false(exists("ckpt-00000050.h5") || exists("ckpt-00000060.h5"));
    assert_true(points_to("latest", 40) && points_to("best", 40));
    /* Again, by the link: nothing to do. */
    assert_int_equal(
        mnd_checkpoint_go_back(folder, in_folder("latest"), &from, &here, aside, sizeof aside),
        MND_OK);
    assert_true(here && aside[0] == '\0' && exists("ckpt-00000030.h5"));
    mnd_checkpoint_free(&from);
    /* From a file that is not of this branch: all are set aside. */
    assert_int_equal(mnd_checkpoint_read(in_folder("earlier-1/ckpt-00000060.h5"), &from), MND_OK);
    assert_int_equal(mnd_checkpoint_go_back(folder, in_folder("earlier-1/ckpt-00000060.h5"), &from,
                                            &here, aside, sizeof aside),
                     MND_OK);
    assert_false(here);
    assert_string_equal(aside, in_folder("earlier-2"));
    assert_true(exists("earlier-2/ckpt-00000040.h5") && exists("earlier-2/best"));
    assert_int_equal(count_entries(), 2);
    mnd_checkpoint_free(&from);
    remove_content(in_folder("earlier-1"));
    remove_content(in_folder("earlier-2"));
}

static void removes_only_its_own_temporary_files(void **state) {
    (void)state;
    /* The id of a process that certainly has ended: a child that has been waited for. */
    const pid_t dead = fork();
    if (dead == 0) _exit(0);
    assert_true(dead > 0);
    assert_int_equal(waitpid(dead, NULL, 0), dead);
    static const struct {
        const char *format;
        bool mine; /* formatted with the id of this process instead of the ended one's */
        bool stays;
    } file[] = {
        {".ckpt-00000004.h5.tmp.%ld", false, false},
        {".ckpt-1234567890.h5.tmp.%ld", false, false},
        {".latest.tmp.%ld", false, false},
        {".best.tmp.%ld", false, false},
        {".ckpt-00000004.h5.tmp.%ld", true, false},
        {".ckpt-00000004.h5.tmp.1", false, true}, /* process 1 is running */
        {".ckpt-00000004.h5.tmp.%ldx", false, true},
        {".ckpt-00000004.h5.tmp.", false, true},
        {".ckpt-4.h5.tmp.%ld", false, true},
        {".ckpt-00000004.h5.tmp.99999999999999999999", false, true},
        {".mnist.h5.tmp.%ld", false, true},
        {"ckpt-00000004.h5.tmp.%ld", false, true},
        {"ckpt-00000004.h5.bak", false, true},
        {"ckpt-0000004.h5", false, true},
        {"ckpt-000000004.h5", false, true},
        {"notes.txt", false, true},
    };
    enum { N = sizeof file / sizeof file[0] };
    char name[N][64];
    int stay = 0;
    for (int i = 0; i < N; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(name[i], sizeof name[i], file[i].format, (long)(file[i].mine ? getpid() : dead));
#pragma GCC diagnostic pop
        spill(in_folder(name[i]), "x", 1);
        stay += file[i].stays;
    }
    for (int64_t step = 1; step <= 4; step++) write_step(step, 1);
    for (int i = 0; i < N; i++)
        if (exists(name[i]) != file[i].stays) fail_msg("%s: wrong", name[i]);
    assert_int_equal(count_entries(), stay + 2);
}

static void replaces_a_checkpoint_of_the_same_step(void **state) {
    (void)state;
    write_step(3, 0);
    spill(in_folder("ckpt-00000003.h5"), "broken", 6);
    assert_false(step_is_sound(3));
    const int old = open(in_folder("ckpt-00000003.h5"), O_RDONLY);
    assert_true(old >= 0);
    write_step(3, 0);
    assert_true(step_is_sound(3));
    /* The old file is replaced, not overwritten: a process that has it open still reads it whole.
     */
    char text[16] = "";
    assert_int_equal(read(old, text, sizeof text), 6);
    assert_string_equal(text, "broken");
    close(old);
    assert_int_equal(count_entries(), 2);
}

static void creates_its_folder_but_not_the_parents(void **state) {
    (void)state;
    static sample s;
    mnd_checkpoint back;
    make_sample(&s, 1);
    char sub[2 * PATH_SIZE];
    snprintf(sub, sizeof sub, "%s/a", folder);
    assert_int_equal(mnd_checkpoint_write(sub, &s.ckpt, 0, NULL, 0), MND_OK);
    assert_int_equal(mnd_checkpoint_read_latest(sub, NULL, NULL, &back, NULL, 0), MND_OK);
    mnd_checkpoint_free(&back);
    remove_content(sub);
    assert_int_equal(mnd_checkpoint_write(in_folder("b/c"), &s.ckpt, 0, NULL, 0), MND_IO);
    assert_one_line("b/c");
    spill(in_folder("file"), "", 0);
    assert_int_equal(mnd_checkpoint_write(in_folder("file"), &s.ckpt, 0, NULL, 0), MND_IO);
    assert_one_line("Not a directory");
}

/* Runs `body` in a child process; true if that returned true. */
static bool in_child(bool (*body)(void)) {
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) _exit(body() ? 0 : 1);
    int code = -1;
    return child > 0 && waitpid(child, &code, 0) == child && WIFEXITED(code) &&
           WEXITSTATUS(code) == 0;
}

/* Writing fails with MND_IO and this reason, and the earlier checkpoint is still complete. */
static bool write_fails(const char *reason) {
    static sample s;
    make_sample(&s, 2);
    const mnd_status status = mnd_checkpoint_write(folder, &s.ckpt, 1, NULL, 0);
    if (status == MND_IO && strstr(mnd_error(), reason) != NULL &&
        strstr(mnd_error(), "ckpt-00000002.h5") != NULL && strchr(mnd_error(), '\n') == NULL &&
        step_is_sound(1) && count_entries() == 2)
        return true;
    fprintf(stderr, "%s: %s\n", mnd_status_name(status), mnd_error());
    return false;
}

static bool with_a_file_size_limit(void) {
    const struct rlimit limit = {5000, 5000};
    return signal(SIGXFSZ, SIG_IGN) != SIG_ERR && setrlimit(RLIMIT_FSIZE, &limit) == 0 &&
           write_fails(strerror(EFBIG));
}

static bool as_nobody(void) {
    return (geteuid() != 0 || seteuid(65534) == 0) && write_fails(strerror(EACCES));
}

static bool on_a_tiny_disk(void) {
    /* Mounts a file system that only this child sees. Where that is not allowed, the test with a
     * file size limit is the only one. */
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", folder, "tmpfs", 0, "size=32k") != 0) {
        fprintf(stderr, "cannot mount a tmpfs: a full disk is tested by a file size limit only\n");
        return true;
    }
    write_step(1, 0);
    return write_fails(strerror(ENOSPC));
}

static void failing_writes_leave_the_old_ones(void **state) {
    (void)state;
    assert_true(in_child(on_a_tiny_disk));
    write_step(1, 0);
    assert_true(in_child(with_a_file_size_limit));
    assert_int_equal(chmod(folder, 0555), 0);
    const bool good = in_child(as_nobody);
    assert_int_equal(chmod(folder, 0755), 0);
    assert_true(good);
}

typedef struct skip_list {
    int n;
    char path[8][PATH_SIZE];
} skip_list;

static void note_skipped(void *context, const char *path, const char *why) {
    skip_list *list = context;
    assert_non_null(strstr(why, path));
    assert_true(list->n < 8);
    snprintf(list->path[list->n++], PATH_SIZE, "%s", path);
}

static void latest_valid_is_found(void **state) {
    (void)state;
    mnd_checkpoint back;
    char path[PATH_SIZE];
    skip_list skipped = {0};
    const char *missing = in_folder("missing");
    assert_int_equal(mnd_checkpoint_read_latest(missing, NULL, NULL, &back, NULL, 0),
                     MND_NOT_FOUND);
    assert_int_equal(mnd_checkpoint_read_latest(folder, NULL, NULL, &back, NULL, 0), MND_NOT_FOUND);
    for (int64_t step = 8; step <= 12; step++) write_step(step, 0);
    size_t size;
    unsigned char *bytes = slurp(in_folder("ckpt-00000012.h5"), &size);
    bytes[size / 2] ^= 1;
    spill(in_folder("ckpt-00000012.h5"), bytes, size);
    spill(in_folder("ckpt-00000011.h5"), bytes, 600);
    spill(in_folder("ckpt-00000013.h5"), "", 0);
    assert_int_equal(mkdir(in_folder("ckpt-00000014.h5"), 0777), 0);
    assert_int_equal(mkfifo(in_folder("ckpt-00000015.h5"), 0666), 0);
    assert_int_equal(symlink("nowhere", in_folder("ckpt-00000016.h5")), 0);
    assert_int_equal(
        mnd_checkpoint_read_latest(folder, note_skipped, &skipped, &back, path, sizeof path),
        MND_OK);
    assert_int_equal(back.step, 10);
    assert_string_equal(path, in_folder("ckpt-00000010.h5"));
    mnd_checkpoint_free(&back);
    assert_int_equal(skipped.n, 6);
    assert_string_equal(skipped.path[0], in_folder("ckpt-00000016.h5"));
    assert_string_equal(skipped.path[5], in_folder("ckpt-00000011.h5"));
    for (int64_t step = 8; step <= 10; step++) {
        char name[32];
        snprintf(name, sizeof name, "ckpt-%08" PRId64 ".h5", step);
        spill(in_folder(name), bytes, size - 1);
    }
    free(bytes);
    assert_int_equal(mnd_checkpoint_read_latest(folder, NULL, NULL, &back, NULL, 0), MND_NOT_FOUND);
    assert_one_line(folder);
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--write") == 0) {
        static sample s;
        make_sample(&s, 938);
        if (mnd_checkpoint_write(argv[2], &s.ckpt, 0, NULL, 0) == MND_OK) return 0;
        fprintf(stderr, "%s\n", mnd_error());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        IN_FOLDER(reads_back_what_was_written),
        IN_FOLDER(keeps_unusual_values),
        IN_FOLDER(order_does_not_depend_on_names),
        IN_FOLDER(same_content_gives_same_bytes),
        IN_FOLDER(refuses_what_could_not_be_read),
        IN_FOLDER(latest_and_keep),
        IN_FOLDER(the_best_is_kept),
        IN_FOLDER(going_back_sets_the_others_aside),
        IN_FOLDER(removes_only_its_own_temporary_files),
        IN_FOLDER(replaces_a_checkpoint_of_the_same_step),
        IN_FOLDER(creates_its_folder_but_not_the_parents),
        IN_FOLDER(failing_writes_leave_the_old_ones),
        IN_FOLDER(latest_valid_is_found),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
