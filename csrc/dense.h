/*
 * dense.h - dense layers, and convolutions that cover their whole input and so are dense layers.
 *
 *     y[o] = b[o] + sum over k of x[k] w[k][o]        x: the K = H * W * C inputs of a sample, contiguous
 *     dx[k] = sum over o of dy[o] w[k][o]
 *     dw[k][o] = sum over samples of x[k] dy[o]
 *
 * The first two are as everywhere: a vector is 16 samples, a weight a broadcast. The weight gradient would need
 * K * O vectors of lane sums for one product each. It turns the other way: lanes are outputs, and the samples of the group
 * follow one another, a chain of 16 fused multiply-adds for each weight in the order of the samples. For that dy is
 * transposed once (O x 16 values); x is read by broadcast. A group that runs as several parts continues the chain from
 * the part before.
 */

#define DENSE_OUTPUTS 12  /* chains side by side */

/* y[o .. o + Q) of all inputs; Q chains. */
INLINE void dense_block(float *y, const float *x, const float *weight, const float *bias, size_t inputs,
                        size_t outputs, const int Q)
{
    vec sum[DENSE_OUTPUTS];
#pragma GCC unroll 16
    for (int q = 0; q < Q; q++)
        sum[q] = splat(bias[q]);
    for (size_t k = 0; k < inputs; k++, weight += outputs) {
        vec in = load(x, k);
#pragma GCC unroll 16
        for (int q = 0; q < Q; q++)
            sum[q] = vec_fma(in, splat(weight[q]), sum[q]);
    }
#pragma GCC unroll 16
    for (int q = 0; q < Q; q++)
        store(y, (size_t)q, sum[q]);
}

static void dense_forward(float *y, const float *x, const float *weight, const float *bias, size_t inputs,
                          size_t outputs)
{
    size_t o = 0;
    for (; o + DENSE_OUTPUTS <= outputs; o += DENSE_OUTPUTS)
        dense_block(y + o * LANES, x, weight + o, bias + o, inputs, outputs, DENSE_OUTPUTS);
    for (; o < outputs; o++)
        dense_block(y + o * LANES, x, weight + o, bias + o, inputs, outputs, 1);
}

/* dx[k .. k + Q) from all outputs. */
INLINE void dense_input_block(float *dx, const float *dy, const float *weight, size_t outputs, const int Q)
{
    vec sum[DENSE_OUTPUTS];
#pragma GCC unroll 16
    for (int q = 0; q < Q; q++)
        sum[q] = splat(0.0f);
    for (size_t o = 0; o < outputs; o++) {
        vec in = load(dy, o);
#pragma GCC unroll 16
        for (int q = 0; q < Q; q++)
            sum[q] = vec_fma(in, splat(weight[(size_t)q * outputs + o]), sum[q]);
    }
#pragma GCC unroll 16
    for (int q = 0; q < Q; q++)
        store(dx, (size_t)q, sum[q]);
}

static void dense_backward_input(float *dx, const float *dy, const float *weight, size_t inputs, size_t outputs)
{
    size_t k = 0;
    for (; k + DENSE_OUTPUTS <= inputs; k += DENSE_OUTPUTS)
        dense_input_block(dx + k * LANES, dy, weight + k * outputs, outputs, DENSE_OUTPUTS);
    for (; k < inputs; k++)
        dense_input_block(dx + k * LANES, dy, weight + k * outputs, outputs, 1);
}

/*
 * Adds one part to dparameters, (K, O) + (O) plain floats, or starts it where `first`. scratch: dy the other way round,
 * LANES rows of the outputs, each rounded up to whole vectors.
 */
static void dense_backward_weight(float *dparameters, const float *dy, const float *x, size_t inputs, size_t outputs,
                                  int32_t first, float *scratch)
{
    const size_t vectors = (outputs + LANES - 1) / LANES, pitch = vectors * LANES;
    for (size_t lane = 0; lane < LANES; lane++)
        for (size_t o = 0; o < pitch; o++)
            scratch[lane * pitch + o] = o < outputs ? dy[o * LANES + lane] : 0.0f;
    for (size_t k = 0; k <= inputs; k++) {  /* the bias is the weight of one more input that is always 1 */
        float *to = dparameters + k * outputs;
        for (size_t v = 0; v < vectors; v++) {
            const size_t count = outputs - v * LANES < LANES ? outputs - v * LANES : LANES;
            vec sum = splat(0.0f);
            if (!first)
                __builtin_memcpy(&sum, to + v * LANES, count * sizeof(float));
            for (size_t lane = 0; lane < LANES; lane++) {
                vec in = splat(k < inputs ? x[k * LANES + lane] : 1.0f);
                sum = vec_fma(in, load(scratch, lane * vectors + v), sum);
            }
            __builtin_memcpy(to + v * LANES, &sum, count * sizeof(float));
        }
    }
}
