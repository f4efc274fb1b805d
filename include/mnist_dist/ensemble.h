/*
 * ensemble.h - the answer of several networks together: the mean of their probabilities (Hansen and
 * Salamon, "Neural network ensembles", IEEE PAMI 12, 1990; Bishop, "Pattern Recognition and Machine
 * Learning", section 14.2).
 *
 *     p(class | image) = 1/K sum over k of softmax(logits of network k)
 *
 * The sum is taken in double, in the order in which the networks are added, and the mean is rounded
 * to float32 once: the same bits wherever it is computed.
 */
#ifndef MNIST_DIST_ENSEMBLE_H
#define MNIST_DIST_ENSEMBLE_H

/* Adds softmax(logits) to sum; both (n, classes). The logits become the probabilities. */
void mnd_ensemble_add(float *logits, int n, int classes, double *sum);

/* mean = sum / networks, (n, classes). */
void mnd_ensemble_mean(const double *sum, int networks, int n, int classes, float *mean);

#endif
