/* plan.h - a network compiled for one instruction set: layers, and the memory that every thread works in. */
#ifndef LENET_PLAN_H
#define LENET_PLAN_H

#include "layers.h"

/*
 * A thread's own memory. Boundary i lies in front of layer i, boundary `count` behind the last. An activation layer
 * works in place: its boundaries are one tensor. Boundary 0 exists only where there is no front; gradients of the front's
 * boundaries only for a front without pooling, which hands its last one on.
 */
struct worker {
    struct tensor *activations, *gradients;
    struct workspace work;
    struct pixel_reader reader;
    struct view view;       /* the part's, if it is augmented */
    int8_t *zero_row;       /* the row above and below the image */
    float *row_sums;        /* by lane, and ... */
    float *row_totals;      /* ... added up, part by part: what unfold_gradient asks for */
    struct tensor band;     /* gradient of the first convolution's output, where the front ends in a pooling */
    double seconds[LENET_PHASES];
    float *sums;            /* of the group's parts, for the gradients: plan->sums floats each */
    float *gradient;        /* of one layer */
    float *softmax_sums, *softmax_maxima;
    int64_t *totals;        /* parameters + LENET_COUNTS */
};

/* What the first convolution of a front works with in place of its parameters (folding.c). */
struct folded {
    float *scaled, *weight, *biases;  /* scaled is what weight is transformed from (pairs.h) */
    double *sums;           /* KW * C_out, to work with */
};

struct lenet_plan {
    const struct lane_kernels *kernels;
    struct lenet_layer *layers;
    struct worker *workers;
    struct folded folded;
    char *memory;           /* one block for everything above but layers and workers */
    size_t bytes, parameters;
    size_t sums, *sum_offsets;  /* where each layer's sums lie among those of a part, and how many there are in all */
    int32_t count, threads, parts, profile;
    int32_t front;          /* layers that run in bands as the image is read (front.c); 0 where there is no such */
    int32_t pooled_front;   /* whether the last of them is a pooling */
    int32_t bands, band_rows;
    float scale, offset;
};

static inline int32_t plan_classes(const struct lenet_plan *plan)
{
    return plan->layers[plan->count - 1].out_channels;
}

#endif
