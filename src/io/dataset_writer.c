/* dataset_writer.c - writes data files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "atomic_file.h"
#include "dataset_format.h"
#include "h5.h"
#include "mnist_dist/folder.h"

enum {
    MAX_SOURCES = 16,       /* source files */
    SOURCE_LINE = 384,      /* "name sha256" of one */
    METADATA_SIZE = 1 << 16 /* more than HDF5's structures in a file of this format take */
};

struct mnd_dataset_writer {
    char *path;      /* owned */
    char *temporary; /* owned */
    hid_t file;      /* owned; closing it closes the data sets too */
    hid_t x[2], y[2];
    int64_t done[2]; /* rows written so far, by split */
    int split;       /* the split that is being written */
    bool damaged;    /* an append failed: the file must not be finished */
    mnd_sha256 *hash;
    mnd_dataset_info info;
    int n_source;
    char source[MAX_SOURCES][SOURCE_LINE];
};

/* The temporary file of the current writer, for mnd_dataset_writer_unlink. */
static char *volatile in_progress;

void mnd_dataset_writer_unlink(void) {
    const char *path = in_progress;
    if (path != NULL) (void)unlink(path);
}

static mnd_status create_array(mnd_dataset_writer *w, const char *name, int ndim,
                               const hsize_t *dim, hid_t *out) {
    mnd_status status = MND_OK;
    const hid_t dcpl = mnd_h5_plain_dcpl();
    const hid_t space = H5Screate_simple(ndim, dim, NULL);
    if (dcpl < 0 || space < 0)
        MND_FAIL(MND_INTERNAL, "%s: HDF5 cannot create a data set of this shape", w->path);
    *out = H5Dcreate2(w->file, name, H5T_STD_U8LE, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    if (*out < 0) status = mnd_h5_fail(w->path, "write");
cleanup:
    if (space >= 0) (void)H5Sclose(space);
    if (dcpl >= 0) (void)H5Pclose(dcpl);
    return status;
}

/* Refuses a file larger than the free space before anything is written. */
static mnd_status check_disk_space(const char *path, const char *temporary, int64_t bytes) {
    struct statvfs fs;
    if (statvfs(temporary, &fs) != 0) return MND_OK; /* unknown: writing reports a full disk */
    const double available = (double)fs.f_bavail * (double)fs.f_frsize;
    if (fs.f_blocks == 0 || available >= (double)bytes) return MND_OK;
    return mnd_fail(MND_IO,
                    "%s: needs %.1f MB, but its disk has only %.1f MB left; free some space", path,
                    (double)bytes / 1e6, available / 1e6);
}

mnd_status mnd_dataset_writer_create(const char *path, const mnd_dataset_info *info,
                                     mnd_dataset_writer **out) {
    mnd_status status = MND_OK;
    *out = NULL;
    if (info->classes < 1 || info->classes > MND_MAX_CLASSES)
        return mnd_fail(MND_FORMAT, "%s: %d classes; 1 to %d can be stored", path, info->classes,
                        MND_MAX_CLASSES);
    mnd_dataset_writer *w = calloc(1, sizeof *w);
    if (w == NULL) return mnd_fail(MND_NO_MEMORY, "%s: no memory to write it", path);
    w->file = -1;
    w->info = *info;
    MND_TRY(mnd_dataset_check_sizes(path, info));
    const size_t size = strlen(path) + 64; /* of the temporary name */
    w->path = strdup(path);
    w->temporary = malloc(size);
    if (w->path == NULL || w->temporary == NULL)
        MND_FAIL(MND_NO_MEMORY, "%s: no memory to write it", path);
    w->temporary[0] = '\0';
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        MND_FAIL(MND_IO, "%s: is a folder; give the name of a file", path);
    MND_TRY(mnd_folder_make_parents(path));
    MND_TRY(mnd_sha256_create(&w->hash));
    MND_TRY(mnd_atomic_name(path, w->temporary, size));
    in_progress = w->temporary;
    status = mnd_h5_create(w->temporary, &w->file);
    if (status != MND_OK) {
        /* Names the file that the user asked for instead of the temporary one. */
        const char *why = strstr(mnd_error(), ": ");
        MND_FAIL(status, "%s%s", path, why != NULL ? why : "");
    }
    int64_t bytes = METADATA_SIZE;
    for (int s = 0; s < 2; s++) bytes += info->count[s] * (mnd_dataset_image_size(info) + 1);
    MND_TRY(check_disk_space(path, w->temporary, bytes));
    MND_TRY(mnd_h5_reserve(path, w->file, bytes));
    for (int s = 0; s < 2; s++) {
        if (info->count[s] == 0) continue; /* test images only */
        const hsize_t dim[4] = {(hsize_t)info->count[s], (hsize_t)info->height,
                                (hsize_t)info->width, (hsize_t)info->channels};
        MND_TRY(create_array(w, mnd_dataset_x_name[s], info->channels > 1 ? 4 : 3, dim, &w->x[s]));
        MND_TRY(create_array(w, mnd_dataset_y_name[s], 1, dim, &w->y[s]));
    }
    *out = w;
    return MND_OK;
cleanup:
    mnd_dataset_writer_abort(&w);
    return status;
}

mnd_status mnd_dataset_writer_source(mnd_dataset_writer *w, const char *name, const char *sha256) {
    if (w->n_source == MAX_SOURCES)
        return mnd_fail(MND_RANGE, "%s: more than %d source files", w->path, MAX_SOURCES);
    const int n = snprintf(w->source[w->n_source], SOURCE_LINE, "%s %s", name, sha256);
    if (n < 0 || n >= SOURCE_LINE) return mnd_fail(MND_RANGE, "%s: the name is too long", name);
    w->n_source++;
    return MND_OK;
}

static mnd_status write_rows(mnd_dataset_writer *w, hid_t array, int ndim, int64_t count,
                             const uint8_t *in) {
    mnd_status status = MND_OK;
    hid_t memory = -1;
    const hsize_t start[4] = {(hsize_t)w->done[w->split]};
    const hsize_t size[4] = {(hsize_t)count, (hsize_t)w->info.height, (hsize_t)w->info.width,
                             (hsize_t)w->info.channels};
    const hid_t space = H5Dget_space(array);
    memory = H5Screate_simple(ndim, size, NULL);
    if (space < 0 || memory < 0 ||
        H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL) < 0)
        MND_FAIL(MND_INTERNAL, "%s: HDF5 cannot select the rows to write", w->path);
    if (H5Dwrite(array, H5T_NATIVE_UINT8, memory, space, H5P_DEFAULT, in) < 0)
        status = mnd_h5_fail(w->path, "write");
cleanup:
    if (memory >= 0) (void)H5Sclose(memory);
    if (space >= 0) (void)H5Sclose(space);
    return status;
}

/*
 * Adds the labels of a complete split to the checksum, which covers first all images of the split,
 * then all labels. Images and labels are appended in alternation, so the labels are read back from
 * the file here instead of being kept in memory.
 */
static mnd_status hash_labels(mnd_dataset_writer *w, int s) {
    mnd_status status = MND_OK;
    hid_t space = -1, memory = -1;
    uint8_t *buffer = malloc(MND_DATASET_CHUNK);
    if (buffer == NULL) return mnd_fail(MND_NO_MEMORY, "%s: no memory for the checksum", w->path);
    for (int64_t row = 0; row < w->info.count[s]; row += MND_DATASET_CHUNK) {
        const int64_t left = w->info.count[s] - row;
        const hsize_t start = (hsize_t)row,
                      n = (hsize_t)(left < MND_DATASET_CHUNK ? left : MND_DATASET_CHUNK);
        space = H5Dget_space(w->y[s]);
        memory = H5Screate_simple(1, &n, NULL);
        if (space < 0 || memory < 0 ||
            H5Sselect_hyperslab(space, H5S_SELECT_SET, &start, NULL, &n, NULL) < 0 ||
            H5Dread(w->y[s], H5T_NATIVE_UINT8, memory, space, H5P_DEFAULT, buffer) < 0)
            MND_FAIL(MND_IO, "%s: cannot read back the labels", w->path);
        mnd_sha256_update(w->hash, buffer, (size_t)n);
        (void)H5Sclose(memory);
        (void)H5Sclose(space);
        memory = space = -1;
    }
cleanup:
    if (memory >= 0) (void)H5Sclose(memory);
    if (space >= 0) (void)H5Sclose(space);
    free(buffer);
    return status;
}

mnd_status mnd_dataset_writer_append(mnd_dataset_writer *w, mnd_split split, int64_t count,
                                     const uint8_t *images, const uint8_t *labels) {
    mnd_status status = MND_OK;
    if (count == 0) return MND_OK;
    if (w->damaged) MND_FAIL(MND_IO, "%s: an earlier write to it failed", w->path);
    if (split == MND_TEST && w->split == MND_TRAIN && w->done[0] == w->info.count[0]) {
        MND_TRY(hash_labels(w, MND_TRAIN));
        w->split = MND_TEST;
    }
    if ((int)split != w->split)
        MND_FAIL(MND_RANGE, "%s: all training images must be written before the test images",
                 w->path);
    if (count < 0 || count > w->info.count[split] - w->done[split])
        MND_FAIL(MND_RANGE, "%s: more than the %lld images that were announced for /%s", w->path,
                 (long long)w->info.count[split], mnd_dataset_x_name[split]);
    for (int64_t i = 0; i < count; i++)
        if (labels[i] >= w->info.classes)
            MND_FAIL(MND_RANGE, "%s: label %lld of /%s is %d, but there are only %d classes",
                     w->path, (long long)(w->done[split] + i), mnd_dataset_y_name[split], labels[i],
                     w->info.classes);
    MND_TRY(write_rows(w, w->x[split], w->info.channels > 1 ? 4 : 3, count, images));
    MND_TRY(write_rows(w, w->y[split], 1, count, labels));
    mnd_sha256_update(w->hash, images, (size_t)(count * mnd_dataset_image_size(&w->info)));
    w->done[split] += count;
cleanup:
    if (status != MND_OK) w->damaged = true;
    return status;
}

static mnd_status write_int(mnd_dataset_writer *w, const char *name, int value) {
    mnd_status status = MND_OK;
    const int32_t x = value;
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attribute =
        space < 0 ? -1 : H5Acreate2(w->file, name, H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute < 0 || H5Awrite(attribute, H5T_NATIVE_INT32, &x) < 0)
        status = mnd_h5_fail(w->path, "write");
    if (attribute >= 0) (void)H5Aclose(attribute);
    if (space >= 0) (void)H5Sclose(space);
    return status;
}

static mnd_status write_attributes(mnd_dataset_writer *w) {
    mnd_status status = MND_OK;
    mnd_dataset_info *info = &w->info;
    char format[] = MND_DATASET_FORMAT;
    info->source[sizeof info->source - 1] = '\0';
    MND_TRY(mnd_h5_write_strings(w->path, w->file, "format", format, -1, sizeof format));
    MND_TRY(write_int(w, "classes", info->classes));
    MND_TRY(mnd_h5_write_strings(w->path, w->file, "class_names", info->class_name[0],
                                 info->classes, sizeof info->class_name[0]));
    MND_TRY(mnd_h5_write_strings(w->path, w->file, "source", info->source, -1,
                                 strlen(info->source) + 1));
    if (w->n_source > 0)
        MND_TRY(mnd_h5_write_strings(w->path, w->file, "source_sha256", w->source[0], w->n_source,
                                     SOURCE_LINE));
    MND_TRY(mnd_h5_write_strings(w->path, w->file, "data_sha256", info->data_sha256, -1,
                                 MND_SHA256_HEX));
cleanup:
    return status;
}

mnd_status mnd_dataset_writer_finish(mnd_dataset_writer **writer) {
    mnd_status status = MND_OK;
    mnd_dataset_writer *w = *writer;
    if (w->damaged) MND_FAIL(MND_IO, "%s: an earlier write to it failed", w->path);
    for (int s = 0; s < 2; s++)
        if (w->done[s] != w->info.count[s])
            MND_FAIL(MND_RANGE, "%s: /%s got %lld of its %lld images", w->path,
                     mnd_dataset_x_name[s], (long long)w->done[s], (long long)w->info.count[s]);
    MND_TRY(hash_labels(w, MND_TEST));
    MND_TRY(mnd_sha256_finish(w->hash, w->info.data_sha256));
    MND_TRY(write_attributes(w));
    MND_TRY(mnd_h5_close(w->path, &w->file));
    status = mnd_atomic_commit(w->temporary, w->path);
cleanup:
    mnd_dataset_writer_abort(writer);
    return status;
}

void mnd_dataset_writer_abort(mnd_dataset_writer **writer) {
    mnd_dataset_writer *w = *writer;
    if (w == NULL) return;
    mnd_h5_drop(&w->file);
    if (w->temporary != NULL && w->temporary[0] != '\0') (void)unlink(w->temporary);
    if (in_progress == w->temporary) in_progress = NULL;
    mnd_sha256_destroy(&w->hash);
    free(w->temporary);
    free(w->path);
    free(w);
    *writer = NULL;
}
