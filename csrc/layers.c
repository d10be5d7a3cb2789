/*
 * layers.c - which lane functions make a layer, forward and backward.
 *
 * A part's tensors are whole; loops over rows are here, loops inside a row in the lane functions.
 */
#include <string.h>

#include "layers.h"
#include "pairs.h"

size_t layer_parameters(const struct lenet_layer *layer)
{
    size_t out = (size_t)layer->out_channels;
    switch (layer->kind) {
    case LENET_CONV:
    case LENET_DENSE:
        return ((size_t)layer->kernel_height * (size_t)layer->kernel_width * (size_t)layer->channels + 1) * out;
    case LENET_SUBSAMPLE:
        return 2 * out;
    default:
        return 0;
    }
}

int32_t layer_covers_input(const struct lenet_layer *layer)
{
    return (layer->kind == LENET_CONV || layer->kind == LENET_DENSE) && layer->padding == 0 &&
           layer->kernel_height == layer->height && layer->kernel_width == layer->width;
}

int32_t layer_sums_lanes(const struct lenet_layer *layer)
{
    return layer->kind == LENET_SUBSAMPLE || (layer->kind == LENET_CONV && !layer_covers_input(layer));
}

size_t layer_lanes(const struct lenet_layer *layer, int32_t lanes)
{
    if (layer_covers_input(layer))
        return ((size_t)layer->out_channels + 2 * (size_t)lanes) * (size_t)lanes;
    return layer_sums(layer) * (size_t)lanes;
}

size_t layer_sums(const struct lenet_layer *layer)
{
    if (layer->kind == LENET_CONV && !layer_covers_input(layer))
        return transformed_weights(layer) + (size_t)layer->out_channels;
    return layer_parameters(layer);
}

size_t layer_transformed(const struct lenet_layer *layer)
{
    const size_t own = layer_sums(layer), input = layer->kind == LENET_CONV ? transformed_input_weights(layer) : 0;
    return own > input ? own : input;
}

void layer_finish(float *gradient, const float *sums, const struct lenet_layer *layer)
{
    size_t weights = 0;
    if (layer->kind == LENET_CONV && !layer_covers_input(layer)) {
        restore_weight_gradient(gradient, sums, layer);
        weights = layer_parameters(layer) - (size_t)layer->out_channels;
        sums += transformed_weights(layer);
    }
    memcpy(gradient + weights, sums, (layer_parameters(layer) - weights) * sizeof(float));
}

static size_t inputs_of(const struct lenet_layer *layer)
{
    return (size_t)layer->height * (size_t)layer->width * (size_t)layer->channels;
}

static float *row_of(const struct lane_kernels *k, const struct tensor *t, int32_t row)
{
    return t->data + tensor_at(t, row) * (size_t)k->lanes;
}

/* The padded input rows under output row oh. */
static void rows_under(const struct lane_kernels *k, const struct lenet_layer *layer, const struct tensor *x,
                       int32_t oh, const void **rows)
{
    const size_t pitch = tensor_pitch(x) * (size_t)k->lanes;
    for (int32_t kh = 0; kh < layer->kernel_height; kh++)
        rows[kh] = x->data + (size_t)(oh * layer->stride + kh) * pitch;
}

static void conv_forward(const struct lane_kernels *k, const struct lenet_layer *layer, const struct tensor *y,
                         const struct tensor *x, const float *parameters, struct workspace *work)
{
    const float *bias = parameters + layer_parameters(layer) - (size_t)layer->out_channels;
    transform_weights(work->weights, parameters, layer);
    for (int32_t oh = 0; oh < layer->out_height; oh++) {
        rows_under(k, layer, x, oh, work->rows);
        k->conv_forward_row(row_of(k, y, oh), work->rows, work->weights, bias, layer);
    }
}

void layer_forward(const struct lane_kernels *k, const struct lenet_layer *layer, const struct tensor *y,
                   const struct tensor *x, const float *parameters, struct workspace *work)
{
    const size_t row = (size_t)layer->width * (size_t)layer->channels;
    if (layer_covers_input(layer)) {
        const size_t inputs = inputs_of(layer), outputs = (size_t)layer->out_channels;
        k->dense_forward(row_of(k, y, 0), x->data, parameters, parameters + inputs * outputs, inputs, outputs);
    } else if (layer->kind == LENET_CONV) {
        conv_forward(k, layer, y, x, parameters, work);
    } else if (layer->kind == LENET_ACTIVATION) {
        for (int32_t h = 0; h < layer->height; h++)
            k->activation_forward(row_of(k, y, h), row_of(k, x, h), row, layer->activation);
    } else {
        k->pool_forward(y, x, parameters, layer);
    }
}

void layer_backward_input(const struct lane_kernels *k, const struct lenet_layer *layer, const struct tensor *dx,
                          const struct tensor *dy, const struct tensor *x, const struct tensor *y,
                          const float *parameters, struct workspace *work)
{
    const size_t row = (size_t)layer->width * (size_t)layer->channels;
    if (layer_covers_input(layer)) {
        k->dense_backward_input(dx->data, row_of(k, dy, 0), parameters, inputs_of(layer), (size_t)layer->out_channels);
    } else if (layer->kind == LENET_CONV) {
        transform_input_weights(work->weights, parameters, layer);
        k->conv_backward_input(dx, dy, parameters, work->weights, layer);
    } else if (layer->kind == LENET_ACTIVATION) {
        for (int32_t h = 0; h < layer->height; h++)
            k->activation_backward(row_of(k, dx, h), row_of(k, dy, h), row_of(k, y, h), row, layer->activation);
    } else {
        k->pool_backward(dx, dy, x, parameters, layer, LENET_LINEAR);
    }
}

void layer_backward_parameters(const struct lane_kernels *k, const struct lenet_layer *layer, float *sums,
                               const struct tensor *dy, const struct tensor *x, int32_t first,
                               struct workspace *work)
{
    const size_t count = layer_sums(layer);
    if (layer_covers_input(layer)) {
        k->dense_backward_weight(sums, row_of(k, dy, 0), x->data, inputs_of(layer),
                                 (size_t)layer->out_channels, first, work->lanes);
        return;
    }
    float *weight = work->lanes, *bias = weight + (count - (size_t)layer->out_channels) * (size_t)k->lanes;
    memset(weight, 0, count * (size_t)k->lanes * sizeof(float));
    if (layer->kind == LENET_SUBSAMPLE) {
        k->subsample_backward_weight(weight, dy, x, layer);
    } else {
        k->conv_backward_weight(weight, dy, x, layer);
        k->conv_backward_bias(bias, row_of(k, dy, 0), (size_t)layer->out_height * (size_t)layer->out_width,
                              (size_t)layer->out_channels);
    }
    k->lane_sums(sums, work->lanes, count);
}

void add_parts(float *sums, size_t count, size_t pitch, int32_t parts)
{
    for (; parts > 1; parts /= 2, pitch *= 2)
        for (int32_t part = 0; part < parts; part += 2) {
            float *to = sums + (size_t)part * pitch;
            for (size_t i = 0; i < count; i++)
                to[i] += to[pitch + i];
        }
}
