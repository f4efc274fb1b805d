/* median.h - what the programs of this folder make of their repetitions. */
#ifndef MNIST_DIST_BENCH_MEDIAN_H
#define MNIST_DIST_BENCH_MEDIAN_H

#include <stdlib.h>

static inline int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of n values, which are in ascending order then. */
static inline double median(double *value, int n) {
    qsort(value, (size_t)n, sizeof *value, by_value);
    return n % 2 == 1 ? value[n / 2] : 0.5 * (value[n / 2 - 1] + value[n / 2]);
}

#endif
