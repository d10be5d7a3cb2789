/*
 * pool.h - average and maximum pooling and LeNet's trainable subsampling.
 *
 *     average    y = (1 / (KH KW)) * sum of the window, in row-major order
 *     maximum    y = the largest of the window; the first in row-major order takes the gradient, NaN wins over all
 *     subsample  y = w[c] * average + b[c]
 *
 * Windows may overlap (stride < kernel) or leave pixels out (stride > kernel, remainders), so backward starts
 * from zero and adds window by window in row-major order. The usual averages, whose windows touch and do not
 * overlap, are stored instead: an element gets its share once. Windows of 2 x 2 and 3 x 3 have loops of constant
 * length.
 */

/* A window's size; constants in an instance. */
struct window {
    size_t height, width;
};

INLINE struct window window_of(const struct lenet_layer *layer)
{
    return (struct window){(size_t)layer->kernel_height, (size_t)layer->kernel_width};
}

/* 2 or 3 where the window is a square of that size and windows do not overlap, else 0. */
INLINE int32_t usual_window(const struct lenet_layer *layer)
{
    const int32_t k = layer->kernel_height;
    return k == layer->kernel_width && k == layer->stride && (k == 2 || k == 3) ? k : 0;
}

/* Vectors from a tensor's data to channel 0 under the window of output (oh, ow). */
INLINE size_t window_at(const struct tensor *x, const struct lenet_layer *layer, int32_t oh, int32_t ow)
{
    return tensor_at(x, oh * layer->stride) + (size_t)(ow * layer->stride) * (size_t)layer->channels;
}

INLINE vec window_average(const struct tensor *x, size_t at, const struct window k)
{
    const size_t pitch = tensor_pitch(x), channels = (size_t)x->channels;
    vec sum = splat(0.0f);
#pragma GCC unroll 3
    for (size_t kh = 0; kh < k.height; kh++)
#pragma GCC unroll 3
        for (size_t kw = 0; kw < k.width; kw++)
            sum += load(x->data, at + kh * pitch + kw * channels);
    return sum * (1.0f / (float)(k.height * k.width));
}

/* All ones where v replaces the maximum so far. */
INLINE ivec beats(vec v, vec best)
{
    return (v > best) | ((v != v) & (best == best));
}

INLINE vec window_maximum(const struct tensor *x, size_t at, const struct window k)
{
    const size_t pitch = tensor_pitch(x), channels = (size_t)x->channels;
    vec best = load(x->data, at);
    for (size_t kh = 0; kh < k.height; kh++)
        for (size_t kw = 0; kw < k.width; kw++) {
            vec v = load(x->data, at + kh * pitch + kw * channels);
            best = blend(beats(v, best), v, best);
        }
    return best;
}

INLINE void pool_all(const struct tensor *y_of, const struct tensor *x_of, const float *parameters,
                     const struct lenet_layer *layer, const struct window k, const int32_t kind)
{
    const struct tensor y = *y_of, x = *x_of;  /* see share_average */
    const size_t channels = (size_t)layer->channels;
    const int32_t out_height = layer->out_height, out_width = layer->out_width;
    for (int32_t oh = 0; oh < out_height; oh++)
        for (int32_t ow = 0; ow < out_width; ow++) {
            const size_t from = window_at(&x, layer, oh, ow), to = tensor_at(&y, oh) + (size_t)ow * channels;
            for (size_t c = 0; c < channels; c++) {
                vec v = kind == LENET_MAX_POOL ? window_maximum(&x, from + c, k) : window_average(&x, from + c, k);
                if (kind == LENET_SUBSAMPLE)
                    v = vec_fma(v, splat(parameters[c]), splat(parameters[channels + c]));
                store(y.data, to + c, v);
            }
        }
}

static void pool_forward(const struct tensor *y, const struct tensor *x, const float *parameters,
                         const struct lenet_layer *layer)
{
    const int32_t usual = usual_window(layer);
    if (layer->kind == LENET_MAX_POOL)
        pool_all(y, x, parameters, layer, window_of(layer), LENET_MAX_POOL);
    else if (layer->kind == LENET_SUBSAMPLE)
        pool_all(y, x, parameters, layer, window_of(layer), LENET_SUBSAMPLE);
    else if (usual == 3)
        pool_all(y, x, parameters, layer, (struct window){3, 3}, LENET_AVERAGE_POOL);
    else if (usual == 2)
        pool_all(y, x, parameters, layer, (struct window){2, 2}, LENET_AVERAGE_POOL);
    else
        pool_all(y, x, parameters, layer, window_of(layer), LENET_AVERAGE_POOL);
}

INLINE void add_average(const struct tensor *dx, size_t at, vec d, const struct window k)
{
    const size_t pitch = tensor_pitch(dx), channels = (size_t)dx->channels;
    d *= 1.0f / (float)(k.height * k.width);
    for (size_t kh = 0; kh < k.height; kh++)
        for (size_t kw = 0; kw < k.width; kw++) {
            size_t i = at + kh * pitch + kw * channels;
            store(dx->data, i, load(dx->data, i) + d);
        }
}

/* x_at and dx_at are the window's places in x and dx, whose borders may differ. */
INLINE void route_maximum(const struct tensor *dx, size_t dx_at, const struct tensor *x, size_t x_at, vec d,
                          const struct window k)
{
    const size_t channels = (size_t)dx->channels;
    vec best = window_maximum(x, x_at, k);
    ivec open = (ivec)(best == best) | -1;
    for (size_t kh = 0; kh < k.height; kh++)
        for (size_t kw = 0; kw < k.width; kw++) {
            size_t i = dx_at + kh * tensor_pitch(dx) + kw * channels;
            vec v = load(x->data, x_at + kh * tensor_pitch(x) + kw * channels);
            ivec hit = open & ((v == best) | ((v != v) & (best != best)));
            store(dx->data, i, blend(hit, load(dx->data, i) + d, load(dx->data, i)));
            open &= ~hit;
        }
}

INLINE void clear_from(const struct tensor *t, int32_t row, size_t column)
{
    for (; row < t->height; row++)
        for (size_t i = column * (size_t)t->channels; i < (size_t)(t->width * t->channels); i++)
            store(t->data, tensor_at(t, row) + i, splat(0.0f));
}

/*
 * Averages over windows that touch: every share is stored, times the derivative of the activation in front of the pooling, whose
 * output is x; the remainder is cleared. Row by row, not window by window: memory likes to be walked along.
 */
INLINE void share_average(const struct tensor *dx, const struct tensor *dy, const struct tensor *x,
                          const struct lenet_layer *layer, const size_t K, const int32_t activation)
{
    /* A copy: the compiler must think that a store to dx may change the layer. */
    const size_t channels = (size_t)layer->channels, out_width = (size_t)layer->out_width;
    for (int32_t ih = 0; ih < layer->out_height * (int32_t)K; ih++) {
        const float *from = dy->data + tensor_at(dy, ih / (int32_t)K) * LANES;
        const float *at = x->data + tensor_at(x, ih) * LANES;
        float *to = dx->data + tensor_at(dx, ih) * LANES;
        for (size_t ow = 0; ow < out_width; ow++, from += channels * LANES)
            for (size_t kw = 0; kw < K; kw++, to += channels * LANES, at += channels * LANES)
                for (size_t c = 0; c < channels; c++) {
                    const vec d = load(from, c) * (1.0f / (float)(K * K));
                    store(to, c, activation == LENET_LINEAR ? d : derivative_times(d, load(at, c), activation));
                }
    }
    clear_from(dx, 0, out_width * K);
    clear_from(dx, layer->out_height * (int32_t)K, 0);
}

/* The usual averages, with the choices that are worth an instance; 0 where it is none of them. */
INLINE int share_usual(const struct tensor *dx, const struct tensor *dy, const struct tensor *x,
                       const struct lenet_layer *layer, int32_t activation)
{
    const int32_t usual = layer->kind == LENET_AVERAGE_POOL ? usual_window(layer) : 0;
    if (usual == 3 && activation == LENET_SQUASH)
        share_average(dx, dy, x, layer, 3, LENET_SQUASH);
    else if (usual == 3 && activation == LENET_ELU)
        share_average(dx, dy, x, layer, 3, LENET_ELU);
    else if (usual == 3 && activation == LENET_LINEAR)
        share_average(dx, dy, x, layer, 3, LENET_LINEAR);
    else if (usual == 2 && activation == LENET_SQUASH)
        share_average(dx, dy, x, layer, 2, LENET_SQUASH);
    else if (usual == 2 && activation == LENET_ELU)
        share_average(dx, dy, x, layer, 2, LENET_ELU);
    else if (usual == 2 && activation == LENET_LINEAR)
        share_average(dx, dy, x, layer, 2, LENET_LINEAR);
    else
        return 0;
    return 1;
}

/* x is the pooling's input; dx the gradient of that or, with an activation, of the activation's input. */
static void pool_backward(const struct tensor *dx, const struct tensor *dy, const struct tensor *x,
                          const float *parameters, const struct lenet_layer *layer, int32_t activation)
{
    const size_t channels = (size_t)layer->channels;
    if (share_usual(dx, dy, x, layer, activation))
        return;
    clear_from(dx, 0, 0);
    for (int32_t oh = 0; oh < layer->out_height; oh++)
        for (int32_t ow = 0; ow < layer->out_width; ow++)
            for (size_t c = 0; c < channels; c++) {
                vec d = load(dy->data, tensor_at(dy, oh) + (size_t)ow * channels + c);
                size_t at = window_at(dx, layer, oh, ow) + c;
                if (layer->kind == LENET_MAX_POOL)
                    route_maximum(dx, at, x, window_at(x, layer, oh, ow) + c, d, window_of(layer));
                else if (layer->kind == LENET_SUBSAMPLE)
                    add_average(dx, at, d * parameters[c], window_of(layer));
                else
                    add_average(dx, at, d, window_of(layer));
            }
    for (int32_t ih = 0; activation != LENET_LINEAR && ih < layer->height; ih++) {
        float *d = dx->data + tensor_at(dx, ih) * LANES;
        activation_backward(d, d, x->data + tensor_at(x, ih) * LANES, (size_t)layer->width * channels, activation);
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
                vec average = window_average(x, window_at(x, layer, oh, ow) + c, window_of(layer));
                store(dparameters, c, vec_fma(d, average, load(dparameters, c)));
                store(dparameters, channels + c, load(dparameters, channels + c) + d);
            }
}
