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
#define pieces(images, i, at) \
    _mm256_inserti128_si256(_mm256_castsi128_si256(piece((images)[i] + (at))), piece((images)[4 + (i)] + (at)), 1)
#define piece(p) _mm_loadu_si128((const __m128i_u *)(p))
#define settle(b) _mm256_permutevar8x32_epi32(b, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
#define widen(p) _mm256_cvtepi8_epi32(_mm_loadu_si64(p))
#define select_bytes(v, places) _mm256_shuffle_epi8(v, places)
#define multiply_high(a, b) ((words)_mm256_mulhi_epu16((__m256i)(a), (__m256i)(b)))
#define pack(a, b) _mm256_packus_epi16((__m256i)(a), (__m256i)(b))
#define unpack_low(a, b) _mm256_unpacklo_epi8(a, b)
#define unpack_high(a, b) _mm256_unpackhi_epi8(a, b)
#include "all_lanes.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
