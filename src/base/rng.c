#include "mnist_dist/rng.h"

#include <math.h>

void mnd_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)c0 * UINT32_C(0xD2511F53);
        const uint64_t p1 = (uint64_t)c2 * UINT32_C(0xCD9E8D57);
        const uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        const uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += UINT32_C(0x9E3779B9);
        k1 += UINT32_C(0xBB67AE85);
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void mnd_rng_start(mnd_rng *rng, uint64_t seed, mnd_rng_purpose purpose, uint32_t a, uint32_t b) {
    *rng = (mnd_rng){.counter = {0, a, b, (uint32_t)purpose},
                     .key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
                     .used = 4};
}

uint32_t mnd_rng_u32(mnd_rng *rng) {
    if (rng->used == 4) {
        mnd_philox(rng->counter, rng->key, rng->block);
        rng->counter[0]++;
        rng->used = 0;
    }
    return rng->block[rng->used++];
}

float mnd_rng_uniform(mnd_rng *rng) { return (float)(mnd_rng_u32(rng) >> 8) * 0x1p-24F; }

uint32_t mnd_rng_below(mnd_rng *rng, uint32_t n) {
    uint64_t product = (uint64_t)mnd_rng_u32(rng) * n;
    if ((uint32_t)product < n) {
        const uint32_t threshold = (0U - n) % n;
        while ((uint32_t)product < threshold) product = (uint64_t)mnd_rng_u32(rng) * n;
    }
    return (uint32_t)(product >> 32);
}

float mnd_rng_normal(mnd_rng *rng) {
    const float radius = sqrtf(-2.0F * logf(1.0F - mnd_rng_uniform(rng)));
    return radius * cosf(6.28318531F * mnd_rng_uniform(rng));
}

void mnd_rng_permutation(mnd_rng *rng, uint32_t n, uint32_t *order) {
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t j = mnd_rng_below(rng, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
}
