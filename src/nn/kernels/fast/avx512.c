/* avx512.c - for x86-64 with AVX-512 (F, BW, DQ, VL): compiled with those switched on, run only
   where they are. */
#include <immintrin.h>

#include "../tables.h"

#define NAME "avx512"
#define TABLE mnd_kernels_avx512
#define LANES 16
#define REGISTERS 32
#define FMA(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define NONZERO(v) _mm512_cmp_ps_mask((__m512)(v), _mm512_setzero_ps(), _CMP_NEQ_UQ)
#define LOAD_BYTES(p) ((ivec)_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(p))))
#define STORE_BYTES(p, v) _mm_storeu_si128((void *)(p), _mm512_cvtepi32_epi8((__m512i)(v)))

#include "all.inc"
