/* avx2.c - for x86-64 with AVX2, FMA and BMI: compiled with those switched on, run only where they
   are. */
#include <immintrin.h>

#include "../tables.h"

#define NAME "avx2"
#define TABLE mnd_kernels_avx2
#define LANES 8
#define REGISTERS 16
#define FMA(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define NONZERO(v)                                                                                 \
    ((unsigned)_mm256_movemask_ps(_mm256_cmp_ps((__m256)(v), _mm256_setzero_ps(), _CMP_NEQ_UQ)))
#define LOAD_BYTES(p) ((ivec)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(p))))
/* Values below 256. */
#define WORDS(v) _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1))
#define STORE_BYTES(p, v)                                                                          \
    _mm_storel_epi64((void *)(p), _mm_packus_epi16(WORDS((__m256i)(v)), _mm_setzero_si128()))

#include "all.inc"
