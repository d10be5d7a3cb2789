/*
 * plan.c - everything that a network's steps need, laid out once in one block of memory.
 *
 * The layout function runs twice: first over a null arena, which only adds up sizes, then over the block. So size and
 * use can not disagree. Everything is 64-byte aligned; a thread clears its own part, so that its pages lie near it.
 */
#include <stdlib.h>
#include <string.h>

#include <omp.h>
#include <sys/mman.h>

#include "folding.h"
#include "pairs.h"

#define HUGE_PAGE ((size_t)2 << 20)

struct arena {
    char *base;
    size_t used;
};

static void *take(struct arena *arena, size_t count, size_t size)
{
    char *p = arena->base ? arena->base + arena->used : NULL;
    arena->used += (count * size + 63) / 64 * 64;
    return p;
}

/* A convolution that does not cover its image, an activation, and a pooling whose windows share no rows. */
static void find_front(struct lenet_plan *plan)
{
    const struct lenet_layer *layers = plan->layers;
    if (layers[0].kind != LENET_CONV || layer_covers_input(&layers[0]))
        return;
    plan->front = 1;
    plan->bands = layers[0].out_height;
    plan->band_rows = 1;
    if (plan->front < plan->count && layers[plan->front].kind == LENET_ACTIVATION)
        plan->front++;
    if (plan->front < plan->count && layer_pools(&layers[plan->front]) &&
        layers[plan->front].kernel_height == layers[plan->front].stride) {
        plan->bands = layers[plan->front].out_height;
        plan->band_rows = layers[plan->front].stride;
        plan->pooled_front = 1;
        plan->front++;
    }
}

/* Boundary i's zero border: what the convolution that reads it asks for, perhaps through activations in place. */
static int32_t border_of(const struct lenet_plan *plan, int32_t i)
{
    while (i < plan->count && plan->layers[i].kind == LENET_ACTIVATION)
        i++;
    return i < plan->count && plan->layers[i].kind == LENET_CONV ? plan->layers[i].padding : 0;
}

/* An activation overwrites its input, unless that is the image or the output another activation's backward needs. */
static int32_t works_in_place(const struct lenet_plan *plan, int32_t layer)
{
    return layer > 0 && plan->layers[layer].kind == LENET_ACTIVATION &&
           plan->layers[layer - 1].kind != LENET_ACTIVATION;
}

static struct tensor boundary(const struct lenet_plan *plan, int32_t i, int32_t padding)
{
    struct tensor t = {NULL, 0, 0, 0, padding};
    const struct lenet_layer *layer = &plan->layers[i < plan->count ? i : i - 1];
    t.height = i < plan->count ? layer->height : layer->out_height;
    t.width = i < plan->count ? layer->width : layer->out_width;
    t.channels = i < plan->count ? layer->channels : layer->out_channels;
    return t;
}

static void lay_out_tensors(const struct lenet_plan *plan, struct worker *w, struct arena *arena)
{
    const size_t lanes = (size_t)plan->kernels->lanes, count = (size_t)plan->count + 1;
    struct tensor *activations = take(arena, count, sizeof(struct tensor));
    struct tensor *gradients = take(arena, count, sizeof(struct tensor));
    for (int32_t i = 0; i <= plan->count; i++) {
        struct tensor y = boundary(plan, i, border_of(plan, i)), dy = boundary(plan, i, 0);
        const int32_t shared = i > 0 && works_in_place(plan, i - 1);
        if (!shared && (i > 0 || !plan->front))
            y.data = take(arena, tensor_vectors(&y) * lanes, sizeof(float));
        if (!shared && i > 0 && !(plan->pooled_front && i < plan->front))
            dy.data = take(arena, tensor_vectors(&dy) * lanes, sizeof(float));
        if (!arena->base)
            continue;
        activations[i] = shared ? activations[i - 1] : y;
        gradients[i] = shared ? gradients[i - 1] : dy;
    }
    w->activations = activations;
    w->gradients = gradients;
}

/* Everything that stays the same from part to part. */
static void prepare_reader(const struct lenet_plan *plan, struct pixel_reader *r)
{
    const struct lenet_layer *first = &plan->layers[0];
    const size_t channels = (size_t)first->channels;
    r->lanes = plan->kernels->lanes;
    r->height = first->height;
    r->count = (size_t)first->width * channels;
    r->border = plan->front ? (size_t)first->padding * channels : 0;
    r->scale = plan->scale;
    r->offset = plan->offset;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void lay_out_worker(const struct lenet_plan *plan, struct worker *w, struct arena *arena)
{
    const size_t lanes = (size_t)plan->kernels->lanes;
    size_t work_lanes = 0, kernel_height = 1, most = 0, most_transformed = 0;
    for (int32_t i = 0; i < plan->count; i++) {
        const struct lenet_layer *layer = &plan->layers[i];
        work_lanes = larger(work_lanes, layer_lanes(layer, plan->kernels->lanes));
        kernel_height = larger(kernel_height, (size_t)layer->kernel_height);
        most = larger(most, layer_parameters(layer));
        most_transformed = larger(most_transformed, layer_transformed(layer));
    }
    struct worker found = {0};
    lay_out_tensors(plan, &found, arena);
    found.work.rows = take(arena, kernel_height, sizeof(void *));
    found.work.lanes = take(arena, work_lanes, sizeof(float));
    found.work.weights = take(arena, most_transformed, sizeof(float));
    prepare_reader(plan, &found.reader);
    found.reader.pixels = take(arena, reader_bytes(&found.reader), sizeof(int8_t));
    found.view.keep = take(arena, view_keep_bytes(found.reader.count, lanes), sizeof(uint8_t));
    found.view.scratch = take(arena, view_scratch_bytes(found.reader.count, lanes), sizeof(uint8_t));
    if (plan->front) {
        const struct lenet_layer *conv = &plan->layers[0];
        const size_t sums = (size_t)row_kinds(conv) * (size_t)(conv->kernel_width + 1) * (size_t)conv->out_channels;
        found.zero_row = take(arena, reader_pitch(&found.reader), sizeof(int8_t));
        found.row_sums = take(arena, sums * lanes, sizeof(float));
        found.row_totals = take(arena, sums * (size_t)plan->parts, sizeof(float));
    }
    if (plan->pooled_front) {
        found.band = boundary(plan, 1, 0);
        found.band.height = plan->band_rows;
        found.band.data = take(arena, tensor_vectors(&found.band) * lanes, sizeof(float));
    }
    found.sums = take(arena, plan->sums * (size_t)plan->parts, sizeof(float));
    found.gradient = take(arena, most, sizeof(float));
    found.softmax_sums = take(arena, lanes, sizeof(float));
    found.softmax_maxima = take(arena, lanes, sizeof(float));
    found.totals = take(arena, plan->parameters + LENET_COUNTS, sizeof(int64_t));
    if (arena->base)
        *w = found;
}

/* What all threads read. */
static void lay_out_shared(const struct lenet_plan *plan, struct folded *folded, struct arena *arena)
{
    const struct lenet_layer *conv = &plan->layers[0];
    const size_t outputs = (size_t)conv->out_channels;
    if (!plan->front)
        return;
    folded->scaled = take(arena, layer_parameters(conv) - outputs, sizeof(float));
    folded->weight = take(arena, transformed_weights(conv), sizeof(float));
    folded->biases = take(arena, (size_t)row_kinds(conv) * (size_t)conv->out_width * outputs, sizeof(float));
    folded->sums = take(arena, (size_t)conv->kernel_width * outputs, sizeof(double));
}

static size_t whole_pages(struct arena counted)
{
    return (counted.used + 4095) / 4096 * 4096;
}

static size_t shared_bytes(const struct lenet_plan *plan)
{
    struct arena counting = {NULL, 0};
    struct folded nothing = {0};
    lay_out_shared(plan, &nothing, &counting);
    return whole_pages(counting);
}

static size_t worker_bytes(const struct lenet_plan *plan)
{
    struct arena counting = {NULL, 0};
    lay_out_worker(plan, NULL, &counting);
    return whole_pages(counting);
}

/* In huge pages where the system has them: a part's activations alone are hundreds of small ones. */
static void *allocate_pages(size_t bytes)
{
    void *memory = aligned_alloc(HUGE_PAGE, (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
#if defined(MADV_HUGEPAGE)
    if (memory)
        madvise(memory, bytes, MADV_HUGEPAGE);  /* a wish: the result does not matter */
#endif
    return memory;
}

struct lenet_plan *lenet_plan_create(const struct lenet_layer *layers, int32_t count, float scale, float offset,
                                     int32_t threads, int32_t isa)
{
    struct lenet_plan *plan = calloc(1, sizeof *plan);
    if (!plan)
        return NULL;
    plan->kernels = lenet_kernels(isa);
    plan->parts = LENET_GROUP / plan->kernels->lanes;
    plan->count = count;
    plan->threads = threads;
    plan->scale = scale;
    plan->offset = offset;
    plan->layers = malloc((size_t)count * sizeof *layers);
    plan->workers = calloc((size_t)threads, sizeof *plan->workers);
    plan->sum_offsets = malloc((size_t)count * sizeof *plan->sum_offsets);
    if (plan->layers && plan->workers && plan->sum_offsets) {
        memcpy(plan->layers, layers, (size_t)count * sizeof *layers);
        for (int32_t i = 0; i < count; i++) {
            plan->parameters += layer_parameters(&layers[i]);
            plan->sum_offsets[i] = plan->sums;
            plan->sums += layer_sums(&layers[i]);
        }
        find_front(plan);
        const size_t shared = shared_bytes(plan), each = worker_bytes(plan);
        plan->bytes = shared + each * (size_t)threads;
        plan->memory = allocate_pages(plan->bytes);
        if (plan->memory) {
            struct arena first = {plan->memory, 0};
            lay_out_shared(plan, &plan->folded, &first);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
            for (int32_t t = 0; t < threads; t++) {
                struct arena arena = {plan->memory + shared + (size_t)t * each, 0};
                memset(arena.base, 0, each);
                lay_out_worker(plan, &plan->workers[t], &arena);
            }
            return plan;
        }
    }
    lenet_plan_free(plan);
    return NULL;
}

void lenet_plan_free(struct lenet_plan *plan)
{
    if (!plan)
        return;
    free(plan->memory);
    free(plan->workers);
    free(plan->layers);
    free(plan->sum_offsets);
    free(plan);
}

int64_t lenet_plan_scratch_bytes(const struct lenet_plan *plan)
{
    return (int64_t)plan->bytes;
}

void lenet_plan_profile(struct lenet_plan *plan, int32_t on, double *seconds)
{
    for (int32_t phase = 0; phase < LENET_PHASES; phase++) {
        seconds[phase] = 0.0;
        for (int32_t t = 0; t < plan->threads; t++) {
            seconds[phase] += plan->workers[t].seconds[phase];
            plan->workers[t].seconds[phase] = 0.0;
        }
    }
    plan->profile = on;
}

int32_t lenet_default_threads(void)
{
    return omp_get_max_threads();
}
