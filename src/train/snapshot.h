/* snapshot.h - between the running state and a checkpoint. */
#ifndef MNIST_DIST_TRAIN_SNAPSHOT_H
#define MNIST_DIST_TRAIN_SNAPSHOT_H

#include "mnist_dist/checkpoint.h"
#include "mnist_dist/model.h"

/*
 * Fills ckpt->spec, ->input, ->classes and allocates ->array (mnd_free) for the model's parameters;
 * the arrays' data point into param.
 */
MND_CHECKED mnd_status mnd_snapshot_describe(const mnd_model *model, const mnd_shape *input,
                                             int classes, float *param, mnd_checkpoint *ckpt);

/* Copies the parameters of a checkpoint; MND_MISMATCH unless its arrays are the model's. */
MND_CHECKED mnd_status mnd_snapshot_load(const mnd_model *model, const mnd_checkpoint *ckpt,
                                         float *param);

#endif
