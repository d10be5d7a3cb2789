/*
 * generic.c - the lane functions for any CPU: four lanes (SSE2, NEON, or what the compiler makes of them).
 *
 * x86-64 has no fused multiply-add in its baseline. fma_by_doubles (lanes.h) gives its bits exactly, in some forty
 * instructions. Nearly always fewer do: the exact product plus c, rounded to double and then to float, is wrong only
 * where the first rounding lands on a tie of the second, that is, where the 29 bits that float lacks are 1000...0, or where
 * the result is so small that float lacks more bits. fma_checked looks for these and leaves them to the long way.
 */
#include "kernels.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define ISA_NAME "generic"
#define ISA_TABLE lenet_kernels_generic
#define LANES 4
#if defined(__aarch64__)
#define REGISTERS 32
#define vec_fma(a, b, c) ((vec)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#elif defined(__SSE2__)
#define REGISTERS 16
#define REGISTER_CLASS "x"
#define vec_fma(a, b, c) fma_checked(a, b, c)
#else
#define REGISTERS 16
#define vec_fma(a, b, c) fma_by_doubles(a, b, c)
#endif
#define vec_fnma(a, b, c) vec_fma(-(a), b, c)
#define vec_min(a, b) blend((a) < (b), a, b)
typedef uint8_t bytes __attribute__((vector_size(16), may_alias));
#define pieces(images, i, at) (*(const unaligned_bytes *)((images)[i] + (at)))
#define settle(b) (b)
#define widen(p) ((ivec){(p)[0], (p)[1], (p)[2], (p)[3]})
typedef uint8_t unaligned_bytes __attribute__((vector_size(16), may_alias, aligned(1)));
#if defined(__clang__)
#define unpack_low(a, b) \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define unpack_high(a, b) \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#else
#define unpack_low(a, b) \
    __builtin_shuffle(a, b, (bytes){0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23})
#define unpack_high(a, b) \
    __builtin_shuffle(a, b, (bytes){8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31})
#endif
#if defined(__aarch64__)
#define select_bytes(v, places) vqtbl1q_u8(v, places)
#elif !defined(__clang__)
#define select_bytes(v, places) __builtin_shuffle(v, places)
#else
static inline bytes select_bytes(bytes v, bytes places)
{
    bytes result;
    for (int i = 0; i < 16; i++)
        result[i] = v[places[i]];
    return result;
}
#endif
#if defined(__SSE2__)
#define multiply_high(a, b) ((words)_mm_mulhi_epu16((__m128i)(a), (__m128i)(b)))
#define pack(a, b) ((bytes)_mm_packus_epi16((__m128i)(a), (__m128i)(b)))
#endif
#include "all_lanes.h"
