/*
 * lanes.h - the vector type and its operations; the first thing that a file of one instruction set includes.
 *
 * Parameters, defined by the including file (generic.c, avx2.c, avx512.c):
 *   LANES      4, 8 or 16: floats of one register. Never wider than the hardware's: a 64-byte type compiled for
 *              AVX2 spills at every turn.
 *   REGISTERS  16 or 32: vector registers, which decide the size of register blocks.
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
