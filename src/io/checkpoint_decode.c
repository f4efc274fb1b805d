/*
 * checkpoint_decode.c - reads the HDF5 file of a checkpoint from memory. Only files that
 * checkpoint_encode.c could have written are accepted: every object, attribute, type and shape is
 * compared with the layout, and nothing may be missing or added.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_format.h"
#include "checkpoint_image.h"
#include "mnist_dist/memory.h"

static mnd_status damaged(const char *what) {
    return mnd_fail(MND_FORMAT, "damaged: %s is missing or wrong", what);
}

/* Counts attributes; a value other than 0 ends the iteration. No valid object has so many. */
static herr_t count_attribute(hid_t object, const char *name, const H5A_info_t *info,
                              void *context) {
    (void)object;
    (void)name;
    (void)info;
    return ++*(int *)context > MND_CKPT_N_FIELDS;
}

/* Whether an object has exactly n attributes. */
static bool has_attributes(hid_t object, int n) {
    int found = 0;
    return H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, count_attribute, &found) == 0 &&
           found == n;
}

/* The number of entries of a group; -1 if it cannot be read or is larger than any valid one. */
static int64_t count_links(hid_t group) {
    H5G_info_t info;
    return H5Gget_info(group, &info) < 0 || info.nlinks > MND_CKPT_MAX_ARRAYS
               ? -1
               : (int64_t)info.nlinks;
}

/* Whether `space` is what encoding writes for `count` numbers: a scalar, or one dimension. */
static bool has_count(hid_t space, size_t count) {
    hsize_t dim = 0;
    const int ndim = H5Sget_simple_extent_ndims(space);
    if (ndim != (count > 1) || H5Sget_simple_extent_npoints(space) != (hssize_t)count) return false;
    return ndim == 0 || (H5Sget_simple_extent_dims(space, &dim, NULL) == 1 && dim == count);
}

/* Reads a text of fewer than `size` bytes into out[size] and fills the rest with zeros. */
static bool read_text(hid_t attribute, hid_t stored_type, hid_t space, char *out, size_t size) {
    const size_t n = H5Tget_size(stored_type);
    if (n < 1 || n >= size || H5Sget_simple_extent_type(space) != H5S_SCALAR) return false;
    const hid_t type = mnd_ckpt_text_type(n);
    memset(out, 0, size);
    const bool good =
        type >= 0 && H5Tequal(stored_type, type) > 0 && H5Aread(attribute, type, out) >= 0;
    if (type >= 0) (void)H5Tclose(type);
    /* A zero inside the text would cut it, and so let two different files pass for the same. */
    const size_t length = good ? strlen(out) : 0;
    return good && (length == n || (length == 0 && n == 1));
}

/* Reads an attribute as put_attribute writes it. `count` as in mnd_ckpt_field. */
static mnd_status get_attribute(hid_t object, const char *name, mnd_ckpt_type type, void *value,
                                size_t count) {
    bool good = false;
    const hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0) return damaged(name);
    const hid_t stored_type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    if (stored_type >= 0 && space >= 0) {
        if (type == MND_CKPT_TEXT)
            good = read_text(attribute, stored_type, space, value, count);
        else
            good = H5Tequal(stored_type, mnd_ckpt_type_hid(type)) > 0 && has_count(space, count) &&
                   H5Aread(attribute, mnd_ckpt_type_hid(type), value) >= 0;
    }
    if (space >= 0) (void)H5Sclose(space);
    if (stored_type >= 0) (void)H5Tclose(stored_type);
    (void)H5Aclose(attribute);
    return good ? MND_OK : damaged(name);
}

static mnd_status expect_text(hid_t object, const char *name, const char *expected) {
    char text[MND_SPEC_MAX];
    const mnd_status status = get_attribute(object, name, MND_CKPT_TEXT, text, sizeof text);
    return status == MND_OK && strcmp(text, expected) != 0 ? damaged(name) : status;
}

/* --- data sets -------------------------------------------------------------------------------- */

/* What a data set must be: its type, and its attributes other than `sha256`. */
typedef struct form {
    mnd_ckpt_type type;
    bool has_index;
    const char *columns; /* NULL: the data set has no such attribute */
} form;

/* A data set that was read. */
typedef struct stored {
    int ndim;
    int64_t dim[MND_CKPT_DIMS];
    void *data; /* owned by the caller as soon as it is not NULL, also after a failure */
    int32_t index;
} stored;

/* Whether a data set has the only accepted form: this type, contiguous, inside this file. */
static bool is_plain(hid_t object, mnd_ckpt_type type) {
    const hid_t stored_type = H5Dget_type(object), dcpl = H5Dget_create_plist(object);
    const bool plain = stored_type >= 0 && dcpl >= 0 &&
                       H5Tequal(stored_type, mnd_ckpt_type_hid(type)) > 0 &&
                       H5Pget_layout(dcpl) == H5D_CONTIGUOUS && H5Pget_external_count(dcpl) == 0;
    if (dcpl >= 0) (void)H5Pclose(dcpl);
    if (stored_type >= 0) (void)H5Tclose(stored_type);
    return plain;
}

/* Reads the shape; *bytes becomes the size, which must not exceed `limit`. */
static bool get_shape(hid_t object, size_t value_size, size_t limit, stored *out, size_t *bytes) {
    hsize_t extent[MND_CKPT_DIMS];
    const hid_t space = H5Dget_space(object);
    bool good = space >= 0 && H5Sis_simple(space) > 0;
    if (good) out->ndim = H5Sget_simple_extent_ndims(space);
    good = good && out->ndim >= 1 && out->ndim <= MND_CKPT_DIMS &&
           H5Sget_simple_extent_dims(space, extent, NULL) == out->ndim;
    *bytes = value_size;
    for (int i = 0; good && i < out->ndim; i++) {
        good = extent[i] <= limit && !__builtin_mul_overflow(*bytes, (size_t)extent[i], bytes) &&
               *bytes <= limit;
        out->dim[i] = (int64_t)extent[i];
    }
    if (space >= 0) (void)H5Sclose(space);
    return good;
}

/*
 * Reads a data set of `group` into a new buffer of at most `limit` bytes. Its checksum is compared
 * later, by check_dataset.
 */
static mnd_status get_dataset(hid_t group, const char *name, const form *f, size_t limit,
                              stored *out) {
    mnd_status status = MND_OK;
    hid_t object = -1;
    H5L_info_t link;
    size_t bytes = 0;
    *out = (stored){0};
    if (H5Lget_info(group, name, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD)
        return damaged(name);
    object = H5Dopen2(group, name, H5P_DEFAULT);
    if (object < 0) return damaged(name);
    if (!is_plain(object, f->type) ||
        !get_shape(object, mnd_ckpt_type_size(f->type), limit, out, &bytes))
        MND_TRY(damaged(name));
    MND_TRY(mnd_alloc(&out->data, bytes, 1, "checkpoint"));
    if (bytes > 0 &&
        H5Dread(object, mnd_ckpt_type_hid(f->type), H5S_ALL, H5S_ALL, H5P_DEFAULT, out->data) < 0)
        MND_TRY(damaged(name));
    if (f->has_index) MND_TRY(get_attribute(object, "index", MND_CKPT_I32, &out->index, 1));
    if (f->columns != NULL) MND_TRY(expect_text(object, "columns", f->columns));
    if (!has_attributes(object, 1 + f->has_index + (f->columns != NULL))) MND_TRY(damaged(name));
cleanup:
    (void)H5Dclose(object);
    return status;
}

/* Compares the checksum stored in the file with that of the data that was read. */
static mnd_status check_dataset(hid_t file, const mnd_ckpt_dataset *d) {
    const hid_t object = H5Dopen2(file, d->path, H5P_DEFAULT);
    if (object < 0) return damaged(d->path);
    mnd_status status = expect_text(object, "sha256", d->sha256);
    if (status == MND_FORMAT)
        status = mnd_fail(MND_FORMAT, "damaged: %s has another checksum", d->path);
    (void)H5Dclose(object);
    return status;
}

/* --- lists of arrays -------------------------------------------------------------------------- */

/* Arrays in the order in which HDF5 lists them, by name, each with its place in model order. */
typedef struct array_list {
    mnd_ckpt_array *array; /* owned */
    int32_t *index;        /* owned */
    int n, capacity;
} array_list;

static void list_free(array_list *list) {
    for (int i = 0; i < list->n; i++) mnd_free(list->array[i].data);
    free(list->array);
    free(list->index);
    *list = (array_list){0};
}

/* Makes sure that one more array fits. */
static mnd_status list_grow(array_list *list) {
    if (list->n < list->capacity) return MND_OK;
    const int capacity = list->capacity == 0 ? 16 : 2 * list->capacity;
    if (capacity > 2 * MND_CKPT_MAX_ARRAYS) return damaged("model");
    void *array = realloc(list->array, (size_t)capacity * sizeof *list->array);
    if (array != NULL) list->array = array;
    void *index = realloc(list->index, (size_t)capacity * sizeof *list->index);
    if (index != NULL) list->index = index;
    if (array == NULL || index == NULL)
        return mnd_fail(MND_NO_MEMORY, "no memory for the checkpoint's arrays");
    list->capacity = capacity;
    return MND_OK;
}

/* The name of entry i of a group, ordered by name. MND_FORMAT for `what` if it is too long. */
static mnd_status get_name(hid_t group, int64_t i, const char *what, char name[MND_CKPT_NAME]) {
    const ssize_t n = H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, (hsize_t)i, name,
                                         MND_CKPT_NAME, H5P_DEFAULT);
    return n < 1 || n >= MND_CKPT_NAME ? damaged(what) : MND_OK;
}

/* Adds all data sets of `group`, whose name is `name` ("" for /optimizer). */
static mnd_status list_read(array_list *list, hid_t group, const char *name, size_t limit) {
    static const form array_form = {.type = MND_CKPT_F32, .has_index = true};
    const int64_t links = count_links(group);
    if (links < 0) return damaged(name);
    for (int64_t i = 0; i < links; i++) {
        stored s;
        mnd_status status = list_grow(list);
        if (status != MND_OK) return status;
        mnd_ckpt_array *a = &list->array[list->n];
        *a = (mnd_ckpt_array){0};
        snprintf(a->group, sizeof a->group, "%s", name);
        status = get_name(group, i, "the name of an array", a->name);
        if (status != MND_OK) return status;
        status = get_dataset(group, a->name, &array_form, limit, &s);
        a->ndim = s.ndim;
        memcpy(a->dim, s.dim, sizeof a->dim);
        a->data = s.data;
        list->index[list->n] = s.index;
        list->n++; /* also after a failure: list_free then frees the data */
        if (status != MND_OK) return status;
    }
    return MND_OK;
}

/* Moves the arrays to *out in the order of their indices, which must be 0 .. n-1. */
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
    list->n = 0; /* the data now belongs to *out */
    return MND_OK;
}

/* --- the three groups ------------------------------------------------------------------------- */

/* -1 if there is no such group, or a link to somewhere else. */
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
        MND_TRY(get_name(model, i, "the name of a layer", name));
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

/* A data set of one value per logical rank. */
static mnd_status read_per_rank(hid_t progress, const char *name, mnd_ckpt_type type, size_t limit,
                                int logical_ranks, void **out) {
    const form f = {.type = type};
    stored s;
    mnd_status status = get_dataset(progress, name, &f, limit, &s);
    if (status == MND_OK && (s.ndim != 1 || s.dim[0] != logical_ranks)) status = damaged(name);
    *out = s.data;
    return status;
}

static mnd_status read_progress(hid_t progress, size_t limit, mnd_checkpoint *out) {
    static const form history_form = {.type = MND_CKPT_F64, .columns = MND_CKPT_HISTORY_COLUMNS};
    const int ranks = out->logical_ranks;
    void *data = NULL;
    stored s;
    if (count_links(progress) != MND_CKPT_PROGRESS_SETS) return damaged("progress");
    mnd_status status = read_per_rank(progress, "loss_sum", MND_CKPT_F64, limit, ranks, &data);
    out->loss_sum = data;
    if (status != MND_OK) return status;
    status = read_per_rank(progress, "correct", MND_CKPT_I64, limit, ranks, &data);
    out->correct = data;
    if (status != MND_OK) return status;
    status = get_dataset(progress, "history", &history_form, limit, &s);
    out->history = s.data;
    out->n_history = s.dim[0];
    if (status == MND_OK && (s.ndim != 2 || s.dim[1] != MND_CKPT_HISTORY))
        status = damaged("history");
    return status;
}

/* --- the file in memory ----------------------------------------------------------------------- */

/*
 * HDF5's core driver would copy the image three times. It asks these callbacks for memory and for
 * copies instead, and they answer with the caller's own buffer each time. The file is opened
 * read-only, so that HDF5 never writes to the buffer.
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

/* Opens the file in *image, which must stay in place until the file is closed. */
static mnd_status open_image(image_buffer *image, hid_t *file) {
    H5FD_file_image_callbacks_t callbacks = {image_malloc, image_memcpy,     image_realloc,
                                             image_free,   image_udata_copy, image_udata_free,
                                             image};
    mnd_status status = MND_OK;
    const hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    *file = -1;
    if (fapl < 0 || H5Pset_fapl_core(fapl, 65536, false) < 0 ||
        H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) < 0 ||
        H5Pset_file_image_callbacks(fapl, &callbacks) < 0 ||
        H5Pset_file_image(fapl, image->bytes, image->size) < 0)
        MND_FAIL(MND_NO_MEMORY, "no memory for HDF5 to open the checkpoint");
    *file = H5Fopen("checkpoint", H5F_ACC_RDONLY, fapl);
    if (*file < 0) MND_FAIL(MND_FORMAT, "damaged: HDF5 cannot open it");
cleanup:
    if (fapl >= 0) (void)H5Pclose(fapl);
    return status;
}

/* Reads the attributes of an open group, which must have no others. */
static mnd_status read_fields(hid_t group, const char *path, mnd_checkpoint *out) {
    int n = 0;
    for (int i = 0; i < MND_CKPT_N_FIELDS; i++) {
        const mnd_ckpt_field *f = &mnd_ckpt_fields[i];
        if (strcmp(f->group, path) != 0) continue;
        if (f->optional && H5Aexists(group, f->name) == 0) continue; /* out is zeroed */
        const mnd_status status =
            get_attribute(group, f->name, f->type, mnd_ckpt_field_value(out, f), f->count);
        if (status != MND_OK) return status;
        n++;
    }
    return has_attributes(group, n) ? MND_OK : damaged(path);
}

static mnd_status read_content(hid_t file, size_t limit, mnd_checkpoint *out) {
    mnd_status status = MND_OK;
    hid_t group[MND_CKPT_N_GROUPS] = {-1, -1, -1};
    if (count_links(file) != MND_CKPT_N_GROUPS || !has_attributes(file, 2)) MND_TRY(damaged("/"));
    MND_TRY(expect_text(file, "format", MND_CKPT_FORMAT_NAME));
    for (int g = 0; g < MND_CKPT_N_GROUPS; g++) {
        group[g] = open_group(file, mnd_ckpt_groups[g]);
        if (group[g] < 0) MND_TRY(damaged(mnd_ckpt_groups[g]));
        MND_TRY(read_fields(group[g], mnd_ckpt_groups[g], out));
    }
    MND_TRY(read_model(group[0], limit, out));
    MND_TRY(read_optimizer(group[1], limit, out));
    MND_TRY(read_progress(group[2], limit, out));
cleanup:
    for (int g = 0; g < MND_CKPT_N_GROUPS; g++)
        if (group[g] >= 0) (void)H5Gclose(group[g]);
    return status;
}

/* Compares all checksums inside the HDF5 file with those of what was read. */
static mnd_status check_sums(hid_t file, const mnd_checkpoint *ckpt) {
    mnd_status status = MND_OK;
    mnd_ckpt_dataset *set = NULL;
    int n_set = 0;
    char hex[MND_SHA256_HEX];
    status = mnd_ckpt_list_datasets(ckpt, &set, &n_set);
    if (status == MND_RANGE) MND_FAIL(MND_FORMAT, "damaged: %s", mnd_error());
    MND_TRY(status);
    for (int i = 0; i < n_set; i++) MND_TRY(check_dataset(file, &set[i]));
    MND_TRY(mnd_ckpt_root_checksum(ckpt, set, n_set, hex));
    MND_TRY(expect_text(file, "sha256", hex));
cleanup:
    mnd_free(set);
    return status;
}

mnd_status mnd_ckpt_decode(unsigned char *bytes, size_t size, mnd_checkpoint *out) {
    mnd_status status = MND_OK;
    hid_t file = -1;
    image_buffer image = {bytes, size};
    *out = (mnd_checkpoint){0};
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    MND_TRY(open_image(&image, &file));
    MND_TRY(read_content(file, size, out));
    status = mnd_ckpt_check(out);
    if (status != MND_OK) MND_FAIL(MND_FORMAT, "damaged: %s", mnd_error());
    MND_TRY(check_sums(file, out));
cleanup:
    if (file >= 0) (void)H5Fclose(file);
    if (status != MND_OK) mnd_checkpoint_free(out);
    return status;
}
