/*
 * conv.h - convolution (cross-correlation, as CNNs call it): what its three passes share.
 *
 *     y[oh][ow][co] = b[co] + sum over kh, kw, ci of x[oh s + kh - p][ow s + kw - p][ci] w[kh][kw][ci][co]
 *     dw[kh][kw][ci][co] = sum over oh, ow of x[oh s + kh - p][ow s + kw - p][ci] dy[oh][ow][co]
 *     db[co] = sum over oh, ow of dy[oh][ow][co]
 *     dx[ih][iw][ci] = sum over kh, kw, co of dy[oh][ow][co] w[kh][kw][ci][co]
 *                      wherever oh s + kh - p = ih and ow s + kw - p = iw
 *
 * with x = 0 outside the image. Every element is a vector of samples, every weight a broadcast scalar.
 *
 * Rows. An output row needs KH input rows; the caller hands their addresses, each a row with its zero border, or a
 * row of zeros above and below the image. So these functions know nothing of vertical padding.
 *
 * Bytes. The first layer reads rows of bytes (pixels.h) where others read floats: the same loops, with another load. Widening
 * and converting take units of the processor that a convolution leaves idle, and a quarter of the bandwidth.
 *
 * Taps. In a row [column][channel] the KW * C_in values under the kernel are contiguous, and so are the weights that
 * they meet. kw and ci are therefore one index t, "tap", below KW * C_in, and the next output column is
 * hop = s * C_in further:
 *
 *     for kh: for t: for co:  y[ow][co] += rows[kh][ow * hop + t] * w[kh][t][co]
 *
 * Register blocks. Each output element is one chain of fused multiply-adds in the order kh, t, starting from the
 * bias; each weight's gradient one chain over the pixels in row-major order; each input's gradient one chain over
 * kh, kw, co. A block works on A x B chains side by side: it loads A operands of one kind and B of the other and
 * multiplies each with each, so a load serves several multiplications, and there are chains enough to hide their
 * latency (two units of four cycles: eight). It changes no chain, so the bits are the naive loop's.
 *
 * Instances. conv_shapes.inc lists shapes whose sizes are constants in code of their own; INSTANCE(shape) below
 * finds it. All others take the same source with sizes from the layer. Instances whose windows overlap take fewer
 * multiplications than the sums above say (pairs.h); their weights and the gradients of these are then in another order and number.
 */

/* Chains of a block: with their operands they fill the registers. */
#if REGISTERS == 32
#define CHAINS 24
#else
#define CHAINS 12
#endif
#define WIDEST 6  /* channels of a block at most */

/* Sizes in vectors and scalars; constants in an instance. */
struct conv_shape {
    size_t kernel_height, kernel_width, stride, channels, out_channels;
    size_t taps, hop;  /* KW * C_in, stride * C_in */
};

INLINE struct conv_shape conv_shape(size_t kernel, size_t stride, size_t channels, size_t out_channels)
{
    return (struct conv_shape){kernel, kernel, stride, channels, out_channels, kernel * channels, stride * channels};
}

INLINE struct conv_shape shape_of(const struct lenet_layer *layer)
{
    return (struct conv_shape){(size_t)layer->kernel_height, (size_t)layer->kernel_width, (size_t)layer->stride,
                               (size_t)layer->channels, (size_t)layer->out_channels,
                               (size_t)(layer->kernel_width * layer->channels),
                               (size_t)(layer->stride * layer->channels)};
}

INLINE int has_shape(const struct lenet_layer *layer, int32_t kernel, int32_t stride, int32_t channels,
                     int32_t out_channels)
{
    return layer->kernel_height == kernel && layer->kernel_width == kernel && layer->stride == stride &&
           layer->channels == channels && layer->out_channels == out_channels;
}

/* Channels of a block: all blocks alike where 6 or 4 divide them. */
INLINE int block_channels(size_t channels)
{
    return channels % 6 != 0 && channels % 4 == 0 ? 4 : WIDEST;
}

/* Vector i of a row of floats, or of bytes. */
INLINE vec load_input(const void *row, size_t i, const int bytes)
{
    return bytes ? load_pixel(row, i) : load(row, i);
}
