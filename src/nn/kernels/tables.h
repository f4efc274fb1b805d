/* tables.h - the tables of kernels. One file and one row of kernels.c each. */
#ifndef MND_NN_KERNELS_TABLES_H
#define MND_NN_KERNELS_TABLES_H

#include "mnist_dist/kernels.h"

/*
 * The base table, complete. The others may leave entries NULL, which are then those of the base
 * table; their scratch functions cover these as well.
 */
extern const mnd_kernels mnd_kernels_blas;
#ifdef MND_X86_KERNELS
extern const mnd_kernels mnd_kernels_avx512, mnd_kernels_avx2;
#endif

/* Convolution with pooling, by the entries of the base table for each alone: convpool.c. */
void mnd_convpool_forward(const mnd_workers *workers, const mnd_convolution *p);
void mnd_convpool_weight_grad(const mnd_workers *workers, const mnd_convolution *p);

#endif
