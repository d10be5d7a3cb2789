/*
 * conv.h - convolution (cross-correlation, as CNNs call it), forward and both gradients.
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
 * row of zeros above and below the image. So these functions know nothing of vertical padding, and the first layer
 * can hand rows that it has just made from pixels.
 *
 * Taps. In a row [column][channel] the KW * C_in values under the kernel are contiguous, and so are the weights that
 * they meet. kw and ci are therefore one index t, "tap", below KW * C_in, and the next output column is
 * hop = s * C_in further:
 *
 *     for kh: for t: for co:  y[ow][co] += rows[kh][ow * hop + t] * w[kh][t][co]
 *
 * Register blocks. Each output element is one chain of fused multiply-adds in the order kh, t, starting from the
 * bias; each weight's gradient one chain over the pixels in row-major order. Working on PIXELS x CHANNELS chains side by
 * side reuses every load several times and hides the latency, and changes no chain: the bits are the naive loop's.
 */

/* Chains side by side: their number, with the operands, fills the registers. */
#if REGISTERS == 32
#define PIXELS 4
#else
#define PIXELS 2
#endif
#define CHANNELS 6

/* P output columns from y on, Q channels. rows[kh] + x is the first input under the first column. */
INLINE void forward_block(float *y, const float *const *rows, size_t x, const float *weight, const float *bias,
                          const struct lenet_layer *layer, const int P, const int Q)
{
    const size_t taps = (size_t)layer->kernel_width * (size_t)layer->channels;
    const size_t hop = (size_t)layer->stride * (size_t)layer->channels;
    const size_t channels = (size_t)layer->out_channels;
    vec sum[PIXELS][CHANNELS];

#pragma GCC unroll 8
    for (int p = 0; p < P; p++)
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++)
            sum[p][q] = splat(bias[q]);
    for (int32_t kh = 0; kh < layer->kernel_height; kh++) {
        const float *row = rows[kh];
        for (size_t t = 0; t < taps; t++, weight += channels) {
            vec in[PIXELS];
#pragma GCC unroll 8
            for (int p = 0; p < P; p++)
                in[p] = load(row, x + (size_t)p * hop + t);
#pragma GCC unroll 8
            for (int q = 0; q < Q; q++) {
                vec w = splat(weight[q]);
#pragma GCC unroll 8
                for (int p = 0; p < P; p++)
                    sum[p][q] = vec_fma(in[p], w, sum[p][q]);
            }
        }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; p++)
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++)
            store(y, (size_t)p * channels + (size_t)q, sum[p][q]);
}

/* All channels of P output columns, CHANNELS at a time. */
INLINE void forward_columns(float *y, const float *const *rows, size_t x, const float *weight, const float *bias,
                            const struct lenet_layer *layer, const int P)
{
    for (int32_t co = 0; co < layer->out_channels; co += CHANNELS) {
        float *to = y + (size_t)co * LANES;
        switch (layer->out_channels - co) {
        case 1: forward_block(to, rows, x, weight + co, bias + co, layer, P, 1); break;
        case 2: forward_block(to, rows, x, weight + co, bias + co, layer, P, 2); break;
        case 3: forward_block(to, rows, x, weight + co, bias + co, layer, P, 3); break;
        case 4: forward_block(to, rows, x, weight + co, bias + co, layer, P, 4); break;
        case 5: forward_block(to, rows, x, weight + co, bias + co, layer, P, 5); break;
        default: forward_block(to, rows, x, weight + co, bias + co, layer, P, CHANNELS); break;
        }
    }
}

/* One output row: y is (out_width, C_out) vectors. */
static void conv_forward_row(float *y, const float *const *rows, const float *weight, const float *bias,
                             const struct lenet_layer *layer)
{
    const size_t hop = (size_t)layer->stride * (size_t)layer->channels;
    const size_t pitch = (size_t)layer->out_channels * LANES;
    int32_t ow = 0;
    for (; ow + PIXELS <= layer->out_width; ow += PIXELS)
        forward_columns(y + (size_t)ow * pitch, rows, (size_t)ow * hop, weight, bias, layer, PIXELS);
    for (; ow < layer->out_width; ow++)
        forward_columns(y + (size_t)ow * pitch, rows, (size_t)ow * hop, weight, bias, layer, 1);
}

/* Adds one row's pixels to T taps x Q channels of the weight gradient. x is the first tap's first input. */
INLINE void weight_block(float *dweight, const float *dy, const float *x, const struct lenet_layer *layer,
                         const int T, const int Q)
{
    const size_t hop = (size_t)layer->stride * (size_t)layer->channels;
    const size_t channels = (size_t)layer->out_channels;
    vec sum[PIXELS][CHANNELS];

#pragma GCC unroll 8
    for (int t = 0; t < T; t++)
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++)
            sum[t][q] = load(dweight, (size_t)t * channels + (size_t)q);
    for (size_t ow = 0; ow < (size_t)layer->out_width; ow++) {
        vec in[PIXELS];
#pragma GCC unroll 8
        for (int t = 0; t < T; t++)
            in[t] = load(x, ow * hop + (size_t)t);
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++) {
            vec d = load(dy, ow * channels + (size_t)q);
#pragma GCC unroll 8
            for (int t = 0; t < T; t++)
                sum[t][q] = vec_fma(in[t], d, sum[t][q]);
        }
    }
#pragma GCC unroll 8
    for (int t = 0; t < T; t++)
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++)
            store(dweight, (size_t)t * channels + (size_t)q, sum[t][q]);
}

/* All channels of T taps, CHANNELS at a time. */
INLINE void weight_taps(float *dweight, const float *dy, const float *x, const struct lenet_layer *layer, const int T)
{
    for (int32_t co = 0; co < layer->out_channels; co += CHANNELS) {
        float *to = dweight + (size_t)co * LANES;
        const float *from = dy + (size_t)co * LANES;
        switch (layer->out_channels - co) {
        case 1: weight_block(to, from, x, layer, T, 1); break;
        case 2: weight_block(to, from, x, layer, T, 2); break;
        case 3: weight_block(to, from, x, layer, T, 3); break;
        case 4: weight_block(to, from, x, layer, T, 4); break;
        case 5: weight_block(to, from, x, layer, T, 5); break;
        default: weight_block(to, from, x, layer, T, CHANNELS); break;
        }
    }
}

/* Adds one output row to the per-lane gradients: dparameters is (KH, KW, C_in, C_out) + (C_out) vectors. */
static void conv_backward_weight_row(float *dparameters, const float *dy, const float *const *rows,
                                     const struct lenet_layer *layer)
{
    const size_t taps = (size_t)layer->kernel_width * (size_t)layer->channels;
    const size_t channels = (size_t)layer->out_channels;
    float *to = dparameters;
    for (int32_t kh = 0; kh < layer->kernel_height; kh++) {
        size_t t = 0;
        for (; t + PIXELS <= taps; t += PIXELS, to += PIXELS * channels * LANES)
            weight_taps(to, dy, rows[kh] + t * LANES, layer, PIXELS);
        for (; t < taps; t++, to += channels * LANES)
            weight_taps(to, dy, rows[kh] + t * LANES, layer, 1);
    }
    for (size_t co = 0; co < channels; co++) {
        vec sum = load(to, co);
        for (size_t ow = 0; ow < (size_t)layer->out_width; ow++)
            sum += load(dy, ow * channels + co);
        store(to, co, sum);
    }
}

/* The output positions o with o * stride + k = position for some k below kernel: *first to *last. */
INLINE void outputs_over(int32_t position, int32_t kernel, int32_t stride, int32_t outputs, int32_t *first,
                         int32_t *last)
{
    int32_t low = position - kernel + 1;
    *first = low <= 0 ? 0 : (low + stride - 1) / stride;
    *last = position / stride < outputs ? position / stride : outputs - 1;
}

/* Q channels of one input pixel: chains over kh, kw, co, of which oh and ow run backwards. */
INLINE void input_block(float *dx, const struct tensor *dy, const float *weight, const struct lenet_layer *layer,
                        int32_t row, int32_t column, const int Q)
{
    const size_t out_channels = (size_t)layer->out_channels;
    int32_t top, bottom, left, right;
    outputs_over(row, layer->kernel_height, layer->stride, layer->out_height, &top, &bottom);
    outputs_over(column, layer->kernel_width, layer->stride, layer->out_width, &left, &right);
    vec sum[CHANNELS];
#pragma GCC unroll 8
    for (int q = 0; q < Q; q++)
        sum[q] = splat(0.0f);
    for (int32_t oh = bottom; oh >= top; oh--)
        for (int32_t ow = right; ow >= left; ow--) {
            const size_t kh = (size_t)(row - oh * layer->stride), kw = (size_t)(column - ow * layer->stride);
            const float *w = weight + (kh * (size_t)layer->kernel_width + kw) * (size_t)layer->channels * out_channels;
            const float *d = dy->data + (tensor_at(dy, oh) + (size_t)ow * out_channels) * LANES;
            for (size_t co = 0; co < out_channels; co++) {
                vec in = load(d, co);
#pragma GCC unroll 8
                for (int q = 0; q < Q; q++)
                    sum[q] = vec_fma(in, splat(w[(size_t)q * out_channels + co]), sum[q]);
            }
        }
#pragma GCC unroll 8
    for (int q = 0; q < Q; q++)
        store(dx, (size_t)q, sum[q]);
}

static void conv_backward_input(const struct tensor *dx, const struct tensor *dy, const float *weight,
                                const struct lenet_layer *layer)
{
    const int32_t padding = layer->padding;
    const size_t out_channels = (size_t)layer->out_channels;
    for (int32_t ih = 0; ih < layer->height; ih++)
        for (int32_t iw = 0; iw < layer->width; iw++)
            for (int32_t ci = 0; ci < layer->channels; ci += CHANNELS) {
                size_t at = tensor_at(dx, ih) + (size_t)iw * (size_t)layer->channels + (size_t)ci;
                float *to = dx->data + at * LANES;
                const float *w = weight + (size_t)ci * out_channels;
                switch (layer->channels - ci) {
                case 1: input_block(to, dy, w, layer, ih + padding, iw + padding, 1); break;
                case 2: input_block(to, dy, w, layer, ih + padding, iw + padding, 2); break;
                case 3: input_block(to, dy, w, layer, ih + padding, iw + padding, 3); break;
                case 4: input_block(to, dy, w, layer, ih + padding, iw + padding, 4); break;
                case 5: input_block(to, dy, w, layer, ih + padding, iw + padding, 5); break;
                default: input_block(to, dy, w, layer, ih + padding, iw + padding, CHANNELS); break;
                }
            }
}
