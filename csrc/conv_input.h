/*
 * conv_input.h - the gradient of a convolution's input; see conv.h.
 *
 * An input pixel at padded position r meets the outputs oh = (r - kh) / s of those kh that leave no remainder: kh =
 * r mod s, then s further, ... . So kh = c + j s and oh = m - j with c = r mod s and m = r / s, and the same holds for
 * columns. Pixels of one c ("phase") meet the same weights, and their outputs are neighbours: a block is P pixels of one
 * phase x Q input channels, that is P + Q loads for P * Q multiplications. Where some j would leave the output,
 * near its ends, pixels go one at a time. Each chain runs over kh, kw, co upwards, starting from 0.
 */

/* The j of position m * s + c that meet outputs 0 ... outputs - 1 by a kernel position below `kernel`. */
INLINE struct range meeting(size_t m, size_t c, size_t kernel, size_t stride, size_t outputs)
{
    const size_t all = c < kernel ? (kernel - c + stride - 1) / stride : 0;
    const size_t first = m < outputs ? 0 : m - outputs + 1, end = m + 1 < all ? m + 1 : all;
    return (struct range){first, end > first ? end : first};
}

/* P pixels, one output column apart, x Q channels. dy is the output row and column that kh = kw = c would meet. */
INLINE void input_block(float *dx, const float *dy, size_t dy_pitch, const float *weight, size_t kh, size_t kw,
                        struct range down, struct range along, const struct conv_shape s, const int P, const int Q)
{
    vec sum[CHAINS];
#pragma GCC unroll 24
    for (int i = 0; i < P * Q; i++)
        sum[i] = splat(0.0f);
    for (size_t i = down.first; i < down.end; i++)
        for (size_t j = along.first; j < along.end; j++) {
            const float *d = dy - (i * dy_pitch + j * s.out_channels) * LANES;
            const float *w = weight + ((kh + i * s.stride) * s.kernel_width + kw + j * s.stride) * s.channels
                             * s.out_channels;
            for (size_t co = 0; co < s.out_channels; co++, w++, d += LANES) {
                vec in[WIDEST];
#pragma GCC unroll 8
                for (int p = 0; p < P; p++)
                    in[p] = load(d, (size_t)p * s.out_channels);
#pragma GCC unroll 8
                for (int q = 0; q < Q; q++) {
                    vec v = splat(w[(size_t)q * s.out_channels]);
#pragma GCC unroll 8
                    for (int p = 0; p < P; p++)
                        sum[p * Q + q] = vec_fma(in[p], v, sum[p * Q + q]);
                }
            }
        }
#pragma GCC unroll 8
    for (int p = 0; p < P; p++)
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++)
            store(dx, (size_t)p * s.hop + (size_t)q, sum[p * Q + q]);
}

/* All channels of P pixels, Q at a time. */
INLINE void input_pixels(float *dx, const float *dy, size_t dy_pitch, const float *weight, size_t kh, size_t kw,
                         struct range down, struct range along, const struct conv_shape s, const int P, const int Q)
{
    size_t ci = 0;
    for (; ci + (size_t)Q <= s.channels; ci += (size_t)Q)
        input_block(dx + ci * LANES, dy, dy_pitch, weight + ci * s.out_channels, kh, kw, down, along, s, P, Q);
    dx += ci * LANES;
    weight += ci * s.out_channels;
    switch (s.channels % (size_t)Q) {
    case 1: input_block(dx, dy, dy_pitch, weight, kh, kw, down, along, s, P, 1); break;
    case 2: input_block(dx, dy, dy_pitch, weight, kh, kw, down, along, s, P, 2); break;
    case 3: input_block(dx, dy, dy_pitch, weight, kh, kw, down, along, s, P, 3); break;
    case 4: input_block(dx, dy, dy_pitch, weight, kh, kw, down, along, s, P, 4); break;
    case 5: input_block(dx, dy, dy_pitch, weight, kh, kw, down, along, s, P, 5); break;
    default: break;
    }
}

/* As many pairs from pixel m of a phase on as fit, all of whose kernel columns meet outputs; returns the next pixel. */
INLINE size_t input_pairs(float *dx_row, const float *dy_row, size_t dy_pitch, const float *paired, size_t kh, size_t c,
                          struct range down, size_t m, size_t end, size_t taps, size_t padding,
                          const struct input_pairs pairs, const struct conv_shape s, const int P)
{
#define PAIRS(function) \
    function(dx_row + (m * s.stride + c - padding) * s.channels * LANES, dy_row + (m + 1 - taps) * s.out_channels * LANES, \
             dy_pitch, paired, kh, down)
    for (; m + 2 * (size_t)P <= end; m += 2 * (size_t)P)
        PAIRS(pairs.full);
    for (; P > 2 && m + 4 <= end; m += 4)
        PAIRS(pairs.two);
    for (; m + 2 <= end; m += 2)
        PAIRS(pairs.one);
#undef PAIRS
    return m;
}

/* The pixels of one row and one phase: columns c - padding, stride further, ... of dx_row. */
INLINE void input_phase(float *dx_row, const struct tensor *dy, const float *dy_row, const float *weight,
                        const float *paired, size_t kh, size_t c, struct range down, size_t width, size_t padding,
                        const struct input_pairs pairs, const struct conv_shape s, const int P, const int Q)
{
    const size_t pitch = tensor_pitch(dy), outputs = (size_t)dy->width, step = s.out_channels * LANES;
    const size_t all = c < s.kernel_width ? (s.kernel_width - c + s.stride - 1) / s.stride : 0;
    const size_t most = (s.kernel_width + s.stride - 1) / s.stride;
    const size_t pixels = width + padding > c ? (width + padding - c + s.stride - 1) / s.stride : 0;
    const size_t end = pixels < outputs ? pixels : outputs;  /* of those that can meet all their kernel columns */
    size_t m = c < padding ? (padding - c + s.stride - 1) / s.stride : 0;
    while (m < pixels) {
        if (pairs.full && all == most && m + 1 >= all && m + 2 <= end) {
            m = input_pairs(dx_row, dy_row, pitch, paired, kh, c, down, m, end, all, padding, pairs, s, P);
            continue;
        }
        const struct range along = meeting(m, c, s.kernel_width, s.stride, outputs);
        float *to = dx_row + (m * s.stride + c - padding) * s.channels * LANES;
        if (m + 1 >= all && m + (size_t)P <= end) {
            input_pixels(to, dy_row + m * step, pitch, weight, kh, c, down, along, s, P, Q);
            m += (size_t)P;
        } else {
            input_pixels(to, dy_row + m * step, pitch, weight, kh, c, down, along, s, 1, Q);
            m++;
        }
    }
}

/* paired: transform_input_weights' result, where there are pairs. */
INLINE void input_rows(const struct tensor *dx, const struct tensor *dy, const float *weight, const float *paired,
                       size_t padding, const struct input_pairs pairs, const struct conv_shape s, const int P, const int Q)
{
    const size_t phase = pairs.full ? paired_phase(s) : 0;
    for (size_t ih = 0; ih < (size_t)dx->height; ih++) {
        const size_t kh = (ih + padding) % s.stride, m = (ih + padding) / s.stride;
        const struct range down = meeting(m, kh, s.kernel_height, s.stride, (size_t)dy->height);
        const float *dy_row = dy->data + m * tensor_pitch(dy) * LANES;
        for (size_t c = 0; c < s.stride; c++)
            input_phase(dx->data + tensor_at(dx, (int32_t)ih) * LANES, dy, dy_row, weight, paired + c * phase, kh, c, down,
                        (size_t)dx->width, padding, pairs, s, P, Q);
    }
}

#define CONV_SHAPE(K, S, I, O) \
    INPUT_PAIRS_FUNCTION(input_full_k##K##s##S##_i##I##o##O, CHAINS / block_channels(I), K, S, I, O) \
    INPUT_PAIRS_FUNCTION(input_two_k##K##s##S##_i##I##o##O, 2, K, S, I, O) \
    INPUT_PAIRS_FUNCTION(input_one_k##K##s##S##_i##I##o##O, 1, K, S, I, O) \
    static void conv_backward_input_k##K##s##S##_i##I##o##O(const struct tensor *dx, const struct tensor *dy, \
                                                            const float *weight, const float *paired, size_t padding) \
    { \
        const struct input_pairs pairs = {input_full_k##K##s##S##_i##I##o##O, input_two_k##K##s##S##_i##I##o##O, \
                                          input_one_k##K##s##S##_i##I##o##O}; \
        const struct input_pairs none = {NULL, NULL, NULL}; \
        input_rows(dx, dy, weight, paired, padding, \
                   find_pattern(input_taps(K, S), 1, O) && (I) % block_channels(I) == 0 ? pairs : none, \
                   conv_shape(K, S, I, O), CHAINS / block_channels(I), block_channels(I)); \
    }
#include "conv_shapes.inc"
#undef CONV_SHAPE

/* dy has no border; paired is what transform_input_weights makes of the weights. */
static void conv_backward_input(const struct tensor *dx, const struct tensor *dy, const float *weight, const float *paired,
                                const struct lenet_layer *layer)
{
    const size_t padding = (size_t)layer->padding;
    const struct input_pairs none = {NULL, NULL, NULL};
#define CONV_SHAPE(K, S, I, O) \
    if (has_shape(layer, K, S, I, O)) { \
        conv_backward_input_k##K##s##S##_i##I##o##O(dx, dy, weight, paired, padding); \
        return; \
    }
#include "conv_shapes.inc"
#undef CONV_SHAPE
    input_rows(dx, dy, weight, paired, padding, none, shape_of(layer), CHAINS / WIDEST, WIDEST);
}
