/* checkpoint_encode.c - builds the HDF5 file of a checkpoint in memory. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_format.h"
#include "checkpoint_image.h"
#include "h5.h"
#include "mnist_dist/memory.h"

/* For a checked content, built in memory, lack of memory is the only cause left. */
static mnd_status hdf5_failed(void) {
    return mnd_fail(MND_NO_MEMORY, "HDF5 cannot build the checkpoint in memory");
}

/*
 * `count` is the number of values (1 gives a scalar attribute, more a one-dimensional one), or the
 * length of a text.
 */
static mnd_status put_attribute(hid_t object, const char *name, mnd_ckpt_type type,
                                const void *value, size_t count) {
    mnd_status status = MND_OK;
    hid_t space = -1, attribute = -1;
    const hsize_t dim = count;
    const hid_t hid =
        type == MND_CKPT_TEXT ? mnd_ckpt_text_type(count) : H5Tcopy(mnd_ckpt_type_hid(type));
    space = type == MND_CKPT_TEXT || count == 1 ? H5Screate(H5S_SCALAR)
                                                : H5Screate_simple(1, &dim, NULL);
    if (hid >= 0 && space >= 0)
        attribute = H5Acreate2(object, name, hid, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute < 0 || H5Awrite(attribute, hid, value) < 0) status = hdf5_failed();
    if (attribute >= 0 && H5Aclose(attribute) < 0) status = hdf5_failed();
    if (space >= 0) (void)H5Sclose(space);
    if (hid >= 0) (void)H5Tclose(hid);
    return status;
}

static mnd_status put_text(hid_t object, const char *name, const char *text) {
    return put_attribute(object, name, MND_CKPT_TEXT, text, strlen(text));
}

/*
 * Creates a group without time stamps, so that equal checkpoints give equal bytes. (The file format
 * used here has none for groups; a later one may.)
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

static mnd_status put_dataset(hid_t file, hid_t dcpl, const mnd_ckpt_dataset *d) {
    mnd_status status = MND_OK;
    hid_t space = -1, object = -1;
    hsize_t dim[MND_CKPT_DIMS];
    for (int i = 0; i < d->ndim; i++) dim[i] = (hsize_t)d->dim[i];
    space = H5Screate_simple(d->ndim, dim, NULL);
    if (space >= 0)
        object = H5Dcreate2(file, d->path, mnd_ckpt_type_hid(d->type), space, H5P_DEFAULT, dcpl,
                            H5P_DEFAULT);
    if (object < 0 || (d->bytes > 0 && H5Dwrite(object, mnd_ckpt_type_hid(d->type), H5S_ALL,
                                                H5S_ALL, H5P_DEFAULT, d->data) < 0)) {
        status = hdf5_failed();
        goto cleanup;
    }
    if (d->columns != NULL) MND_TRY(put_text(object, "columns", d->columns));
    if (d->index >= 0) MND_TRY(put_attribute(object, "index", MND_CKPT_I32, &d->index, 1));
    MND_TRY(put_text(object, "sha256", d->sha256));
cleanup:
    if (object >= 0 && H5Dclose(object) < 0 && status == MND_OK) status = hdf5_failed();
    if (space >= 0) (void)H5Sclose(space);
    return status;
}

/* One of the three groups below the root, with its attributes. */
static mnd_status put_group(hid_t file, const char *path, const mnd_checkpoint *ckpt) {
    const hid_t group = create_group(file, path);
    mnd_status status = group < 0 ? hdf5_failed() : MND_OK;
    for (int i = 0; i < MND_CKPT_N_FIELDS && status == MND_OK; i++) {
        const mnd_ckpt_field *f = &mnd_ckpt_fields[i];
        const void *value = mnd_ckpt_field_value(ckpt, f);
        if (strcmp(f->group, path) == 0 && mnd_ckpt_field_written(ckpt, f))
            status = put_attribute(group, f->name, f->type, value,
                                   f->type == MND_CKPT_TEXT ? strlen(value) : f->count);
    }
    if (group >= 0 && H5Gclose(group) < 0 && status == MND_OK) status = hdf5_failed();
    return status;
}

/* One group below /model per layer that has arrays. */
static mnd_status put_layer_groups(hid_t file, const mnd_checkpoint *ckpt) {
    for (int i = 0; i < ckpt->n_array; i++) {
        char path[MND_CKPT_PATH];
        snprintf(path, sizeof path, "/model/%s", ckpt->array[i].group);
        const htri_t exists = H5Lexists(file, path, H5P_DEFAULT);
        if (exists > 0) continue;
        const hid_t group = exists < 0 ? -1 : create_group(file, path);
        if (group < 0 || H5Gclose(group) < 0) return hdf5_failed();
    }
    return MND_OK;
}

/*
 * Creates an HDF5 file in memory that reserves `capacity` bytes at once, so that HDF5 never has to
 * move it. Its format is the oldest version: the superblock of that version has no checksum, which
 * H5Fget_file_image of HDF5 1.10 would leave wrong.
 */
static mnd_status create_file(size_t capacity, hid_t *file) {
    const hid_t fapl = H5Pcreate(H5P_FILE_ACCESS), fcpl = H5Pcreate(H5P_FILE_CREATE);
    *file = -1;
    if (fapl >= 0 && fcpl >= 0 && H5Pset_fapl_core(fapl, capacity, false) >= 0 &&
        H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) >= 0 &&
        H5Pset_libver_bounds(fapl, H5F_LIBVER_EARLIEST, H5F_LIBVER_V18) >= 0 &&
        H5Pset_userblock(fcpl, MND_CKPT_BLOCK) >= 0 && H5Pset_obj_track_times(fcpl, false) >= 0)
        *file = H5Fcreate("checkpoint", H5F_ACC_TRUNC, fcpl, fapl);
    if (fcpl >= 0) (void)H5Pclose(fcpl);
    if (fapl >= 0) (void)H5Pclose(fapl);
    return *file < 0 ? hdf5_failed() : MND_OK;
}

/* Copies the file out of HDF5, after MND_CKPT_BLOCK zeros. Free *out with free(). */
static mnd_status copy_image(hid_t file, unsigned char **out, size_t *size) {
    if (H5Fflush(file, H5F_SCOPE_GLOBAL) < 0) return hdf5_failed();
    const ssize_t n = H5Fget_file_image(file, NULL, 0);
    if (n <= 0) return hdf5_failed();
    unsigned char *image = malloc((size_t)n + MND_CKPT_BLOCK);
    if (image == NULL) return hdf5_failed();
    memset(image, 0, MND_CKPT_BLOCK);
    /* HDF5 leaves the user block out of the image: it begins with HDF5's own signature. */
    if (H5Fget_file_image(file, image + MND_CKPT_BLOCK, (size_t)n) != n ||
        memcmp(image + MND_CKPT_BLOCK, "\x89HDF\r\n\x1a\n", 8) != 0) {
        free(image);
        return hdf5_failed();
    }
    *out = image;
    *size = (size_t)n + MND_CKPT_BLOCK;
    return MND_OK;
}

mnd_status mnd_ckpt_encode(const mnd_checkpoint *ckpt, unsigned char **out, size_t *size) {
    mnd_status status = MND_OK;
    hid_t dcpl = -1, file = -1;
    mnd_ckpt_dataset *set = NULL;
    int n_set = 0;
    char hex[MND_SHA256_HEX];
    *out = NULL;
    *size = 0;
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    MND_TRY(mnd_ckpt_check(ckpt));
    MND_TRY(mnd_ckpt_list_datasets(ckpt, &set, &n_set));
    MND_TRY(mnd_ckpt_root_checksum(ckpt, set, n_set, hex));
    size_t capacity = 65536 + 4096 * (size_t)n_set; /* for HDF5's own structures */
    for (int i = 0; i < n_set; i++) capacity += set[i].bytes;
    MND_TRY(create_file(capacity, &file));
    dcpl = mnd_h5_plain_dcpl();
    if (dcpl < 0) MND_TRY(hdf5_failed());
    MND_TRY(put_text(file, "format", MND_CKPT_FORMAT_NAME));
    MND_TRY(put_text(file, "sha256", hex));
    for (int g = 0; g < MND_CKPT_N_GROUPS; g++) MND_TRY(put_group(file, mnd_ckpt_groups[g], ckpt));
    MND_TRY(put_layer_groups(file, ckpt));
    for (int i = 0; i < n_set; i++) MND_TRY(put_dataset(file, dcpl, &set[i]));
    MND_TRY(copy_image(file, out, size));
cleanup:
    if (file >= 0) (void)H5Fclose(file);
    if (dcpl >= 0) (void)H5Pclose(dcpl);
    mnd_free(set);
    return status;
}
