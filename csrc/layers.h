/* layers.h - one layer on one part: what the step and the standalone functions share. */
#ifndef LENET_LAYERS_H
#define LENET_LAYERS_H

#include "kernels.h"

/* Memory that layer functions work in; sized by layer_workspace for the largest of a network's layers. */
struct workspace {
    const void **rows;   /* kernel_height addresses */
    float *lanes;        /* per-lane gradients of one layer, or a transposed dy */
    float *weights;      /* of one layer, transformed */
};

/* Parameters of the layer: weight and bias. */
size_t layer_parameters(const struct lenet_layer *layer);

/* Whether it takes all its input at once, as a dense layer does. */
int32_t layer_covers_input(const struct lenet_layer *layer);

/* Whether it is a pooling of any kind. */
static inline int32_t layer_pools(const struct lenet_layer *layer)
{
    return layer->kind == LENET_AVERAGE_POOL || layer->kind == LENET_MAX_POOL || layer->kind == LENET_SUBSAMPLE;
}

/* Whether the gradient of its parameters is summed lane by lane, and so part by part. */
int32_t layer_sums_lanes(const struct lenet_layer *layer);

/* Sums that its parameters' gradient is made of: as many as parameters, or more where its weights are transformed (pairs.h). */
size_t layer_sums(const struct lenet_layer *layer);

/* Floats that workspace.weights needs for it. */
size_t layer_transformed(const struct lenet_layer *layer);

/* The gradient from the sums of a group. */
void layer_finish(float *gradient, const float *sums, const struct lenet_layer *layer);

/* Floats that workspace.lanes needs for it. */
size_t layer_lanes(const struct lenet_layer *layer, int32_t lanes);

/* parameters are the layer's own. */
void layer_forward(const struct lane_kernels *k, const struct lenet_layer *layer, const struct tensor *y,
                   const struct tensor *x, const float *parameters, struct workspace *work);

void layer_backward_input(const struct lane_kernels *k, const struct lenet_layer *layer, const struct tensor *dx,
                          const struct tensor *dy, const struct tensor *x, const struct tensor *y,
                          const float *parameters, struct workspace *work);

/* sums: overwritten with this part's; of a layer that does not sum lanes, continued where not first. */
void layer_backward_parameters(const struct lane_kernels *k, const struct lenet_layer *layer, float *sums,
                               const struct tensor *dy, const struct tensor *x, int32_t first,
                               struct workspace *work);

/* Adds the sums of the parts (4, 2 or 1, each `pitch` floats from the one before) into the first, as a tree. */
void add_parts(float *sums, size_t count, size_t pitch, int32_t parts);

#endif
