/*
 * lanes.h - the vector type and its operations; the first thing that a file of one instruction set includes.
 *
 * Parameters, defined by the including file (generic.c, avx2.c, avx512.c):
 *   LANES      4, 8 or 16: floats of one register. Never wider than the hardware's: a 64-byte type compiled for
 *              AVX2 spills at every turn.
 *   REGISTERS  16 or 32: vector registers, which decide the size of register blocks.
 *   REGISTER_CLASS  the letter by which inline assembly names these registers; optional.
 *   vec_fnma   c - a * b with one rounding.
 *   vec_min    the smaller; the second where either is NaN.
 *   bytes      a register of uint8. pieces loads 16 bytes of every fourth address, unpack_low and unpack_high interleave the
 *              halves of each 16 bytes of two, settle transposes its 4-byte units (pixels.h); widen makes int32 lanes of the
 *              LANES int8 at an address.
 *   vec_fma    how to multiply and add with one rounding; the generic file takes fma_by_doubles below.
 *
 * All else is plain arithmetic of GCC's vector extension. Contraction is off (build_ffi.py), so `a * b + c` is two
 * roundings everywhere and vec_fma one: the programmer decides, not the compiler, and every instruction set
 * agrees.
 */
#if LANES != 4 && LANES != 8 && LANES != 16
#error "LANES must be 4, 8 or 16"
#endif
#if REGISTERS != 16 && REGISTERS != 32
#error "REGISTERS must be 16 or 32"
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES), may_alias));
typedef int16_t words __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), may_alias));
typedef double dvec __attribute__((vector_size(8 * LANES)));
typedef int64_t lvec __attribute__((vector_size(8 * LANES)));

/* i counts vectors, not floats. */
INLINE vec load(const float *p, size_t i)
{
    return *(const vec *)(p + i * LANES);
}

INLINE void store(float *p, size_t i, vec v)
{
    *(vec *)(p + i * LANES) = v;
}

INLINE vec splat(float value)
{
    return value - (vec){0};  /* not 0 + value: that would turn -0 into +0 */
}

/* Loaded once and kept: where a value serves three multiply-adds or fewer, GCC puts a load into each, and loads become the
 * limit. Says "changed here" of a register and emits nothing. */
#if defined(REGISTER_CLASS)
#define in_register(v) __asm__("" : "+" REGISTER_CLASS(v))
#else
#define in_register(v) (void)(v)
#endif

/* mask is all ones or all zeros in each lane, as comparisons give it. */
INLINE vec blend(ivec mask, vec yes, vec no)
{
    return (vec)(((ivec)yes & mask) | ((ivec)no & ~mask));
}

/*
 * a * b + c with one rounding, where the hardware has no such instruction.
 *
 * In double a * b is exact (24 + 24 bits of 53), but adding c may round, and rounding that again to float can go the
 * wrong way at a tie. The cure (Boldo and Melquiond, 2008) is to round the sum to *odd*: where it is inexact,
 * take the neighbour whose last bit is set, which can never look like a tie to the next rounding. TwoSum gives the
 * error's sign, and going one double up or down in magnitude is plus or minus one on its bits. Infinities and NaN
 * have no ordered error and stay as they are.
 */
INLINE vec fma_by_doubles(vec a, vec b, vec c)
{
    dvec product = __builtin_convertvector(a, dvec) * __builtin_convertvector(b, dvec);
    dvec addend = __builtin_convertvector(c, dvec);
    dvec sum = product + addend;
    dvec added = sum - product;
    dvec error = (product - (sum - added)) + (addend - added);
    lvec bits = (lvec)sum;
    lvec inexact = (error < 0) | (error > 0);
    lvec even = (bits & 1) - 1;
    lvec step = (((lvec)error ^ bits) >> 63) | 1;
    bits += step & inexact & even;
    return __builtin_convertvector((dvec)bits, vec);
}

#if defined(__SSE2__) && LANES == 4
__attribute__((noinline, unused)) static vec fma_long_way(vec a, vec b, vec c)
{
    return fma_by_doubles(a, b, c);
}

/* Lanes whose sum rounds to float in one step, as 32-bit masks of which one half counts: low words that are a tie, high
 * words of magnitudes from the smallest double to below 2^-126. */
INLINE __m128i needs_long_way(__m128d sum)
{
    const __m128i bits = _mm_castpd_si128(sum);
    const __m128i dropped = _mm_and_si128(bits, _mm_set_epi32(0x7fffffff, 0x1fffffff, 0x7fffffff, 0x1fffffff));
    const __m128i tie = _mm_cmpeq_epi32(dropped, _mm_set_epi32(-1, 0x10000000, -1, 0x10000000));
    const __m128i tiny = _mm_and_si128(_mm_cmpgt_epi32(dropped, _mm_set_epi32(0, 0x7fffffff, 0, 0x7fffffff)),
                                       _mm_cmpgt_epi32(_mm_set_epi32(0x38100000, 0, 0x38100000, 0), dropped));
    return _mm_or_si128(tie, tiny);
}

/* a * b + c with one rounding; generic.c tells why. */
INLINE vec fma_checked(vec a, vec b, vec c)
{
    const __m128 x = (__m128)a, y = (__m128)b, z = (__m128)c;
    const __m128d low = _mm_add_pd(_mm_mul_pd(_mm_cvtps_pd(x), _mm_cvtps_pd(y)), _mm_cvtps_pd(z));
    const __m128d high = _mm_add_pd(
        _mm_mul_pd(_mm_cvtps_pd(_mm_movehl_ps(x, x)), _mm_cvtps_pd(_mm_movehl_ps(y, y))),
        _mm_cvtps_pd(_mm_movehl_ps(z, z)));
    if (__builtin_expect(_mm_movemask_epi8(_mm_or_si128(needs_long_way(low), needs_long_way(high))), 0))
        return fma_long_way(a, b, c);
    return (vec)_mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
}
#endif
