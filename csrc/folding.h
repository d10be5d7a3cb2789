/* folding.h - the normalisation of pixels, folded into the first convolution. */
#ifndef LENET_FOLDING_H
#define LENET_FOLDING_H

#include "plan.h"

/* Kinds of output rows, by which kernel rows meet the image: one for each at its upper and lower end, one for all others. */
int32_t row_kinds(const struct lenet_layer *conv);

/* The kind of output row oh, below row_kinds. */
int32_t row_kind(const struct lenet_layer *conv, int32_t oh);

/* Fills plan->folded from the network's parameters, before a step. */
void fold_normalisation(struct lenet_plan *plan, const float *parameters);

/* Biases of output row oh, (out_width, C_out). */
static inline const float *folded_biases(const struct lenet_plan *plan, int32_t oh)
{
    const struct lenet_layer *conv = &plan->layers[0];
    return plan->folded.biases +
           (size_t)row_kind(conv, oh) * (size_t)conv->out_width * (size_t)conv->out_channels;
}

/*
 * The gradient of the convolution's weight and bias. gradient holds, and is overwritten from, sums of byte * dy for each weight;
 * row_sums, (row_kinds, KW + 1, C_out), what conv_row_sums makes of the rows of each kind.
 */
void unfold_gradient(const struct lenet_plan *plan, float *gradient, const float *row_sums);

#endif
