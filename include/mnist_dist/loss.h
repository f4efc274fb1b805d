/* loss.h - softmax and cross-entropy. */
#ifndef MNIST_DIST_LOSS_H
#define MNIST_DIST_LOSS_H

#include <stdint.h>

/* Softmax of each row, in place: (n, classes), subtracting the row's maximum first. */
void mnd_softmax(float *logits, int n, int classes);

/* The class that a row of logits stands for: the first largest. */
int mnd_answer(const float *row, int classes);

/*
 * Cross-entropy of softmax(logits) and labels, rows [0, n): returns the sum of losses,
 * log(sum exp(z - max)) - (z_label - max), and counts right answers into *correct. `d` (may be NULL
 * or logits itself) gets scale * (softmax - onehot). At most 256 classes; labels are below classes.
 */
double mnd_cross_entropy(const float *logits, const uint8_t *label, int n, int classes, float scale,
                         float *d, int64_t *correct);

/*
 * What label smoothing (Szegedy et al., CVPR 2016) changes: the target is (1 - smoothing) onehot +
 * smoothing / classes instead of onehot. After mnd_cross_entropy of the same rows: returns what the
 * sum of losses grows by, the sum of smoothing * (z_label - mean of z), and adds scale * smoothing
 * * (onehot - 1 / classes) to d, which is not logits.
 */
double mnd_smooth_labels(const float *logits, const uint8_t *label, int n, int classes,
                         float smoothing, float scale, float *d);

#endif
