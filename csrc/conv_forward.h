/*
 * conv_forward.h - one output row of a convolution; the mathematics is in conv.h.
 *
 * A block is P output columns x Q output channels. In step t it loads the P inputs, `hop` apart, and broadcasts the Q
 * weights: P + Q loads for P * Q multiplications.
 *
 * The first layer's next input rows are made from pixels meanwhile (pixels.h), N pixels in each step t: a block keeps the multipliers
 * busy and leaves other units and the way to the L2 cache idle, and making a row is little else than that.
 */

/* rows[kh] + x is the first input under the first column. */
INLINE void forward_block(float *y, const float *const *rows, size_t x, const float *weight, const float *bias,
                          struct run *run, const struct conv_shape s, const int P, const int Q, const int N)
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
            read_on(run, N);
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
                            struct run *run, const struct conv_shape s, const int P, const int Q, const int N)
{
    size_t co = 0;
    for (; co + (size_t)Q <= s.out_channels; co += (size_t)Q)
        forward_block(y + co * LANES, rows, x, weight + co, bias + co, run, s, P, Q, N);
    switch (s.out_channels % (size_t)Q) {
    case 1: forward_block(y + co * LANES, rows, x, weight + co, bias + co, run, s, P, 1, N); break;
    case 2: forward_block(y + co * LANES, rows, x, weight + co, bias + co, run, s, P, 2, N); break;
    case 3: forward_block(y + co * LANES, rows, x, weight + co, bias + co, run, s, P, 3, N); break;
    case 4: forward_block(y + co * LANES, rows, x, weight + co, bias + co, run, s, P, 4, N); break;
    case 5: forward_block(y + co * LANES, rows, x, weight + co, bias + co, run, s, P, 5, N); break;
    default: break;
    }
}

/* A row of `width` output columns, P at a time. Reads N pixels of `reader` in each step, none where N is 0. */
INLINE void forward_row(float *y, const float *const *rows, const float *weight, const float *bias, size_t width,
                        struct pixel_reader *reader, const struct conv_shape s, const int P, const int Q, const int N)
{
    struct run run = {0};
    size_t ow = 0;
    for (; ow + (size_t)P <= width; ow += (size_t)P) {
        if (N)
            run = run_of(reader);
        forward_columns(y + ow * s.out_channels * LANES, rows, ow * s.hop, weight, bias, &run, s, P, Q, N);
        if (N)
            stop_run(reader, run, N);
    }
    float *rest = y + ow * s.out_channels * LANES;
    switch (width - ow) {
    case 1: forward_columns(rest, rows, ow * s.hop, weight, bias, &run, s, 1, Q, 0); break;
    case 2: forward_columns(rest, rows, ow * s.hop, weight, bias, &run, s, P > 2 ? 2 : 1, Q, 0); break;
    case 3: forward_columns(rest, rows, ow * s.hop, weight, bias, &run, s, P > 3 ? 3 : 1, Q, 0); break;
    case 4: forward_columns(rest, rows, ow * s.hop, weight, bias, &run, s, P > 4 ? 4 : 1, Q, 0); break;
    case 5: forward_columns(rest, rows, ow * s.hop, weight, bias, &run, s, P > 5 ? 5 : 1, Q, 0); break;
    default: break;
    }
}

#define CONV_SHAPE(K, S, I, O) \
    static void conv_forward_row_k##K##s##S##_i##I##o##O(float *y, const float *const *rows, const float *weight, \
                                                         const float *bias, size_t width) \
    { \
        forward_row(y, rows, weight, bias, width, NULL, conv_shape(K, S, I, O), CHAINS / block_channels(O), \
                    block_channels(O), 0); \
    }
#include "conv_shapes.inc"
#undef CONV_SHAPE

/* P columns need S * S * P new pixels, in K * K steps for each channel. */
#define CONV_SHAPE(K, S, I, O)
#define FIRST_SHAPE(K, S, I, O) \
    static void conv_reading_row_k##K##s##S##_i##I##o##O(float *y, const float *const *rows, const float *weight, \
                                                         const float *bias, size_t width, struct pixel_reader *reader) \
    { \
        forward_row(y, rows, weight, bias, width, reader, conv_shape(K, S, I, O), CHAINS / block_channels(O), \
                    block_channels(O), ((S) * (S) * (CHAINS / block_channels(O)) + (K) * (K) - 1) / ((K) * (K))); \
    }
#include "conv_shapes.inc"
#undef CONV_SHAPE

/* One output row: y is (out_width, C_out) vectors. reader, if not NULL, may have gone on by any number of pixels. */
static void conv_forward_row(float *y, const float *const *rows, const float *weight, const float *bias,
                             const struct lenet_layer *layer, struct pixel_reader *reader)
{
    const size_t width = (size_t)layer->out_width;
#define CONV_SHAPE(K, S, I, O)
#define FIRST_SHAPE(K, S, I, O) \
    if (reader && has_shape(layer, K, S, I, O)) { \
        conv_reading_row_k##K##s##S##_i##I##o##O(y, rows, weight, bias, width, reader); \
        return; \
    }
#include "conv_shapes.inc"
#undef CONV_SHAPE
#define CONV_SHAPE(K, S, I, O) \
    if (has_shape(layer, K, S, I, O)) { \
        conv_forward_row_k##K##s##S##_i##I##o##O(y, rows, weight, bias, width); \
        return; \
    }
#include "conv_shapes.inc"
#undef CONV_SHAPE
    forward_row(y, rows, weight, bias, width, NULL, shape_of(layer), CHAINS / WIDEST, WIDEST, 0);
}
