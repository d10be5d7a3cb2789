/* avx2.c - the lane functions for AVX2 with FMA (Intel since 2013, AMD since 2015): eight lanes. */
#include "kernels.h"

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#include <immintrin.h>

#define ISA_NAME "avx2"
#define ISA_TABLE lenet_kernels_avx2
#define LANES 8
#define REGISTERS 16
#define REGISTER_CLASS "x"
#define vec_fma(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define vec_fnma(a, b, c) ((vec)_mm256_fnmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define vec_min(a, b) ((vec)_mm256_min_ps((__m256)(a), (__m256)(b)))
typedef __m256i bytes;
#define unpack_low(a, b) _mm256_unpacklo_epi8(a, b)
#define unpack_high(a, b) _mm256_unpackhi_epi8(a, b)
#define widen(p) _mm256_cvtepu8_epi32(_mm_loadu_si64(p))
#include "all_lanes.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
