#include "checkpoint_format.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"

/* Checksums are computed over the bytes in memory, and the file's numbers are little-endian. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "needs a little-endian machine");

size_t mnd_ckpt_type_size(mnd_ckpt_type type) {
    switch (type) {
    case MND_CKPT_TEXT: return 1;
    case MND_CKPT_I32:
    case MND_CKPT_F32: return 4;
    case MND_CKPT_I64:
    case MND_CKPT_U64:
    case MND_CKPT_F64: return 8;
    }
    return 0;
}

hid_t mnd_ckpt_type_hid(mnd_ckpt_type type) {
    switch (type) {
    case MND_CKPT_I32: return H5T_STD_I32LE;
    case MND_CKPT_I64: return H5T_STD_I64LE;
    case MND_CKPT_U64: return H5T_STD_U64LE;
    case MND_CKPT_F32: return H5T_IEEE_F32LE;
    case MND_CKPT_F64: return H5T_IEEE_F64LE;
    case MND_CKPT_TEXT: break;
    }
    return -1;
}

hid_t mnd_ckpt_text_type(size_t size) {
    const hid_t type = H5Tcopy(H5T_C_S1);
    if (type < 0) return type;
    if (H5Tset_size(type, size > 0 ? size : 1) >= 0 && H5Tset_strpad(type, H5T_STR_NULLPAD) >= 0 &&
        H5Tset_cset(type, H5T_CSET_UTF8) >= 0)
        return type;
    (void)H5Tclose(type);
    return -1;
}

#define FIELD(group, name, type, member, count)                                                    \
    { group, name, type, offsetof(mnd_checkpoint, member), count, false }
const mnd_ckpt_field mnd_ckpt_fields[] = {
    FIELD("/model", "blas", MND_CKPT_TEXT, blas, sizeof((mnd_checkpoint *)0)->blas),
    FIELD("/model", "classes", MND_CKPT_I32, classes, 1),
    FIELD("/model", "input", MND_CKPT_I32, input, 3),
    FIELD("/model", "spec", MND_CKPT_TEXT, spec, MND_SPEC_MAX),
    {"/model", "training_images", MND_CKPT_F64, offsetof(mnd_checkpoint, training_images),
     sizeof(mnd_picture_form) / sizeof(double), true},
    FIELD("/model", "weights_sha256", MND_CKPT_TEXT, weights_sha256, MND_SHA256_HEX),
    {"/optimizer", "clip_norm", MND_CKPT_F64, offsetof(mnd_checkpoint, clip_norm), 1, true},
    {"/optimizer", "ema", MND_CKPT_F64, offsetof(mnd_checkpoint, ema), 1, true},
    {"/optimizer", "label_smoothing", MND_CKPT_F64, offsetof(mnd_checkpoint, label_smoothing), 1,
     true},
    {"/optimizer", "more_settings", MND_CKPT_TEXT, offsetof(mnd_checkpoint, more_settings),
     MND_CKPT_MORE, true},
    FIELD("/optimizer", "n_update", MND_CKPT_I64, n_update, 1),
    FIELD("/optimizer", "name", MND_CKPT_TEXT, optimizer, sizeof((mnd_checkpoint *)0)->optimizer),
    FIELD("/optimizer", "setting", MND_CKPT_F64, setting, MND_CKPT_SETTINGS),
    {"/progress", "augment", MND_CKPT_TEXT, offsetof(mnd_checkpoint, augment),
     sizeof((mnd_checkpoint *)0)->augment, true},
    FIELD("/progress", "batch_size", MND_CKPT_I64, batch_size, 1),
    FIELD("/progress", "best_accuracy", MND_CKPT_F64, best_accuracy, 1),
    FIELD("/progress", "best_epoch", MND_CKPT_I64, best_epoch, 1),
    FIELD("/progress", "data_sha256", MND_CKPT_TEXT, data_sha256, MND_SHA256_HEX),
    FIELD("/progress", "epoch", MND_CKPT_I64, epoch, 1),
    FIELD("/progress", "logical_ranks", MND_CKPT_I32, logical_ranks, 1),
    {"/progress", "monitor", MND_CKPT_TEXT, offsetof(mnd_checkpoint, monitor),
     sizeof((mnd_checkpoint *)0)->monitor, true},
    {"/progress", "patience", MND_CKPT_I64, offsetof(mnd_checkpoint, patience), 1, true},
    FIELD("/progress", "planned_epochs", MND_CKPT_I64, planned_epochs, 1),
    FIELD("/progress", "schedule", MND_CKPT_TEXT, schedule, sizeof((mnd_checkpoint *)0)->schedule),
    FIELD("/progress", "seed", MND_CKPT_U64, seed, 1),
    FIELD("/progress", "step", MND_CKPT_I64, step, 1),
    FIELD("/progress", "step_in_epoch", MND_CKPT_I64, step_in_epoch, 1),
    {"/progress", "target_accuracy", MND_CKPT_F64, offsetof(mnd_checkpoint, target_accuracy), 1,
     true},
    FIELD("/progress", "train_seconds", MND_CKPT_F64, train_seconds, 1),
    {"/progress", "validation", MND_CKPT_I64, offsetof(mnd_checkpoint, validation), 1, true},
};

const char *const mnd_ckpt_groups[] = {"/model", "/optimizer", "/progress"};

void *mnd_ckpt_field_value(const mnd_checkpoint *ckpt, const mnd_ckpt_field *f) {
    return (char *)(uintptr_t)ckpt + f->offset;
}

bool mnd_ckpt_field_written(const mnd_checkpoint *ckpt, const mnd_ckpt_field *f) {
    static const char zero[sizeof(int64_t)] = "";
    const void *value = mnd_ckpt_field_value(ckpt, f);
    if (!f->optional) return true;
    if (f->type == MND_CKPT_TEXT) return *(const char *)value != '\0';
    return memcmp(value, zero, mnd_ckpt_type_size(f->type)) != 0;
}

/* --- checks ----------------------------------------------------------------------------------- */

/* Names become part of an HDF5 path, hence letters, digits, '_' and '.' only. */
static bool is_name(const char *name, size_t size) {
    const size_t n = strnlen(name, size);
    return n > 0 && n < size && name[0] != '.' &&
           name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.")] ==
               '\0';
}

/*
 * *bytes becomes the size of an array of this shape. False if the number of dimensions is not 1 to
 * MND_CKPT_DIMS, a dimension is smaller than 1 or the size overflows.
 */
static bool array_bytes(int ndim, const int64_t *dim, size_t size, size_t *bytes) {
    if (ndim < 1 || ndim > MND_CKPT_DIMS) return false;
    *bytes = size;
    for (int i = 0; i < ndim; i++)
        if (dim[i] < 1 || __builtin_mul_overflow(*bytes, (size_t)dim[i], bytes)) return false;
    return *bytes <= PTRDIFF_MAX;
}

static bool is_finite(const float *x, size_t n) {
    /* Tests the exponent bits, without a branch, so that the compiler can vectorise the loop. */
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return bad == 0;
}

/* *bytes becomes the size of the array. */
static mnd_status check_array(const mnd_ckpt_array *a, bool slot, size_t *bytes) {
    if (!is_name(a->name, sizeof a->name) ||
        (slot ? a->group[0] != '\0' : !is_name(a->group, sizeof a->group)))
        return mnd_fail(MND_RANGE, "an array of the checkpoint has a bad name");
    if (!array_bytes(a->ndim, a->dim, sizeof(float), bytes) || a->data == NULL)
        return mnd_fail(MND_RANGE, "%s/%s has no valid shape", a->group, a->name);
    return MND_OK;
}

static mnd_status check_texts(const mnd_checkpoint *c) {
    for (int i = 0; i < MND_CKPT_N_FIELDS; i++) {
        const mnd_ckpt_field *f = &mnd_ckpt_fields[i];
        if (f->type == MND_CKPT_TEXT && memchr(mnd_ckpt_field_value(c, f), 0, f->count) == NULL)
            return mnd_fail(MND_RANGE, "%s of the checkpoint is a text without an end", f->name);
    }
    if (c->spec[0] == '\0' || c->optimizer[0] == '\0')
        return mnd_fail(MND_RANGE, "the checkpoint's model or optimizer is not described");
    return MND_OK;
}

static mnd_status check_form(const mnd_picture_form *f) {
    const double largest[] = {1e9, 255.0, 255.0, 1.0, 1.0, 1.0};
    double value[sizeof largest / sizeof largest[0]];
    _Static_assert(sizeof value == sizeof *f, "one limit for each number");
    memcpy(value, f, sizeof value);
    for (size_t i = 0; i < sizeof value / sizeof value[0]; i++)
        if (!(value[i] >= 0.0 && value[i] <= largest[i]))
            return mnd_fail(MND_RANGE, "the checkpoint's training_images are not possible");
    if (f->images > 0.0 && f->ink != f->background && !(f->extent > 0.0))
        return mnd_fail(MND_RANGE, "the checkpoint's training_images have no extent");
    return MND_OK;
}

static mnd_status check_numbers(const mnd_checkpoint *c) {
    if (c->classes < 1 || c->input[0] < 1 || c->input[1] < 1 || c->input[2] < 1)
        return mnd_fail(MND_RANGE, "the checkpoint's model or optimizer is not described");
    if (!(c->clip_norm >= 0.0 && c->clip_norm < HUGE_VAL))
        return mnd_fail(MND_RANGE, "the checkpoint's clip_norm is not a number of 0 or more");
    if (!(c->label_smoothing >= 0.0 && c->label_smoothing < 1.0 && c->ema >= 0.0 && c->ema < 1.0))
        return mnd_fail(MND_RANGE, "the checkpoint's label_smoothing or ema is not below 1");
    if (!(c->target_accuracy >= 0.0 && c->target_accuracy < HUGE_VAL) || c->patience < 0 ||
        c->validation < 0)
        return mnd_fail(MND_RANGE, "the checkpoint's rules of stopping are not possible");
    if (c->logical_ranks < 1 || c->logical_ranks > MND_MAX_LOGICAL)
        return mnd_fail(MND_RANGE, "%d is not a valid number of logical ranks", c->logical_ranks);
    if (c->epoch < 0 || c->step < 0 || c->step_in_epoch < 0 || c->step_in_epoch > c->step ||
        c->batch_size < 1 || c->n_update < 0 || c->planned_epochs < 0 || c->best_epoch < 0 ||
        c->n_history < 0 || c->n_history > c->epoch)
        return mnd_fail(MND_RANGE, "the checkpoint's counts of steps and epochs are not possible");
    if (c->loss_sum == NULL || c->correct == NULL || (c->history == NULL && c->n_history > 0))
        return mnd_fail(MND_RANGE, "the checkpoint's progress is incomplete");
    if (c->n_array < 1 || c->n_array > MND_CKPT_MAX_ARRAYS || c->n_slot < 0 ||
        c->n_slot > MND_CKPT_MAX_SLOTS)
        return mnd_fail(MND_RANGE, "a checkpoint cannot have %d arrays and %d slots", c->n_array,
                        c->n_slot);
    return check_form(&c->training_images);
}

static mnd_status check_arrays(const mnd_checkpoint *c) {
    size_t total = 0, bytes;
    for (int i = 0; i < c->n_array; i++) {
        const mnd_ckpt_array *a = &c->array[i];
        const mnd_status status = check_array(a, false, &bytes);
        if (status != MND_OK) return status;
        if (!is_finite(a->data, bytes / sizeof(float)))
            return mnd_fail(MND_NUMERIC, "parameters %s/%s hold NaN or infinity", a->group,
                            a->name);
        if (__builtin_add_overflow(total, bytes, &total))
            return mnd_fail(MND_RANGE, "the checkpoint's arrays are too large");
    }
    for (int i = 0; i < c->n_slot; i++) {
        const mnd_status status = check_array(&c->slot[i], true, &bytes);
        if (status != MND_OK) return status;
        if (c->slot[i].ndim != 1 || bytes != total)
            return mnd_fail(MND_RANGE, "optimizer slot %s is not as large as the parameters",
                            c->slot[i].name);
    }
    if (c->ema > 0.0 &&
        (c->n_slot < 1 || strcmp(c->slot[c->n_slot - 1].name, MND_CKPT_WEIGHTS) != 0))
        return mnd_fail(MND_RANGE, "the checkpoint lacks the weights that its model averages");
    return MND_OK;
}

mnd_status mnd_ckpt_check(const mnd_checkpoint *ckpt) {
    mnd_status status = check_texts(ckpt);
    if (status == MND_OK) status = check_numbers(ckpt);
    if (status == MND_OK) status = check_arrays(ckpt);
    return status;
}

/* --- the list of data sets -------------------------------------------------------------------- */

static int by_path(const void *a, const void *b) {
    return strcmp(((const mnd_ckpt_dataset *)a)->path, ((const mnd_ckpt_dataset *)b)->path);
}

/* The data set of array i of the model, or of slot i of the optimizer. */
static void describe_array(const mnd_checkpoint *c, bool slot, int i, mnd_ckpt_dataset *out) {
    const mnd_ckpt_array *a = slot ? &c->slot[i] : &c->array[i];
    *out = (mnd_ckpt_dataset){
        .type = MND_CKPT_F32, .ndim = a->ndim, .data = a->data, .index = (int32_t)i};
    memcpy(out->dim, a->dim, sizeof out->dim);
    if (slot)
        snprintf(out->path, sizeof out->path, "/optimizer/%s", a->name);
    else
        snprintf(out->path, sizeof out->path, "/model/%s/%s", a->group, a->name);
}

static void describe_progress(const mnd_checkpoint *c, mnd_ckpt_dataset set[]) {
    set[0] = (mnd_ckpt_dataset){.path = "/progress/loss_sum",
                                .type = MND_CKPT_F64,
                                .ndim = 1,
                                .dim = {c->logical_ranks},
                                .data = c->loss_sum,
                                .index = -1};
    set[1] = (mnd_ckpt_dataset){.path = "/progress/correct",
                                .type = MND_CKPT_I64,
                                .ndim = 1,
                                .dim = {c->logical_ranks},
                                .data = c->correct,
                                .index = -1};
    set[2] = (mnd_ckpt_dataset){.path = "/progress/history",
                                .type = MND_CKPT_F64,
                                .ndim = 2,
                                .dim = {c->n_history, MND_CKPT_HISTORY},
                                .data = c->history,
                                .index = -1,
                                .columns = MND_CKPT_HISTORY_COLUMNS};
}

/* Fills in sizes and checksums of the data sets, which are ordered by path. */
static mnd_status hash_datasets(mnd_ckpt_dataset *set, int n) {
    for (int i = 0; i < n; i++) {
        mnd_ckpt_dataset *d = &set[i];
        if (i > 0 && strcmp(set[i - 1].path, d->path) == 0)
            return mnd_fail(MND_RANGE, "two arrays of the checkpoint are both called %s", d->path);
        d->bytes = mnd_ckpt_type_size(d->type);
        for (int k = 0; k < d->ndim; k++) d->bytes *= (size_t)d->dim[k];
        const mnd_status status = mnd_sha256_buffer(d->data, d->bytes, d->sha256);
        if (status != MND_OK) return status;
    }
    return MND_OK;
}

mnd_status mnd_ckpt_list_datasets(const mnd_checkpoint *ckpt, mnd_ckpt_dataset **out, int *n_out) {
    const int n = ckpt->n_array + ckpt->n_slot + MND_CKPT_PROGRESS_SETS;
    void *memory = NULL;
    *out = NULL;
    *n_out = 0;
    mnd_status status = mnd_alloc(&memory, (size_t)n, sizeof **out, "checkpoint");
    if (status != MND_OK) return status;
    mnd_ckpt_dataset *set = memory, *next = set;
    for (int i = 0; i < ckpt->n_array; i++) describe_array(ckpt, false, i, next++);
    for (int i = 0; i < ckpt->n_slot; i++) describe_array(ckpt, true, i, next++);
    describe_progress(ckpt, next);
    qsort(set, (size_t)n, sizeof *set, by_path);
    status = hash_datasets(set, n);
    if (status != MND_OK) {
        mnd_free(memory);
        return status;
    }
    *out = set;
    *n_out = n;
    return MND_OK;
}

/* --- the root checksum ------------------------------------------------------------------------ */

static void hash_attribute(mnd_sha256 *hash, const char *object, const char *name,
                           const void *value, size_t bytes) {
    mnd_sha256_update(hash, object, strlen(object));
    mnd_sha256_update(hash, "@", 1);
    mnd_sha256_update(hash, name, strlen(name) + 1);
    mnd_sha256_update(hash, value, bytes);
    mnd_sha256_update(hash, "", 1);
}

static void hash_fields(mnd_sha256 *hash, const mnd_checkpoint *c, const char *group) {
    for (int i = 0; i < MND_CKPT_N_FIELDS; i++) {
        const mnd_ckpt_field *f = &mnd_ckpt_fields[i];
        if (strcmp(f->group, group) != 0 || !mnd_ckpt_field_written(c, f)) continue;
        const void *value = mnd_ckpt_field_value(c, f);
        const size_t bytes =
            f->type == MND_CKPT_TEXT ? strlen(value) : mnd_ckpt_type_size(f->type) * f->count;
        hash_attribute(hash, group, f->name, value, bytes);
    }
}

static void hash_dataset(mnd_sha256 *hash, const mnd_ckpt_dataset *d) {
    mnd_sha256_update(hash, d->path, strlen(d->path) + 1);
    mnd_sha256_update(hash, d->dim, (size_t)d->ndim * sizeof d->dim[0]);
    if (d->columns != NULL)
        hash_attribute(hash, d->path, "columns", d->columns, strlen(d->columns));
    if (d->index >= 0) hash_attribute(hash, d->path, "index", &d->index, sizeof d->index);
    hash_attribute(hash, d->path, "sha256", d->sha256, strlen(d->sha256));
}

mnd_status mnd_ckpt_root_checksum(const mnd_checkpoint *ckpt, const mnd_ckpt_dataset *set,
                                  int n_set, char hex[MND_SHA256_HEX]) {
    mnd_sha256 *hash = NULL;
    mnd_status status = mnd_sha256_create(&hash);
    if (status != MND_OK) return status;
    hash_attribute(hash, "/", "format", MND_CKPT_FORMAT_NAME, strlen(MND_CKPT_FORMAT_NAME));
    int next = 0;
    for (int g = 0; g < MND_CKPT_N_GROUPS; g++) {
        const char *group = mnd_ckpt_groups[g];
        hash_fields(hash, ckpt, group);
        for (; next < n_set && strncmp(set[next].path, group, strlen(group)) == 0; next++)
            hash_dataset(hash, &set[next]);
    }
    status = mnd_sha256_finish(hash, hex);
    mnd_sha256_destroy(&hash);
    return status;
}

void mnd_checkpoint_free(mnd_checkpoint *ckpt) {
    for (int i = 0; i < ckpt->n_array; i++) mnd_free(ckpt->array[i].data);
    for (int i = 0; i < ckpt->n_slot; i++) mnd_free(ckpt->slot[i].data);
    free(ckpt->array);
    free(ckpt->slot);
    mnd_free(ckpt->loss_sum);
    mnd_free(ckpt->correct);
    mnd_free(ckpt->history);
    *ckpt = (mnd_checkpoint){0};
}
