/*
 * conv_weight.h - the gradient of a convolution's weight; see conv.h.
 *
 * A block is T taps x Q output channels, whose sums stay in registers while it walks along a row: T inputs and Q
 * gradients loaded for T * Q multiplications, and no store. Blocks walk the same columns again, and rows come back to
 * the same sums; what keeps a block waiting is the cache. So
 *
 * - strips: where a row's inputs and gradients are larger than the L1 cache, all blocks first walk one strip of columns that
 *   is not, then the next;
 * - tiles: the taps of one kernel row are taken in tiles whose sums fit beside a strip, and a tile goes over all rows
 *   before the next one starts.
 *
 * Both only change the order in which different chains are worked on. A chain itself still takes its pixels row by row and
 * column by column; between strips and rows its sum waits in memory.
 */

#define STRIP_BYTES 28672  /* inputs and gradients */
#define TILE_BYTES 14336   /* sums */

/* Adds `columns` pixels to T taps x Q channels. x is the first tap's first input, of floats or bytes. */
INLINE void weight_block(float *dweight, const float *dy, const void *x, size_t columns, const struct conv_shape s,
                         const int T, const int Q, const int bytes)
{
    vec sum[CHAINS];
#pragma GCC unroll 8
    for (int t = 0; t < T; t++)
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++)
            sum[t * Q + q] = load(dweight, (size_t)t * s.out_channels + (size_t)q);
    for (size_t ow = 0; ow < columns; ow++, dy += s.out_channels * LANES) {
        vec in[WIDEST];
#pragma GCC unroll 8
        for (int t = 0; t < T; t++) {
            in[t] = load_input(x, ow * s.hop + (size_t)t, bytes);
            if (bytes)
                in_register(in[t]);
        }
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++) {
            vec d = load(dy, (size_t)q);
            in_register(d);
#pragma GCC unroll 8
            for (int t = 0; t < T; t++)
                sum[t * Q + q] = vec_fma(in[t], d, sum[t * Q + q]);
        }
    }
#pragma GCC unroll 8
    for (int t = 0; t < T; t++)
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++)
            store(dweight, (size_t)t * s.out_channels + (size_t)q, sum[t * Q + q]);
}

/* All channels of T taps, Q at a time. */
INLINE void weight_taps(float *dweight, const float *dy, const void *x, size_t columns, const struct conv_shape s,
                        const int T, const int Q, const int bytes)
{
    size_t co = 0;
    for (; co + (size_t)Q <= s.out_channels; co += (size_t)Q)
        weight_block(dweight + co * LANES, dy + co * LANES, x, columns, s, T, Q, bytes);
    dweight += co * LANES;
    dy += co * LANES;
    switch (s.out_channels % (size_t)Q) {
    case 1: weight_block(dweight, dy, x, columns, s, T, 1, bytes); break;
    case 2: weight_block(dweight, dy, x, columns, s, T, 2, bytes); break;
    case 3: weight_block(dweight, dy, x, columns, s, T, 3, bytes); break;
    case 4: weight_block(dweight, dy, x, columns, s, T, 4, bytes); break;
    case 5: weight_block(dweight, dy, x, columns, s, T, 5, bytes); break;
    default: break;
    }
}

/* `taps` taps of one kernel row, T at a time. */
INLINE void weight_tile(float *dweight, const float *dy, const void *x, size_t columns, size_t taps,
                        const struct conv_shape s, const int T, const int Q, const int bytes)
{
    const size_t pitch = s.out_channels * LANES, input = bytes ? LANES : LANES * sizeof(float);
    size_t t = 0;
    for (; t + (size_t)T <= taps; t += (size_t)T)
        weight_taps(dweight + t * pitch, dy, (const char *)x + t * input, columns, s, T, Q, bytes);
    dweight += t * pitch;
    x = (const char *)x + t * input;
    switch (taps - t) {
    case 1: weight_taps(dweight, dy, x, columns, s, 1, Q, bytes); break;
    case 2: weight_taps(dweight, dy, x, columns, s, T > 2 ? 2 : 1, Q, bytes); break;
    case 3: weight_taps(dweight, dy, x, columns, s, T > 3 ? 3 : 1, Q, bytes); break;
    case 4: weight_taps(dweight, dy, x, columns, s, T > 4 ? 4 : 1, Q, bytes); break;
    case 5: weight_taps(dweight, dy, x, columns, s, T > 5 ? 5 : 1, Q, bytes); break;
    default: break;
    }
}

/* Strips of a row of `width` columns. */
INLINE size_t strips_of(size_t width, const struct conv_shape s, const int bytes)
{
    const size_t column = (s.hop * (bytes ? 1 : sizeof(float)) + s.out_channels * sizeof(float)) * LANES;
    const size_t fitting = STRIP_BYTES / column;
    return fitting ? (width + fitting - 1) / fitting : width;
}

/* One tile over one row. */
INLINE void weight_row(float *dweight, const float *dy, const float *x, size_t width, size_t taps,
                       const struct conv_shape s, const int T, const int Q)
{
    const size_t strips = strips_of(width, s, 0);
    for (size_t strip = 0; strip < strips; strip++) {
        const size_t ow = width * strip / strips, columns = width * (strip + 1) / strips - ow;
        weight_tile(dweight, dy + ow * s.out_channels * LANES, x + ow * s.hop * LANES, columns, taps, s, T, Q,
                    0);
    }
}

INLINE void weight_all(float *dweight, const struct tensor *dy, const struct tensor *x, const struct conv_shape s,
                       const int T, const int Q)
{
    const size_t pitch = s.out_channels * LANES, fitting = TILE_BYTES / (pitch * sizeof(float)) / (size_t)T;
    const size_t tile = fitting ? fitting * (size_t)T : (size_t)T;
    const size_t dy_row = tensor_pitch(dy) * LANES, x_row = tensor_pitch(x) * LANES;
    for (size_t kh = 0; kh < s.kernel_height; kh++)
        for (size_t t = 0; t < s.taps; t += tile)
            for (size_t oh = 0; oh < (size_t)dy->height; oh++)
                weight_row(dweight + (kh * s.taps + t) * pitch, dy->data + oh * dy_row,
                           x->data + (oh * s.stride + kh) * x_row + t * LANES, (size_t)dy->width,
                           s.taps - t < tile ? s.taps - t : tile, s, T, Q);
}

#define CONV_SHAPE(K, S, I, O) \
    static void conv_backward_weight_k##K##s##S##_i##I##o##O(float *dweight, const struct tensor *dy, \
                                                             const struct tensor *x) \
    { \
        const struct conv_shape s = conv_shape(K, S, I, O); \
        const struct pattern *const pattern = find_pattern(K, S, I); \
        const int Q = block_channels(O), T = CHAINS / Q; \
        if (pattern) \
            pairs_weight_all(dweight, dy, x, pattern, s, T, Q); \
        else \
            weight_all(dweight, dy, x, s, T, Q); \
    }
#include "conv_shapes.inc"
#undef CONV_SHAPE

/* Adds to the per-lane gradients of the weights, as vectors in the order of transform_weights. x is the padded input, dy has no
 * border. */
static void conv_backward_weight(float *dweight, const struct tensor *dy, const struct tensor *x,
                                 const struct lenet_layer *layer)
{
#define CONV_SHAPE(K, S, I, O) \
    if (has_shape(layer, K, S, I, O)) { \
        conv_backward_weight_k##K##s##S##_i##I##o##O(dweight, dy, x); \
        return; \
    }
#include "conv_shapes.inc"
#undef CONV_SHAPE
    weight_all(dweight, dy, x, shape_of(layer), CHAINS / WIDEST, WIDEST);
}

#define CONV_SHAPE(K, S, I, O)
#define FIRST_SHAPE(K, S, I, O) \
    static void conv_backward_weight_pixels_k##K##s##S##_i##I##o##O(float *dweight, size_t kh, const float *dy, \
                                                                    const int8_t *x, size_t columns) \
    { \
        const struct conv_shape s = conv_shape(K, S, I, O); \
        const struct pattern *const pattern = find_pattern(K, S, I); \
        const int Q = block_channels(O), T = CHAINS / Q; \
        if (pattern) \
            pairs_weight_strip(dweight, kh, dy, x, columns, pattern, s, T, Q); \
        else \
            weight_tile(dweight + kh * s.taps * s.out_channels * LANES, dy, x, columns, s.taps, s, T, Q, 1); \
    }
#include "conv_shapes.inc"
#undef CONV_SHAPE

/* Adds `columns` pixels of one output row, from an even one on, to kernel row kh of the gradient. x are bytes. */
static void conv_backward_weight_pixels(float *dweight, size_t kh, const float *dy, const int8_t *x, size_t columns,
                                        const struct lenet_layer *layer)
{
#define CONV_SHAPE(K, S, I, O)
#define FIRST_SHAPE(K, S, I, O) \
    if (has_shape(layer, K, S, I, O)) { \
        conv_backward_weight_pixels_k##K##s##S##_i##I##o##O(dweight, kh, dy, x, columns); \
        return; \
    }
#include "conv_shapes.inc"
#undef CONV_SHAPE
    const struct conv_shape s = shape_of(layer);
    weight_tile(dweight + kh * s.taps * s.out_channels * LANES, dy, x, columns, s.taps, s, CHAINS / WIDEST, WIDEST, 1);
}

/* Columns of a strip of the above whose bytes and gradients stay in the L1 cache; whole pairs. */
static size_t conv_strip_columns(const struct lenet_layer *layer)
{
    const size_t width = (size_t)layer->out_width, strips = strips_of(width, shape_of(layer), 1);
    return ((width + strips - 1) / strips + 1) / 2 * 2;
}
