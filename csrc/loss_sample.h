/* loss_sample.h - what a sample's logits mean for its own label. */
#ifndef LENET_LOSS_SAMPLE_H
#define LENET_LOSS_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

struct lenet_target;

/* A sample's loss from its `classes` logits, which lie `stride` floats apart, their softmax's sum and maximum; NaN where
 * the sum, the maximum or the label's logit is not finite. targets: one a class, or NULL for plain cross-entropy. */
double sample_loss(float sum, float maximum, const float *logits, size_t stride, int32_t classes, int32_t label,
                   const struct lenet_target *targets);

/* Turns the sample's softmax into the gradient of that loss by the logits. */
void sample_gradient(float *probabilities, size_t stride, int32_t classes, int32_t label,
                     const struct lenet_target *targets);

/* Classes ahead of the label among `classes` logits, `stride` floats apart: those with a greater logit, an equal one and a
 * smaller index, or NaN. All of them where the label's logit is NaN. */
int32_t classes_ahead(const float *logits, size_t stride, int32_t classes, int32_t label);

#endif
