/*
 * step.c - one call a step: uint8 images and labels in, gradient, loss and counts out.
 *
 *     for each group of at most 16 samples (whichever thread is free):
 *         for each part of it (as many samples as a register has lanes):
 *             forward through all layers, loss, backward through all layers
 *         the parts' float32 gradients added in a fixed tree, rounded to integers, added to the thread's totals
 *     the threads' totals added
 *
 * The batch is the outer loop and the network the inner one: a part's activations stay in the thread's caches.
 * A group's gradient depends on its samples alone, and integers add up to the same whatever the order, so
 * the totals do not depend on the number of threads or on which thread took which group.
 *
 * Lanes past the end of a group show its first sample again, so that no lane can do what a real one would not; their
 * dlogits are zero, and nothing of them is counted.
 */
#include <omp.h>
#include <string.h>

#include "clock.h"
#include "folding.h"
#include "front.h"
#include "loss_sample.h"

/* What a call works: addresses of images; labels, or NULL; how the images are changed and their numbers, or NULL. */
struct batch {
    const uintptr_t *images;
    const int32_t *labels;
    const struct lenet_target *targets;
    const struct lenet_augmentation *augmentation;
    const int64_t *samples;
};

/* Samples first ... first + valid of a batch. */
static struct part make_part(const struct lenet_plan *plan, struct worker *w, const struct batch *batch, int64_t first,
                             int32_t valid)
{
    struct part part = {.labels = batch->labels ? batch->labels + first : NULL, .valid = valid};
    for (int32_t lane = 0; lane < plan->kernels->lanes; lane++) {
        const int64_t i = first + (lane < valid ? lane : 0);
        part.samples[lane] = (const uint8_t *)batch->images[i];
        if (batch->augmentation)
            w->view.draws[lane] = draw_sample(batch->augmentation, batch->samples[i], part.samples[lane]);
    }
    if (batch->augmentation) {
        part.view = &w->view;
        part.view->rules = batch->augmentation;
        plan->kernels->open_view(part.view);
    }
    return part;
}

static float *row_of(const struct lenet_plan *plan, const struct tensor *t, int32_t row)
{
    return t->data + tensor_at(t, row) * (size_t)plan->kernels->lanes;
}

static void forward(const struct lenet_plan *plan, struct worker *w, const struct part *part, const float *parameters)
{
    if (plan->front)
        front_forward(plan, w, part, parameters);
    else
        read_image(plan, w, part);
    for (int32_t i = plan->front; i < plan->count; i++)
        layer_forward(plan->kernels, &plan->layers[i], &w->activations[i + 1], &w->activations[i],
                      parameters + plan->layers[i].offset, &w->work);
}

/* Softmax, loss and counts; leaves dlogits in the last gradient tensor. */
static void finish_samples(const struct lenet_plan *plan, struct worker *w, const struct part *part, int64_t *counts,
                           float limit, const struct lenet_target *targets)
{
    const int32_t lanes = plan->kernels->lanes, classes = plan_classes(plan);
    const float *logits = row_of(plan, &w->activations[plan->count], 0);
    float *dlogits = row_of(plan, &w->gradients[plan->count], 0);
    plan->kernels->softmax(dlogits, w->softmax_sums, w->softmax_maxima, logits, (size_t)classes);
    for (int32_t lane = 0; lane < part->valid; lane++) {
        const int32_t label = part->labels[lane];
        const float loss = (float)sample_loss(w->softmax_sums[lane], w->softmax_maxima[lane], logits + lane,
                                              (size_t)lanes, classes, label, targets);
        const int32_t ahead = classes_ahead(logits + lane, (size_t)lanes, classes, label);
        plan->kernels->add_quantised(&counts[LENET_LOSS], &counts[LENET_REFUSED], &loss, 1, limit);
        counts[LENET_SAMPLES]++;
        counts[LENET_TOP1] += ahead < 1;
        counts[LENET_TOP5] += ahead < 5;
        sample_gradient(dlogits + lane, (size_t)lanes, classes, label, targets);
    }
    for (int32_t j = 0; j < classes; j++)
        for (int32_t lane = part->valid; lane < lanes; lane++)
            dlogits[j * lanes + lane] = 0.0f;
}

/* index: of the part in its group. */
static void backward(const struct lenet_plan *plan, struct worker *w, const float *parameters, int32_t index)
{
    for (int32_t i = plan->count - 1; i >= plan->front; i--) {
        const struct lenet_layer *layer = &plan->layers[i];
        const struct tensor *x = &w->activations[i], *y = &w->activations[i + 1], *dy = &w->gradients[i + 1];
        const int32_t own = layer_sums_lanes(layer) ? index : 0;
        float *sums = w->sums + (size_t)own * plan->sums + plan->sum_offsets[i];
        if (layer_parameters(layer))
            layer_backward_parameters(plan->kernels, layer, sums, dy, x, index == 0, &w->work);
        if (i > 0)
            layer_backward_input(plan->kernels, layer, &w->gradients[i], dy, x, y, parameters + layer->offset, &w->work);
    }
    if (plan->front)
        front_backward(plan, w, parameters, index);
}

/* Parts that a short group leaves empty count as zero in the tree. */
static void add_group(const struct lenet_plan *plan, struct worker *w, int32_t parts, float limit)
{
    int64_t *counts = w->totals + plan->parameters;
    for (int32_t i = 0; i < plan->count; i++) {
        const struct lenet_layer *layer = &plan->layers[i];
        const size_t count = layer_sums(layer);
        float *sums = w->sums + plan->sum_offsets[i], *gradient = sums;
        if (layer_sums_lanes(layer)) {
            for (int32_t part = parts; part < plan->parts; part++)
                memset(sums + (size_t)part * plan->sums, 0, count * sizeof(float));
            add_parts(sums, count, plan->sums, plan->parts);
            gradient = w->gradient;
            layer_finish(gradient, sums, layer);
        }
        if (plan->front && i == 0)
            front_finish(plan, w, gradient, parts);
        plan->kernels->add_quantised(w->totals + layer->offset, &counts[LENET_REFUSED], gradient, layer_parameters(layer),
                                     limit);
    }
}

/* Samples `begin` to before `end` of a batch. */
static void run_group(const struct lenet_plan *plan, struct worker *w, const float *parameters,
                      const struct batch *batch, int32_t begin, int32_t end, float limit)
{
    const int32_t lanes = plan->kernels->lanes;
    int32_t parts = 0;
    for (int32_t first = begin; first < end; first += lanes, parts++) {
        const double start = clock_start(plan->profile);
        const struct part part = make_part(plan, w, batch, first, end - first < lanes ? end - first : lanes);
        forward(plan, w, &part, parameters);
        finish_samples(plan, w, &part, w->totals + plan->parameters, limit, batch->targets);
        clock_add(&w->seconds[LENET_FORWARD], start);
        const double middle = clock_start(plan->profile);
        backward(plan, w, parameters, parts);
        clock_add(&w->seconds[LENET_BACKWARD], middle);
    }
    const double start = clock_start(plan->profile);
    if (parts)
        add_group(plan, w, parts, limit);
    clock_add(&w->seconds[LENET_REDUCTION], start);
}

void lenet_plan_step(struct lenet_plan *plan, int64_t *totals, const float *parameters, const uintptr_t *images,
                     const int32_t *labels, const int32_t *starts, int32_t groups, float limit,
                     const struct lenet_target *targets, const struct lenet_augmentation *augmentation,
                     const int64_t *samples)
{
    const struct batch batch = {images, labels, targets, augmentation, samples};
    if (plan->front)
        fold_normalisation(plan, parameters);
    const int64_t count = (int64_t)plan->parameters + LENET_COUNTS;
#pragma omp parallel num_threads(plan->threads)
    {
        struct worker *w = &plan->workers[omp_get_thread_num()];
        const int32_t team = omp_get_num_threads();
        memset(w->totals, 0, (size_t)count * sizeof(int64_t));
#pragma omp for schedule(dynamic, 1)
        for (int32_t g = 0; g < groups; g++)
            run_group(plan, w, parameters, &batch, starts[g], starts[g + 1], limit);
        const double start = clock_start(plan->profile);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < count; i++) {
            uint64_t sum = 0;
            for (int32_t t = 0; t < team; t++)
                sum += (uint64_t)plan->workers[t].totals[i];
            totals[i] = (int64_t)sum;
        }
        clock_add(&w->seconds[LENET_REDUCTION], start);
    }
}

static void forward_part(const struct lenet_plan *plan, struct worker *w, float *logits, const float *parameters,
                         const struct part *part, float limit)
{
    const int32_t lanes = plan->kernels->lanes, classes = plan_classes(plan);
    const double start = clock_start(plan->profile);
    forward(plan, w, part, parameters);
    const float *z = row_of(plan, &w->activations[plan->count], 0);
    if (logits)
        for (int32_t lane = 0; lane < part->valid; lane++)
            for (int32_t j = 0; j < classes; j++)
                logits[lane * classes + j] = z[j * lanes + lane];
    if (part->labels)
        finish_samples(plan, w, part, w->totals, limit, NULL);
    clock_add(&w->seconds[LENET_FORWARD], start);
}

void lenet_plan_forward(struct lenet_plan *plan, int64_t *counts, float *logits, const float *parameters,
                        const uintptr_t *images, const int32_t *labels, int64_t n, float limit)
{
    const int32_t lanes = plan->kernels->lanes, classes = plan_classes(plan);
    const struct batch batch = {images, labels, NULL, NULL, NULL};
    if (plan->front)
        fold_normalisation(plan, parameters);
    for (int32_t t = 0; t < plan->threads; t++)
        memset(plan->workers[t].totals, 0, LENET_COUNTS * sizeof(int64_t));
#pragma omp parallel for num_threads(plan->threads) schedule(dynamic, 1)
    for (int64_t first = 0; first < n; first += lanes) {
        const int32_t valid = n - first < lanes ? (int32_t)(n - first) : lanes;
        struct worker *w = &plan->workers[omp_get_thread_num()];
        const struct part part = make_part(plan, w, &batch, first, valid);
        forward_part(plan, w, logits ? logits + first * classes : NULL, parameters,
                     &part, limit);
    }
    for (int32_t i = 0; labels && i < LENET_COUNTS; i++) {
        uint64_t sum = 0;
        for (int32_t t = 0; t < plan->threads; t++)
            sum += (uint64_t)plan->workers[t].totals[i];
        counts[i] = (int64_t)sum;
    }
}
