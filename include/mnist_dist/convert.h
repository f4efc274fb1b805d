/*
 * convert.h - makes a data file (dataset.h) of images that users have in other formats.
 *
 * A folder:
 *
 *   IDX files, as MNIST has them, raw or gzip: train-images, train-labels, t10k-images (or
 *     test-images) and t10k-labels (or test-labels), each followed by "-idxN-ubyte" (or "-int",
 *     "-float", or with a dot). A prefix as in "emnist-letters-train-images-idx3-ubyte" is
 *     accepted; where several prefixes occur, as in EMNIST's archive, `set` selects one. A folder
 *     with the name of a file may hold that file (Kaggle's archive). QMNIST's labels are read (the
 *     first column).
 *   CSV files *train*.csv and *test*.csv: one image a line, its label in the first or last column.
 *   CIFAR-10 or CIFAR-100 in the binary version.
 *   PNG files in one folder per class, with or without the folders train and test above them.
 * A file: CSV, raw or gzip; Keras' mnist.npz and others by numpy.savez; HDF5, for instance by h5py,
 *   chunked or compressed, with pixels and labels of any type of number.
 *
 * Arrays in npz and HDF5 are found by their names: x, images or data, and y, labels or targets,
 * with train or test. Images are (count, height, width[, channels]), (count, channels, height,
 * width) or (count, pixels) if square. Labels are (count), (count, 1) or one-hot (count, classes).
 *
 * The source is read in blocks: memory does not grow with it. Pixels become uint8: 0 to 255 stay as
 * they are; fractions 0 to 1 are multiplied by 255. A uint8 source with pixels 0 and 1 only is
 * refused, because fractions that were stored as uint8 are black.
 *
 * Class names come from the first of these that exists: class-names.txt in the folder, one name a
 * line (an empty line leaves the number; it may name more classes than labels use); names in the
 * source (EMNIST's "...-mapping.txt", CIFAR's list, the attribute `class_names` of HDF5, the names
 * of the folders of PNG files); the names of Fashion-MNIST or KMNIST if the folder's name contains
 * "fashion" or "kmnist" and there are ten classes; otherwise the names are numbers.
 */
#ifndef MNIST_DIST_CONVERT_H
#define MNIST_DIST_CONVERT_H

#include <stdbool.h>

#include "mnist_dist/idx.h"
#include "mnist_dist/status.h"

#define MND_CONVERT_NOTES 12

typedef struct mnd_convert_options {
    const char *set;      /* of EMNIST's archive: "letters"; NULL: there must be only one */
    const char *channels; /* "first", "last" or NULL or "auto": judged by the dimensions */
    bool transpose;       /* exchange rows and columns of every image */
    bool as_is; /* no automatic correction of EMNIST: images are transposed, letters count from 1 */
    int classes;     /* number of classes; 0: the largest label + 1, if that is plausible */
    int first_label; /* the label of class 0 */
    double scale;    /* factor for every pixel; 0: judged by the range */
    int test_every;  /* every n-th image becomes a test image where the source has none; 0: 7 */
} mnd_convert_options;

/* What the user should know of a conversion that succeeded: one line each. */
typedef struct mnd_convert_report {
    int n_note;
    char note[MND_CONVERT_NOTES][256];
} mnd_convert_report;

/*
 * Converts `source` to the HDF5 file `target`, which is replaced only when the new one is complete.
 * A source with test images only gives a file for `evaluate`, without x_train and y_train.
 *
 * Labels are 0 to 255. A label far outside the others is probably damage: unless options->classes
 * says how many classes there are, MND_FORMAT if more classes would have no image than have one, or
 * if a label above a gap is a hundred times rarer than the mean.
 *
 * `options` and `report` may be NULL. Not collective: to be called by one process.
 */
MND_CHECKED mnd_status mnd_convert(const char *source, const char *target,
                                   const mnd_convert_options *options, mnd_convert_report *report,
                                   mnd_progress_fn progress, void *context);

#endif
