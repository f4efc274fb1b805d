/*
 * checkpoint_sample.h - what the tests of src/io/checkpoint*.c share: a small checkpoint with known
 * values, and a folder for each test. Include test.h first.
 */
#ifndef MND_TEST_CHECKPOINT_SAMPLE_H
#define MND_TEST_CHECKPOINT_SAMPLE_H

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mnist_dist/checkpoint.h"

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

/* The values are simple formulas, which checkpoint_h5py.py repeats. */
static inline void make_sample(sample *s, int64_t step) {
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

static inline bool same_arrays(const mnd_ckpt_array *a, const mnd_ckpt_array *b, int n) {
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

static inline bool same_bytes(const void *a, const void *b, size_t bytes) {
    return bytes == 0 || memcmp(a, b, bytes) == 0;
}

/* Compares bits, so that NaN equals NaN. */
static inline bool same_content(const mnd_checkpoint *a, const mnd_checkpoint *b) {
    return strcmp(a->spec, b->spec) == 0 && same_bytes(a->input, b->input, sizeof a->input) &&
           a->classes == b->classes && strcmp(a->blas, b->blas) == 0 &&
           strcmp(a->weights_sha256, b->weights_sha256) == 0 && a->n_array == b->n_array &&
           same_arrays(a->array, b->array, a->n_array) && strcmp(a->optimizer, b->optimizer) == 0 &&
           same_bytes(a->setting, b->setting, sizeof a->setting) &&
           strcmp(a->more_settings, b->more_settings) == 0 &&
           same_bytes(&a->ema, &b->ema, sizeof(double)) &&
           same_bytes(&a->label_smoothing, &b->label_smoothing, sizeof(double)) &&
           a->n_update == b->n_update && a->n_slot == b->n_slot &&
           same_arrays(a->slot, b->slot, a->n_slot) && a->epoch == b->epoch && a->step == b->step &&
           a->step_in_epoch == b->step_in_epoch && a->seed == b->seed &&
           a->logical_ranks == b->logical_ranks && a->batch_size == b->batch_size &&
           a->planned_epochs == b->planned_epochs && strcmp(a->schedule, b->schedule) == 0 &&
           strcmp(a->data_sha256, b->data_sha256) == 0 &&
           same_bytes(&a->best_accuracy, &b->best_accuracy, sizeof(double)) &&
           a->best_epoch == b->best_epoch && strcmp(a->monitor, b->monitor) == 0 &&
           a->patience == b->patience &&
           memcmp(&a->training_images, &b->training_images, sizeof a->training_images) == 0 &&
           a->validation == b->validation &&
           same_bytes(&a->target_accuracy, &b->target_accuracy, sizeof(double)) &&
           same_bytes(&a->train_seconds, &b->train_seconds, sizeof(double)) &&
           same_bytes(a->loss_sum, b->loss_sum, (size_t)a->logical_ranks * sizeof(double)) &&
           same_bytes(a->correct, b->correct, (size_t)a->logical_ranks * sizeof(int64_t)) &&
           a->n_history == b->n_history &&
           same_bytes(a->history, b->history, (size_t)a->n_history * sizeof *a->history);
}

/* --- one folder per test ---------------------------------------------------------------------- */

static char folder[PATH_SIZE];

static inline int make_folder(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/mnd_ckpt_XXXXXX", base != NULL ? base : "/tmp");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static inline void remove_content(const char *dir) {
    DIR *stream = opendir(dir);
    const struct dirent *entry;
    while (stream != NULL && (entry = readdir(stream)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            unlinkat(dirfd(stream), entry->d_name, 0) != 0)
            (void)unlinkat(dirfd(stream), entry->d_name, AT_REMOVEDIR);
    if (stream != NULL) closedir(stream);
}

static inline int remove_folder(void **state) {
    (void)state;
    remove_content(folder);
    return rmdir(folder);
}

static inline const char *in_folder(const char *name) {
    static char path[4][4 * PATH_SIZE];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static inline bool exists(const char *name) {
    struct stat info;
    return lstat(in_folder(name), &info) == 0;
}

static inline int count_entries(void) {
    DIR *stream = opendir(folder);
    int n = 0;
    assert_non_null(stream);
    while (readdir(stream) != NULL) n++;
    closedir(stream);
    return n - 2;
}

static inline unsigned char *slurp(const char *path, size_t *size) {
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

static inline void spill(const char *path, const void *bytes, size_t size) {
    /* Creates a new file instead of truncating the old one, which ext4 would flush to disk. */
    (void)unlink(path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    assert_int_equal(close(fd), 0);
}

static inline void write_step(int64_t step, int keep) {
    static sample s;
    make_sample(&s, step);
    assert_int_equal(mnd_checkpoint_write(folder, &s.ckpt, keep, NULL, 0), MND_OK);
}

static inline bool step_is_sound(int64_t step) {
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

/* A test between the creation and the removal of its folder. */
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

#endif
