/* For x86-64 with AVX-512 (F, BW, DQ, VL): compiled with those switched on, run only where they
 * are. */
#include <immintrin.h>

#include "kernels.h"

#define KERNELS_NAME "avx512"
#define KERNELS_TABLE mnd_kernels_avx512
#define LANES 16
#define NV_MAX 4
#define MND_FMA(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define MND_NONZERO(v) _mm512_cmp_ps_mask((__m512)(v), _mm512_setzero_ps(), _CMP_NEQ_UQ)
#define MND_NONZERO_BYTES(p) _mm512_test_epi8_mask(_mm512_loadu_si512(p), _mm512_loadu_si512(p))
#define MND_FLOATS(p)                                                                              \
    ((vec)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(p)))))
#define LEAST_SAMPLES 12

extern const mnd_kernels KERNELS_TABLE;

#include "kernels.inc"
