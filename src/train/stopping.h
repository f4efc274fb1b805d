/*
 * stopping.h - which epoch is the best, and when a run is finished. Both follow from the history
 * of finished epochs, which is in every checkpoint: they are the same on every process, on any
 * number of processes and after a resume.
 */
#ifndef MNIST_DIST_TRAIN_STOPPING_H
#define MNIST_DIST_TRAIN_STOPPING_H

#include <stddef.h>

#include "mnist_dist/train.h"

typedef enum mnd_finish {
    MND_FINISH_NOT,
    MND_FINISH_EPOCHS,  /* all epochs are done */
    MND_FINISH_TARGET,  /* the last epoch reached the target accuracy */
    MND_FINISH_PATIENCE /* no better epoch for config->patience epochs */
} mnd_finish;

/* "loss" or "accuracy" */
const char *mnd_monitor_name(mnd_monitor monitor);
/* The best of n finished epochs, the first of equals; NULL if n is 0. */
const mnd_epoch_record *mnd_best_epoch(mnd_monitor monitor, const mnd_epoch_record *history,
                                       int64_t n);

/*
 * Whether a run is finished after its n finished epochs. config->patience is as in Keras'
 * EarlyStopping with min_delta 0.
 */
mnd_finish mnd_finished(const mnd_train_config *config, const mnd_epoch_record *history, int64_t n);

/* A word for the metrics: "epochs", "target_accuracy" or "patience". */
const char *mnd_finish_name(mnd_finish finish);
/* The same as a sentence without its end. */
void mnd_finish_text(mnd_finish finish, const mnd_train_config *config,
                     const mnd_epoch_record *history, int64_t n, char *text, size_t size);

#endif
