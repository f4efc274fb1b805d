/* For x86-64 with AVX2 and FMA: compiled with those switched on, run only where they are. */
#include <immintrin.h>

#include "kernels.h"

#define KERNELS_NAME "avx2"
#define KERNELS_TABLE mnd_kernels_avx2
#define LANES 8
#define NV_MAX 2
#define MND_FMA(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define MND_NONZERO(v)                                                                             \
    ((unsigned)_mm256_movemask_ps(_mm256_cmp_ps((__m256)(v), _mm256_setzero_ps(), _CMP_NEQ_UQ)))
#define MND_ZERO_BYTES(p)                                                                          \
    ((uint32_t)_mm256_movemask_epi8(                                                               \
        _mm256_cmpeq_epi8(_mm256_loadu_si256((const void *)(p)), _mm256_setzero_si256())))
#define MND_NONZERO_BYTES(p) (~(MND_ZERO_BYTES(p) | (uint64_t)MND_ZERO_BYTES((p) + 32) << 32))
#define MND_FLOATS(p)                                                                              \
    ((vec)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(p)))))
#define LEAST_SAMPLES 2

extern const mnd_kernels KERNELS_TABLE;

#include "kernels.inc"
