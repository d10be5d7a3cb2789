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
 * Backward, the pooling's gradient is spread over the rows of a band and multiplied by the activation's derivative when
 * the first image row needs it. Then image row by image row, strip of columns by strip:
 *
 *     make the strip's pixels floats, in a buffer that never leaves the L1 cache
 *     for each kernel row kh that meets the row, at output row oh = (ih + p - kh) / s: add to the gradient of kh
 *
 * For one kh the output rows still come in order, so every weight's chain is the one of conv_weight.h, without the zeros
 * of the border. The gradient of the convolution's output never exists as a whole, and that of the image is never
 * computed. Rows below the last window have no gradient and are not computed at all.
 *
 * Forward, the convolution's input rows are made from pixels in a ring, those of the next output row while this one is computed
 * (conv_forward.h). Backward makes them again: that costs less than keeping 4 bytes a pixel.
 */
#include <string.h>

#include "clock.h"
#include "front.h"

static const float *row_of(const struct lenet_plan *plan, const struct tensor *t, int32_t row)
{
    return t->data + tensor_at(t, row) * (size_t)plan->kernels->lanes;
}

/* Image row ih, which the ring holds, as the convolution's padded input. */
static const float *pixel_row(const struct lenet_plan *plan, const struct worker *w, int32_t ih)
{
    const struct lenet_layer *conv = &plan->layers[0];
    if (ih < 0 || ih >= conv->height)
        return w->zero_row;
    return w->pixel_rows + (size_t)(ih % w->reader.slots) * w->reader.pitch;
}

/* The image row behind the last one under output row oh. */
static int32_t rows_until(const struct lenet_layer *conv, int32_t oh)
{
    const int32_t end = oh * conv->stride - conv->padding + conv->kernel_height;
    return end < 0 ? 0 : end < conv->height ? end : conv->height;
}

/* Rows up to `end` as bytes. */
static void transpose_until(const struct lenet_plan *plan, struct pixel_reader *r, int32_t end)
{
    for (; r->end < end; r->end++)
        plan->kernels->transpose_row(r, r->end);
}

/* Makes the rows under output row oh ready, and lets the reader go on to those under the next. */
static void pixel_rows_under(const struct lenet_plan *plan, struct worker *w, int32_t oh, int32_t is_last)
{
    const struct lenet_layer *conv = &plan->layers[0];
    const double start = clock_start(plan->profile);
    struct pixel_reader *r = &w->reader;
    const int32_t first = oh * conv->stride - conv->padding, until = rows_until(conv, oh);
    plan->kernels->finish_rows(r);
    transpose_until(plan, r, until);
    if (r->row < first)
        r->row = first;
    plan->kernels->finish_rows(r);
    for (int32_t kh = 0; kh < conv->kernel_height; kh++)
        w->work.rows[kh] = pixel_row(plan, w, first + kh);
    if (!is_last && conv->stride <= conv->kernel_height)
        transpose_until(plan, r, rows_until(conv, oh + 1));
    clock_add(&w->seconds[LENET_LOAD], start);
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

static void conv_row(const struct lenet_plan *plan, struct worker *w, const float *parameters, int32_t oh)
{
    const struct lenet_layer *conv = &plan->layers[0];
    const float *weight = parameters + conv->offset;
    const float *bias = weight + layer_parameters(conv) - (size_t)conv->out_channels;
    const struct tensor *t = &w->activations[1];
    float *y = t->data + tensor_at(t, oh) * (size_t)plan->kernels->lanes;
    pixel_rows_under(plan, w, oh, oh + 1 == plan->bands * plan->band_rows);
    /* Measured, reading is done first: only then has it a time of its own. */
    plan->kernels->conv_forward_row(y, w->work.rows, weight, bias, conv, plan->profile ? NULL : &w->reader);
    if (front_activation(plan) != LENET_LINEAR)
        plan->kernels->activation_forward(y, y, (size_t)conv->out_width * (size_t)conv->out_channels,
                                          front_activation(plan));
}

/* Nothing of this part has been read. */
static void open_part(struct worker *w, const struct part *part)
{
    w->reader.samples = part->samples;
    w->reader.view = part->view;
    w->reader.row = w->reader.end = 0;
    w->reader.done = 0;
}

void front_forward(const struct lenet_plan *plan, struct worker *w, const struct part *part, const float *parameters)
{
    const int32_t rows = plan->band_rows;
    open_part(w, part);
    for (int32_t band = 0; band < plan->bands; band++) {
        for (int32_t oh = band * rows; oh < (band + 1) * rows; oh++)
            conv_row(plan, w, parameters, oh);
        if (plan->pooled_front) {
            const struct lenet_layer pool = band_pool(plan);
            const struct tensor x = rows_of(plan, &w->activations[plan->front - 1], band * rows, rows);
            const struct tensor y = rows_of(plan, &w->activations[plan->front], band, 1);
            plan->kernels->pool_forward(&y, &x, parameters + pool.offset, &pool);
        }
    }
}

/* Row oh of the gradient of the convolution's output, once its band is made. */
static float *gradient_row(const struct lenet_plan *plan, const struct worker *w, int32_t oh)
{
    const struct tensor *t = plan->pooled_front ? &w->bands : &w->gradients[plan->front];
    const int32_t row = plan->pooled_front ? oh % w->bands.height : oh;
    return t->data + tensor_at(t, row) * (size_t)plan->kernels->lanes;
}

/* The gradient of the convolution's output in one band, through pooling and activation, and its part in the bias. */
static void make_band(const struct lenet_plan *plan, struct worker *w, const float *parameters, int32_t band)
{
    const struct lenet_layer *conv = &plan->layers[0];
    const int32_t rows = plan->band_rows, activation = front_activation(plan);
    const struct tensor x = rows_of(plan, &w->activations[1], band * rows, rows);
    float *first = gradient_row(plan, w, band * rows);
    if (plan->pooled_front) {
        const struct lenet_layer pool = band_pool(plan);
        const struct tensor dx = {first, rows, conv->out_width, conv->out_channels, 0};
        const struct tensor dy = rows_of(plan, &w->gradients[plan->front], band, 1);
        plan->kernels->pool_backward(&dx, &dy, &x, parameters + pool.offset, &pool, activation);
    } else if (activation != LENET_LINEAR) {
        plan->kernels->activation_backward(first, first, row_of(plan, &x, 0),
                                           (size_t)conv->out_width * (size_t)conv->out_channels, activation);
    }
    float *bias = w->work.lanes + (layer_parameters(conv) - (size_t)conv->out_channels) * (size_t)plan->kernels->lanes;
    plan->kernels->conv_backward_bias(bias, first, (size_t)rows, conv);
}

/* Columns ow ... of image row ih, padded, as far as `columns` outputs read. */
static void make_strip(const struct lenet_plan *plan, struct worker *w, int32_t ih, size_t ow, size_t columns)
{
    const struct lenet_layer *conv = &plan->layers[0];
    const size_t channels = (size_t)conv->channels, lanes = (size_t)plan->kernels->lanes;
    const size_t border = (size_t)conv->padding * channels, inside = (size_t)conv->width * channels;
    const size_t hop = (size_t)conv->stride * channels, taps = (size_t)conv->kernel_width * channels;
    const size_t start = ow * hop, end = start + (columns - 1) * hop + taps;
    const size_t from = start > border ? start : border, to = end < border + inside ? end : border + inside;
    if (from > start)
        memset(w->strip, 0, ((from < end ? from : end) - start) * lanes * sizeof(float));
    if (from < to)
        plan->kernels->normalise_pixels(w->strip + (from - start) * lanes, &w->reader, ih, from - border,
                                        to - from);
    if (to < end)
        memset(w->strip + ((to > start ? to : start) - start) * lanes, 0,
               (end - (to > start ? to : start)) * lanes * sizeof(float));
}

/* Asks for what making band `band` will read of the activations, the share of image row ih. */
static void fetch_band(const struct lenet_plan *plan, const struct worker *w, int32_t band, int32_t ih)
{
    const struct lenet_layer *conv = &plan->layers[0];
    if (band >= plan->bands)
        return;
    const struct tensor x = rows_of(plan, &w->activations[1], band * plan->band_rows, plan->band_rows);
    const int32_t shares = plan->band_rows * conv->stride;
    const size_t lines = (tensor_pitch(&x) * (size_t)plan->band_rows * (size_t)plan->kernels->lanes + 15) / 16;
    const size_t share = (lines + (size_t)shares - 1) / (size_t)shares, from = share * (size_t)(ih % shares);
    const float *first = row_of(plan, &x, 0);
    for (size_t i = from; i < from + share && i < lines; i++)
        __builtin_prefetch(first + i * 16, 0, 2);
}

/* What image row ih adds to the weight's gradient: strip by strip, to each kernel row that some output row puts there. */
static void add_image_row(const struct lenet_plan *plan, struct worker *w, int32_t ih, int32_t band)
{
    const struct lenet_layer *conv = &plan->layers[0];
    const size_t lanes = (size_t)plan->kernels->lanes;
    const size_t out_channels = (size_t)conv->out_channels, width = (size_t)conv->out_width;
    const size_t kernel_row = (size_t)(conv->kernel_width * conv->channels) * out_channels * lanes;
    const size_t strip = plan->kernels->conv_strip_columns(conv);
    fetch_band(plan, w, band, ih);
    for (size_t ow = 0; ow < width; ow += strip) {
        const size_t columns = width - ow < strip ? width - ow : strip;
        const double start = clock_start(plan->profile);
        make_strip(plan, w, ih, ow, columns);
        clock_add(&w->seconds[LENET_LOAD], start);
        for (int32_t kh = 0; kh < conv->kernel_height; kh++) {
            const int32_t from = ih + conv->padding - kh, oh = from / conv->stride;
            if (from >= 0 && from % conv->stride == 0 && oh < plan->bands * plan->band_rows)
                plan->kernels->conv_backward_weight_strip(w->work.lanes + (size_t)kh * kernel_row,
                                                          gradient_row(plan, w, oh) + ow * out_channels * lanes,
                                                          w->strip, columns, conv);
        }
    }
}

void front_backward(const struct lenet_plan *plan, struct worker *w, const struct part *part, const float *parameters,
                    float *sums)
{
    const struct lenet_layer *conv = &plan->layers[0], *last = &plan->layers[plan->front - 1];
    const size_t count = layer_parameters(conv);
    int32_t band = 0;
    if (last->kind == LENET_SUBSAMPLE)
        layer_backward_parameters(plan->kernels, last, sums + last->offset, &w->gradients[plan->front],
                                  &w->activations[plan->front - 1], 1, &w->work);
    memset(w->work.lanes, 0, count * (size_t)plan->kernels->lanes * sizeof(float));
    for (int32_t ih = 0; ih < conv->height; ih++) {
        for (; band < plan->bands && band * plan->band_rows * conv->stride <= ih + conv->padding; band++)
            make_band(plan, w, parameters, band);
        if (ih + conv->padding < (plan->bands * plan->band_rows - 1) * conv->stride + conv->kernel_height)
            add_image_row(plan, w, ih, band);
    }
    for (; band < plan->bands; band++)  /* output rows that see only the border below the image */
        make_band(plan, w, parameters, band);
    plan->kernels->lane_sums(sums + conv->offset, w->work.lanes, count);
}

void read_image(const struct lenet_plan *plan, struct worker *w, const struct part *part)
{
    const struct tensor *image = &w->activations[0];
    const double start = clock_start(plan->profile);
    open_part(w, part);
    for (int32_t h = 0; h < image->height; h++) {
        plan->kernels->transpose_row(&w->reader, h);
        plan->kernels->normalise_pixels(image->data + tensor_at(image, h) * (size_t)plan->kernels->lanes, &w->reader, h, 0,
                                        w->reader.count);
    }
    clock_add(&w->seconds[LENET_LOAD], start);
}
