#include "checkpoint_image.h"

#include <hdf5.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mnist_dist/logical.h"
#include "mnist_dist/memory.h"

/* Checksums are taken of the bytes in memory, and the file's numbers are little-endian. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "needs a little-endian machine");

#define FORMAT_NAME "mnist_dist checkpoint 1"
#define HISTORY_COLUMNS "epoch loss accuracy val_loss val_accuracy seconds"

enum {
    MAX_DIMS = 4,
    MAX_ARRAYS = 1024, /* twice what the deepest network has */
    MAX_SLOTS = 16,
    MAX_TEXT = MND_SPEC_MAX,
    MAX_PATH = sizeof "/model/" + 2 * MND_CKPT_NAME,
    MAX_DATASETS = MAX_ARRAYS + MAX_SLOTS + 3
};

typedef enum { TEXT, I32, I64, U64, F64, F32 } value_type;

static size_t value_size(value_type type) {
    switch (type) {
    case TEXT: return 1;
    case I32:
    case F32: return 4;
    case I64:
    case U64:
    case F64: return 8;
    }
    return 0;
}

/* The type in the file; on this machine it is the one in memory as well. TEXT has none of its own.
 */
static hid_t value_hid(value_type type) {
    switch (type) {
    case I32: return H5T_STD_I32LE;
    case I64: return H5T_STD_I64LE;
    case U64: return H5T_STD_U64LE;
    case F32: return H5T_IEEE_F32LE;
    case F64: return H5T_IEEE_F64LE;
    case TEXT: break;
    }
    return -1;
}

/*
 * The attributes of the three groups and the members they are kept in. In the order of the root
 * checksum: by the bytes of the group's path, then of the attribute's name.
 */
typedef struct field {
    const char *group, *name;
    value_type type;
    size_t offset;
    size_t count; /* numbers, or for a text the bytes it may take with its zero */
} field;

#define FIELD(group, name, type, member, count)                                                    \
    { group, name, type, offsetof(mnd_checkpoint, member), count }
static const field fields[] = {
    FIELD("/model", "blas", TEXT, blas, sizeof((mnd_checkpoint *)0)->blas),
    FIELD("/model", "classes", I32, classes, 1),
    FIELD("/model", "input", I32, input, 3),
    FIELD("/model", "spec", TEXT, spec, MND_SPEC_MAX),
    FIELD("/model", "weights_sha256", TEXT, weights_sha256, MND_SHA256_HEX),
    FIELD("/optimizer", "n_update", I64, n_update, 1),
    FIELD("/optimizer", "name", TEXT, optimizer, sizeof((mnd_checkpoint *)0)->optimizer),
    FIELD("/optimizer", "setting", F64, setting, 8),
    FIELD("/progress", "batch_size", I64, batch_size, 1),
    FIELD("/progress", "best_accuracy", F64, best_accuracy, 1),
    FIELD("/progress", "best_epoch", I64, best_epoch, 1),
    FIELD("/progress", "data_sha256", TEXT, data_sha256, MND_SHA256_HEX),
    FIELD("/progress", "epoch", I64, epoch, 1),
    FIELD("/progress", "logical_ranks", I32, logical_ranks, 1),
    FIELD("/progress", "planned_epochs", I64, planned_epochs, 1),
    FIELD("/progress", "schedule", TEXT, schedule, sizeof((mnd_checkpoint *)0)->schedule),
    FIELD("/progress", "seed", U64, seed, 1),
    FIELD("/progress", "step", I64, step, 1),
    FIELD("/progress", "step_in_epoch", I64, step_in_epoch, 1),
    FIELD("/progress", "train_seconds", F64, train_seconds, 1),
};
enum { N_FIELDS = sizeof fields / sizeof fields[0] };

static const char *const groups[] = {"/model", "/optimizer", "/progress"};
enum { N_GROUPS = sizeof groups / sizeof groups[0] };

static void *field_at(const mnd_checkpoint *ckpt, const field *f) {
    return (char *)(uintptr_t)ckpt + f->offset;
}

/* A data set: what it is called, what it holds, and its checksum. */
typedef struct dataset {
    char path[MAX_PATH];
    value_type type;
    int ndim;
    int64_t dim[MAX_DIMS];
    const void *data;
    size_t bytes;
    int32_t index;       /* place in model order, or of the slot; -1: has no such attribute */
    const char *columns; /* NULL: has no such attribute */
    char sha256[MND_SHA256_HEX];
} dataset;

static int by_path(const void *a, const void *b) {
    return strcmp(((const dataset *)a)->path, ((const dataset *)b)->path);
}

/* --- what both directions agree on ------------------------------------------------------------ */

static bool is_name(const char *name, size_t size) {
    const size_t n = strnlen(name, size);
    return n > 0 && n < size && name[0] != '.' &&
           name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.")] ==
               '\0';
}

/* Bytes of an array, at least one element; false if a dimension is bad or the product too large. */
static bool array_bytes(int ndim, const int64_t *dim, size_t size, size_t *bytes) {
    if (ndim < 1 || ndim > MAX_DIMS) return false;
    *bytes = size;
    for (int i = 0; i < ndim; i++)
        if (dim[i] < 1 || __builtin_mul_overflow(*bytes, (size_t)dim[i], bytes)) return false;
    return *bytes <= PTRDIFF_MAX;
}

static bool is_finite(const float *x, size_t n) {
    /* By the bits and without a branch, so that the loop vectorises. */
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return bad == 0;
}

static mnd_status check_array(const mnd_ckpt_array *a, bool slot, size_t *bytes) {
    if (!is_name(a->name, sizeof a->name) ||
        (slot ? a->group[0] != '\0' : !is_name(a->group, sizeof a->group)))
        return mnd_fail(MND_RANGE, "an array of the checkpoint has a bad name");
    if (!array_bytes(a->ndim, a->dim, sizeof(float), bytes) || a->data == NULL)
        return mnd_fail(MND_RANGE, "%s/%s has no valid shape", a->group, a->name);
    return MND_OK;
}

/* Everything that mnd_checkpoint_read promises about a content. */
static mnd_status check(const mnd_checkpoint *c) {
    for (int i = 0; i < N_FIELDS; i++)
        if (fields[i].type == TEXT && memchr(field_at(c, &fields[i]), 0, fields[i].count) == NULL)
            return mnd_fail(MND_RANGE, "%s of the checkpoint is no text", fields[i].name);
    if (c->spec[0] == '\0' || c->optimizer[0] == '\0' || c->classes < 1 || c->input[0] < 1 ||
        c->input[1] < 1 || c->input[2] < 1)
        return mnd_fail(MND_RANGE, "the checkpoint's model or optimizer is not described");
    if (c->logical_ranks < 1 || c->logical_ranks > MND_MAX_LOGICAL)
        return mnd_fail(MND_RANGE, "%d is no number of logical ranks", c->logical_ranks);
    if (c->epoch < 0 || c->step < 0 || c->step_in_epoch < 0 || c->step_in_epoch > c->step ||
        c->batch_size < 1 || c->n_update < 0 || c->planned_epochs < 0 || c->best_epoch < 0 ||
        c->n_history < 0 || c->n_history > c->epoch)
        return mnd_fail(MND_RANGE, "the checkpoint's counts of steps and epochs are not possible");
    if (c->loss_sum == NULL || c->correct == NULL || (c->history == NULL && c->n_history > 0))
        return mnd_fail(MND_RANGE, "the checkpoint's progress is incomplete");
    if (c->n_array < 1 || c->n_array > MAX_ARRAYS || c->n_slot < 0 || c->n_slot > MAX_SLOTS)
        return mnd_fail(MND_RANGE, "a checkpoint cannot have %d arrays and %d slots", c->n_array,
                        c->n_slot);
    size_t total = 0, bytes;
    for (int i = 0; i < c->n_array; i++) {
        const mnd_ckpt_array *a = &c->array[i];
        mnd_status status = check_array(a, false, &bytes);
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
            return mnd_fail(MND_RANGE, "optimizer slot %s has not the size of the parameters",
                            c->slot[i].name);
    }
    return MND_OK;
}

/* Lists the data sets of a content, ordered by path; `set` has room for all. */
static mnd_status list_datasets(const mnd_checkpoint *c, dataset *set, int *n_set) {
    int n = 0;
    for (int i = 0; i < c->n_array + c->n_slot; i++) {
        const bool slot = i >= c->n_array;
        const mnd_ckpt_array *a = slot ? &c->slot[i - c->n_array] : &c->array[i];
        dataset *d = &set[n++];
        *d = (dataset){.type = F32, .ndim = a->ndim, .data = a->data};
        d->index = slot ? i - c->n_array : i;
        memcpy(d->dim, a->dim, sizeof d->dim);
        if (slot)
            snprintf(d->path, sizeof d->path, "/optimizer/%s", a->name);
        else
            snprintf(d->path, sizeof d->path, "/model/%s/%s", a->group, a->name);
    }
    set[n++] = (dataset){.path = "/progress/loss_sum",
                         .type = F64,
                         .ndim = 1,
                         .dim = {c->logical_ranks},
                         .data = c->loss_sum,
                         .index = -1};
    set[n++] = (dataset){.path = "/progress/correct",
                         .type = I64,
                         .ndim = 1,
                         .dim = {c->logical_ranks},
                         .data = c->correct,
                         .index = -1};
    set[n++] = (dataset){.path = "/progress/history",
                         .type = F64,
                         .ndim = 2,
                         .dim = {c->n_history, MND_CKPT_HISTORY},
                         .data = c->history,
                         .index = -1,
                         .columns = HISTORY_COLUMNS};
    qsort(set, (size_t)n, sizeof *set, by_path);
    for (int i = 0; i < n; i++) {
        dataset *d = &set[i];
        if (i > 0 && strcmp(set[i - 1].path, d->path) == 0)
            return mnd_fail(MND_RANGE, "two arrays of the checkpoint are both called %s", d->path);
        d->bytes = value_size(d->type);
        for (int k = 0; k < d->ndim; k++) d->bytes *= (size_t)d->dim[k];
        const mnd_status status = mnd_sha256_buffer(d->data, d->bytes, d->sha256);
        if (status != MND_OK) return status;
    }
    *n_set = n;
    return MND_OK;
}

static void hash_attribute(mnd_sha256 *hash, const char *object, const char *name,
                           const void *value, size_t bytes) {
    mnd_sha256_update(hash, object, strlen(object));
    mnd_sha256_update(hash, "@", 1);
    mnd_sha256_update(hash, name, strlen(name) + 1);
    mnd_sha256_update(hash, value, bytes);
    mnd_sha256_update(hash, "", 1);
}

/* The root checksum, as described in checkpoint.h. `set` is ordered by path. */
static mnd_status root_checksum(const mnd_checkpoint *c, const dataset *set, int n_set,
                                char hex[MND_SHA256_HEX]) {
    mnd_sha256 *hash = NULL;
    mnd_status status = mnd_sha256_create(&hash);
    if (status != MND_OK) return status;
    hash_attribute(hash, "/", "format", FORMAT_NAME, strlen(FORMAT_NAME));
    int next = 0;
    for (int g = 0; g < N_GROUPS; g++) {
        for (int i = 0; i < N_FIELDS; i++) {
            const field *f = &fields[i];
            const void *value = field_at(c, f);
            if (strcmp(f->group, groups[g]) == 0)
                hash_attribute(hash, f->group, f->name, value,
                               f->type == TEXT ? strlen(value) : value_size(f->type) * f->count);
        }
        for (; next < n_set && strncmp(set[next].path, groups[g], strlen(groups[g])) == 0; next++) {
            const dataset *d = &set[next];
            mnd_sha256_update(hash, d->path, strlen(d->path) + 1);
            mnd_sha256_update(hash, d->dim, (size_t)d->ndim * sizeof d->dim[0]);
            if (d->columns != NULL)
                hash_attribute(hash, d->path, "columns", d->columns, strlen(d->columns));
            if (d->index >= 0) hash_attribute(hash, d->path, "index", &d->index, sizeof d->index);
            hash_attribute(hash, d->path, "sha256", d->sha256, strlen(d->sha256));
        }
    }
    status = mnd_sha256_finish(hash, hex);
    mnd_sha256_destroy(&hash);
    return status;
}

/* A fixed-length text type; text of variable length would lie in HDF5's global heap. */
static hid_t text_type(size_t size) {
    const hid_t type = H5Tcopy(H5T_C_S1);
    if (type < 0) return type;
    if (H5Tset_size(type, size > 0 ? size : 1) >= 0 && H5Tset_strpad(type, H5T_STR_NULLPAD) >= 0 &&
        H5Tset_cset(type, H5T_CSET_UTF8) >= 0)
        return type;
    (void)H5Tclose(type);
    return -1;
}

/* --- writing ---------------------------------------------------------------------------------- */

static mnd_status hdf5_failed(void) {
    /* Everything happens in memory: there is no other reason for a valid content. */
    return mnd_fail(MND_NO_MEMORY, "HDF5 cannot build the checkpoint in memory");
}

static mnd_status put_attribute(hid_t object, const char *name, value_type type, const void *value,
                                size_t count) {
    mnd_status status = MND_OK;
    hid_t space = -1, attribute = -1;
    const hsize_t dim = count;
    const hid_t hid = type == TEXT ? text_type(count) : H5Tcopy(value_hid(type));
    space = type == TEXT || count == 1 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &dim, NULL);
    if (hid >= 0 && space >= 0)
        attribute = H5Acreate2(object, name, hid, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute < 0 || H5Awrite(attribute, hid, value) < 0) status = hdf5_failed();
    if (attribute >= 0 && H5Aclose(attribute) < 0) status = hdf5_failed();
    if (space >= 0) (void)H5Sclose(space);
    if (hid >= 0) (void)H5Tclose(hid);
    return status;
}

static mnd_status put_text(hid_t object, const char *name, const char *text) {
    return put_attribute(object, name, TEXT, text, strlen(text));
}

/* Creates a group without time stamp (none of them keeps one in today's format; a later one may).
 */
static hid_t create_group(hid_t file, const char *path) {
    const hid_t gcpl = H5Pcreate(H5P_GROUP_CREATE);
    if (gcpl < 0) return gcpl;
    hid_t group = -1;
    if (H5Pset_obj_track_times(gcpl, false) >= 0)
        group = H5Gcreate2(file, path, H5P_DEFAULT, gcpl, H5P_DEFAULT);
    (void)H5Pclose(gcpl);
    return group;
}

static mnd_status put_dataset(hid_t file, hid_t dcpl, const dataset *d) {
    mnd_status status = MND_OK;
    hid_t space = -1, object = -1;
    hsize_t dim[MAX_DIMS];
    for (int i = 0; i < d->ndim; i++) dim[i] = (hsize_t)d->dim[i];
    space = H5Screate_simple(d->ndim, dim, NULL);
    if (space >= 0)
        object =
            H5Dcreate2(file, d->path, value_hid(d->type), space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    if (object < 0 || (d->bytes > 0 && H5Dwrite(object, value_hid(d->type), H5S_ALL, H5S_ALL,
                                                H5P_DEFAULT, d->data) < 0)) {
        status = hdf5_failed();
        goto cleanup;
    }
    if (d->columns != NULL) MND_TRY(put_text(object, "columns", d->columns));
    if (d->index >= 0) MND_TRY(put_attribute(object, "index", I32, &d->index, 1));
    MND_TRY(put_text(object, "sha256", d->sha256));
cleanup:
    if (object >= 0 && H5Dclose(object) < 0 && status == MND_OK) status = hdf5_failed();
    if (space >= 0) (void)H5Sclose(space);
    return status;
}

static mnd_status put_groups(hid_t file, const mnd_checkpoint *ckpt) {
    for (int g = 0; g < N_GROUPS; g++) {
        const hid_t group = create_group(file, groups[g]);
        mnd_status status = group < 0 ? hdf5_failed() : MND_OK;
        for (int i = 0; i < N_FIELDS && status == MND_OK; i++) {
            const field *f = &fields[i];
            const void *value = field_at(ckpt, f);
            if (strcmp(f->group, groups[g]) == 0)
                status = put_attribute(group, f->name, f->type, value,
                                       f->type == TEXT ? strlen(value) : f->count);
        }
        if (group >= 0 && H5Gclose(group) < 0 && status == MND_OK) status = hdf5_failed();
        if (status != MND_OK) return status;
    }
    for (int i = 0; i < ckpt->n_array; i++) {
        char path[MAX_PATH];
        snprintf(path, sizeof path, "/model/%s", ckpt->array[i].group);
        const htri_t there = H5Lexists(file, path, H5P_DEFAULT);
        if (there > 0) continue;
        const hid_t group = there < 0 ? -1 : create_group(file, path);
        if (group < 0 || H5Gclose(group) < 0) return hdf5_failed();
    }
    return MND_OK;
}

mnd_status mnd_ckpt_encode(const mnd_checkpoint *ckpt, unsigned char **out, size_t *size) {
    mnd_status status = MND_OK;
    hid_t fapl = -1, fcpl = -1, dcpl = -1, file = -1;
    dataset *set = NULL;
    void *image = NULL;
    int n_set = 0;
    char hex[MND_SHA256_HEX];
    *out = NULL;
    *size = 0;
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    MND_TRY(check(ckpt));
    MND_TRY(mnd_alloc((void **)&set, (size_t)(ckpt->n_array + ckpt->n_slot + 3), sizeof *set,
                      "checkpoint"));
    MND_TRY(list_datasets(ckpt, set, &n_set));
    MND_TRY(root_checksum(ckpt, set, n_set, hex));

    /* Room for everything at once, so that the file in memory never has to move. */
    size_t room = 65536 + 4096 * (size_t)n_set;
    for (int i = 0; i < n_set; i++) room += set[i].bytes;
    /*
     * The oldest format version: its superblock carries no checksum of its own, which
     * H5Fget_file_image of HDF5 1.10 would leave wrong.
     */
    fapl = H5Pcreate(H5P_FILE_ACCESS);
    fcpl = H5Pcreate(H5P_FILE_CREATE);
    dcpl = H5Pcreate(H5P_DATASET_CREATE);
    if (fapl < 0 || fcpl < 0 || dcpl < 0 || H5Pset_fapl_core(fapl, room, false) < 0 ||
        H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) < 0 ||
        H5Pset_libver_bounds(fapl, H5F_LIBVER_EARLIEST, H5F_LIBVER_V18) < 0 ||
        H5Pset_userblock(fcpl, MND_CKPT_BLOCK) < 0 || H5Pset_obj_track_times(fcpl, false) < 0 ||
        H5Pset_layout(dcpl, H5D_CONTIGUOUS) < 0 ||
        H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_EARLY) < 0 ||
        H5Pset_fill_time(dcpl, H5D_FILL_TIME_NEVER) < 0 || H5Pset_obj_track_times(dcpl, false) < 0)
        MND_TRY(hdf5_failed());
    file = H5Fcreate("checkpoint", H5F_ACC_TRUNC, fcpl, fapl);
    if (file < 0) MND_TRY(hdf5_failed());
    MND_TRY(put_text(file, "format", FORMAT_NAME));
    MND_TRY(put_text(file, "sha256", hex));
    MND_TRY(put_groups(file, ckpt));
    for (int i = 0; i < n_set; i++) MND_TRY(put_dataset(file, dcpl, &set[i]));
    if (H5Fflush(file, H5F_SCOPE_GLOBAL) < 0) MND_TRY(hdf5_failed());
    const ssize_t n = H5Fget_file_image(file, NULL, 0);
    if (n <= 0) MND_TRY(hdf5_failed());
    image = malloc((size_t)n + MND_CKPT_BLOCK);
    if (image == NULL) MND_TRY(hdf5_failed());
    memset(image, 0, MND_CKPT_BLOCK);
    /* The image begins at HDF5's own first byte, behind the block. */
    if (H5Fget_file_image(file, (char *)image + MND_CKPT_BLOCK, (size_t)n) != n ||
        memcmp((char *)image + MND_CKPT_BLOCK, "\x89HDF\r\n\x1a\n", 8) != 0)
        MND_TRY(hdf5_failed());
    *out = image;
    *size = (size_t)n + MND_CKPT_BLOCK;
    image = NULL;
cleanup:
    if (file >= 0) (void)H5Fclose(file);
    if (dcpl >= 0) (void)H5Pclose(dcpl);
    if (fcpl >= 0) (void)H5Pclose(fcpl);
    if (fapl >= 0) (void)H5Pclose(fapl);
    free(image);
    mnd_free(set);
    return status;
}

/* --- reading ---------------------------------------------------------------------------------- */

static mnd_status damaged(const char *what) {
    return mnd_fail(MND_FORMAT, "damaged: %s is missing or wrong", what);
}

static herr_t count_attribute(hid_t object, const char *name, const H5A_info_t *info,
                              void *context) {
    (void)object;
    (void)name;
    (void)info;
    return ++*(int *)context > N_FIELDS; /* more than any object has: stop */
}

static bool has_attributes(hid_t object, int n) {
    int found = 0;
    return H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, count_attribute, &found) == 0 &&
           found == n;
}

/* The number of links of a group, or -1. */
static int64_t count_links(hid_t group) {
    H5G_info_t info;
    return H5Gget_info(group, &info) < 0 || info.nlinks > MAX_ARRAYS ? -1 : (int64_t)info.nlinks;
}

/* Reads exactly the attribute that put_attribute writes. `count` as in struct field. */
static mnd_status get_attribute(hid_t object, const char *name, value_type type, void *value,
                                size_t count) {
    mnd_status status = MND_OK;
    hid_t attribute = -1, hid = -1, space = -1, want = -1;
    hsize_t dim = 0;
    attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0) MND_TRY(damaged(name));
    hid = H5Aget_type(attribute);
    space = H5Aget_space(attribute);
    if (hid < 0 || space < 0) MND_TRY(damaged(name));
    if (type == TEXT) {
        const size_t size = H5Tget_size(hid);
        if (size < 1 || size >= count) MND_TRY(damaged(name));
        want = text_type(size);
        if (want < 0 || H5Tequal(hid, want) <= 0 || H5Sget_simple_extent_type(space) != H5S_SCALAR)
            MND_TRY(damaged(name));
        memset(value, 0, count);
        if (H5Aread(attribute, want, value) < 0) MND_TRY(damaged(name));
        /* Zeros in the middle or at the end would be cut: another text than the file's. */
        const size_t length = strlen(value);
        if (length != size && !(length == 0 && size == 1)) MND_TRY(damaged(name));
    } else {
        const int ndim = H5Sget_simple_extent_ndims(space);
        if (H5Tequal(hid, value_hid(type)) <= 0 || ndim != (count > 1) ||
            H5Sget_simple_extent_npoints(space) != (hssize_t)count ||
            (ndim == 1 && (H5Sget_simple_extent_dims(space, &dim, NULL) != 1 || dim != count)) ||
            H5Aread(attribute, value_hid(type), value) < 0)
            MND_TRY(damaged(name));
    }
cleanup:
    if (want >= 0) (void)H5Tclose(want);
    if (space >= 0) (void)H5Sclose(space);
    if (hid >= 0) (void)H5Tclose(hid);
    if (attribute >= 0) (void)H5Aclose(attribute);
    return status;
}

static mnd_status expect_text(hid_t object, const char *name, const char *expected) {
    char text[MAX_TEXT];
    const mnd_status status = get_attribute(object, name, TEXT, text, sizeof text);
    return status == MND_OK && strcmp(text, expected) != 0 ? damaged(name) : status;
}

/*
 * Reads a data set below `group` into a new buffer of at most `limit` bytes. Nothing but the plain
 * form is taken: a hard link, contiguous, inside this file. Its checksum is looked at later.
 */
static mnd_status get_dataset(hid_t group, const char *name, value_type type, size_t limit,
                              int *ndim, int64_t dim[MAX_DIMS], void **data, int32_t *index) {
    mnd_status status = MND_OK;
    hid_t object = -1, hid = -1, space = -1, dcpl = -1;
    hsize_t extent[MAX_DIMS];
    H5L_info_t link;
    if (H5Lget_info(group, name, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD)
        MND_TRY(damaged(name));
    object = H5Dopen2(group, name, H5P_DEFAULT);
    if (object < 0) MND_TRY(damaged(name));
    hid = H5Dget_type(object);
    space = H5Dget_space(object);
    dcpl = H5Dget_create_plist(object);
    if (hid < 0 || space < 0 || dcpl < 0 || H5Tequal(hid, value_hid(type)) <= 0 ||
        H5Pget_layout(dcpl) != H5D_CONTIGUOUS || H5Pget_external_count(dcpl) != 0 ||
        H5Sis_simple(space) <= 0)
        MND_TRY(damaged(name));
    *ndim = H5Sget_simple_extent_ndims(space);
    if (*ndim < 1 || *ndim > MAX_DIMS || H5Sget_simple_extent_dims(space, extent, NULL) != *ndim)
        MND_TRY(damaged(name));
    size_t bytes = value_size(type);
    for (int i = 0; i < *ndim; i++) {
        if (extent[i] > limit || __builtin_mul_overflow(bytes, (size_t)extent[i], &bytes) ||
            bytes > limit)
            MND_TRY(damaged(name));
        dim[i] = (int64_t)extent[i];
    }
    MND_TRY(mnd_alloc(data, bytes, 1, "checkpoint"));
    if (bytes > 0 && H5Dread(object, value_hid(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, *data) < 0)
        MND_TRY(damaged(name));
    if (index != NULL) MND_TRY(get_attribute(object, "index", I32, index, 1));
    const bool history = index == NULL && strcmp(name, "history") == 0;
    if (history) MND_TRY(expect_text(object, "columns", HISTORY_COLUMNS));
    if (!has_attributes(object, 1 + (index != NULL || history))) MND_TRY(damaged(name));
cleanup:
    if (dcpl >= 0) (void)H5Pclose(dcpl);
    if (space >= 0) (void)H5Sclose(space);
    if (hid >= 0) (void)H5Tclose(hid);
    if (object >= 0) (void)H5Dclose(object);
    return status;
}

/* The checksum kept in the file against the one of what was read. */
static mnd_status check_dataset(hid_t file, const dataset *d) {
    const hid_t object = H5Dopen2(file, d->path, H5P_DEFAULT);
    if (object < 0) return damaged(d->path);
    mnd_status status = expect_text(object, "sha256", d->sha256);
    if (status == MND_FORMAT)
        status = mnd_fail(MND_FORMAT, "damaged: %s has another checksum", d->path);
    (void)H5Dclose(object);
    return status;
}

/* Arrays as they come, with the place each belongs to. */
typedef struct array_list {
    mnd_ckpt_array *array; /* owned */
    int32_t *index;        /* owned */
    int n, room;
} array_list;

static void list_free(array_list *list) {
    for (int i = 0; i < list->n; i++) mnd_free(list->array[i].data);
    free(list->array);
    free(list->index);
    *list = (array_list){0};
}

/* Adds all data sets of `group`, which is called `name` ("" for the optimizer's). */
static mnd_status list_read(array_list *list, hid_t group, const char *name, size_t limit) {
    const int64_t links = count_links(group);
    if (links < 0) return damaged(name);
    for (int64_t i = 0; i < links; i++) {
        if (list->n == list->room) {
            const int room = list->room == 0 ? 16 : 2 * list->room;
            if (room > 2 * MAX_ARRAYS) return damaged("model");
            void *array = realloc(list->array, (size_t)room * sizeof *list->array);
            if (array != NULL) list->array = array;
            void *index = realloc(list->index, (size_t)room * sizeof *list->index);
            if (index != NULL) list->index = index;
            if (array == NULL || index == NULL)
                return mnd_fail(MND_NO_MEMORY, "no memory for the checkpoint's arrays");
            list->room = room;
        }
        mnd_ckpt_array *a = &list->array[list->n];
        *a = (mnd_ckpt_array){0};
        void *data = NULL;
        snprintf(a->group, sizeof a->group, "%s", name);
        const ssize_t n = H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, (hsize_t)i,
                                             a->name, sizeof a->name, H5P_DEFAULT);
        if (n < 1 || n >= (ssize_t)sizeof a->name) return damaged("the name of an array");
        const mnd_status status =
            get_dataset(group, a->name, F32, limit, &a->ndim, a->dim, &data, &list->index[list->n]);
        a->data = data;
        list->n++; /* from here on list_free sees the data */
        if (status != MND_OK) return status;
    }
    return MND_OK;
}

/* Hands the arrays over in the order of their indices, which must be 0 .. n-1. */
static mnd_status list_take(array_list *list, mnd_ckpt_array **out, int *n_out) {
    if (list->n == 0) return MND_OK;
    mnd_ckpt_array *sorted = calloc((size_t)list->n, sizeof *sorted);
    if (sorted == NULL) return mnd_fail(MND_NO_MEMORY, "no memory for the checkpoint's arrays");
    for (int i = 0; i < list->n; i++) {
        const int32_t to = list->index[i];
        if (to < 0 || to >= list->n || sorted[to].data != NULL) {
            free(sorted);
            return damaged("index");
        }
        sorted[to] = list->array[i];
    }
    *out = sorted;
    *n_out = list->n;
    list->n = 0; /* the data now belongs to `out` */
    return MND_OK;
}

static hid_t open_group(hid_t parent, const char *name) {
    H5L_info_t link;
    if (H5Lget_info(parent, name, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD) return -1;
    return H5Gopen2(parent, name, H5P_DEFAULT);
}

static mnd_status read_model(hid_t model, size_t limit, mnd_checkpoint *out) {
    mnd_status status = MND_OK;
    array_list list = {0};
    hid_t group = -1;
    const int64_t links = count_links(model);
    if (links < 1) MND_TRY(damaged("model"));
    for (int64_t i = 0; i < links; i++) {
        char name[MND_CKPT_NAME];
        const ssize_t n = H5Lget_name_by_idx(model, ".", H5_INDEX_NAME, H5_ITER_INC, (hsize_t)i,
                                             name, sizeof name, H5P_DEFAULT);
        if (n < 1 || n >= (ssize_t)sizeof name) MND_TRY(damaged("the name of a layer"));
        group = open_group(model, name);
        if (group < 0 || !has_attributes(group, 0)) MND_TRY(damaged(name));
        MND_TRY(list_read(&list, group, name, limit));
        (void)H5Gclose(group);
        group = -1;
    }
    MND_TRY(list_take(&list, &out->array, &out->n_array));
cleanup:
    if (group >= 0) (void)H5Gclose(group);
    list_free(&list);
    return status;
}

static mnd_status read_optimizer(hid_t optimizer, size_t limit, mnd_checkpoint *out) {
    array_list list = {0};
    mnd_status status = list_read(&list, optimizer, "", limit);
    if (status == MND_OK) status = list_take(&list, &out->slot, &out->n_slot);
    list_free(&list);
    return status;
}

static mnd_status read_progress(hid_t progress, size_t limit, mnd_checkpoint *out) {
    mnd_status status = MND_OK;
    int ndim = 0;
    int64_t dim[MAX_DIMS] = {0};
    if (count_links(progress) != 3) MND_TRY(damaged("progress"));
    void *data = NULL;
    status = get_dataset(progress, "loss_sum", F64, limit, &ndim, dim, &data, NULL);
    out->loss_sum = data;
    if (status == MND_OK && (ndim != 1 || dim[0] != out->logical_ranks))
        status = damaged("loss_sum");
    MND_TRY(status);
    data = NULL;
    status = get_dataset(progress, "correct", I64, limit, &ndim, dim, &data, NULL);
    out->correct = data;
    if (status == MND_OK && (ndim != 1 || dim[0] != out->logical_ranks))
        status = damaged("correct");
    MND_TRY(status);
    data = NULL;
    status = get_dataset(progress, "history", F64, limit, &ndim, dim, &data, NULL);
    out->history = data;
    out->n_history = dim[0];
    if (status == MND_OK && (ndim != 2 || dim[1] != MND_CKPT_HISTORY)) status = damaged("history");
cleanup:
    return status;
}

/*
 * HDF5 is given our buffer itself instead of three copies of it: the core driver asks these for
 * memory. Opened read-only, it never writes to it.
 */
typedef struct image_buffer {
    void *bytes;
    size_t size;
} image_buffer;

static void *image_malloc(size_t size, H5FD_file_image_op_t op, void *udata) {
    (void)op;
    const image_buffer *image = udata;
    return size == image->size ? image->bytes : NULL;
}

static void *image_memcpy(void *to, const void *from, size_t size, H5FD_file_image_op_t op,
                          void *udata) {
    (void)op;
    const image_buffer *image = udata;
    return to == from && to == image->bytes && size == image->size ? to : NULL;
}

static void *image_realloc(void *bytes, size_t size, H5FD_file_image_op_t op, void *udata) {
    (void)op;
    const image_buffer *image = udata;
    return size == image->size ? bytes : NULL;
}

static herr_t image_free(void *bytes, H5FD_file_image_op_t op, void *udata) {
    (void)bytes;
    (void)op;
    (void)udata;
    return 0;
}

static void *image_udata_copy(void *udata) { return udata; }

static herr_t image_udata_free(void *udata) {
    (void)udata;
    return 0;
}

mnd_status mnd_ckpt_decode(unsigned char *bytes, size_t size, mnd_checkpoint *out) {
    mnd_status status = MND_OK;
    hid_t fapl = -1, file = -1, group[N_GROUPS] = {-1, -1, -1};
    dataset *set = NULL;
    int n_set = 0;
    char hex[MND_SHA256_HEX];
    image_buffer image = {bytes, size};
    H5FD_file_image_callbacks_t callbacks = {image_malloc, image_memcpy,     image_realloc,
                                             image_free,   image_udata_copy, image_udata_free,
                                             &image};
    *out = (mnd_checkpoint){0};
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    fapl = H5Pcreate(H5P_FILE_ACCESS);
    if (fapl < 0 || H5Pset_fapl_core(fapl, 65536, false) < 0 ||
        H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) < 0 ||
        H5Pset_file_image_callbacks(fapl, &callbacks) < 0 ||
        H5Pset_file_image(fapl, bytes, size) < 0)
        MND_FAIL(MND_NO_MEMORY, "HDF5 cannot take the checkpoint into memory");
    file = H5Fopen("checkpoint", H5F_ACC_RDONLY, fapl);
    if (file < 0) MND_FAIL(MND_FORMAT, "damaged: HDF5 cannot open it");
    if (count_links(file) != N_GROUPS || !has_attributes(file, 2)) MND_TRY(damaged("/"));
    MND_TRY(expect_text(file, "format", FORMAT_NAME));
    for (int g = 0; g < N_GROUPS; g++) {
        int n = 0;
        group[g] = open_group(file, groups[g]);
        if (group[g] < 0) MND_TRY(damaged(groups[g]));
        for (int i = 0; i < N_FIELDS; i++) {
            const field *f = &fields[i];
            if (strcmp(f->group, groups[g]) != 0) continue;
            MND_TRY(get_attribute(group[g], f->name, f->type, field_at(out, f), f->count));
            n++;
        }
        if (!has_attributes(group[g], n)) MND_TRY(damaged(groups[g]));
    }
    MND_TRY(read_model(group[0], size, out));
    MND_TRY(read_optimizer(group[1], size, out));
    MND_TRY(read_progress(group[2], size, out));
    status = check(out);
    if (status != MND_OK) MND_FAIL(MND_FORMAT, "damaged: %s", mnd_error());
    MND_TRY(mnd_alloc((void **)&set, (size_t)(out->n_array + out->n_slot + 3), sizeof *set,
                      "checkpoint"));
    status = list_datasets(out, set, &n_set);
    if (status != MND_OK) MND_FAIL(MND_FORMAT, "damaged: %s", mnd_error());
    for (int i = 0; i < n_set; i++) MND_TRY(check_dataset(file, &set[i]));
    MND_TRY(root_checksum(out, set, n_set, hex));
    MND_TRY(expect_text(file, "sha256", hex));
cleanup:
    for (int g = 0; g < N_GROUPS; g++)
        if (group[g] >= 0) (void)H5Gclose(group[g]);
    if (file >= 0) (void)H5Fclose(file);
    if (fapl >= 0) (void)H5Pclose(fapl);
    mnd_free(set);
    if (status != MND_OK) mnd_checkpoint_free(out);
    return status;
}
