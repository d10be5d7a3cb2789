/* pairs.c - weights on their way into minimal filtering, and their gradient on its way out; see pairs.h. */
#include <string.h>

#include "pairs.h"

/* Blocks of pairs take all output channels 6 or 4 at a time. */
#define CONV_SHAPE(K, S, I, O) _Static_assert((O) % 6 == 0 || (O) % 4 == 0, "output channels of an instance");
#include "conv_shapes.inc"
#undef CONV_SHAPE

/* Whether the layer's shape has instances. */
static int32_t is_listed(const struct lenet_layer *layer)
{
#define CONV_SHAPE(K, S, I, O) \
    if (layer->kernel_height == K && layer->kernel_width == K && layer->stride == S && layer->channels == I && \
        layer->out_channels == O) \
        return 1;
#include "conv_shapes.inc"
#undef CONV_SHAPE
    return 0;
}

const struct pattern *pattern_of(const struct lenet_layer *layer)
{
    return is_listed(layer) ? find_pattern(layer->kernel_width, layer->stride, layer->channels) : NULL;
}

const struct pattern *input_pattern_of(const struct lenet_layer *layer)
{
    return is_listed(layer) ? find_pattern(input_taps(layer->kernel_width, layer->stride), 1, layer->out_channels) : NULL;
}

static size_t block_size(const struct lenet_layer *layer)
{
    return (size_t)layer->channels * (size_t)layer->out_channels;
}

size_t transformed_weights(const struct lenet_layer *layer)
{
    const struct pattern *pattern = pattern_of(layer);
    const size_t products = (size_t)(pattern ? pattern->count : layer->kernel_width);
    return (size_t)layer->kernel_height * products * block_size(layer);
}

void transform_weights(float *to, const float *weight, const struct lenet_layer *layer)
{
    const struct pattern *pattern = pattern_of(layer);
    const size_t block = block_size(layer), kernel_height = (size_t)layer->kernel_height;
    if (!pattern) {
        memcpy(to, weight, transformed_weights(layer) * sizeof(float));
        return;
    }
    for (size_t kh = 0; kh < kernel_height; kh++, weight += (size_t)layer->kernel_width * block)
        for (int32_t i = 0; i < pattern->count; i++) {
            float *combined = to + product_place(pattern, kernel_height, kh, i) * block;
            memset(combined, 0, block * sizeof(float));
            for (int32_t kw = 0; kw < layer->kernel_width; kw++) {
                const float factor = 0.5f * (float)pattern->products[i].half[kw];
                for (size_t j = 0; factor != 0.0f && j < block; j++)
                    combined[j] += factor * weight[(size_t)kw * block + j];
            }
        }
}

void restore_weight_gradient(float *dweight, const float *from, const struct lenet_layer *layer)
{
    const struct pattern *pattern = pattern_of(layer);
    const size_t block = block_size(layer), kernel_height = (size_t)layer->kernel_height;
    if (!pattern) {
        memcpy(dweight, from, transformed_weights(layer) * sizeof(float));
        return;
    }
    for (size_t kh = 0; kh < kernel_height; kh++)
        for (int32_t kw = 0; kw < layer->kernel_width; kw++, dweight += block) {
            memset(dweight, 0, block * sizeof(float));
            for (int32_t i = 0; i < pattern->count; i++) {
                const float factor = 0.5f * (float)pattern->products[i].half[kw];
                const float *combined = from + product_place(pattern, kernel_height, kh, i) * block;
                for (size_t j = 0; factor != 0.0f && j < block; j++)
                    dweight[j] += factor * combined[j];
            }
        }
}

size_t transformed_input_weights(const struct lenet_layer *layer)
{
    const struct pattern *pattern = input_pattern_of(layer);
    return pattern ? (size_t)(layer->stride * pattern->count * layer->kernel_height) * block_size(layer) : 0;
}

/* combined[co][ci] += factor * weight[ci][co] */
static void add_turned(float *combined, float factor, const float *weight, const struct lenet_layer *layer)
{
    const size_t channels = (size_t)layer->channels, out_channels = (size_t)layer->out_channels;
    for (size_t co = 0; co < out_channels; co++)
        for (size_t ci = 0; ci < channels; ci++)
            combined[co * channels + ci] += factor * weight[ci * out_channels + co];
}

void transform_input_weights(float *to, const float *weight, const struct lenet_layer *layer)
{
    const struct pattern *pattern = input_pattern_of(layer);
    const size_t block = block_size(layer), kernel_height = (size_t)layer->kernel_height;
    const int32_t taps = input_taps(layer->kernel_width, layer->stride);
    memset(to, 0, transformed_input_weights(layer) * sizeof(float));
    for (int32_t phase = 0; pattern && phase < layer->stride; phase++, to += (size_t)pattern->count * kernel_height * block) {
        if (phase + (taps - 1) * layer->stride >= layer->kernel_width)
            continue;
        for (size_t kh = 0; kh < kernel_height; kh++)
            for (int32_t i = 0; i < pattern->count; i++)
                for (int32_t tap = 0; tap < taps; tap++) {
                    const int32_t kw = phase + (taps - 1 - tap) * layer->stride;
                    const float factor = 0.5f * (float)pattern->products[i].half[tap];
                    if (factor != 0.0f)
                        add_turned(to + product_place(pattern, kernel_height, kh, i) * block, factor,
                                   weight + (kh * (size_t)layer->kernel_width + (size_t)kw) * block, layer);
                }
    }
}
