/*
 * loops.h - loops over elements that several kinds of layers need, the same bits on every CPU.
 * Arrays do not overlap unless they are the same.
 */
#ifndef MNIST_DIST_LOOPS_H
#define MNIST_DIST_LOOPS_H

#include <stddef.h>
#include <stdint.h>

/* y += x */
void mnd_add(size_t n, const float *x, float *y);
/* y = x where x is positive or NaN, else 0 */
void mnd_relu(size_t n, const float *x, float *y);
/* d = d where y is positive, else 0: the gradient of relu, y its output */
void mnd_relu_backward(size_t n, const float *y, float *d);
/* sum (n) += the sums of the columns of d (m, n), each added up in ascending order first */
void mnd_column_sum(int m, int n, const float *d, float *sum);
/* x = exp(x), relative error below 2^-22. The C library's last bit differs between CPUs. */
void mnd_exp(size_t n, float *x);
/* out = in / 255: from stored pixels to inputs */
void mnd_pixels(size_t n, const uint8_t *in, float *out);

#endif
