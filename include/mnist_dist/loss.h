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

#endif
