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

/* Learning rate and settings as the numbers of a checkpoint: see `setting` in checkpoint.h. */
void mnd_snapshot_settings(const mnd_optimizer *opt, double setting[MND_CKPT_SETTINGS]);
/* Whether an optimizer of the same name has them, too. */
bool mnd_snapshot_same_settings(const mnd_optimizer *opt, const double setting[MND_CKPT_SETTINGS]);

#endif
