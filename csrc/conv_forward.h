/*
 * conv_forward.h - one output row of a convolution; the mathematics is in conv.h.
 *
 * A block is P output columns x Q output channels. In step t it loads the P inputs, `hop` apart, and broadcasts the Q
 * weights: P + Q loads for P * Q multiplications.
 *
 * The bias of a row of floats is one for each channel; of a row of bytes one for each output, `bias_hop` = C_out apart, since
 * what turns bytes into inputs depends on which of them lie in the image (front.c).
 */

/* rows[kh], from vector x on, is the first input under the first column. */
INLINE void forward_block(float *y, const void *const *rows, size_t x, const float *weight, const float *bias,
                          size_t bias_hop, const struct conv_shape s, const int P, const int Q, const int bytes)
{
    vec sum[CHAINS];
#pragma GCC unroll 8
    for (int p = 0; p < P; p++)
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++)
            sum[p * Q + q] = splat(bias[(size_t)p * bias_hop + (size_t)q]);
    for (size_t kh = 0; kh < s.kernel_height; kh++) {
        const void *in = rows[kh];
        for (size_t t = 0; t < s.taps; t++, weight += s.out_channels) {
            vec column[WIDEST];
#pragma GCC unroll 8
            for (int p = 0; p < P; p++)
                column[p] = load_input(in, x + t + (size_t)p * s.hop, bytes);
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
INLINE void forward_columns(float *y, const void *const *rows, size_t x, const float *weight, const float *bias,
                            size_t bias_hop, const struct conv_shape s, const int P, const int Q, const int bytes)
{
    size_t co = 0;
    for (; co + (size_t)Q <= s.out_channels; co += (size_t)Q)
        forward_block(y + co * LANES, rows, x, weight + co, bias + co, bias_hop, s, P, Q, bytes);
    y += co * LANES;
    weight += co;
    bias += co;
    switch (s.out_channels % (size_t)Q) {
    case 1: forward_block(y, rows, x, weight, bias, bias_hop, s, P, 1, bytes); break;
    case 2: forward_block(y, rows, x, weight, bias, bias_hop, s, P, 2, bytes); break;
    case 3: forward_block(y, rows, x, weight, bias, bias_hop, s, P, 3, bytes); break;
    case 4: forward_block(y, rows, x, weight, bias, bias_hop, s, P, 4, bytes); break;
    case 5: forward_block(y, rows, x, weight, bias, bias_hop, s, P, 5, bytes); break;
    default: break;
    }
}

/* A row of `width` output columns, P at a time. */
INLINE void forward_row(float *y, const void *const *rows, const float *weight, const float *bias, size_t width,
                        const struct conv_shape s, const int P, const int Q, const int bytes)
{
    const size_t bias_hop = bytes ? s.out_channels : 0;
    size_t ow = 0;
    for (; ow + (size_t)P <= width; ow += (size_t)P)
        forward_columns(y + ow * s.out_channels * LANES, rows, ow * s.hop, weight, bias + ow * bias_hop, bias_hop, s, P,
                        Q, bytes);
    const size_t x = ow * s.hop;
    y += ow * s.out_channels * LANES;
    bias += ow * bias_hop;
    switch (width - ow) {
    case 1: forward_columns(y, rows, x, weight, bias, bias_hop, s, 1, Q, bytes); break;
    case 2: forward_columns(y, rows, x, weight, bias, bias_hop, s, P > 2 ? 2 : 1, Q, bytes); break;
    case 3: forward_columns(y, rows, x, weight, bias, bias_hop, s, P > 3 ? 3 : 1, Q, bytes); break;
    case 4: forward_columns(y, rows, x, weight, bias, bias_hop, s, P > 4 ? 4 : 1, Q, bytes); break;
    case 5: forward_columns(y, rows, x, weight, bias, bias_hop, s, P > 5 ? 5 : 1, Q, bytes); break;
    default: break;
    }
}

#define FORWARD_INSTANCE(NAME, K, S, I, O, BYTES) \
    PAIRS_FUNCTION(NAME##_full_k##K##s##S##_i##I##o##O, CHAINS / block_channels(O), 1, K, S, I, O, BYTES) \
    PAIRS_FUNCTION(NAME##_four_k##K##s##S##_i##I##o##O, (CHAINS / block_channels(O) > 4 ? 4 : 1), 1, K, S, I, O, BYTES) \
    PAIRS_FUNCTION(NAME##_two_k##K##s##S##_i##I##o##O, 2, 1, K, S, I, O, BYTES) \
    PAIRS_FUNCTION(NAME##_one_k##K##s##S##_i##I##o##O, 1, 1, K, S, I, O, BYTES) \
    PAIRS_FUNCTION(NAME##_half_k##K##s##S##_i##I##o##O, 1, 0, K, S, I, O, BYTES) \
    static void NAME##_k##K##s##S##_i##I##o##O(float *y, const void *const *rows, const float *weight, \
                                               const float *bias, size_t width) \
    { \
        const struct conv_shape s = conv_shape(K, S, I, O); \
        const int Q = block_channels(O), P = CHAINS / Q; \
        const struct pairs_functions pairs = { \
            NAME##_full_k##K##s##S##_i##I##o##O, NAME##_four_k##K##s##S##_i##I##o##O, NAME##_two_k##K##s##S##_i##I##o##O, \
            NAME##_one_k##K##s##S##_i##I##o##O, NAME##_half_k##K##s##S##_i##I##o##O}; \
        if (find_pattern(K, S, I)) \
            pairs_row(y, rows, weight, bias, width, pairs, s, P, BYTES); \
        else \
            forward_row(y, rows, weight, bias, width, s, P, Q, BYTES); \
    }
#define CONV_SHAPE(K, S, I, O) FORWARD_INSTANCE(conv_forward_row, K, S, I, O, 0)
#include "conv_shapes.inc"
#undef CONV_SHAPE
#define CONV_SHAPE(K, S, I, O)
#define FIRST_SHAPE(K, S, I, O) FORWARD_INSTANCE(conv_forward_pixels, K, S, I, O, 1)
#include "conv_shapes.inc"
#undef CONV_SHAPE

/* One output row: y is (out_width, C_out) vectors. rows are of floats; weight is as transform_weights leaves it. */
static void conv_forward_row(float *y, const void *const *rows, const float *weight, const float *bias,
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
    forward_row(y, rows, weight, bias, width, shape_of(layer), CHAINS / WIDEST, WIDEST, 0);
}

/* The same of rows of bytes; biases is (out_width, C_out). */
static void conv_forward_pixels(float *y, const void *const *rows, const float *weight, const float *biases,
                                const struct lenet_layer *layer)
{
    const size_t width = (size_t)layer->out_width;
#define CONV_SHAPE(K, S, I, O)
#define FIRST_SHAPE(K, S, I, O) \
    if (has_shape(layer, K, S, I, O)) { \
        conv_forward_pixels_k##K##s##S##_i##I##o##O(y, rows, weight, biases, width); \
        return; \
    }
#include "conv_shapes.inc"
#undef CONV_SHAPE
    forward_row(y, rows, weight, biases, width, shape_of(layer), CHAINS / WIDEST, WIDEST, 1);
}
