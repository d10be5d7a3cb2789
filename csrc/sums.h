/*
 * sums.h - from lanes to one number, and from float32 to integers.
 *
 * Lanes are added in a balanced tree of neighbours, ((l0 + l1) + (l2 + l3)) + ((l4 + l5) + (l6 + l7)) and so on.
 * Halving it gives the trees of the halves: a group's 16 lanes have the same sum whether they lie in one register,
 * or in two or four whose sums are then added in order (step.c).
 *
 * One vector alone would waste most of each addition. LANES vectors go together: the even lanes of two neighbours plus
 * their odd lanes are one vector with half of each tree; doing that log2(LANES) times leaves one vector, the sums
 * in order.
 */
#if LANES == 16
#define EVEN_LANES ((ivec){0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30})
#elif LANES == 8
#define EVEN_LANES ((ivec){0, 2, 4, 6, 8, 10, 12, 14})
#else
#define EVEN_LANES ((ivec){0, 2, 4, 6})
#endif

INLINE vec neighbours(vec a, vec b)
{
#if defined(__clang__)
#if LANES == 16
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
           __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif LANES == 8
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14) +
           __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#else
    return __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
#endif
#else
    return __builtin_shuffle(a, b, EVEN_LANES) + __builtin_shuffle(a, b, EVEN_LANES + 1);
#endif
}

INLINE float lane_sum(const float *lanes)
{
    float s[LANES];
    __builtin_memcpy(s, lanes, sizeof s);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int j = 0; j < width; j++)
            s[j] = s[2 * j] + s[2 * j + 1];
    return s[0];
}

static void lane_sums(float *sums, const float *lanes, size_t count)
{
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        vec v[LANES];
#pragma GCC unroll 16
        for (int j = 0; j < LANES; j++)
            v[j] = load(lanes, i + (size_t)j);
#pragma GCC unroll 4
        for (int width = LANES / 2; width > 0; width /= 2)
#pragma GCC unroll 8
            for (int j = 0; j < width; j++)
                v[j] = neighbours(v[2 * j], v[2 * j + 1]);
        __builtin_memcpy(sums + i, &v[0], sizeof(vec));
    }
    for (; i < count; i++)
        sums[i] = lane_sum(lanes + i * LANES);
}

/*
 * totals[i] += values[i] in units of 2^-40, rounded to nearest even. A value that is NaN or not below limit (which is
 * at most 2^22) counts as refused and adds nothing. In double the scaling is exact, and adding and subtracting
 * 1.5 * 2^52 rounds whatever has bits behind the point; larger values have none.
 */
INLINE void add_one(int64_t *total, int64_t *refused, float v, float limit)
{
    int fits = v > -limit && v < limit;
    double scaled = fits ? (double)v * (double)(INT64_C(1) << LENET_QUANTUM_BITS) : 0.0;
    double rounded = (scaled + 0x1.8p52) - 0x1.8p52;
    double whole = scaled < 0x1p51 && scaled > -0x1p51 ? rounded : scaled;
    *total = (int64_t)((uint64_t)*total + (uint64_t)(int64_t)whole);  /* wraps, never undefined */
    *refused += !fits;
}

/* Nearly all values are small: |v| < 2^11, so |scaled| < 2^51, and the double scaled + 1.5 * 2^52 holds the integer in its
 * low bits. A block of them needs no conversion to integers, which AVX2 does not have. */
#define SMALL_BITS 0x45000000  /* of the float 2^11 */
#define SUM_BLOCK 64

typedef float half_vec __attribute__((vector_size(2 * LANES)));
typedef double half_dvec __attribute__((vector_size(4 * LANES)));
typedef uint64_t half_lvec __attribute__((vector_size(4 * LANES)));

INLINE int all_small(const float *values)
{
    int32_t large = 0;
    for (int i = 0; i < SUM_BLOCK; i++) {
        int32_t bits;
        __builtin_memcpy(&bits, values + i, sizeof bits);
        large |= (bits & 0x7fffffff) >= SMALL_BITS;
    }
    return !large;
}

INLINE void add_small(int64_t *totals, const float *values)
{
    const half_dvec shift = (half_dvec){0} + 0x1.8p52;
    for (int i = 0; i < SUM_BLOCK; i += LANES / 2) {
        half_vec v;
        half_lvec sum;
        __builtin_memcpy(&v, values + i, sizeof v);
        __builtin_memcpy(&sum, totals + i, sizeof sum);
        half_dvec scaled = __builtin_convertvector(v, half_dvec) * (double)(INT64_C(1) << LENET_QUANTUM_BITS);
        sum += (half_lvec)(scaled + shift) - (half_lvec)shift;
        __builtin_memcpy(totals + i, &sum, sizeof sum);
    }
}

static void add_quantised(int64_t *totals, int64_t *refused, const float *values, size_t count, float limit)
{
    size_t i = 0;
    for (; limit >= 2048.0f && i + SUM_BLOCK <= count; i += SUM_BLOCK)
        if (all_small(values + i))
            add_small(totals + i, values + i);
        else
            for (size_t j = 0; j < SUM_BLOCK; j++)
                add_one(&totals[i + j], refused, values[i + j], limit);
    for (; i < count; i++)
        add_one(&totals[i], refused, values[i], limit);
}
