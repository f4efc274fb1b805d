/* display.h - the output of a run: layer table, live progress, one line per epoch. */
#ifndef MNIST_DIST_CLI_DISPLAY_H
#define MNIST_DIST_CLI_DISPLAY_H

#include <stdbool.h>

#include "mnist_dist/train.h"

/* The layer table as Keras prints it, to stdout. */
void display_summary(const mnd_model *model);

/* State of the display; zero it. */
typedef struct display {
    bool live;    /* a progress line is rewritten on stderr */
    double shown; /* when the progress line was last printed, by mnd_now */
    int width;    /* characters of the progress line on the screen */
    int member;   /* of an ensemble, which begins its lines; 0: a single run */
    bool told;    /* what all members have in common was printed */
} display;

/* `progress` is auto, always or never. auto: if stderr, or that of mpirun, is a terminal. */
void display_start(display *d, const char *progress);
/* The observer of mnd_train; its context is the display. */
mnd_train_observer display_observer(display *d);

/* Confusion matrix (right answers down, given answers across), per-class precision and recall. */
void display_confusion(const int64_t *confusion, const mnd_dataset_info *info);

#endif
