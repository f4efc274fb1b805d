/*
 * checkpoint.h - everything a run needs to go on as if it had never stopped, in one HDF5 file that
 * h5py and h5dump open.
 *
 *   /            attributes `format` = "mnist_dist checkpoint 1" and `sha256`, see below
 *   /model       attributes `spec`, `input` (height, width, channels), `classes`, `blas`,
 *                `weights_sha256`; one group a layer that has parameters, named "<index>_<kind>"
 *                ("03_dense", index in the spec counted from 0), with data sets `kernel`
 *                ((in, out), or (kernel height, kernel width, in, out) as Keras keeps them) and
 *                `bias` (out). float32. Attribute `index` of each: its place in model order.
 *   /optimizer   attributes `name`, `n_update` and `setting` (eight float64 as mnd_optimizer_pack
 *                makes them: kind, lr, beta1, beta2, rho, momentum, epsilon, weight decay); data
 *                sets `m`, `v` ...: one flat float32 array a slot, in model order, with the slot's
 *                number in attribute `index`.
 *   /progress    attributes `epoch`, `step`, `step_in_epoch`, `seed`, `logical_ranks` and the
 *                others of the struct below; data sets `loss_sum` and `correct` (per logical rank,
 *                of the unfinished epoch) and `history` (one row a finished epoch, its columns
 *                named in attribute `columns`).
 *
 * Numbers are little-endian; texts are of fixed length, UTF-8. The same content gives the same
 * bytes. Three checksums, so that a flipped bit anywhere is found:
 *
 *   1. The file begins with a block of 512 bytes that HDF5 leaves to its users (a "user block"):
 *      lines "mnist_dist checkpoint 1", "bytes <length of the file>" and "sha256 <of all bytes
 *      behind the block>", then zeros. `tail -c +513 FILE | sha256sum` gives the same. It is
 *      verified before HDF5 is given a single byte. A file that another program has changed or
 *      rewritten is therefore no checkpoint any more.
 *   2. Every data set has an attribute `sha256` of its elements' bytes.
 *   3. The root's attribute `sha256` covers everything else. It is taken over all objects (root,
 *      groups, data sets) in the order of their paths' bytes. For each: if it is a data set, its
 *      path, a zero byte and its dimensions as int64; then for each attribute, in the order of the
 *      names' bytes and without the root's `sha256` itself: "<path>@<name>", a zero byte, the
 *      value's bytes (a text without padding), a zero byte.
 *
 * These find damage, not forgery: like any file that a program loads, take checkpoints from people
 * you trust.
 *
 * Nothing here is collective; in a run, rank 0 writes and every rank reads for itself. One run at a
 * time writes to a folder: see mnd_checkpoint_lock.
 */
#ifndef MNIST_DIST_CHECKPOINT_H
#define MNIST_DIST_CHECKPOINT_H

#include <stdint.h>

#include "mnist_dist/sha256.h"
#include "mnist_dist/status.h"

#define MND_SPEC_MAX 1024  /* longest model spec, with its terminating zero */
#define MND_CKPT_NAME 32   /* longest name of a layer group or array */
#define MND_CKPT_HISTORY 6 /* columns of history: see mnd_epoch_record */

/* One float32 array; `data` is borrowed when writing and points into the checkpoint when read. */
typedef struct mnd_ckpt_array {
    char group[MND_CKPT_NAME]; /* "03_dense" below /model, or "" for an optimizer slot */
    char name[MND_CKPT_NAME];  /* "kernel", "bias"; "m", "v" */
    int ndim;                  /* 1 to 4 */
    int64_t dim[4];
    float *data;
} mnd_ckpt_array;

/* What is known of a finished epoch; in the file all six as float64. */
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
    char blas[128]; /* the BLAS library and kernel that computed it */
    char weights_sha256[MND_SHA256_HEX];
    int n_array;
    mnd_ckpt_array *array; /* owned by a checkpoint that was read; borrowed otherwise */
    /* /optimizer */
    char optimizer[16];
    double setting[8]; /* see optimizer.h; kept as they are */
    int64_t n_update;  /* steps the optimizer has taken */
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
    double best_accuracy; /* best val_accuracy so far, -1 before the first */
    int64_t best_epoch;
    double train_seconds; /* time spent training so far, over all starts */
    double *loss_sum;     /* (logical_ranks) */
    int64_t *correct;     /* (logical_ranks) */
    int64_t n_history;
    mnd_epoch_record *history; /* (n_history) */
} mnd_checkpoint;

/*
 * Writes DIR/ckpt-<step, 8 digits>.h5: temporary file in DIR, fsync, rename, fsync of DIR; then
 * makes the relative symbolic link DIR/latest point to it (atomically as well; a file system
 * without symbolic links goes without), then removes those ckpt-*.h5 that are not among the `keep`
 * of the highest steps (0 keeps all; the file just written is never removed). Creates DIR (not its
 * parents) if it is missing, and removes temporary files that an earlier process left there. On
 * failure nothing that was complete before is touched. `path` (may be NULL) gets the new file's
 * name. MND_IO when it cannot be written; MND_RANGE or MND_NUMERIC for a content that
 * mnd_checkpoint_read would refuse, so that a broken state never pushes out a good one.
 */
MND_CHECKED mnd_status mnd_checkpoint_write(const char *dir, const mnd_checkpoint *ckpt, int keep,
                                            char *path, size_t path_size);

/*
 * Reads and verifies one file. MND_NOT_FOUND, MND_IO, or MND_FORMAT for anything damaged, with no
 * allocation larger than the file itself. On success sizes are consistent with one another (slots
 * are as long as all arrays together, 1 <= logical_ranks <= MND_MAX_LOGICAL, n_history <= epoch),
 * counts are not negative, and all parameters are finite. Whether the arrays fit the spec is the
 * caller's to see. Free with mnd_checkpoint_free.
 */
MND_CHECKED mnd_status mnd_checkpoint_read(const char *path, mnd_checkpoint *out);

/*
 * The newest valid checkpoint of DIR: tries ckpt-*.h5 from the highest step down; each damaged one
 * is reported through `skipped` (file, why; may be NULL) and passed over. MND_NOT_FOUND when DIR
 * has no valid one or does not exist. `path` (may be NULL) gets the file's name.
 */
typedef void (*mnd_checkpoint_skipped_fn)(void *context, const char *path, const char *why);
MND_CHECKED mnd_status mnd_checkpoint_read_latest(const char *dir,
                                                  mnd_checkpoint_skipped_fn skipped, void *context,
                                                  mnd_checkpoint *out, char *path,
                                                  size_t path_size);

/*
 * Moves the ckpt-*.h5 and `latest` of DIR into DIR/earlier-<k>, k = 1, 2, ... not yet there, so
 * that a new run and an old one never mix. `moved_to` gets that folder's name, "" if there was
 * nothing.
 */
MND_CHECKED mnd_status mnd_checkpoint_set_aside(const char *dir, char *moved_to, size_t size);

/*
 * Takes DIR for this process: as long as *lock is open (close(2) it, or end) no other gets it.
 * Waits for another holder up to `patience` seconds, then MND_IO. *lock is -1 where there is no
 * such folder or its file system has no locks (flock(2)); then nothing is protected.
 */
MND_CHECKED mnd_status mnd_checkpoint_lock(const char *dir, double patience, int *lock);

/* Frees what mnd_checkpoint_read allocated and clears it; safe on a zeroed checkpoint. */
void mnd_checkpoint_free(mnd_checkpoint *ckpt);

#endif
