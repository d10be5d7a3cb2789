/* plan.h - a network compiled for one instruction set: layers, and the memory that every thread works in. */
#ifndef LENET_PLAN_H
#define LENET_PLAN_H

#include "layers.h"

/*
 * A thread's own memory. Boundary i lies in front of layer i, boundary `count` behind the last. An activation layer
 * works in place: its boundaries are one tensor. Boundary 0 exists only where the first layer does not read pixels row
 * by row.
 */
struct worker {
    struct tensor *activations, *gradients;
    struct workspace work;
    float *pixel_rows;      /* kernel_height rows of the first convolution's input, ... */
    int32_t *held;          /* ... which image rows they hold, ... */
    float *zero_row;        /* ... and the row above and below the image */
    float *sums;            /* gradients of the group's parts, `parameters` floats each */
    float *softmax_sums, *softmax_maxima;
    int64_t *totals;        /* parameters + LENET_COUNTS */
};

struct lenet_plan {
    const struct lane_kernels *kernels;
    struct lenet_layer *layers;
    struct worker *workers;
    char *memory;           /* one block for everything above */
    size_t bytes, parameters;
    int32_t count, threads, parts;
    float scale, offset;
};

/* Whether the first layer makes its input rows from pixels as it needs them. */
int32_t plan_streams_pixels(const struct lenet_plan *plan);

static inline int32_t plan_classes(const struct lenet_plan *plan)
{
    return plan->layers[plan->count - 1].out_channels;
}

#endif
