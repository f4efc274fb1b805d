/* answer.h - results as JSON, for scripts: one object a line on stdout. */
#ifndef MNIST_DIST_CLI_ANSWER_H
#define MNIST_DIST_CLI_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "checkpoints.h"
#include "mnist_dist/checkpoint.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/evaluate.h"
#include "mnist_dist/status.h"

/* The `top` most probable classes, most probable first, equal ones by number; returns how many. */
int answer_top(const float *part, int classes, int top, int *out);

/* What predict has to say of one image. */
typedef struct answer {
    const checkpoint_names *checkpoints; /* of the networks */
    const char *file;                    /* of the picture, or the data file */
    const char *split;                   /* NULL: a picture */
    int64_t index;
    int label;        /* the right class; -1: unknown */
    const char *done; /* what was done to a picture, or NULL */
    int digit,
        digits; /* of a picture: which, counted from 1 (0: all as one); how many it seems to have */
    const char *error; /* why there is no answer, or NULL */
    const float *part; /* (classes) probabilities; NULL with an error */
    int classes, top;  /* how many of the classes to list */
    const char *(*class_name)(const void *context, int class);
    const void *context;
} answer;

/*
 * {"checkpoint", "file", "split", "index", "done", "digits", "digit", "answer", "class",
 * "probability", "label", "right", "top": [{"class", "name", "probability"}]}; members without a
 * value are left out. With an error: {"checkpoint", "file", "error"}. Several networks:
 * "checkpoints": ["...", ...] instead of "checkpoint".
 */
MND_CHECKED mnd_status answer_predict(const answer *a);

/* What one network got. */
typedef struct answer_network {
    const char *path; /* of its checkpoint; borrowed */
    char spec[MND_SPEC_MAX];
    int64_t epoch, step, correct;
    double loss;
} answer_network;

/* What evaluate has to say of one network, or of several together. Borrowed. */
typedef struct answer_evaluation {
    const answer_network *network; /* (n) */
    int n;
    const char *data, *split;
    const mnd_dataset_info *info;
    const mnd_evaluation *result; /* of the network, or of the mean of all */
    const int64_t *misread;       /* (n_misread) images that all networks get wrong */
    int64_t n_misread;            /* -1: not known */
    bool list_misread;
} answer_evaluation;

/*
 * {"checkpoint", "epoch", "step", "model", "data", "split", "images", "correct", "accuracy",
 * "loss", "misread": [index, ...], "classes": [{"class", "name", "images", "precision", "recall"}],
 * "confusion": [[...]]}. Rows of confusion are the right classes. Precision and recall are null
 * where they would be 0/0. "misread" is left out unless list_misread. Several networks:
 * {"checkpoints": [{"checkpoint", "epoch", "step", "model", "correct", "accuracy", "loss"}, ...],
 * "data", ..., "loss", "misread_by_all": count, ...}.
 */
MND_CHECKED mnd_status answer_evaluate(const answer_evaluation *e);

#endif
