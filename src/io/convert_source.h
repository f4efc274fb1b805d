/*
 * convert_source.h - what convert.c and the readers of the formats share. Private to
 * src/io/convert*.c.
 *
 * A reader (one file per format) opens a source, says how many images of which shape it holds, and
 * then returns images and labels in order, as often as it is started again.
 */
#ifndef MNIST_DIST_IO_CONVERT_SOURCE_H
#define MNIST_DIST_IO_CONVERT_SOURCE_H

#include <stddef.h>
#include <sys/types.h>

#include "mnist_dist/convert.h"
#include "mnist_dist/dataset.h"

enum { MND_SOURCE_BLOCK = 1 << 20 /* pixels to convert at a time, at least one image */ };

typedef struct mnd_source mnd_source;

typedef struct mnd_source_format {
    const char *name; /* "IDX files", for the attribute `source` */
    /* Opens s->path and fills in what is below "by open". */
    mnd_status (*open)(mnd_source *s);
    /* Makes the first image of the split the next one. */
    mnd_status (*start)(mnd_source *s, mnd_split split);
    /*
     * The next n images, as float or uint8 (s->floats), and their labels. `images` may be NULL:
     * then only the labels are read.
     */
    mnd_status (*next)(mnd_source *s, int64_t n, void *images, int64_t *labels);
    /* After the last image and label: checks that the files end here, and names them. */
    mnd_status (*end)(mnd_source *s, mnd_dataset_writer *writer);
    /* Frees s->state; also after `open` failed. */
    void (*close)(mnd_source *s);
} mnd_source_format;

struct mnd_source {
    const char *path; /* borrowed, as the next two */
    const mnd_convert_options *options;
    mnd_convert_report *report;
    const mnd_source_format *format;
    void *state; /* of the reader */
    mnd_split split;

    /* by open */
    int64_t count[2];          /* images by mnd_split; 0: the source has no such split */
    int64_t dim[3];            /* height, width, channels of the images in the source */
    bool channels_first;       /* images are (channels, height, width) */
    bool floats;               /* pixels are float, otherwise uint8 */
    bool transpose;            /* rows and columns are to be exchanged */
    bool letters;              /* labels count from 1 if no label is 0 */
    const char *label_file[2]; /* what holds the labels, for error lines; owned by the reader */
    int n_name;                /* classes named by the source */
    char class_name[MND_MAX_CLASSES][MND_CLASS_NAME];
};

extern const mnd_source_format mnd_source_idx, mnd_source_csv, mnd_source_cifar, mnd_source_png,
    mnd_source_npz, mnd_source_hdf5;

/* The format of s->path, judged by the kind of file and its first bytes or the files in it. */
MND_CHECKED mnd_status mnd_source_find(mnd_source *s);
/* Whether a name ends in ".csv" or ".csv.gz". */
bool mnd_source_is_csv(const char *name);

/* Whether a folder holds a file with a name of IDX files. */
bool mnd_source_holds_idx(const char *folder);

/* Adds a line to s->report; those above its limit are lost. */
void mnd_source_note(mnd_source *s, const char *format, ...) MND_PRINTF(2, 3);

void mnd_source_name(mnd_source *s, int label, const char *text);

/*
 * Reads class names, one per line, into `info`, where info->classes is the number of classes in the
 * labels: convert_names.c.
 */
MND_CHECKED mnd_status mnd_source_class_names(const mnd_source *s, mnd_dataset_info *info);

/* "folder/name", to be freed; NULL without memory. */
char *mnd_source_join(const char *folder, const char *name);
const char *mnd_source_base(const char *path);

/*
 * The names in a folder that do not begin with a dot, sorted as numbers and text ("2" before "10"),
 * to be freed with mnd_source_list_free.
 */
MND_CHECKED mnd_status mnd_source_list(const char *folder, char ***name, int *n);
void mnd_source_list_free(char ***name, int n);

/* --- arrays: what IDX, npz and HDF5 have in common (convert_arrays.c) --- */

enum { MND_ARRAY_DIMS = 5 };

typedef struct mnd_array mnd_array;

typedef struct mnd_array_ops {
    mnd_status (*rewind)(mnd_array *a);
    /* The next `rows` rows: uint8 if a->bytes, otherwise float. */
    mnd_status (*read)(mnd_array *a, int64_t rows, void *out);
    /* After the last row. May be NULL. */
    mnd_status (*end)(mnd_array *a, mnd_dataset_writer *writer);
    void (*close)(mnd_array *a);
} mnd_array_ops;

struct mnd_array {
    const mnd_array_ops *ops; /* NULL: the source has no such array */
    char *where;              /* for error lines: the file, or "file: /x_train"; owned */
    char *name;               /* "x_train"; owned */
    int ndim;
    int64_t dim[MND_ARRAY_DIMS];
    bool bytes;        /* elements are uint8 */
    bool first_column; /* labels are the first of several columns (QMNIST) */
    void *state;
};

enum { MND_X_TRAIN, MND_Y_TRAIN, MND_X_TEST, MND_Y_TEST, MND_ARRAYS };

/* The state of a source of arrays: the reader puts this first into its own. */
typedef struct mnd_arrays {
    mnd_array array[MND_ARRAYS];
    void *numbers; /* a block of labels as they are in the source, owned */
    void *archive; /* of the reader */
} mnd_arrays;

/*
 * Checks the shapes of the arrays in s->state against one another and fills in what a reader fills
 * in by `open`. The others are entries of a mnd_source_format.
 */
MND_CHECKED mnd_status mnd_arrays_examine(mnd_source *s);
mnd_status mnd_arrays_start(mnd_source *s, mnd_split split);
mnd_status mnd_arrays_next(mnd_source *s, int64_t n, void *images, int64_t *labels);
mnd_status mnd_arrays_end(mnd_source *s, mnd_dataset_writer *writer);
void mnd_arrays_close(mnd_source *s);

/*
 * Selects arrays by their names: chosen[i] is an index into name[n], or -1. A pair without "train"
 * or "test" in the names counts as training data. MND_FORMAT if there is no pair of images and
 * labels; the error line lists the names.
 */
MND_CHECKED mnd_status mnd_arrays_choose(mnd_source *s, char *const *name, int n,
                                         int chosen[MND_ARRAYS]);

/* Types of elements in files; the size is in the low half of the number. */
typedef enum mnd_element {
    MND_U1 = 0x101,
    MND_I1 = 0x201,
    MND_U2 = 0x102,
    MND_I2 = 0x202,
    MND_U4 = 0x104,
    MND_I4 = 0x204,
    MND_U8 = 0x108,
    MND_I8 = 0x208,
    MND_F4 = 0x304,
    MND_F8 = 0x308
} mnd_element;

/* Reads the next `bytes` bytes of an array as they are in its file. */
typedef mnd_status mnd_bytes_fn(mnd_array *a, void *out, size_t bytes);

/* Reads n elements by `read`: as they are if a->bytes, otherwise into floats. */
MND_CHECKED mnd_status mnd_array_elements(mnd_array *a, mnd_bytes_fn *read, mnd_element type,
                                          bool big_endian, size_t n, void *out);

#endif
