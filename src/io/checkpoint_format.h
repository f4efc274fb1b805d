/*
 * checkpoint_format.h - the layout of a checkpoint file as tables and rules that encoding and
 * decoding share. Private to src/io/checkpoint_*.c; mnist_dist/checkpoint.h describes the layout.
 *
 * The files depend on each other in one direction only:
 *   checkpoint.c (files and folders) -> checkpoint_encode.c, checkpoint_decode.c (HDF5 in memory)
 *   -> checkpoint_format.c (this header).
 */
#ifndef MNIST_DIST_IO_CHECKPOINT_FORMAT_H
#define MNIST_DIST_IO_CHECKPOINT_FORMAT_H

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mnist_dist/checkpoint.h"

#define MND_CKPT_FORMAT_NAME "mnist_dist checkpoint 1"
#define MND_CKPT_HISTORY_COLUMNS "epoch loss accuracy val_loss val_accuracy seconds"

enum {
    MND_CKPT_DIMS = 4,
    MND_CKPT_MAX_ARRAYS = 1024, /* about twice the number in the deepest network */
    MND_CKPT_MAX_SLOTS = 16,
    MND_CKPT_PROGRESS_SETS = 3, /* loss_sum, correct, history */
    MND_CKPT_PATH = sizeof "/model/" + 2 * MND_CKPT_NAME,
    MND_CKPT_N_GROUPS = 3,
    MND_CKPT_N_FIELDS = 30
};

/* What an attribute or data set holds. */
typedef enum mnd_ckpt_type {
    MND_CKPT_TEXT,
    MND_CKPT_I32,
    MND_CKPT_I64,
    MND_CKPT_U64,
    MND_CKPT_F64,
    MND_CKPT_F32
} mnd_ckpt_type;

/* Bytes of one value; 1 for a text. */
size_t mnd_ckpt_type_size(mnd_ckpt_type type);

/*
 * The HDF5 type in the file, which equals the type in memory on a little-endian machine. -1 for
 * MND_CKPT_TEXT, whose HDF5 type depends on the length: see mnd_ckpt_text_type.
 */
hid_t mnd_ckpt_type_hid(mnd_ckpt_type type);

/*
 * A new HDF5 type for a text of exactly `size` bytes, or -1. Texts are of fixed length because HDF5
 * stores those of variable length in its global heap.
 */
hid_t mnd_ckpt_text_type(size_t size);

/* An attribute of one of the three groups, and the member of mnd_checkpoint with its value. */
typedef struct mnd_ckpt_field {
    const char *group, *name;
    mnd_ckpt_type type;
    size_t offset; /* of the member in mnd_checkpoint */
    size_t count;  /* numbers; for a text the size of the member, terminating zero included */
    bool optional; /* left out of the file where it (or its first number) is 0 or an empty text */
} mnd_ckpt_field;

/* Ordered by group, then by name: the order of the root checksum. */
extern const mnd_ckpt_field mnd_ckpt_fields[MND_CKPT_N_FIELDS];

/* "/model", "/optimizer", "/progress" */
extern const char *const mnd_ckpt_groups[MND_CKPT_N_GROUPS];

/* Where a field's value is stored in `ckpt`. */
void *mnd_ckpt_field_value(const mnd_checkpoint *ckpt, const mnd_ckpt_field *field);
/* Whether the file of `ckpt` has the field. */
bool mnd_ckpt_field_written(const mnd_checkpoint *ckpt, const mnd_ckpt_field *field);

/* A data set of a checkpoint, with its checksum. `data` is borrowed from the checkpoint. */
typedef struct mnd_ckpt_dataset {
    char path[MND_CKPT_PATH];
    mnd_ckpt_type type;
    int ndim;
    int64_t dim[MND_CKPT_DIMS];
    const void *data;
    size_t bytes;
    int32_t index;       /* value of the attribute `index`; -1: the data set has none */
    const char *columns; /* value of the attribute `columns`; NULL: the data set has none */
    char sha256[MND_SHA256_HEX];
} mnd_ckpt_dataset;

/*
 * Checks everything that mnd_checkpoint_read promises about a checkpoint: MND_RANGE, or MND_NUMERIC
 * for parameters that are not finite.
 */
MND_CHECKED mnd_status mnd_ckpt_check(const mnd_checkpoint *ckpt);

/*
 * Lists all data sets of a checked checkpoint, ordered by path, with their checksums. Free with
 * mnd_free. MND_RANGE if two arrays have the same path.
 */
MND_CHECKED mnd_status mnd_ckpt_list_datasets(const mnd_checkpoint *ckpt, mnd_ckpt_dataset **set,
                                              int *n_set);

/* The root checksum, as mnist_dist/checkpoint.h defines it. `set` is ordered by path. */
MND_CHECKED mnd_status mnd_ckpt_root_checksum(const mnd_checkpoint *ckpt,
                                              const mnd_ckpt_dataset *set, int n_set,
                                              char hex[MND_SHA256_HEX]);

#endif
