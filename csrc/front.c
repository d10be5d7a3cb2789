/*
 * front.c - the first layers of a network, run in bands of rows while the image is being read.
 *
 * Nearly all work and nearly all data of these networks is in the first convolution, the activation behind it and the
 * pooling behind that. Layer by layer, each would send its output, 2.7 MB for 16 samples of model 1, through memory:
 *
 *     for each row of the image: make pixels floats;   for each row: convolve;   for each row: activate;   ... pool
 *
 * A pooling whose windows do not overlap needs `stride` rows for one of its own. So the front goes band by band:
 *
 *     for each row of the pooling's output:
 *         its rows of the convolution, each activated while it is in the cache; pool them
 *
 * Backward, again band by band:
 *
 *     spread the pooling's gradient over the band and multiply it by the activation's derivative
 *     for each row of the band, strip of columns by strip: for each kernel row that meets the image: add to its gradient
 *
 * The gradient of the convolution's output never exists as a whole, and that of the image is never computed. Rows below the last
 * window have no gradient and are not computed at all. Both ways the convolution reads the image's transposed bytes (pixels.h); what
 * makes its input of them is folded into its parameters and taken out of their gradient (folding.c).
 */
#include <string.h>

#include "clock.h"
#include "folding.h"
#include "front.h"
#include "pairs.h"

static const float *row_of(const struct lenet_plan *plan, const struct tensor *t, int32_t row)
{
    return t->data + tensor_at(t, row) * (size_t)plan->kernels->lanes;
}

/* Image row ih as the convolution's padded input, from its left border on. */
static const int8_t *pixel_row(const struct lenet_plan *plan, const struct worker *w, int32_t ih)
{
    if (ih < 0 || ih >= plan->layers[0].height)
        return w->zero_row;
    return reader_row(&w->reader, ih) - w->reader.border * (size_t)plan->kernels->lanes;
}

/* The image row behind the last one under output row oh. */
static int32_t rows_until(const struct lenet_layer *conv, int32_t oh)
{
    const int32_t end = oh * conv->stride - conv->padding + conv->kernel_height;
    return end < conv->height ? end : conv->height;
}

/* `rows` rows of t from `row` on, as a tensor of their own with the same pitch. */
static struct tensor rows_of(const struct lenet_plan *plan, const struct tensor *t, int32_t row, int32_t rows)
{
    struct tensor band = *t;
    band.data += (size_t)row * tensor_pitch(t) * (size_t)plan->kernels->lanes;
    band.height = rows;
    return band;
}

/* The front's pooling as a layer with one output row. */
static struct lenet_layer band_pool(const struct lenet_plan *plan)
{
    struct lenet_layer pool = plan->layers[plan->front - 1];
    pool.height = pool.kernel_height;
    pool.out_height = 1;
    return pool;
}

static int32_t front_activation(const struct lenet_plan *plan)
{
    const int32_t has_one = plan->front > 1 && plan->layers[1].kind == LENET_ACTIVATION;
    return has_one ? plan->layers[1].activation : LENET_LINEAR;
}

/* Output row oh. Image rows below `*read` have been transposed. */
static void conv_row(const struct lenet_plan *plan, struct worker *w, int32_t oh, int32_t *read)
{
    const struct lenet_layer *conv = &plan->layers[0];
    const struct tensor *t = &w->activations[1];
    float *y = t->data + tensor_at(t, oh) * (size_t)plan->kernels->lanes;
    const double start = clock_start(plan->profile);
    for (; *read < rows_until(conv, oh); ++*read)
        plan->kernels->transpose_row(&w->reader, *read);
    clock_add(&w->seconds[LENET_LOAD], start);
    for (int32_t kh = 0; kh < conv->kernel_height; kh++)
        w->work.rows[kh] = pixel_row(plan, w, oh * conv->stride - conv->padding + kh);
    plan->kernels->conv_forward_pixels(y, w->work.rows, plan->folded.weight, folded_biases(plan, oh), conv);
    if (front_activation(plan) != LENET_LINEAR)
        plan->kernels->activation_forward(y, y, (size_t)conv->out_width * (size_t)conv->out_channels,
                                          front_activation(plan));
}

static void open_part(struct worker *w, const struct part *part)
{
    w->reader.samples = part->samples;
    w->reader.view = part->view;
}

void front_forward(const struct lenet_plan *plan, struct worker *w, const struct part *part, const float *parameters)
{
    const int32_t rows = plan->band_rows;
    int32_t read = 0;
    open_part(w, part);
    for (int32_t band = 0; band < plan->bands; band++) {
        for (int32_t oh = band * rows; oh < (band + 1) * rows; oh++)
            conv_row(plan, w, oh, &read);
        if (plan->pooled_front) {
            const struct lenet_layer pool = band_pool(plan);
            const struct tensor x = rows_of(plan, &w->activations[plan->front - 1], band * rows, rows);
            const struct tensor y = rows_of(plan, &w->activations[plan->front], band, 1);
            plan->kernels->pool_forward(&y, &x, parameters + pool.offset, &pool);
        }
    }
}

/* The gradient of the convolution's output in one band, through pooling and activation. */
static const float *make_band(const struct lenet_plan *plan, const struct worker *w, const float *parameters, int32_t band)
{
    const struct lenet_layer *conv = &plan->layers[0];
    const int32_t rows = plan->band_rows, activation = front_activation(plan);
    const struct tensor x = rows_of(plan, &w->activations[1], band * rows, rows);
    if (plan->pooled_front) {
        const struct lenet_layer pool = band_pool(plan);
        const struct tensor dy = rows_of(plan, &w->gradients[plan->front], band, 1);
        plan->kernels->pool_backward(&w->band, &dy, &x, parameters + pool.offset, &pool, activation);
        return w->band.data;
    }
    float *row = w->gradients[plan->front].data +
                 tensor_at(&w->gradients[plan->front], band) * (size_t)plan->kernels->lanes;
    if (activation != LENET_LINEAR)
        plan->kernels->activation_backward(row, row, row_of(plan, &x, 0),
                                           (size_t)conv->out_width * (size_t)conv->out_channels, activation);
    return row;
}

/* Asks for what making band `band` will read of the activations: share `share` of band_rows. */
static void fetch_band(const struct lenet_plan *plan, const struct worker *w, int32_t band, int32_t share)
{
    if (band >= plan->bands)
        return;
    const struct tensor x = rows_of(plan, &w->activations[1], band * plan->band_rows + share, 1);
    const float *row = row_of(plan, &x, 0);
    const size_t floats = tensor_pitch(&x) * (size_t)plan->kernels->lanes;
    for (size_t i = 0; i < floats; i += CACHE_LINE / sizeof(float))
        __builtin_prefetch(row + i, 0, 2);
}

/* What output row oh, whose gradient is dy, adds to the weight's: strip by strip, to each kernel row that meets the image. */
static void add_row(const struct lenet_plan *plan, struct worker *w, const float *dy, int32_t oh)
{
    const struct lenet_layer *conv = &plan->layers[0];
    const size_t lanes = (size_t)plan->kernels->lanes, hop = (size_t)(conv->stride * conv->channels) * lanes;
    const size_t out_channels = (size_t)conv->out_channels, width = (size_t)conv->out_width;
    const size_t strip = plan->kernels->conv_strip_columns(conv);
    for (size_t ow = 0; ow < width; ow += strip)
        for (int32_t kh = 0; kh < conv->kernel_height; kh++) {
            const int32_t ih = oh * conv->stride - conv->padding + kh;
            if (ih >= 0 && ih < conv->height)
                plan->kernels->conv_backward_weight_pixels(w->work.lanes, (size_t)kh, dy + ow * out_channels * lanes,
                                                           pixel_row(plan, w, ih) + ow * hop,
                                                           width - ow < strip ? width - ow : strip, conv);
        }
}

static size_t row_sums_count(const struct lenet_layer *conv)
{
    return (size_t)row_kinds(conv) * (size_t)(conv->kernel_width + 1) * (size_t)conv->out_channels;
}

void front_backward(const struct lenet_plan *plan, struct worker *w, const float *parameters, int32_t index)
{
    const struct lenet_layer *conv = &plan->layers[0], *last = &plan->layers[plan->front - 1];
    const size_t lanes = (size_t)plan->kernels->lanes, out_channels = (size_t)conv->out_channels;
    const size_t weights = transformed_weights(conv), row = (size_t)conv->out_width * out_channels * lanes;
    const size_t kind = (size_t)(conv->kernel_width + 1) * out_channels, count = row_sums_count(conv);
    float *sums = w->sums + (size_t)index * plan->sums;
    if (last->kind == LENET_SUBSAMPLE)
        layer_backward_parameters(plan->kernels, last, sums + plan->sum_offsets[plan->front - 1], &w->gradients[plan->front],
                                  &w->activations[plan->front - 1], 1, &w->work);
    memset(w->work.lanes, 0, weights * lanes * sizeof(float));
    memset(w->row_sums, 0, count * lanes * sizeof(float));
    for (int32_t band = 0; band < plan->bands; band++) {
        const float *dy = make_band(plan, w, parameters, band);
        for (int32_t i = 0; i < plan->band_rows; i++, dy += row) {
            const int32_t oh = band * plan->band_rows + i;
            fetch_band(plan, w, band + 1, i);
            plan->kernels->conv_row_sums(w->row_sums + (size_t)row_kind(conv, oh) * kind * lanes, dy, conv);
            add_row(plan, w, dy, oh);
        }
    }
    plan->kernels->lane_sums(sums + plan->sum_offsets[0], w->work.lanes, weights);
    plan->kernels->lane_sums(w->row_totals + (size_t)index * count, w->row_sums, count);
}

void front_finish(const struct lenet_plan *plan, struct worker *w, float *gradient, int32_t parts)
{
    const size_t count = row_sums_count(&plan->layers[0]);
    memset(w->row_totals + (size_t)parts * count, 0, (size_t)(plan->parts - parts) * count * sizeof(float));
    add_parts(w->row_totals, count, count, plan->parts);
    unfold_gradient(plan, gradient, w->row_totals);
}

void read_image(const struct lenet_plan *plan, struct worker *w, const struct part *part)
{
    const struct tensor *image = &w->activations[0];
    const double start = clock_start(plan->profile);
    open_part(w, part);
    for (int32_t h = 0; h < image->height; h++) {
        plan->kernels->transpose_row(&w->reader, h);
        plan->kernels->normalise_row(image->data + tensor_at(image, h) * (size_t)plan->kernels->lanes, &w->reader, h);
    }
    clock_add(&w->seconds[LENET_LOAD], start);
}
