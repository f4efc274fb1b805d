/* snapshot.h - between the running state and a checkpoint. */
#ifndef MNIST_DIST_TRAIN_SNAPSHOT_H
#define MNIST_DIST_TRAIN_SNAPSHOT_H

#include <stdbool.h>

#include "mnist_dist/checkpoint.h"
#include "mnist_dist/model.h"
#include "mnist_dist/optimizer.h"

/*
 * Fills ckpt->spec, ->input, ->classes and allocates ->array (mnd_free) for the model's parameters;
 * the arrays' data point into param.
 */
MND_CHECKED mnd_status mnd_snapshot_describe(const mnd_model *model, const mnd_shape *input,
                                             int classes, float *param, mnd_checkpoint *ckpt);

/* Copies the parameters of a checkpoint; MND_MISMATCH unless its arrays are the model's. */
MND_CHECKED mnd_status mnd_snapshot_load(const mnd_model *model, const mnd_checkpoint *ckpt,
                                         float *param);

/* Learning rate and settings into ckpt->setting and ->more_settings. MND_RANGE if their names are
   too long. */
MND_CHECKED mnd_status mnd_snapshot_settings(const mnd_optimizer *opt, mnd_checkpoint *ckpt);
/* Whether the checkpoint, of the same optimizer, has the same. */
bool mnd_snapshot_same_settings(const mnd_optimizer *opt, const mnd_checkpoint *ckpt);

#endif
