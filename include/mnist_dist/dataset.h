/*
 * dataset.h - the HDF5 data file: images and labels of a training and a test split.
 *
 *   /x_train (N, height, width[, channels]) uint8     /y_train (N) uint8
 *   /x_test  (M, height, width[, channels]) uint8     /y_test  (M) uint8
 *
 * (the names in Keras' mnist.npz), contiguous. Root attributes: `format` = "mnist_dist data 1",
 * `classes` (int32), `class_names` (array of strings), `source` (where the data came from),
 * `source_sha256` (one string per source file) and `data_sha256` (of the bytes of x_train, y_train,
 * x_test and y_test in this order). The attributes are optional, so that a file written by h5py,
 * for instance, can be read: then the number of classes is the largest label + 1, or the number of
 * class names if that is larger, and there is no checksum (""). Strings may have fixed or variable
 * length. A file for mnd_dataset_open_any may lack x_train and y_train.
 *
 * No function here is collective: every process opens the file read-only, without HDF5's file
 * locking (network file systems often refuse it), and reads its own rows by an independent
 * hyperslab.
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
    int64_t count[2];            /* images by mnd_split; < 2^31 */
    int height, width, channels; /* of every image; channels is 1 when x has three dimensions */
    int classes;                 /* labels are 0 .. classes-1 */
    char class_name[MND_MAX_CLASSES][MND_CLASS_NAME]; /* "0", "1" ... if the file has no names */
    char data_sha256[MND_SHA256_HEX];
    char source[256];
} mnd_dataset_info;

typedef struct mnd_dataset mnd_dataset; /* an open file; opaque */

/*
 * Opens and checks the file: names, types, dimensions, equal counts, sizes against the length of
 * the file. Labels are compared with the number of classes when they are read. MND_NOT_FOUND,
 * MND_IO or MND_FORMAT, with an error line that names the file and says what to do.
 */
MND_CHECKED mnd_status mnd_dataset_open(const char *path, mnd_dataset **out);

/* The same; a file with test images only has count[MND_TRAIN] = 0. */
MND_CHECKED mnd_status mnd_dataset_open_any(const char *path, mnd_dataset **out);

/*
 * For a network of `classes` classes: a file with fewer gets further ones, named by their numbers.
 * MND_MISMATCH if the file has more.
 */
MND_CHECKED mnd_status mnd_dataset_widen(mnd_dataset *data, int classes);

/* Borrowed from the dataset. */
const mnd_dataset_info *mnd_dataset_about(const mnd_dataset *data);

/*
 * Reads images [first, first + count) into images[count * height * width * channels] and their
 * labels into labels[count] (either may be NULL). MND_RANGE for rows that the split does not have,
 * MND_FORMAT for a label >= classes (the error line names its row), MND_IO if the file cannot be
 * read or has become shorter.
 */
MND_CHECKED mnd_status mnd_dataset_read(mnd_dataset *data, mnd_split split, int64_t first,
                                        int64_t count, uint8_t *images, uint8_t *labels);

/*
 * Reads the whole file and compares it with data_sha256 (about 0.1 s for MNIST); MND_OK at once if
 * the file has no such attribute. In a file that this program wrote, data_sha256 covers images and
 * labels, and HDF5's own checksums cover the structures around them. MND_FORMAT if the checksums
 * differ, otherwise as mnd_dataset_read.
 */
MND_CHECKED mnd_status mnd_dataset_verify(mnd_dataset *data);

/* NULL-safe; sets *data to NULL. */
void mnd_dataset_close(mnd_dataset **data);

/*
 * Writing in batches. The data goes to a temporary file in the same folder, which gets its final
 * name in mnd_dataset_writer_finish (fsync, rename, fsync of the folder). If writing fails or is
 * aborted, the temporary file is removed and a file of the final name stays as it was.
 */
typedef struct mnd_dataset_writer mnd_dataset_writer;

/* `info` provides counts, sizes, classes, class names and source; the checksum is computed. */
MND_CHECKED mnd_status mnd_dataset_writer_create(const char *path, const mnd_dataset_info *info,
                                                 mnd_dataset_writer **out);
/* Adds "name sha256" of a source file to the attribute `source_sha256`. */
MND_CHECKED mnd_status mnd_dataset_writer_source(mnd_dataset_writer *writer, const char *name,
                                                 const char *sha256);
/*
 * Appends the next `count` images of a split and their labels. The training split must be complete
 * before the test split begins. MND_RANGE for a label >= classes or too many rows.
 */
MND_CHECKED mnd_status mnd_dataset_writer_append(mnd_dataset_writer *writer, mnd_split split,
                                                 int64_t count, const uint8_t *images,
                                                 const uint8_t *labels);
/* MND_RANGE if rows are missing. Frees the writer in any case and sets *writer to NULL. */
MND_CHECKED mnd_status mnd_dataset_writer_finish(mnd_dataset_writer **writer);
/* Removes the temporary file. NULL-safe; sets *writer to NULL. */
void mnd_dataset_writer_abort(mnd_dataset_writer **writer);
/* Removes the temporary file of the current writer. For signal handlers that end the process. */
void mnd_dataset_writer_unlink(void);

#endif
