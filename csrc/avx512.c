/* avx512.c - the lane functions for AVX-512 F, BW, DQ, VL (Intel since 2017, AMD since 2022): sixteen lanes. */
#include "kernels.h"

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#include <immintrin.h>

#define ISA_NAME "avx512"
#define ISA_TABLE lenet_kernels_avx512
#define LANES 16
#define REGISTERS 32
#define REGISTER_CLASS "v"
#define vec_fma(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define vec_fnma(a, b, c) ((vec)_mm512_fnmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define vec_min(a, b) ((vec)_mm512_min_ps((__m512)(a), (__m512)(b)))
typedef __m512i bytes;
#define pieces(images, i, at) \
    _mm512_inserti32x4(_mm512_inserti32x4(_mm512_inserti32x4(_mm512_castsi128_si512( \
        piece((images)[i] + (at))), piece((images)[4 + (i)] + (at)), 1), \
        piece((images)[8 + (i)] + (at)), 2), piece((images)[12 + (i)] + (at)), 3)
#define piece(p) _mm_loadu_si128((const __m128i_u *)(p))
#define settle(b) \
    _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), b)
#define widen(p) _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i_u *)(p)))
#define select_bytes(v, places) _mm512_shuffle_epi8(v, places)
#define multiply_high(a, b) ((words)_mm512_mulhi_epu16((__m512i)(a), (__m512i)(b)))
#define pack(a, b) _mm512_packus_epi16((__m512i)(a), (__m512i)(b))
#define unpack_low(a, b) _mm512_unpacklo_epi8(a, b)
#define unpack_high(a, b) _mm512_unpackhi_epi8(a, b)
#include "all_lanes.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
