/*
 * conv_bias.h - sums of a convolution's dy: the gradient of its bias, and what the normalisation of pixels needs (folding.c).
 */

/* Q channels' sums of `pixels` pixels, side by side. */
INLINE void add_pixels(vec *sum, const float *dy, size_t pixels, size_t channels, const int Q)
{
    for (size_t i = 0; i < pixels; i++)
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++)
            sum[q] += load(dy, i * channels + (size_t)q);
}

INLINE void bias_block(float *dbias, const float *dy, size_t pixels, size_t channels, const int Q)
{
    vec sum[WIDEST];
#pragma GCC unroll 8
    for (int q = 0; q < Q; q++)
        sum[q] = load(dbias, (size_t)q);
    add_pixels(sum, dy, pixels, channels, Q);
#pragma GCC unroll 8
    for (int q = 0; q < Q; q++)
        store(dbias, (size_t)q, sum[q]);
}

/* Adds `pixels` of dy, (pixels, channels) vectors, to per-lane sums by channel. */
static void conv_backward_bias(float *dbias, const float *dy, size_t pixels, size_t channels)
{
    size_t co = 0;
    for (; co + WIDEST <= channels; co += WIDEST)
        bias_block(dbias + co * LANES, dy + co * LANES, pixels, channels, WIDEST);
    for (; co < channels; co++)
        bias_block(dbias + co * LANES, dy + co * LANES, pixels, channels, 1);
}

/* Output columns first ... end - 1. */
struct columns {
    size_t first, end;
};

/* Those for which kernel column kw meets the image and not its border. */
INLINE struct columns columns_meeting(const struct lenet_layer *layer, size_t kw)
{
    const size_t stride = (size_t)layer->stride, padding = (size_t)layer->padding, width = (size_t)layer->out_width;
    const size_t reach = (size_t)layer->width + padding;  /* columns of the padded image up to the right border */
    struct columns c = {padding > kw ? (padding - kw + stride - 1) / stride : 0,
                        reach > kw ? (reach - kw - 1) / stride + 1 : 0};
    c.end = c.end < width ? c.end : width;
    c.first = c.first < c.end ? c.first : c.end;
    return c;
}

/* The sums of Q channels of one row, see conv_row_sums; the columns that all kernel columns meet are added once. */
INLINE void row_sums_block(float *sums, const float *dy, const struct lenet_layer *layer, const int Q)
{
    const size_t channels = (size_t)layer->out_channels, kernel_width = (size_t)layer->kernel_width;
    const size_t first = columns_meeting(layer, 0).first, end = columns_meeting(layer, kernel_width - 1).end;
    vec middle[WIDEST] = {{0}};
    if (first < end)
        add_pixels(middle, dy + first * channels * LANES, end - first, channels, Q);
    for (size_t kw = 0; kw <= kernel_width; kw++) {
        const struct columns all = {0, (size_t)layer->out_width};
        const struct columns c = kw < kernel_width ? columns_meeting(layer, kw) : all;
        const size_t left_end = c.end < first ? c.end : first, right = first < end ? end : first;
        vec sum[WIDEST];
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++)
            sum[q] = load(sums, kw * channels + (size_t)q) + middle[q];
        if (c.first < left_end)
            add_pixels(sum, dy + c.first * channels * LANES, left_end - c.first, channels, Q);
        if (right < c.end)
            add_pixels(sum, dy + right * channels * LANES, c.end - right, channels, Q);
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++)
            store(sums, kw * channels + (size_t)q, sum[q]);
    }
}

/*
 * Adds an output row's dy to per-lane sums, (KW + 1, C_out) vectors: for each kernel column kw over those output columns at
 * which it meets the image, and at last over all.
 */
static void conv_row_sums(float *sums, const float *dy, const struct lenet_layer *layer)
{
    const size_t channels = (size_t)layer->out_channels;
    size_t co = 0;
    for (; co + WIDEST <= channels; co += WIDEST)
        row_sums_block(sums + co * LANES, dy + co * LANES, layer, WIDEST);
    for (; co < channels; co++)
        row_sums_block(sums + co * LANES, dy + co * LANES, layer, 1);
}
