/*
 * pairs_weight.h - the gradient of a convolution's transformed weights; see pairs.h and conv_weight.h.
 *
 * A block is T input channels of one product x Q output channels, whose sums stay in registers along a row of pairs. One chain a
 * weight, over the pairs in row-major order, as in conv_weight.h.
 */

/* What of a pair's gradient belongs to one of the four sums. */
INLINE vec pair_gradient(const float *dy, size_t q, size_t channels, const int32_t which, const int both)
{
    if (which == FIRST || !both)
        return load(dy, q);
    if (which == SECOND)
        return load(dy, channels + q);
    if (which == PLUS)
        return load(dy, q) + load(dy, channels + q);
    return load(dy, q) - load(dy, channels + q);
}

/* Adds `pairs` pairs to T channels, from `c` on, of a product. */
INLINE void pairs_weight_block(float *sums, const float *dy, const void *x, size_t pairs, size_t c,
                               const struct product product, const struct conv_shape s, const int T, const int Q,
                               const int bytes, const int both)
{
    vec sum[CHAINS];
#pragma GCC unroll 8
    for (int t = 0; t < T; t++)
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++)
            sum[t * Q + q] = load(sums, (size_t)t * s.out_channels + (size_t)q);
    for (size_t i = 0; i < pairs; i++, dy += 2 * s.out_channels * LANES) {
        vec in[WIDEST];
#pragma GCC unroll 8
        for (int t = 0; t < T; t++) {
            in[t] = pair_input(x, 2 * i * s.hop, c + (size_t)t, product, s.channels, bytes);
            in_register(in[t]);
        }
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++) {
            vec d = pair_gradient(dy, (size_t)q, s.out_channels, product.sum, both);
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
            store(sums, (size_t)t * s.out_channels + (size_t)q, sum[t * Q + q]);
}

/* All channels of one product, whose sums are (C_in, C_out) vectors. */
INLINE void pairs_weight_product(float *sums, const float *dy, const void *x, size_t pairs, const struct product product,
                                 const struct conv_shape s, const int T, const int Q, const int bytes, const int both)
{
    size_t c = 0;
#define CHANNELS(N) \
    for (size_t co = 0; co < s.out_channels; co += (size_t)Q) \
        pairs_weight_block(sums + (c * s.out_channels + co) * LANES, dy + co * LANES, x, pairs, c, product, s, N, Q, bytes, \
                           both)
    for (; c + (size_t)T <= s.channels; c += (size_t)T)
        CHANNELS(T);
    switch (s.channels - c) {
    case 1: CHANNELS(1); break;
    case 2: CHANNELS((T > 2 ? 2 : 1)); break;
    case 3: CHANNELS((T > 3 ? 3 : 1)); break;
    case 4: CHANNELS((T > 4 ? 4 : 1)); break;
    case 5: CHANNELS((T > 5 ? 5 : 1)); break;
    default: break;
    }
#undef CHANNELS
}

/* Adds `columns` output columns of one row, the last of them alone where they are odd, to one product. */
INLINE void pairs_weight_columns(float *sums, const float *dy, const void *x, size_t columns, const struct product product,
                                 const struct conv_shape s, const int T, const int Q, const int bytes)
{
    const size_t even = columns / 2 * 2;
    pairs_weight_product(sums, dy, x, columns / 2, product, s, T, Q, bytes, 1);
    if (even < columns && product.sum != SECOND)
        pairs_weight_product(sums, dy + even * s.out_channels * LANES,
                             (const char *)x + even * s.hop * LANES * (bytes ? 1 : sizeof(float)), 1, product, s, T, Q, bytes,
                             0);
}

/* For every product i of the pattern, which PRODUCT(i) must handle with i constant. */
#define EVERY_PRODUCT(pattern) \
    PRODUCT(pattern, 0) PRODUCT(pattern, 1) PRODUCT(pattern, 2) PRODUCT(pattern, 3) \
    PRODUCT(pattern, 4) PRODUCT(pattern, 5) PRODUCT(pattern, 6) PRODUCT(pattern, 7)

/* One strip of a row of bytes, for one kernel row. dweight is the whole gradient, transformed. */
INLINE void pairs_weight_strip(float *dweight, size_t kh, const float *dy, const int8_t *x, size_t columns,
                               const struct pattern *pattern, const struct conv_shape s, const int T, const int Q)
{
    const size_t block = s.channels * s.out_channels * LANES;
#define PRODUCT(pattern, i) \
    if (i < pattern->count) \
        pairs_weight_columns(dweight + product_place(pattern, s.kernel_height, kh, i) * block, dy, x, columns, \
                             pattern->products[i], s, T, Q, 1);
    EVERY_PRODUCT(pattern)
#undef PRODUCT
}

/* All rows: a product's sums stay in the L1 cache while rows pass. */
INLINE void pairs_weight_all(float *dweight, const struct tensor *dy, const struct tensor *x, const struct pattern *pattern,
                             const struct conv_shape s, const int T, const int Q)
{
    const size_t block = s.channels * s.out_channels * LANES;
    const size_t dy_row = tensor_pitch(dy) * LANES, x_row = tensor_pitch(x) * LANES;
    for (size_t kh = 0; kh < s.kernel_height; kh++) {
#define PRODUCT(pattern, i) \
        for (size_t oh = 0; i < pattern->count && oh < (size_t)dy->height; oh++) \
            pairs_weight_columns(dweight + product_place(pattern, s.kernel_height, kh, i) * block, dy->data + oh * dy_row, \
                                 x->data + (oh * s.stride + kh) * x_row, (size_t)dy->width, pattern->products[i], s, T, Q, 0);
        EVERY_PRODUCT(pattern)
#undef PRODUCT
    }
}
