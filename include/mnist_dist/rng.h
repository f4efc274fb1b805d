/*
 * rng.h - counter-based random numbers: a number depends on (seed, purpose, index) alone, not on
 * the process that computes it or on the order. A run therefore gives the same bits on any number
 * of processes.
 *
 * Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11.
 */
#ifndef MNIST_DIST_RNG_H
#define MNIST_DIST_RNG_H

#include <stddef.h>
#include <stdint.h>

/* What a stream is used for: streams of different purposes never overlap. */
typedef enum mnd_rng_purpose {
    MND_RNG_INIT = 1,    /* a = layer, b = array within the layer */
    MND_RNG_SHUFFLE = 2, /* a = logical rank, b = epoch */
    MND_RNG_DROPOUT = 3, /* a = layer and epoch, b = sample; see layer_dropout.c */
    MND_RNG_SYNTH = 4,   /* a = image (low 32 bits), b = split */
    MND_RNG_AUGMENT = 5, /* a = sample, b = epoch */
    MND_RNG_TEST = 6
} mnd_rng_purpose;

/* One block: 128 random bits computed from a 128-bit counter and a 64-bit key. Pure function. */
void mnd_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* A stream that is read in order. It owns no memory and may be copied. */
typedef struct mnd_rng {
    uint32_t counter[4]; /* {block, a, b, purpose} */
    uint32_t key[2];     /* the seed */
    uint32_t block[4];
    int used; /* words of `block` that were returned */
} mnd_rng;

void mnd_rng_start(mnd_rng *rng, uint64_t seed, mnd_rng_purpose purpose, uint32_t a, uint32_t b);

uint32_t mnd_rng_u32(mnd_rng *rng);
/* Uniform in [0, 1), a multiple of 2^-24. */
float mnd_rng_uniform(mnd_rng *rng);
/* Uniform in [0, n), without bias (Lemire, "Fast random integer generation", 2019). n > 0. */
uint32_t mnd_rng_below(mnd_rng *rng, uint32_t n);
/* Normal with mean 0 and deviation 1 (Box-Muller; the second number of each pair is discarded). */
float mnd_rng_normal(mnd_rng *rng);
/* Fisher-Yates: fills order[0..n) with a random permutation of 0..n-1. */
void mnd_rng_permutation(mnd_rng *rng, uint32_t n, uint32_t *order);

#endif
