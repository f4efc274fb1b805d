/*
 * checkpoint.h - everything that a run needs to continue as if it had never stopped, in one HDF5
 * file, which h5py and h5dump can open.
 *
 *   /            attributes `format` = "mnist_dist checkpoint 1" and `sha256`, see below
 *   /model       attributes `spec`, `input` (height, width, channels), `classes`, `blas`,
 *                `weights_sha256`, `training_images` (may be missing; six float64, see
 *                mnd_picture_form); one group per layer that has parameters, named "<index>_<kind>"
 *                ("03_dense", index in the spec counted from 0), with data sets `kernel`
 *                ((in, out), or (kernel height, kernel width, in, out) as in Keras) and `bias`
 *                (out). float32. Attribute `index` of each: its place in model order.
 *   /optimizer   attributes `name`, `n_update`, `clip_norm`, `ema`, `label_smoothing` (missing: 0),
 *                `setting` (eight float64: unused, lr, beta1, beta2, rho, momentum, epsilon, weight
 *                decay; 0 where the optimizer has no setting of that name) and `more_settings`,
 *                settings of other names that are not 0, as text "nesterov=1 eta=0.5" (missing:
 *                none); data sets `m`, `v` ...: one flat float32 array per slot, in model order,
 *                with the number of the slot in attribute `index`. (A slot is an array that an
 *                optimizer keeps beside the parameters, for instance a moment of Adam.)
 *                Where `ema` is not 0, /model holds the moving average of the weights, which was
 *                evaluated, and the last slot, `weights`, the weights that training goes on with.
 *   /progress    attributes `epoch`, `step`, `step_in_epoch`, `seed`, `logical_ranks` and the
 *                others of the struct below; data sets `loss_sum` and `correct` (per logical rank,
 *                of the unfinished epoch) and `history` (one row per finished epoch; attribute
 *                `columns` names its columns).
 *
 * Numbers are little-endian; texts are of fixed length, UTF-8. The same content gives the same
 * bytes. There are three checksums, so that any flipped bit is found:
 *
 *   1. The file begins with a block of 512 bytes that HDF5 ignores (a "user block"):
 *      lines "mnist_dist checkpoint 1", "bytes <length of the file>" and "sha256 <of all bytes
 *      after the block>", then zeros. `tail -c +513 FILE | sha256sum` prints the same sum. It is
 *      verified before HDF5 reads anything. A file that another program has changed or rewritten
 *      is therefore not a checkpoint any more.
 *   2. Every data set has an attribute `sha256` of its elements' bytes.
 *   3. The root's attribute `sha256` covers everything else. It is taken over all objects (root,
 *      groups, data sets) in the order of their paths' bytes. For each: if it is a data set, its
 *      path, a zero byte and its dimensions as int64; then for each attribute, in the order of the
 *      names' bytes and without the root's `sha256` itself: "<path>@<name>", a zero byte, the
 *      value's bytes (a text without padding), a zero byte.
 *
 * They detect damage, not forgery: load only checkpoints from sources that you trust.
 *
 * No function here is collective. In a run, rank 0 writes and every rank reads by itself. Only one
 * run at a time may write to a folder: see mnd_checkpoint_lock.
 */
#ifndef MNIST_DIST_CHECKPOINT_H
#define MNIST_DIST_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "mnist_dist/picture.h"
#include "mnist_dist/sha256.h"
#include "mnist_dist/status.h"

#define MND_SPEC_MAX 1024  /* longest model spec, with its terminating zero */
#define MND_CKPT_NAME 32   /* longest name of a layer group or array */
#define MND_CKPT_HISTORY 6 /* columns of history: see mnd_epoch_record */
#define MND_CKPT_SETTINGS 8
#define MND_CKPT_WEIGHTS "weights" /* the slot where `ema` is not 0 */
#define MND_CKPT_MORE 320          /* longest more_settings, with its terminating zero */

/* One float32 array; `data` is borrowed when writing and owned by the checkpoint when read. */
typedef struct mnd_ckpt_array {
    char group[MND_CKPT_NAME]; /* "03_dense" below /model, or "" for an optimizer slot */
    char name[MND_CKPT_NAME];  /* "kernel", "bias"; "m", "v" */
    int ndim;                  /* 1 to 4 */
    int64_t dim[4];
    float *data;
} mnd_ckpt_array;

/* The results of a finished epoch; in the file all six are float64. */
typedef struct mnd_epoch_record {
    double epoch; /* counted from 1 */
    double loss, accuracy, val_loss, val_accuracy;
    double seconds;
} mnd_epoch_record;

typedef struct mnd_checkpoint {
    /* /model */
    char spec[MND_SPEC_MAX];
    int input[3]; /* height, width, channels */
    int classes;
    char blas[128]; /* the BLAS library and kernels that computed the weights */
    char weights_sha256[MND_SHA256_HEX];
    mnd_picture_form training_images; /* what they have in common; images = 0: not known */
    int n_array;
    mnd_ckpt_array *array; /* owned by a checkpoint that was read; borrowed otherwise */
    /* /optimizer */
    char optimizer[16];
    double setting[MND_CKPT_SETTINGS]; /* see above */
    char more_settings[MND_CKPT_MORE]; /* see above */
    double clip_norm;                  /* 0: no limit, also where the file does not say */
    double ema;                        /* decay of the average in `array`; 0: no average */
    double label_smoothing;            /* 0: none, also where the file does not say */
    int64_t n_update;                  /* steps the optimizer has taken */
    int n_slot;
    mnd_ckpt_array *slot; /* as `array` */
    /* /progress */
    int64_t epoch;         /* epochs finished */
    int64_t step;          /* steps taken since the start of the run */
    int64_t step_in_epoch; /* steps taken of the unfinished epoch; 0 right after an epoch */
    uint64_t seed;
    int logical_ranks;
    int64_t batch_size;
    int64_t planned_epochs; /* --epochs at the time of writing */
    char schedule[128];     /* the learning-rate schedule, as text */
    char data_sha256[MND_SHA256_HEX];
    double best_accuracy; /* val_accuracy of the best epoch; -1 before the first epoch ends */
    int64_t best_epoch;   /* by `monitor`, the first of equals; 0 before the first epoch ends */
    /* Zero or empty also where the file does not say. */
    char augment[192];      /* how training images were distorted: see mnd_augment_text */
    char monitor[16];       /* "loss": the best epoch has the lowest val_loss; "": the highest
                               val_accuracy */
    int64_t patience;       /* --patience: epochs without a better one that end the run; 0: none */
    double target_accuracy; /* val_accuracy that ends the run; 0: none */
    int64_t validation;     /* training images held out, the last ones; 0: val_* are of the test
                               images */
    double train_seconds;   /* time spent in training so far, including earlier starts */
    double *loss_sum;       /* (logical_ranks) */
    int64_t *correct;       /* (logical_ranks) */
    int64_t n_history;
    mnd_epoch_record *history; /* (n_history) */
} mnd_checkpoint;

/*
 * Writes DIR/ckpt-<step, 8 digits>.h5: temporary file in DIR, fsync, rename, fsync of DIR; then
 * makes the relative symbolic link DIR/latest point to it (also atomically; on a file system
 * without symbolic links there is no `latest`), and DIR/best to the file of the best epoch, if the
 * folder has it; then removes all ckpt-*.h5 except the `keep` with the highest steps (0 keeps all;
 * the new file and that of the best epoch are never removed). Creates DIR, but not its parents,
 * and removes temporary files left there by processes that no longer run. If writing fails,
 * earlier checkpoints stay as they are. `path` (may be NULL) gets the name of the new file. MND_IO
 * if it cannot be written; MND_RANGE or MND_NUMERIC for a content that mnd_checkpoint_read would
 * refuse, so that an invalid state never replaces a valid checkpoint.
 */
MND_CHECKED mnd_status mnd_checkpoint_write(const char *dir, const mnd_checkpoint *ckpt, int keep,
                                            char *path, size_t path_size);

/*
 * Reads and verifies one file. MND_NOT_FOUND, MND_IO, or MND_FORMAT for a damaged file; no
 * allocation is larger than the file. On success the sizes are consistent (a slot is as long as all
 * arrays together, 1 <= logical_ranks <= MND_MAX_LOGICAL, n_history <= epoch), counts are not
 * negative, and all parameters are finite. The caller checks whether the arrays fit the spec. Free
 * with mnd_checkpoint_free.
 */
MND_CHECKED mnd_status mnd_checkpoint_read(const char *path, mnd_checkpoint *out);

/*
 * Reads the newest valid checkpoint of DIR: tries ckpt-*.h5 from the highest step down, and calls
 * `skipped` (may be NULL) with the name and the error line of each damaged file. MND_NOT_FOUND if
 * DIR does not exist or has no valid checkpoint. `path` (may be NULL) gets the name of the file.
 */
typedef void (*mnd_checkpoint_skipped_fn)(void *context, const char *path, const char *why);
MND_CHECKED mnd_status mnd_checkpoint_read_latest(const char *dir,
                                                  mnd_checkpoint_skipped_fn skipped, void *context,
                                                  mnd_checkpoint *out, char *path,
                                                  size_t path_size);

/*
 * The file that a user means by `path`: the newest valid checkpoint of a folder; for a missing
 * `latest` or `best` (where symbolic links do not exist, or the link was not copied with the
 * files) the one that it would point to; any other path as it is. `skipped` as above.
 */
MND_CHECKED mnd_status mnd_checkpoint_find(const char *path, mnd_checkpoint_skipped_fn skipped,
                                           void *context, char *file, size_t file_size);

/*
 * An ensemble (train --members) has its checkpoints in DIR/member-01, DIR/member-02, ..., one
 * folder a member. mnd_checkpoint_member_dir: the name of a member's folder, counted from 1;
 * MND_RANGE if it does not fit. mnd_checkpoint_members: the numbers of the members that have
 * checkpoints, valid or not, ascending; none if DIR has checkpoints of its own, or is no folder.
 * Free *member with free().
 */
MND_CHECKED mnd_status mnd_checkpoint_member_dir(const char *dir, int member, char *path,
                                                 size_t size);
MND_CHECKED mnd_status mnd_checkpoint_members(const char *dir, int **member, int *n);

/*
 * Moves the ckpt-*.h5 of steps > `after` from DIR to DIR/earlier-<k>, where k is the first of 1, 2,
 * ... for which this folder does not exist, so that the checkpoints of two runs never mix. With
 * after < 0 all of them, and `latest` and `best`. `moved_to` gets the name of the folder, "" if
 * there was nothing to move.
 */
MND_CHECKED mnd_status mnd_checkpoint_set_aside(const char *dir, int64_t after, char *moved_to,
                                                size_t size);

/*
 * A run goes on in DIR from `ckpt`, which was read from `path`: sets all checkpoints of DIR aside
 * that are not ancestors of it. *here tells whether DIR has a file of this step with the same
 * content. Then these are the checkpoints of later steps, and `latest` and `best` become those of
 * `ckpt`; otherwise they are all, and the caller writes the first checkpoint of DIR.
 */
MND_CHECKED mnd_status mnd_checkpoint_go_back(const char *dir, const char *path,
                                              const mnd_checkpoint *ckpt, bool *here,
                                              char *moved_to, size_t size);

/* "DIR/ckpt-<step>.h5". MND_RANGE if it does not fit. */
MND_CHECKED mnd_status mnd_checkpoint_path(const char *dir, int64_t step, char *path, size_t size);
/* Whether DIR has checkpoints, valid or not. */
bool mnd_checkpoint_any(const char *dir);

/* The step of the checkpoint at the end of the best epoch; -1 before there is one. */
int64_t mnd_checkpoint_best_step(const mnd_checkpoint *ckpt);

/*
 * Locks DIR for this process until the file descriptor *lock is closed or the process ends. If
 * another process holds the lock, waits up to `timeout` seconds, then returns MND_IO. If the folder
 * does not exist or its file system has no locks (flock(2)), returns MND_OK with *lock = -1, and
 * DIR is not protected.
 */
MND_CHECKED mnd_status mnd_checkpoint_lock(const char *dir, double timeout, int *lock);

/* Frees what mnd_checkpoint_read allocated and zeroes *ckpt. Does nothing to a zeroed one. */
void mnd_checkpoint_free(mnd_checkpoint *ckpt);

#endif
