/*
 * sums.h - from lanes to one number, and from float32 to integers.
 *
 * Lanes are added in a balanced tree of neighbours, ((l0 + l1) + (l2 + l3)) + ((l4 + l5) + (l6 + l7)) and so on.
 * Halving it gives the trees of the halves: a group's 16 lanes have the same sum whether they lie in one register,
 * or in two or four whose sums are then added in order (step.c).
 */
static void lane_sums(float *sums, const float *lanes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float s[LANES];
        __builtin_memcpy(s, lanes + i * LANES, sizeof s);
        for (int width = LANES / 2; width > 0; width /= 2)
            for (int j = 0; j < width; j++)
                s[j] = s[2 * j] + s[2 * j + 1];
        sums[i] = s[0];
    }
}

/*
 * totals[i] += values[i] in units of 2^-40, rounded to nearest even. A value that is NaN or not below limit (which is
 * at most 2^22) counts as refused and adds nothing. In double the scaling is exact, and adding and subtracting
 * 1.5 * 2^52 rounds whatever has bits behind the point; larger values have none.
 */
static void add_quantised(int64_t *totals, int64_t *refused, const float *values, size_t count, float limit)
{
    int64_t bad = 0;
    for (size_t i = 0; i < count; i++) {
        float v = values[i];
        int fits = v > -limit && v < limit;
        double scaled = fits ? (double)v * (double)(INT64_C(1) << LENET_QUANTUM_BITS) : 0.0;
        double rounded = (scaled + 0x1.8p52) - 0x1.8p52;
        double whole = scaled < 0x1p51 && scaled > -0x1p51 ? rounded : scaled;
        totals[i] = (int64_t)((uint64_t)totals[i] + (uint64_t)(int64_t)whole);  /* wraps, never undefined */
        bad += !fits;
    }
    *refused += bad;
}
