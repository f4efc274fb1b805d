/* answer.h - results as JSON, for scripts: one object a line on stdout. */
#ifndef MNIST_DIST_CLI_ANSWER_H
#define MNIST_DIST_CLI_ANSWER_H

#include <stdint.h>

#include "mnist_dist/checkpoint.h"
#include "mnist_dist/dataset.h"
#include "mnist_dist/evaluate.h"
#include "mnist_dist/status.h"

/* The `top` most probable classes, most probable first, equal ones by number; returns how many. */
int answer_top(const float *part, int classes, int top, int *out);

/* What predict has to say of one image. */
typedef struct answer {
    const char *checkpoint, *file; /* file: of the picture, or the data file */
    const char *split;             /* NULL: a picture */
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
 * value are left out. With an error:
 * {"checkpoint", "file", "error"}.
 */
MND_CHECKED mnd_status answer_predict(const answer *a);

/*
 * {"checkpoint", "epoch", "step", "model", "data", "split", "images", "correct", "accuracy",
 * "loss", "classes": [{"class", "name", "images", "precision", "recall"}], "confusion": [[...]]}.
 * Rows of confusion are the right classes. Precision and recall are null where they would be 0/0.
 */
MND_CHECKED mnd_status answer_evaluate(const char *path, const mnd_checkpoint *ckpt,
                                       const char *data, const char *split,
                                       const mnd_dataset_info *info, const mnd_evaluation *result);

#endif
