/*
 * src/io/checkpoint: what is written is read back, the file on disk is always whole, and damage is
 * always found. `test_checkpoint --write DIR` writes the sample that checkpoint_h5py.py reads.
 */
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mnist_dist/checkpoint.h"
#include "mnist_dist/rng.h"

enum { PATH_SIZE = 512 };

/* --- a checkpoint to write -------------------------------------------------------------------- */

enum { N_CONV = 3 * 3 * 1 * 4, N_DENSE = 36 * 10, N_PARAM = N_CONV + 4 + N_DENSE + 10, RANKS = 3 };

typedef struct sample {
    mnd_checkpoint ckpt;
    mnd_ckpt_array array[4], slot[2];
    float param[N_PARAM], m[N_PARAM], v[N_PARAM];
    double loss_sum[RANKS];
    int64_t correct[RANKS];
    mnd_epoch_record history[2];
} sample;

/* The values are simple formulas, so that the Python test knows them. */
static void make_sample(sample *s, int64_t step) {
    memset(s, 0, sizeof *s);
    for (int i = 0; i < N_PARAM; i++) {
        s->param[i] = (float)(i - 100) / 64.0f + (float)step;
        s->m[i] = (float)i * 0.5f;
        s->v[i] = (float)(i * i);
    }
    const mnd_ckpt_array array[4] = {
        {"00_conv", "kernel", 4, {3, 3, 1, 4}, s->param},
        {"00_conv", "bias", 1, {4}, s->param + N_CONV},
        {"03_dense", "kernel", 2, {36, 10}, s->param + N_CONV + 4},
        {"03_dense", "bias", 1, {10}, s->param + N_CONV + 4 + N_DENSE},
    };
    const mnd_ckpt_array slot[2] = {{"", "m", 1, {N_PARAM}, s->m}, {"", "v", 1, {N_PARAM}, s->v}};
    memcpy(s->array, array, sizeof array);
    memcpy(s->slot, slot, sizeof slot);
    for (int i = 0; i < RANKS; i++) {
        s->loss_sum[i] = 0.1 * (i + 1);
        s->correct[i] = 100 + i;
    }
    s->history[0] = (mnd_epoch_record){1, 0.5, 0.85, 0.4, 0.875, 2.5};
    s->history[1] = (mnd_epoch_record){2, 0.25, 0.925, 0.2, 0.95, 2.25};
    mnd_checkpoint *c = &s->ckpt;
    snprintf(c->spec, sizeof c->spec, "conv:4:3,maxpool:2,flatten,dense:10");
    c->input[0] = 8;
    c->input[1] = 8;
    c->input[2] = 1;
    c->classes = 10;
    snprintf(c->blas, sizeof c->blas, "OpenBLAS 0.3.21 Haswell");
    memset(c->weights_sha256, 'a', MND_SHA256_HEX - 1);
    c->n_array = 4;
    c->array = s->array;
    snprintf(c->optimizer, sizeof c->optimizer, "adam");
    for (int i = 0; i < 8; i++) c->setting[i] = 0.1 * i;
    c->n_update = step;
    c->n_slot = 2;
    c->slot = s->slot;
    c->epoch = 2;
    c->step = step;
    c->step_in_epoch = step < 7 ? step : 7;
    c->seed = UINT64_MAX - 1;
    c->logical_ranks = RANKS;
    c->batch_size = 128;
    c->planned_epochs = 10;
    snprintf(c->schedule, sizeof c->schedule, "cosine, warm-up 100 steps \xe2\x86\x92");
    memset(c->data_sha256, 'b', MND_SHA256_HEX - 1);
    c->best_accuracy = 0.95;
    c->best_epoch = 2;
    c->train_seconds = 4.75;
    c->loss_sum = s->loss_sum;
    c->correct = s->correct;
    c->n_history = 2;
    c->history = s->history;
}

static bool same_arrays(const mnd_ckpt_array *a, const mnd_ckpt_array *b, int n) {
    for (int i = 0; i < n; i++) {
        size_t bytes = sizeof(float);
        for (int k = 0; k < a[i].ndim; k++) bytes *= (size_t)a[i].dim[k];
        if (strcmp(a[i].group, b[i].group) != 0 || strcmp(a[i].name, b[i].name) != 0 ||
            a[i].ndim != b[i].ndim ||
            memcmp(a[i].dim, b[i].dim, (size_t)a[i].ndim * sizeof a[i].dim[0]) != 0 ||
            memcmp(a[i].data, b[i].data, bytes) != 0)
            return false;
    }
    return true;
}

static bool same_bytes(const void *a, const void *b, size_t bytes) {
    return bytes == 0 || memcmp(a, b, bytes) == 0;
}

/* Bit by bit, NaN included. */
static bool same_content(const mnd_checkpoint *a, const mnd_checkpoint *b) {
    return strcmp(a->spec, b->spec) == 0 && same_bytes(a->input, b->input, sizeof a->input) &&
           a->classes == b->classes && strcmp(a->blas, b->blas) == 0 &&
           strcmp(a->weights_sha256, b->weights_sha256) == 0 && a->n_array == b->n_array &&
           same_arrays(a->array, b->array, a->n_array) && strcmp(a->optimizer, b->optimizer) == 0 &&
           same_bytes(a->setting, b->setting, sizeof a->setting) && a->n_update == b->n_update &&
           a->n_slot == b->n_slot && same_arrays(a->slot, b->slot, a->n_slot) &&
           a->epoch == b->epoch && a->step == b->step && a->step_in_epoch == b->step_in_epoch &&
           a->seed == b->seed && a->logical_ranks == b->logical_ranks &&
           a->batch_size == b->batch_size && a->planned_epochs == b->planned_epochs &&
           strcmp(a->schedule, b->schedule) == 0 && strcmp(a->data_sha256, b->data_sha256) == 0 &&
           same_bytes(&a->best_accuracy, &b->best_accuracy, sizeof(double)) &&
           a->best_epoch == b->best_epoch &&
           same_bytes(&a->train_seconds, &b->train_seconds, sizeof(double)) &&
           same_bytes(a->loss_sum, b->loss_sum, (size_t)a->logical_ranks * sizeof(double)) &&
           same_bytes(a->correct, b->correct, (size_t)a->logical_ranks * sizeof(int64_t)) &&
           a->n_history == b->n_history &&
           same_bytes(a->history, b->history, (size_t)a->n_history * sizeof *a->history);
}

/* --- a folder a test ------------------------------------------------------------------------- */

static char folder[PATH_SIZE];

static int make_folder(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/mnd_ckpt_XXXXXX", base != NULL ? base : "/tmp");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static void remove_content(const char *dir) {
    DIR *stream = opendir(dir);
    const struct dirent *entry;
    while (stream != NULL && (entry = readdir(stream)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            unlinkat(dirfd(stream), entry->d_name, 0) != 0)
            (void)unlinkat(dirfd(stream), entry->d_name, AT_REMOVEDIR);
    if (stream != NULL) closedir(stream);
}

static int remove_folder(void **state) {
    (void)state;
    remove_content(folder);
    return rmdir(folder);
}

static const char *in_folder(const char *name) {
    static char path[4][4 * PATH_SIZE];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static bool exists(const char *name) {
    struct stat info;
    return lstat(in_folder(name), &info) == 0;
}

static int count_entries(void) {
    DIR *stream = opendir(folder);
    int n = 0;
    assert_non_null(stream);
    while (readdir(stream) != NULL) n++;
    closedir(stream);
    return n - 2;
}

static unsigned char *slurp(const char *path, size_t *size) {
    struct stat info;
    const int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &info) == 0);
    *size = (size_t)info.st_size;
    unsigned char *bytes = malloc(*size + 1);
    assert_non_null(bytes);
    assert_int_equal(read(fd, bytes, *size), *size);
    close(fd);
    return bytes;
}

static void spill(const char *path, const void *bytes, size_t size) {
    /* A new file: ext4 flushes one that is truncated and rewritten, thousands of times here. */
    (void)unlink(path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    assert_int_equal(close(fd), 0);
}

static void write_step(int64_t step, int keep) {
    static sample s;
    make_sample(&s, step);
    assert_int_equal(mnd_checkpoint_write(folder, &s.ckpt, keep, NULL, 0), MND_OK);
}

static bool step_is_sound(int64_t step) {
    static sample s;
    mnd_checkpoint back;
    char name[64];
    make_sample(&s, step);
    snprintf(name, sizeof name, "ckpt-%08" PRId64 ".h5", step);
    if (mnd_checkpoint_read(in_folder(name), &back) != MND_OK) return false;
    const bool same = same_content(&s.ckpt, &back);
    mnd_checkpoint_free(&back);
    return same;
}

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
    s.v[0] = INFINITY; /* a slot may be anything; the run decides */
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
    assert_int_equal(mnd_checkpoint_write(folder, &s.ckpt, 0, NULL, 0), MND_OK);
    assert_true(exists("ckpt-123456789012.h5"));
    assert_int_equal(mnd_checkpoint_read(in_folder("latest"), &back), MND_OK);
    assert_true(same_content(&s.ckpt, &back));
    mnd_checkpoint_free(&back);
}

static void order_does_not_hang_on_names(void **state) {
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
    /* A run that went back: its file stays although three have higher steps. */
    write_step(2, 3);
    assert_true(step_is_sound(2));
    assert_int_equal(count_entries(), 5);
    write_step(6, 0);
    assert_int_equal(count_entries(), 6);
    write_step(7, 1);
    assert_int_equal(count_entries(), 2);
    assert_true(step_is_sound(7));
}

static void removes_just_its_own_leftovers(void **state) {
    (void)state;
    /* A process that certainly is dead: a child that has been waited for. */
    const pid_t dead = fork();
    if (dead == 0) _exit(0);
    assert_true(dead > 0);
    assert_int_equal(waitpid(dead, NULL, 0), dead);
    static const struct {
        const char *format;
        bool mine; /* formatted with this process' id instead of the dead one's */
        bool stays;
    } file[] = {
        {".ckpt-00000004.h5.tmp.%ld", false, false},
        {".ckpt-1234567890.h5.tmp.%ld", false, false},
        {".latest.tmp.%ld", false, false},
        {".ckpt-00000004.h5.tmp.%ld", true, false},
        {".ckpt-00000004.h5.tmp.1", false, true}, /* process 1 lives */
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
    /* A new file under the old name, not the old one written over: readers keep what they have. */
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

/* Writing fails with MND_IO and this reason, and what was there is still there. */
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
    /* A mount of this child's own; where that is not allowed, the size limit has to do. */
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", folder, "tmpfs", 0, "size=32k") != 0) {
        fprintf(stderr, "no tmpfs here: full disk tried by a size limit only\n");
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

/* --- damage ----------------------------------------------------------------------------------- */

static int64_t mutations(int64_t normal, int64_t long_form) {
    const char *count = getenv("MND_MUTATIONS"), *is_long = getenv("MND_LONG");
    if (getenv("MND_VALGRIND") != NULL) normal /= 10;
    if (count != NULL && atoll(count) > 0) return atoll(count);
    return is_long != NULL && strcmp(is_long, "1") == 0 ? long_form : normal;
}

/* True if the file is refused as it should be, or holds exactly the sample's content. */
static bool harmless(const char *path, const sample *original, int64_t *accepted) {
    mnd_checkpoint back;
    const mnd_status status = mnd_checkpoint_read(path, &back);
    if (status != MND_OK) return status == MND_FORMAT && strstr(mnd_error(), path) != NULL;
    const bool same = same_content(&original->ckpt, &back);
    mnd_checkpoint_free(&back);
    ++*accepted;
    return same;
}

static size_t below(mnd_rng *rng, size_t n) { return mnd_rng_below(rng, (uint32_t)n); }

/* One of the ways in which files break. Returns the new size, at most 2 * size. */
static size_t mutate(mnd_rng *rng, unsigned char *bytes, size_t size) {
    const size_t at = below(rng, size);
    size_t n;
    switch (below(rng, 8)) {
    case 0: /* one bit */ bytes[at] ^= (unsigned char)(1u << below(rng, 8)); break;
    case 1: /* one bit of the block or of HDF5's first structures */
        bytes[below(rng, 2048)] ^= (unsigned char)(1u << below(rng, 8));
        break;
    case 2: /* some bytes */
        for (n = 1 + below(rng, 16); n > 0; n--)
            bytes[below(rng, size)] = (unsigned char)below(rng, 256);
        break;
    case 3: /* a sector that was never written */
        n = at / 512 * 512;
        memset(bytes + n, 0, size - n < 512 ? size - n : 512);
        break;
    case 4: /* a sector of elsewhere */
        n = below(rng, size) / 512 * 512;
        if (size - at >= 512 && size - n >= 512) memmove(bytes + n, bytes + at, 512);
        break;
    case 5: /* the end is missing */ return at;
    case 6: /* something follows */
        n = 1 + below(rng, 1024);
        memset(bytes + size, 0, n);
        return size + n;
    default: /* a size or address field with extreme values */
        memset(bytes + (at & ~(size_t)7), below(rng, 2) ? 0xff : 0x7f,
               size - (at & ~(size_t)7) < 8 ? 1 : 8);
        break;
    }
    return size;
}

static void damage_is_found(void **state) {
    (void)state;
    static sample s;
    size_t size;
    int64_t accepted = 0;
    make_sample(&s, 1);
    write_step(1, 0);
    unsigned char *original = slurp(in_folder("ckpt-00000001.h5"), &size);
    unsigned char *mutant = malloc(2 * size);
    assert_non_null(mutant);
    const char *path = in_folder("mutant");
    mnd_rng rng;
    mnd_rng_start(&rng, 2026, MND_RNG_TEST, 0, 0);
    const int64_t n = mutations(500, 100000);
    for (int64_t i = 0; i < n; i++) {
        memcpy(mutant, original, size);
        const size_t now = mutate(&rng, mutant, size);
        const bool changed = now != size || memcmp(mutant, original, size) != 0;
        const int64_t before = accepted;
        spill(path, mutant, now);
        if (!harmless(path, &s, &accepted)) fail_msg("mutant %" PRId64 ": %s", i, mnd_error());
        if (changed && accepted != before) fail_msg("mutant %" PRId64 " was accepted", i);
    }
    /* Every length in the block and in HDF5's head, then every boundary of structures (they are
       aligned to eight bytes) in the long form, some of them in the normal one. */
    const size_t stride = mutations(0, 1) == 0 ? 8 * 13 : 8;
    for (size_t now = 0; now < size; now += now < 1100 ? 1 : stride) {
        spill(path, original, now);
        if (!harmless(path, &s, &accepted)) fail_msg("%zu bytes: %s", now, mnd_error());
    }
    /* Every bit of the block. */
    for (size_t bit = 0; bit < 8 * 512; bit++) {
        memcpy(mutant, original, size);
        mutant[bit / 8] ^= (unsigned char)(1u << bit % 8);
        spill(path, mutant, size);
        const int64_t before = accepted;
        if (!harmless(path, &s, &accepted) || accepted != before) fail_msg("bit %zu", bit);
    }
    spill(path, original, size);
    accepted = 0;
    assert_true(harmless(path, &s, &accepted));
    assert_int_equal(accepted, 1);
    free(original);
    free(mutant);
}

/* What a mutant with a valid outer checksum is: forged. Writes it and says how it was taken. */
static void seal(unsigned char *bytes, size_t size) {
    char digest[MND_SHA256_HEX];
    assert_int_equal(mnd_sha256_buffer(bytes + 512, size - 512, digest), MND_OK);
    memset(bytes, 0, 512);
    snprintf((char *)bytes, 512, "mnist_dist checkpoint 1\nbytes %zu\nsha256 %s\n", size, digest);
}

/*
 * The layers behind the outer checksum: were it not there, or made to fit by somebody, still no
 * other content is taken for the original. HDF5 itself may fail badly on such input (that is why
 * the outer checksum stands in front of it), so each batch runs in a child with limits, and only
 * wrong acceptance counts.
 */
static void forged_content_is_not_taken(void **state) {
    (void)state;
    if (getenv("MND_VALGRIND") != NULL) skip(); /* it would report HDF5's mistakes, not ours */
    enum { REFUSED = 20, SAME, WRONG };         /* exit codes that no sanitizer uses */
    static sample s;
    size_t size;
    make_sample(&s, 1);
    write_step(1, 0);
    unsigned char *original = slurp(in_folder("ckpt-00000001.h5"), &size);
    unsigned char *mutant = malloc(2 * size);
    assert_non_null(mutant);
    const char *path = in_folder("mutant");
    const int64_t n = mutations(300, 20000);
    int64_t refused = 0, accepted = 0, died = 0;
    for (int64_t i = 0; i < n; i++) {
        mnd_rng rng;
        mnd_rng_start(&rng, 2027, MND_RNG_TEST, (uint32_t)i, 0);
        memcpy(mutant, original, size);
        size_t now = mutate(&rng, mutant, size);
        if (now <= 512) now = 513;
        seal(mutant, now);
        spill(path, mutant, now);
        fflush(NULL);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            signal(SIGSEGV, SIG_DFL); /* cmocka's handlers would go on with the next test */
            signal(SIGABRT, SIG_DFL);
            signal(SIGFPE, SIG_DFL);
            signal(SIGBUS, SIG_DFL);
            if (freopen("/dev/null", "w", stderr) == NULL) _exit(1); /* sanitizers' reports */
            alarm(10);
            int64_t taken = 0;
            const bool good = harmless(path, &s, &taken);
            _exit(!good ? WRONG : taken > 0 ? SAME : REFUSED);
        }
        int code = -1;
        assert_int_equal(waitpid(child, &code, 0), child);
        code = WIFEXITED(code) ? WEXITSTATUS(code) : -1;
        if (code == WRONG) fail_msg("forged mutant %" PRId64 " was taken for another content", i);
        refused += code == REFUSED;
        accepted += code == SAME;
        died += code != REFUSED && code != SAME;
    }
    print_message("forged: %" PRId64 " refused, %" PRId64 " with the same content, %" PRId64
                  " killed HDF5\n",
                  refused, accepted, died);
    assert_true(refused > n / 2);
    free(original);
    free(mutant);
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--write") == 0) {
        static sample s;
        make_sample(&s, 938);
        if (mnd_checkpoint_write(argv[2], &s.ckpt, 0, NULL, 0) == MND_OK) return 0;
        fprintf(stderr, "%s\n", mnd_error());
        return 1;
    }
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(reads_back_what_was_written),
        IN_FOLDER(keeps_unusual_values),
        IN_FOLDER(order_does_not_hang_on_names),
        IN_FOLDER(same_content_gives_same_bytes),
        IN_FOLDER(refuses_what_could_not_be_read),
        IN_FOLDER(latest_and_keep),
        IN_FOLDER(removes_just_its_own_leftovers),
        IN_FOLDER(replaces_a_checkpoint_of_the_same_step),
        IN_FOLDER(creates_its_folder_but_not_the_parents),
        IN_FOLDER(failing_writes_leave_the_old_ones),
        IN_FOLDER(latest_valid_is_found),
        IN_FOLDER(damage_is_found),
        IN_FOLDER(forged_content_is_not_taken),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
