/* convert_hdf5.c - reads images and labels from HDF5 files of any layout, as h5py writes them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "convert_lzf.h"
#include "convert_source.h"
#include "h5.h"

enum {
    MAX_ARRAYS = 256,
    CACHE = 1 << 26, /* bytes of chunks that HDF5 keeps: rows of one chunk are read in turn */
    CACHE_SLOTS = 12421
};

/* The state of one array. The file is arrays->archive. */
typedef struct set_state {
    hid_t set; /* owned by the file */
    int64_t row;
} set_state;

typedef struct names {
    char *name[MAX_ARRAYS]; /* owned; "x_train" or "train/images" */
    int n;
} names;

static mnd_status set_rewind(mnd_array *a) {
    ((set_state *)a->state)->row = 0;
    return MND_OK;
}

static mnd_status set_read(mnd_array *a, int64_t rows, void *out) {
    mnd_status status = MND_OK;
    set_state *t = a->state;
    hid_t memory = -1;
    hsize_t start[MND_ARRAY_DIMS] = {(hsize_t)t->row}, size[MND_ARRAY_DIMS];
    for (int i = 0; i < a->ndim; i++) size[i] = (hsize_t)a->dim[i];
    size[0] = (hsize_t)rows;
    const hid_t space = H5Dget_space(t->set);
    memory = H5Screate_simple(a->ndim, size, NULL);
    if (space < 0 || memory < 0 ||
        H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL) < 0)
        MND_FAIL(MND_INTERNAL, "%s: HDF5 cannot select rows", a->where);
    if (H5Dread(t->set, a->bytes ? H5T_NATIVE_UINT8 : H5T_NATIVE_FLOAT, memory, space, H5P_DEFAULT,
                out) < 0)
        status = mnd_h5_fail(a->where, "read");
    t->row += rows;
cleanup:
    if (memory >= 0) (void)H5Sclose(memory);
    if (space >= 0) (void)H5Sclose(space);
    return status;
}

static void set_close(mnd_array *a) { free(a->state); }

static const mnd_array_ops set_ops = {set_rewind, set_read, NULL, set_close};

/* Layout, filters and length: what would make HDF5 fail, or return zeros for missing data. */
static mnd_status check_storage(const mnd_array *a, hid_t file, hid_t set) {
    mnd_status status = MND_OK;
    const hid_t dcpl = H5Dget_create_plist(set);
    const H5D_layout_t layout = dcpl < 0 ? H5D_LAYOUT_ERROR : H5Pget_layout(dcpl);
    if (layout < 0) MND_FAIL(MND_FORMAT, "%s: is damaged; make or fetch it again", a->where);
    if (layout == H5D_VIRTUAL || H5Pget_external_count(dcpl) != 0)
        MND_FAIL(MND_FORMAT, "%s: is %s; store the data in this file", a->where,
                 layout == H5D_VIRTUAL ? "a virtual data set" : "stored in another file");
    for (int i = 0; i < H5Pget_nfilters(dcpl); i++) {
        unsigned flags, config;
        size_t n = 0;
        char name[64] = "";
        const H5Z_filter_t filter =
            H5Pget_filter2(dcpl, (unsigned)i, &flags, &n, NULL, sizeof name, name, &config);
        if (H5Zfilter_avail(filter) <= 0)
            MND_FAIL(MND_FORMAT,
                     "%s: is compressed with filter %d%s%s, which cannot be read here; write it "
                     "with compression='gzip'",
                     a->where, (int)filter, name[0] != '\0' ? ", " : "", name);
    }
    if (layout == H5D_CONTIGUOUS) {
        const haddr_t offset = H5Dget_offset(set);
        const hsize_t bytes = H5Dget_storage_size(set);
        const int64_t length = mnd_h5_size(file);
        if (offset == HADDR_UNDEF || length < 0 || bytes > (hsize_t)length ||
            offset > (hsize_t)length - bytes)
            MND_FAIL(MND_FORMAT, "%s: truncated, damaged or never written; make or fetch it again",
                     a->where);
    }
cleanup:
    if (dcpl >= 0) (void)H5Pclose(dcpl);
    return status;
}

/* Type and shape. */
static mnd_status describe(mnd_array *a, hid_t set) {
    mnd_status status = MND_OK;
    hsize_t size[H5S_MAX_RANK] = {0};
    const hid_t type = H5Dget_type(set), space = H5Dget_space(set);
    const H5T_class_t class = type < 0 ? H5T_NO_CLASS : H5Tget_class(type);
    if (type < 0 || space < 0)
        MND_FAIL(MND_FORMAT, "%s: is damaged; make or fetch it again", a->where);
    const bool truth = class == H5T_ENUM; /* numpy's bool */
    if (class != H5T_INTEGER && class != H5T_FLOAT)
        MND_FAIL(MND_FORMAT, "%s: holds %s, not numbers; store it as uint8, with astype('uint8')",
                 a->where, truth ? "values of an enumeration (bool)" : "text or records");
    a->bytes = class == H5T_INTEGER && H5Tget_size(type) == 1 && H5Tget_sign(type) == H5T_SGN_NONE;
    a->ndim = H5Sget_simple_extent_ndims(space);
    if (a->ndim < 1 || a->ndim > MND_ARRAY_DIMS)
        MND_FAIL(MND_FORMAT, "%s: has %d dimensions; images have 3 or 4, labels have 1", a->where,
                 a->ndim);
    if (H5Sget_simple_extent_dims(space, size, NULL) != a->ndim)
        MND_FAIL(MND_FORMAT, "%s: is damaged; make or fetch it again", a->where);
    for (int i = 0; i < a->ndim; i++) {
        if (size[i] < 1 || size[i] > INT32_MAX)
            MND_FAIL(MND_FORMAT, "%s: dimension %d is %llu; 1 to %d can be used", a->where, i,
                     (unsigned long long)size[i], INT32_MAX);
        a->dim[i] = (int64_t)size[i];
    }
cleanup:
    if (space >= 0) (void)H5Sclose(space);
    if (type >= 0) (void)H5Tclose(type);
    return status;
}

static mnd_status open_set(const char *path, hid_t file, const char *name, mnd_array *a) {
    mnd_status status = MND_OK;
    set_state *t = calloc(1, sizeof *t);
    const hid_t dapl = H5Pcreate(H5P_DATASET_ACCESS);
    a->ops = &set_ops;
    a->state = t;
    if (asprintf(&a->where, "%s: /%s", path, name) < 0) a->where = NULL;
    a->name = strdup(name);
    if (t == NULL || dapl < 0 || a->where == NULL || a->name == NULL)
        MND_FAIL(MND_NO_MEMORY, "%s: no memory to convert it", path);
    (void)H5Pset_chunk_cache(dapl, CACHE_SLOTS, CACHE, 1.0);
    t->set = H5Dopen2(file, name, dapl);
    if (t->set < 0) MND_FAIL(MND_FORMAT, "%s: is damaged; make or fetch it again", a->where);
    MND_TRY(describe(a, t->set));
    MND_TRY(check_storage(a, file, t->set));
cleanup:
    if (dapl >= 0) (void)H5Pclose(dapl);
    return status;
}

/* Adds the data sets of a group to the names, and those of the groups in it, one level deep. */
static void list(hid_t group, const char *prefix, int level, names *out) {
    H5G_info_t info;
    if (H5Gget_info(group, &info) < 0) return;
    for (hsize_t i = 0; i < info.nlinks && out->n < MAX_ARRAYS; i++) {
        char name[128], *full = NULL;
        H5L_info_t link;
        const ssize_t length = H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name,
                                                  sizeof name, H5P_DEFAULT);
        /* Not links to other places: they may lead out of the file. */
        if (length <= 0 || length >= (ssize_t)sizeof name ||
            H5Lget_info(group, name, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD)
            continue;
        const hid_t object = H5Oopen(group, name, H5P_DEFAULT);
        if (object < 0 || asprintf(&full, "%s%s", prefix, name) < 0) full = NULL;
        const H5I_type_t type = object < 0 ? H5I_BADID : H5Iget_type(object);
        if (full != NULL && type == H5I_DATASET) {
            out->name[out->n++] = full;
            full = NULL;
        } else if (full != NULL && type == H5I_GROUP && level == 0) {
            char *below = NULL;
            if (asprintf(&below, "%s/", full) >= 0) {
                list(object, below, 1, out);
                free(below);
            }
        }
        free(full);
        if (object >= 0) (void)H5Oclose(object);
    }
}

static mnd_status read_class_names(mnd_source *s, hid_t file) {
    char(*text)[MND_CLASS_NAME] = calloc(MND_MAX_CLASSES, sizeof *text);
    if (text == NULL) return mnd_fail(MND_NO_MEMORY, "%s: no memory for class names", s->path);
    int n = 0;
    const mnd_status status = mnd_h5_read_strings(s->path, file, "class_names", text[0],
                                                  MND_MAX_CLASSES, sizeof *text, &n);
    for (int i = 0; status == MND_OK && i < n; i++)
        mnd_source_name(s, i + s->options->first_label, text[i]);
    free(text);
    return status;
}

static mnd_status hdf5_open(mnd_source *s) {
    mnd_status status = MND_OK;
    names found = {0};
    int chosen[MND_ARRAYS];
    hid_t *file = NULL;
    mnd_arrays *arrays = calloc(1, sizeof *arrays);
    s->state = arrays;
    file = malloc(sizeof *file);
    if (arrays == NULL || file == NULL) {
        free(file);
        return mnd_fail(MND_NO_MEMORY, "%s: no memory to convert it", s->path);
    }
    *file = -1;
    arrays->archive = file;
    MND_TRY(mnd_h5_open(s->path, "", file));
    mnd_lzf_register();
    list(*file, "", 0, &found);
    MND_TRY(mnd_arrays_choose(s, found.name, found.n, chosen));
    for (int i = 0; i < MND_ARRAYS; i++)
        if (chosen[i] >= 0)
            MND_TRY(open_set(s->path, *file, found.name[chosen[i]], &arrays->array[i]));
    MND_TRY(mnd_arrays_examine(s));
    MND_TRY(read_class_names(s, *file));
cleanup:
    for (int i = 0; i < found.n; i++) free(found.name[i]);
    return status;
}

static void hdf5_close(mnd_source *s) {
    mnd_arrays *arrays = s->state;
    if (arrays != NULL && arrays->archive != NULL) {
        mnd_h5_drop(arrays->archive);
        free(arrays->archive);
    }
    mnd_arrays_close(s);
}

const mnd_source_format mnd_source_hdf5 = {"HDF5 file",     hdf5_open,      mnd_arrays_start,
                                           mnd_arrays_next, mnd_arrays_end, hdf5_close};
