/*
 * conv_input.h - the gradient of a convolution's input; see conv.h.
 *
 * An input pixel at padded position r meets the outputs oh = (r - kh) / s of those kh that leave no remainder: kh =
 * r mod s, then s further, ... . So kh = c + j s and oh = m - j with c = r mod s and m = r / s, and the same holds for
 * columns. Pixels of one c ("phase") meet the same weights, and their outputs are neighbours: a block is P pixels of one
 * phase x Q input channels, that is P + Q loads for P * Q multiplications. Where some j would leave the output,
 * near its ends, pixels go one at a time. Each chain runs over kh, kw, co upwards, starting from 0.
 */

struct range {
    size_t first, end;
};

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

/* The pixels of one row and one phase: columns c - padding, stride further, ... of dx_row. */
INLINE void input_phase(float *dx_row, const struct tensor *dy, const float *dy_row, const float *weight, size_t kh,
                        size_t c, struct range down, size_t width, size_t padding, const struct conv_shape s,
                        const int P, const int Q)
{
    const size_t pitch = tensor_pitch(dy), outputs = (size_t)dy->width, step = s.out_channels * LANES;
    const size_t all = c < s.kernel_width ? (s.kernel_width - c + s.stride - 1) / s.stride : 0;
    size_t m = c < padding ? (padding - c + s.stride - 1) / s.stride : 0;
    while (m * s.stride + c < width + padding) {
        const struct range along = meeting(m, c, s.kernel_width, s.stride, outputs);
        float *to = dx_row + (m * s.stride + c - padding) * s.channels * LANES;
        const float *from = dy_row + m * step;
        const size_t last = (m + (size_t)P - 1) * s.stride + c;  /* the block's last pixel */
        if (m + 1 >= all && m + (size_t)P <= outputs && last < width + padding) {
            input_pixels(to, from, pitch, weight, kh, c, down, along, s, P, Q);
            m += (size_t)P;
        } else {
            input_pixels(to, from, pitch, weight, kh, c, down, along, s, 1, Q);
            m++;
        }
    }
}

INLINE void input_rows(const struct tensor *dx, const struct tensor *dy, const float *weight, size_t padding,
                       const struct conv_shape s, const int P, const int Q)
{
    for (size_t ih = 0; ih < (size_t)dx->height; ih++) {
        const size_t kh = (ih + padding) % s.stride, m = (ih + padding) / s.stride;
        const struct range down = meeting(m, kh, s.kernel_height, s.stride, (size_t)dy->height);
        const float *dy_row = dy->data + m * tensor_pitch(dy) * LANES;
        for (size_t c = 0; c < s.stride; c++)
            input_phase(dx->data + tensor_at(dx, (int32_t)ih) * LANES, dy, dy_row, weight, kh, c, down,
                        (size_t)dx->width, padding, s, P, Q);
    }
}

#define CONV_SHAPE(K, S, I, O) \
    static void conv_backward_input_k##K##s##S##_i##I##o##O(const struct tensor *dx, const struct tensor *dy, \
                                                            const float *weight, size_t padding) \
    { \
        input_rows(dx, dy, weight, padding, conv_shape(K, S, I, O), CHAINS / block_channels(I), \
                   block_channels(I)); \
    }
#include "conv_shapes.inc"
#undef CONV_SHAPE

/* dy has no border. */
static void conv_backward_input(const struct tensor *dx, const struct tensor *dy, const float *weight,
                                const struct lenet_layer *layer)
{
    const size_t padding = (size_t)layer->padding;
#define CONV_SHAPE(K, S, I, O) \
    if (has_shape(layer, K, S, I, O)) { \
        conv_backward_input_k##K##s##S##_i##I##o##O(dx, dy, weight, padding); \
        return; \
    }
#include "conv_shapes.inc"
#undef CONV_SHAPE
    input_rows(dx, dy, weight, padding, shape_of(layer), CHAINS / WIDEST, WIDEST);
}
