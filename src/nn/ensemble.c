#include "mnist_dist/ensemble.h"

#include <stddef.h>

#include "mnist_dist/loss.h"

void mnd_ensemble_add(float *logits, int n, int classes, double *sum) {
    mnd_softmax(logits, n, classes);
    const size_t all = (size_t)n * (size_t)classes;
    for (size_t i = 0; i < all; i++) sum[i] += (double)logits[i];
}

void mnd_ensemble_mean(const double *sum, int networks, int n, int classes, float *mean) {
    const size_t all = (size_t)n * (size_t)classes;
    for (size_t i = 0; i < all; i++) mean[i] = (float)(sum[i] / networks);
}
