/*
 * pool.h - average and maximum pooling and LeNet's trainable subsampling.
 *
 *     average    y = (1 / (KH KW)) * sum of the window, in row-major order
 *     maximum    y = the largest of the window; the first in row-major order takes the gradient, NaN wins over all
 *     subsample  y = w[c] * average + b[c]
 *
 * Windows may overlap (stride < kernel) or leave pixels out (stride > kernel, remainders), so backward starts
 * from zero and adds window by window in row-major order.
 */

/* Vectors from a tensor's data to channel 0 under the window of output (oh, ow). */
INLINE size_t window_at(const struct tensor *x, const struct lenet_layer *layer, int32_t oh, int32_t ow)
{
    return tensor_at(x, oh * layer->stride) + (size_t)(ow * layer->stride) * (size_t)layer->channels;
}

INLINE vec window_average(const struct tensor *x, size_t at, const struct lenet_layer *layer)
{
    const size_t pitch = tensor_pitch(x), channels = (size_t)layer->channels;
    vec sum = splat(0.0f);
    for (int32_t kh = 0; kh < layer->kernel_height; kh++)
        for (int32_t kw = 0; kw < layer->kernel_width; kw++)
            sum += load(x->data, at + (size_t)kh * pitch + (size_t)kw * channels);
    return sum * (1.0f / (float)(layer->kernel_height * layer->kernel_width));
}

/* All ones where v replaces the maximum so far. */
INLINE ivec beats(vec v, vec best)
{
    return (v > best) | ((v != v) & (best == best));
}

INLINE vec window_maximum(const struct tensor *x, size_t at, const struct lenet_layer *layer)
{
    const size_t pitch = tensor_pitch(x), channels = (size_t)layer->channels;
    vec best = load(x->data, at);
    for (int32_t kh = 0; kh < layer->kernel_height; kh++)
        for (int32_t kw = 0; kw < layer->kernel_width; kw++) {
            vec v = load(x->data, at + (size_t)kh * pitch + (size_t)kw * channels);
            best = blend(beats(v, best), v, best);
        }
    return best;
}

static void pool_forward(const struct tensor *y, const struct tensor *x, const float *parameters,
                         const struct lenet_layer *layer)
{
    const size_t channels = (size_t)layer->channels;
    for (int32_t oh = 0; oh < layer->out_height; oh++)
        for (int32_t ow = 0; ow < layer->out_width; ow++)
            for (size_t c = 0; c < channels; c++) {
                size_t at = window_at(x, layer, oh, ow) + c;
                vec v = layer->kind == LENET_MAX_POOL ? window_maximum(x, at, layer) : window_average(x, at, layer);
                if (layer->kind == LENET_SUBSAMPLE)
                    v = vec_fma(v, splat(parameters[c]), splat(parameters[channels + c]));
                store(y->data, tensor_at(y, oh) + (size_t)ow * channels + c, v);
            }
}

INLINE void spread_average(const struct tensor *dx, size_t at, vec d, const struct lenet_layer *layer)
{
    const size_t pitch = tensor_pitch(dx), channels = (size_t)layer->channels;
    d *= 1.0f / (float)(layer->kernel_height * layer->kernel_width);
    for (int32_t kh = 0; kh < layer->kernel_height; kh++)
        for (int32_t kw = 0; kw < layer->kernel_width; kw++) {
            size_t i = at + (size_t)kh * pitch + (size_t)kw * channels;
            store(dx->data, i, load(dx->data, i) + d);
        }
}

/* x_at and dx_at are the window's places in x and dx, whose borders may differ. */
INLINE void route_maximum(const struct tensor *dx, size_t dx_at, const struct tensor *x, size_t x_at, vec d,
                          const struct lenet_layer *layer)
{
    const size_t channels = (size_t)layer->channels;
    vec best = window_maximum(x, x_at, layer);
    ivec open = (ivec)(best == best) | -1;
    for (int32_t kh = 0; kh < layer->kernel_height; kh++)
        for (int32_t kw = 0; kw < layer->kernel_width; kw++) {
            size_t i = dx_at + (size_t)kh * tensor_pitch(dx) + (size_t)kw * channels;
            vec v = load(x->data, x_at + (size_t)kh * tensor_pitch(x) + (size_t)kw * channels);
            ivec hit = open & ((v == best) | ((v != v) & (best != best)));
            store(dx->data, i, blend(hit, load(dx->data, i) + d, load(dx->data, i)));
            open &= ~hit;
        }
}

static void pool_backward(const struct tensor *dx, const struct tensor *dy, const struct tensor *x,
                          const float *parameters, const struct lenet_layer *layer)
{
    const size_t channels = (size_t)layer->channels;
    for (int32_t ih = 0; ih < layer->height; ih++)
        for (size_t i = 0; i < (size_t)layer->width * channels; i++)
            store(dx->data, tensor_at(dx, ih) + i, splat(0.0f));
    for (int32_t oh = 0; oh < layer->out_height; oh++)
        for (int32_t ow = 0; ow < layer->out_width; ow++)
            for (size_t c = 0; c < channels; c++) {
                vec d = load(dy->data, tensor_at(dy, oh) + (size_t)ow * channels + c);
                size_t at = window_at(dx, layer, oh, ow) + c;
                if (layer->kind == LENET_MAX_POOL)
                    route_maximum(dx, at, x, window_at(x, layer, oh, ow) + c, d, layer);
                else if (layer->kind == LENET_SUBSAMPLE)
                    spread_average(dx, at, d * parameters[c], layer);
                else
                    spread_average(dx, at, d, layer);
            }
}

/* Adds to dparameters, (C) + (C) vectors: dw[c] = sum of dy * average, db[c] = sum of dy. */
static void subsample_backward_weight(float *dparameters, const struct tensor *dy, const struct tensor *x,
                                      const struct lenet_layer *layer)
{
    const size_t channels = (size_t)layer->channels;
    for (int32_t oh = 0; oh < layer->out_height; oh++)
        for (int32_t ow = 0; ow < layer->out_width; ow++)
            for (size_t c = 0; c < channels; c++) {
                vec d = load(dy->data, tensor_at(dy, oh) + (size_t)ow * channels + c);
                vec average = window_average(x, window_at(x, layer, oh, ow) + c, layer);
                store(dparameters, c, vec_fma(d, average, load(dparameters, c)));
                store(dparameters, channels + c, load(dparameters, channels + c) + d);
            }
}
