/*
 * conv_forward.h - one output row of a convolution; the mathematics is in conv.h.
 *
 * A block is P output columns x Q output channels. In step t it loads the P inputs, `hop` apart, and broadcasts the Q
 * weights: P + Q loads for P * Q multiplications.
 */

/* rows[kh] + x is the first input under the first column. */
INLINE void forward_block(float *y, const float *const *rows, size_t x, const float *weight, const float *bias,
                          const struct conv_shape s, const int P, const int Q)
{
    vec sum[CHAINS];
#pragma GCC unroll 8
    for (int p = 0; p < P; p++)
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++)
            sum[p * Q + q] = splat(bias[q]);
    for (size_t kh = 0; kh < s.kernel_height; kh++) {
        const float *in = rows[kh] + x * LANES;
        for (size_t t = 0; t < s.taps; t++, weight += s.out_channels, in += LANES) {
            vec column[WIDEST];
#pragma GCC unroll 8
            for (int p = 0; p < P; p++)
                column[p] = load(in, (size_t)p * s.hop);
#pragma GCC unroll 8
            for (int q = 0; q < Q; q++) {
                vec w = splat(weight[q]);
#pragma GCC unroll 8
                for (int p = 0; p < P; p++)
                    sum[p * Q + q] = vec_fma(column[p], w, sum[p * Q + q]);
            }
        }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; p++)
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++)
            store(y, (size_t)p * s.out_channels + (size_t)q, sum[p * Q + q]);
}

/* All channels of P output columns, Q at a time. */
INLINE void forward_columns(float *y, const float *const *rows, size_t x, const float *weight, const float *bias,
                            const struct conv_shape s, const int P, const int Q)
{
    size_t co = 0;
    for (; co + (size_t)Q <= s.out_channels; co += (size_t)Q)
        forward_block(y + co * LANES, rows, x, weight + co, bias + co, s, P, Q);
    switch (s.out_channels % (size_t)Q) {
    case 1: forward_block(y + co * LANES, rows, x, weight + co, bias + co, s, P, 1); break;
    case 2: forward_block(y + co * LANES, rows, x, weight + co, bias + co, s, P, 2); break;
    case 3: forward_block(y + co * LANES, rows, x, weight + co, bias + co, s, P, 3); break;
    case 4: forward_block(y + co * LANES, rows, x, weight + co, bias + co, s, P, 4); break;
    case 5: forward_block(y + co * LANES, rows, x, weight + co, bias + co, s, P, 5); break;
    default: break;
    }
}

/* A row of `width` output columns, P at a time. */
INLINE void forward_row(float *y, const float *const *rows, const float *weight, const float *bias, size_t width,
                        const struct conv_shape s, const int P, const int Q)
{
    size_t ow = 0;
    for (; ow + (size_t)P <= width; ow += (size_t)P)
        forward_columns(y + ow * s.out_channels * LANES, rows, ow * s.hop, weight, bias, s, P, Q);
    float *rest = y + ow * s.out_channels * LANES;
    switch (width - ow) {
    case 1: forward_columns(rest, rows, ow * s.hop, weight, bias, s, 1, Q); break;
    case 2: forward_columns(rest, rows, ow * s.hop, weight, bias, s, P > 2 ? 2 : 1, Q); break;
    case 3: forward_columns(rest, rows, ow * s.hop, weight, bias, s, P > 3 ? 3 : 1, Q); break;
    case 4: forward_columns(rest, rows, ow * s.hop, weight, bias, s, P > 4 ? 4 : 1, Q); break;
    case 5: forward_columns(rest, rows, ow * s.hop, weight, bias, s, P > 5 ? 5 : 1, Q); break;
    default: break;
    }
}

#define CONV_SHAPE(K, S, I, O) \
    static void conv_forward_row_k##K##s##S##_i##I##o##O(float *y, const float *const *rows, const float *weight, \
                                                         const float *bias, size_t width) \
    { \
        forward_row(y, rows, weight, bias, width, conv_shape(K, S, I, O), CHAINS / block_channels(O), \
                    block_channels(O)); \
    }
#include "conv_shapes.inc"
#undef CONV_SHAPE

/* One output row: y is (out_width, C_out) vectors. */
static void conv_forward_row(float *y, const float *const *rows, const float *weight, const float *bias,
                             const struct lenet_layer *layer)
{
    const size_t width = (size_t)layer->out_width;
#define CONV_SHAPE(K, S, I, O) \
    if (has_shape(layer, K, S, I, O)) { \
        conv_forward_row_k##K##s##S##_i##I##o##O(y, rows, weight, bias, width); \
        return; \
    }
#include "conv_shapes.inc"
#undef CONV_SHAPE
    forward_row(y, rows, weight, bias, width, shape_of(layer), CHAINS / WIDEST, WIDEST);
}
