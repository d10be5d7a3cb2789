/*
 * peak.h - as many fused multiply-adds as the instruction set can do: what other figures are measured against.
 *
 * CHAINS independent chains in registers, nothing loaded or stored: each value goes to (value * b + c), which stays
 * near c / (1 - b). The result is only there so that the compiler can not leave the work out.
 */
static float fma_chains(size_t rounds)
{
    const vec b = splat(0.999f), c = splat(0.001f);
    vec sum[CHAINS];
    for (int i = 0; i < CHAINS; i++)
        sum[i] = splat((float)i);
    for (size_t round = 0; round < rounds; round++)
#pragma GCC unroll 24
        for (int i = 0; i < CHAINS; i++)
            sum[i] = vec_fma(sum[i], b, c);
    for (int i = 1; i < CHAINS; i++)
        sum[0] += sum[i];
    return sum[0][0];
}
