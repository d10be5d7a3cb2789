/* loss_sample.h - what a sample's logits mean for its own label. */
#ifndef LENET_LOSS_SAMPLE_H
#define LENET_LOSS_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

/* log(sum) + maximum - logit, the cross-entropy; NaN where one of them is not finite. */
double cross_entropy(float sum, float maximum, float logit);

/* Classes ahead of the label among `classes` logits, `stride` floats apart: those with a greater logit, an equal one and a
 * smaller index, or NaN. All of them where the label's logit is NaN. */
int32_t classes_ahead(const float *logits, size_t stride, int32_t classes, int32_t label);

#endif
