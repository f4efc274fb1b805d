/*
 * dataset.h - the HDF5 data file: images and labels of a training and a test split.
 *
 *   /x_train (N, height, width[, channels]) uint8     /y_train (N) uint8
 *   /x_test  (M, height, width[, channels]) uint8     /y_test  (M) uint8
 *
 * (the names of Keras' mnist.npz), contiguous. Root attributes: `format` = "mnist_dist data 1",
 * `classes` (int32), `class_names` (array of strings), `source` (where it came from) and
 * `source_sha256` (one string a source file), `data_sha256` (of x_train, y_train, x_test, y_test in
 * this order as raw bytes). A file without the attributes but with the four data sets (for instance
 * written by h5py) is accepted: the classes are then counted from the labels and the checksum is
 * "".
 *
 * Nothing here is collective: every process opens the file for itself, read-only, with HDF5's file
 * locking off (network file systems), and reads just its own rows by an independent hyperslab.
 */
#ifndef MNIST_DIST_DATASET_H
#define MNIST_DIST_DATASET_H

#include <stdbool.h>
#include <stdint.h>

#include "mnist_dist/sha256.h"
#include "mnist_dist/status.h"

#define MND_MAX_CLASSES 256
#define MND_CLASS_NAME 32

typedef enum mnd_split { MND_TRAIN, MND_TEST } mnd_split;

typedef struct mnd_dataset_info {
    int64_t count[2];            /* images by mnd_split; both > 0 and < 2^31 */
    int height, width, channels; /* of every image; channels is 1 when x has three dimensions */
    int classes;                 /* labels are 0 .. classes-1 */
    char class_name[MND_MAX_CLASSES][MND_CLASS_NAME]; /* "0".."9" where the file names none */
    char data_sha256[MND_SHA256_HEX];
    char source[256];
} mnd_dataset_info;

typedef struct mnd_dataset mnd_dataset; /* an open file; opaque */

/*
 * Opens and checks the file: names, types, ranks, equal counts, sizes against the file's length.
 * The labels' range is checked as they are read. MND_NOT_FOUND, MND_IO, MND_FORMAT, with a line
 * that names the file and says what to do.
 */
MND_CHECKED mnd_status mnd_dataset_open(const char *path, mnd_dataset **out);

/* Borrowed from the dataset. */
const mnd_dataset_info *mnd_dataset_about(const mnd_dataset *data);

/*
 * Reads images [first, first + count) into images[count * height * width * channels] and their
 * labels into labels[count] (either may be NULL). MND_RANGE for rows the split does not have,
 * MND_FORMAT for a label >= classes (naming its row), MND_IO when the file cannot be read (any
 * more).
 */
MND_CHECKED mnd_status mnd_dataset_read(mnd_dataset *data, mnd_split split, int64_t first,
                                        int64_t count, uint8_t *images, uint8_t *labels);

/*
 * Reads the whole file and compares it with data_sha256 (about 0.1 s for MNIST; nothing to do when
 * the file has none). HDF5's own checksums protect the structure of a file that this program wrote,
 * this one the images and labels. MND_FORMAT when they differ, else as mnd_dataset_read.
 */
MND_CHECKED mnd_status mnd_dataset_verify(mnd_dataset *data);

/* NULL-safe; sets *data to NULL. */
void mnd_dataset_close(mnd_dataset **data);

/*
 * Writing, streamed: the file grows beside its final name and appears under it only in
 * mnd_dataset_writer_finish (fsync, rename, fsync of the folder); until then, or after _abort,
 * nothing is left behind.
 */
typedef struct mnd_dataset_writer mnd_dataset_writer;

/* `info` gives counts, sizes, classes, class names and source; checksums are computed. */
MND_CHECKED mnd_status mnd_dataset_writer_create(const char *path, const mnd_dataset_info *info,
                                                 mnd_dataset_writer **out);
/* Records the SHA-256 of a source file under `source_sha256`, as "name sha256". */
MND_CHECKED mnd_status mnd_dataset_writer_source(mnd_dataset_writer *writer, const char *name,
                                                 const char *sha256);
/*
 * The next `count` rows of a split, in order, x and y together. The train split is written first,
 * then the test split. MND_RANGE for a label out of range or too many rows.
 */
MND_CHECKED mnd_status mnd_dataset_writer_append(mnd_dataset_writer *writer, mnd_split split,
                                                 int64_t count, const uint8_t *images,
                                                 const uint8_t *labels);
/* All rows must have come. Frees the writer in any case and sets *writer to NULL. */
MND_CHECKED mnd_status mnd_dataset_writer_finish(mnd_dataset_writer **writer);
/* Drops what was written. NULL-safe; sets *writer to NULL. */
void mnd_dataset_writer_abort(mnd_dataset_writer **writer);
/* For a signal handler that ends the process: removes the unfinished file of the writer in use. */
void mnd_dataset_writer_unlink(void);

#endif
