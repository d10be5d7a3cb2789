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
 * Forward, the convolution's input rows are made from pixels in a ring of kernel_height rows. Backward makes them again:
 * converting twice costs less than keeping 4 bytes a pixel.
 */
#include <string.h>

#include "clock.h"
#include "front.h"

static const float *row_of(const struct lenet_plan *plan, const struct tensor *t, int32_t row)
{
    return t->data + tensor_at(t, row) * (size_t)plan->kernels->lanes;
}

/* Image row ih as the convolution's padded input; made from pixels unless the ring still holds it. */
static const float *pixel_row(const struct lenet_plan *plan, struct worker *w, const struct part *part, int32_t ih)
{
    const struct lenet_layer *conv = &plan->layers[0];
    const size_t lanes = (size_t)plan->kernels->lanes, channels = (size_t)conv->channels;
    const size_t count = (size_t)conv->width * channels, border = (size_t)conv->padding * channels;
    if (ih < 0 || ih >= conv->height)
        return w->zero_row;
    const int32_t slot = ih % conv->kernel_height;
    float *row = w->pixel_rows + (size_t)slot * (count + 2 * border) * lanes;
    if (w->held[slot] != ih) {
        plan->kernels->read_pixels(row + border * lanes, part->samples, (size_t)ih * count, count,
                                   (size_t)conv->height * count, plan->scale, plan->offset);
        w->held[slot] = ih;
    }
    return row;
}

static void pixel_rows_under(const struct lenet_plan *plan, struct worker *w, const struct part *part, int32_t oh)
{
    const struct lenet_layer *conv = &plan->layers[0];
    const double start = clock_start(plan->profile);
    for (int32_t kh = 0; kh < conv->kernel_height; kh++)
        w->work.rows[kh] = pixel_row(plan, w, part, oh * conv->stride - conv->padding + kh);
    clock_add(&w->seconds[LENET_LOAD], start);
}

static void forget_pixel_rows(const struct lenet_plan *plan, struct worker *w)
{
    for (int32_t slot = 0; slot < plan->layers[0].kernel_height; slot++)
        w->held[slot] = -1;
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

static void conv_row(const struct lenet_plan *plan, struct worker *w, const struct part *part, const float *parameters,
                     int32_t oh)
{
    const struct lenet_layer *conv = &plan->layers[0];
    const float *weight = parameters + conv->offset;
    const float *bias = weight + layer_parameters(conv) - (size_t)conv->out_channels;
    const struct tensor *t = &w->activations[1];
    float *y = t->data + tensor_at(t, oh) * (size_t)plan->kernels->lanes;
    pixel_rows_under(plan, w, part, oh);
    plan->kernels->conv_forward_row(y, w->work.rows, weight, bias, conv);
    if (front_activation(plan) != LENET_LINEAR)
        plan->kernels->activation_forward(y, y, (size_t)conv->out_width * (size_t)conv->out_channels,
                                          front_activation(plan));
}

void front_forward(const struct lenet_plan *plan, struct worker *w, const struct part *part, const float *parameters)
{
    const int32_t rows = plan->band_rows;
    forget_pixel_rows(plan, w);
    for (int32_t band = 0; band < plan->bands; band++) {
        for (int32_t oh = band * rows; oh < (band + 1) * rows; oh++)
            conv_row(plan, w, part, parameters, oh);
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

/* Columns ow ... of the padded image row whose pixels lie transposed in w->pixels, as far as `columns` outputs read. */
static void make_strip(const struct lenet_plan *plan, struct worker *w, size_t ow, size_t columns)
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
        plan->kernels->normalise_pixels(w->strip + (from - start) * lanes, w->pixels + (from - border) * lanes,
                                        to - from, plan->scale, plan->offset);
    if (to < end)
        memset(w->strip + ((to > start ? to : start) - start) * lanes, 0,
               (end - (to > start ? to : start)) * lanes * sizeof(float));
}

/* What image row ih adds to the weight's gradient: strip by strip, to each kernel row that some output row puts there. */
static void add_image_row(const struct lenet_plan *plan, struct worker *w, const struct part *part, int32_t ih)
{
    const struct lenet_layer *conv = &plan->layers[0];
    const size_t lanes = (size_t)plan->kernels->lanes, channels = (size_t)conv->channels;
    const size_t out_channels = (size_t)conv->out_channels, width = (size_t)conv->out_width;
    const size_t kernel_row = (size_t)conv->kernel_width * channels * out_channels * lanes;
    const size_t count = (size_t)conv->width * channels, strip = plan->kernels->conv_strip_columns(conv);
    const double start = clock_start(plan->profile);
    plan->kernels->transpose_pixels(w->pixels, part->samples, (size_t)ih * count, count, (size_t)conv->height * count);
    clock_add(&w->seconds[LENET_LOAD], start);
    for (size_t ow = 0; ow < width; ow += strip) {
        const size_t columns = width - ow < strip ? width - ow : strip;
        make_strip(plan, w, ow, columns);
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
            add_image_row(plan, w, part, ih);
    }
    for (; band < plan->bands; band++)  /* output rows that see only the border below the image */
        make_band(plan, w, parameters, band);
    plan->kernels->lane_sums(sums + conv->offset, w->work.lanes, count);
}

void read_image(const struct lenet_plan *plan, struct worker *w, const struct part *part)
{
    const struct tensor *image = &w->activations[0];
    const size_t count = (size_t)image->width * (size_t)image->channels;
    const double start = clock_start(plan->profile);
    for (int32_t h = 0; h < image->height; h++)
        plan->kernels->read_pixels(image->data + tensor_at(image, h) * (size_t)plan->kernels->lanes, part->samples,
                                   (size_t)h * count, count, (size_t)image->height * count, plan->scale, plan->offset);
    clock_add(&w->seconds[LENET_LOAD], start);
}
