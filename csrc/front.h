/* front.h - the first layers of a network, run in bands of rows while the image is being read. */
#ifndef LENET_FRONT_H
#define LENET_FRONT_H

#include "plan.h"

/* One part on its way: which samples, and their labels. */
struct part {
    const uint8_t *samples[LENET_GROUP];  /* addresses, one a lane */
    struct view *view;                    /* its worker's, or NULL where the images are read as they are */
    const int32_t *labels;                /* of the valid lanes; NULL where only logits are wanted */
    int32_t valid;
};

/* All activations up to the front's last. */
void front_forward(const struct lenet_plan *plan, struct worker *w, const struct part *part, const float *parameters);

/* Sums for the gradients of the front's parameters, of part `index` of a group, given the gradient of its output. */
void front_backward(const struct lenet_plan *plan, struct worker *w, const float *parameters, int32_t index);

/* Makes the first convolution's gradient of what layer_finish left and the other sums of the group's `parts` parts. */
void front_finish(const struct lenet_plan *plan, struct worker *w, float *gradient, int32_t parts);

/* The whole image as activation 0, where the network has no front. */
void read_image(const struct lenet_plan *plan, struct worker *w, const struct part *part);

#endif
