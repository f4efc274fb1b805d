/*
 * wide_kernels.c - the kernels of src/nn/kernels/fast with vectors of 16 floats and 32 registers,
 * as for AVX-512, by instructions of AVX2: so that their other tiles are tested on any CPU.
 */
#include <immintrin.h>

#include "tables.h"

extern const mnd_kernels mnd_kernels_wide;

#define NAME "wide"
#define TABLE mnd_kernels_wide
#define LANES 16
#define REGISTERS 32

#define HALF(v, i) (*((const __m256_u *)&(v) + (i)))
#define FMA(a, b, c)                                                                               \
    ({                                                                                             \
        const vec fma_a = (a), fma_b = (b), fma_c = (c);                                           \
        vec fma_sum;                                                                               \
        for (int half = 0; half < 2; half++)                                                       \
            *((__m256_u *)&fma_sum + half) =                                                       \
                _mm256_fmadd_ps(HALF(fma_a, half), HALF(fma_b, half), HALF(fma_c, half));          \
        fma_sum;                                                                                   \
    })
#define NONZERO(v)                                                                                 \
    ({                                                                                             \
        const vec nonzero_v = (v);                                                                 \
        unsigned nonzero_bits = 0;                                                                 \
        for (int lane = 0; lane < LANES; lane++)                                                   \
            nonzero_bits |= (unsigned)(nonzero_v[lane] != 0.0F) << lane;                           \
        nonzero_bits;                                                                              \
    })
#define LOAD_BYTES(p)                                                                              \
    ({                                                                                             \
        const uint8_t *const load_p = (p);                                                         \
        ivec load_v = {0};                                                                         \
        for (int lane = 0; lane < LANES; lane++) load_v[lane] = load_p[lane];                      \
        load_v;                                                                                    \
    })
#define STORE_BYTES(p, v)                                                                          \
    do {                                                                                           \
        uint8_t *const store_p = (p);                                                              \
        const ivec store_v = (v);                                                                  \
        for (int lane = 0; lane < LANES; lane++) store_p[lane] = (uint8_t)store_v[lane];           \
    } while (0)

#include "fast/all.inc"
