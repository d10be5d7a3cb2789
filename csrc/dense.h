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

/* K inputs x V vectors of outputs: at least eight chains, K + V loads for K * V multiplications. */
#if REGISTERS == 32
#define OUTER_INPUTS 12
#else
#define OUTER_INPUTS 6
#endif
#define OUTER_VECTORS 2

/* LANES floats, or the first `count` of them and zeros. */
INLINE vec load_some(const float *p, size_t count)
{
    vec v = {0};
    if (count >= LANES)
        __builtin_memcpy(&v, p, sizeof v);
    else
        for (size_t i = 0; i < count; i++)
            v[i] = p[i];
    return v;
}

INLINE void store_some(float *p, vec v, size_t count)
{
    if (count >= LANES)
        __builtin_memcpy(p, &v, sizeof v);
    else
        for (size_t i = 0; i < count; i++)
            p[i] = v[i];
}

/* dw[k .. k + K) x V vectors of `count` outputs (all LANES, or fewer in the last). by_sample: rows of `pitch` vectors. */
INLINE void outer_block(float *dweight, size_t outputs, const float *x, const float *by_sample, size_t pitch,
                        size_t count, int32_t first, const int K, const int V)
{
    vec sum[OUTER_INPUTS * OUTER_VECTORS];
#pragma GCC unroll 12
    for (int k = 0; k < K; k++)
#pragma GCC unroll 2
        for (int v = 0; v < V; v++)
            sum[k * V + v] = first ? splat(0.0f) : load_some(dweight + (size_t)k * outputs + (size_t)v * LANES, count);
    for (size_t lane = 0; lane < LANES; lane++) {
        vec d[OUTER_VECTORS];
#pragma GCC unroll 2
        for (int v = 0; v < V; v++)
            d[v] = load(by_sample, lane * pitch + (size_t)v);
#pragma GCC unroll 12
        for (int k = 0; k < K; k++) {
            vec in = splat(x[(size_t)k * LANES + lane]);
#pragma GCC unroll 2
            for (int v = 0; v < V; v++)
                sum[k * V + v] = vec_fma(in, d[v], sum[k * V + v]);
        }
    }
#pragma GCC unroll 12
    for (int k = 0; k < K; k++)
#pragma GCC unroll 2
        for (int v = 0; v < V; v++)
            store_some(dweight + (size_t)k * outputs + (size_t)v * LANES, sum[k * V + v], count);
}

/* All outputs of K inputs. */
INLINE void outer_inputs(float *dweight, size_t outputs, const float *x, const float *by_sample, int32_t first,
                         const int K)
{
    const size_t pitch = (outputs + LANES - 1) / LANES;
    size_t o = 0;
    for (; o + OUTER_VECTORS * LANES <= outputs; o += OUTER_VECTORS * LANES)
        outer_block(dweight + o, outputs, x, by_sample + o, pitch, LANES, first, K, OUTER_VECTORS);
    for (; o + LANES <= outputs; o += LANES)
        outer_block(dweight + o, outputs, x, by_sample + o, pitch, LANES, first, K, 1);
    if (o < outputs)
        outer_block(dweight + o, outputs, x, by_sample + o, pitch, outputs - o, first, K, 1);
}

/*
 * Adds one part to dparameters, (K, O) + (O) plain floats, or starts it where `first`. scratch: dy the other way round,
 * LANES rows of the outputs, each rounded up to whole vectors, and LANES ones.
 */
static void dense_backward_weight(float *dparameters, const float *dy, const float *x, size_t inputs, size_t outputs,
                                  int32_t first, float *scratch)
{
    const size_t pitch = (outputs + LANES - 1) / LANES * LANES;
    float *ones = scratch + LANES * pitch;
    for (size_t lane = 0; lane < LANES; lane++) {
        for (size_t o = 0; o < pitch; o++)
            scratch[lane * pitch + o] = o < outputs ? dy[o * LANES + lane] : 0.0f;
        ones[lane] = 1.0f;
    }
    size_t k = 0;
    for (; k + OUTER_INPUTS <= inputs; k += OUTER_INPUTS)
        outer_inputs(dparameters + k * outputs, outputs, x + k * LANES, scratch, first, OUTER_INPUTS);
    for (; k < inputs; k++)
        outer_inputs(dparameters + k * outputs, outputs, x + k * LANES, scratch, first, 1);
    outer_inputs(dparameters + k * outputs, outputs, ones, scratch, first, 1);  /* the bias: an input that is always 1 */
}
