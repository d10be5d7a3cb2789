/*
 * folding.c - the normalisation of pixels, folded into the first convolution.
 *
 * The network's input is x = byte * scale + offset inside the image (pixels.h), 0 in its border. Made float by float it costs a
 * multiply-add, a store and a load for each pixel, twice a step. But a convolution is linear, so that
 *
 *     y[oh][ow] = b + sum of x w = (b + offset * sum of w) + sum of byte * (w * scale)
 *     dw[kh][kw] = sum of x dy   = scale * sum of byte * dy + offset * sum of dy
 *
 * where the sums of w alone and dy alone run over what lies inside the image: for y over those taps of the window that do, for
 * dw over those outputs whose tap (kh, kw) does. The first makes a bias for each output, of which only those near the image's
 * edges differ; conv_row_sums collects the second by kernel column, for each kind of row apart. Sums with byte need no such care:
 * in the border it is 0.
 *
 * Bytes are centred, so that offset is near 0 for pixels from -1 to 1 and no digits are lost by adding up its part separately.
 */
#include "folding.h"
#include "pairs.h"

/* Kernel rows (or columns) first ... end - 1 that meet the image at output row `at`. */
struct taps {
    int32_t first, end;
};

static struct taps taps_inside(int32_t at, int32_t stride, int32_t padding, int32_t kernel, int32_t size)
{
    const int32_t start = at * stride - padding;
    struct taps t = {start < 0 ? -start : 0, size - start < kernel ? size - start : kernel};
    t.first = t.first < kernel ? t.first : kernel;
    t.end = t.end > t.first ? t.end : t.first;
    return t;
}

static struct taps rows_inside(const struct lenet_layer *conv, int32_t oh)
{
    return taps_inside(oh, conv->stride, conv->padding, conv->kernel_height, conv->height);
}

/* Output rows that begin above the image. */
static int32_t rows_above(const struct lenet_layer *conv)
{
    const int32_t above = (conv->padding + conv->stride - 1) / conv->stride;
    return above < conv->out_height ? above : conv->out_height;
}

/* The first output row that ends below the image and does not begin above it. */
static int32_t first_below(const struct lenet_layer *conv)
{
    const int32_t above = rows_above(conv), room = conv->height + conv->padding - conv->kernel_height;
    const int32_t inside = room < 0 ? 0 : room / conv->stride + 1;
    const int32_t first = inside > above ? inside : above;
    return first < conv->out_height ? first : conv->out_height;
}

int32_t row_kinds(const struct lenet_layer *conv)
{
    return rows_above(conv) + 1 + conv->out_height - first_below(conv);
}

int32_t row_kind(const struct lenet_layer *conv, int32_t oh)
{
    const int32_t above = rows_above(conv), below = first_below(conv);
    return oh < above ? oh : oh < below ? above : above + 1 + oh - below;
}

/* Any output row of a kind; none has the kind between where all rows are at an edge, and any row will do. */
static int32_t row_of_kind(const struct lenet_layer *conv, int32_t kind)
{
    const int32_t above = rows_above(conv);
    return kind < above ? kind : kind == above ? above : first_below(conv) + kind - above - 1;
}

/* sums[kw][co] = sum over the kernel rows and all channels of w. */
static void sum_weights(double *sums, const struct lenet_layer *conv, const float *weight, struct taps rows)
{
    const int32_t kernel_width = conv->kernel_width, channels = conv->channels, outputs = conv->out_channels;
    for (int32_t i = 0; i < kernel_width * outputs; i++)
        sums[i] = 0.0;
    for (int32_t kh = rows.first; kh < rows.end; kh++)
        for (int32_t kw = 0; kw < kernel_width; kw++)
            for (int32_t ci = 0; ci < channels; ci++)
                for (int32_t co = 0; co < outputs; co++)
                    sums[kw * outputs + co] += weight[((kh * kernel_width + kw) * channels + ci) * outputs + co];
}

/* Biases of a row; a column that meets the same kernel columns as the one before takes its biases. */
static void fold_biases(float *biases, const struct lenet_layer *conv, const float *bias, const double *sums, double offset)
{
    const int32_t outputs = conv->out_channels;
    struct taps before = {-1, -1};
    for (int32_t ow = 0; ow < conv->out_width; ow++, biases += outputs) {
        const struct taps columns = taps_inside(ow, conv->stride, conv->padding, conv->kernel_width, conv->width);
        const int32_t same = columns.first == before.first && columns.end == before.end;
        for (int32_t co = 0; co < outputs; co++) {
            double sum = 0.0;
            for (int32_t kw = columns.first; !same && kw < columns.end; kw++)
                sum += sums[kw * outputs + co];
            biases[co] = same ? biases[co - outputs] : (float)(bias[co] + offset * sum);
        }
        before = columns;
    }
}

/* Of a centred byte, so that byte * scale + centred_offset is pixel * scale + offset. */
static double centred_offset(const struct lenet_plan *plan)
{
    return (double)plan->offset + 128.0 * (double)plan->scale;
}

void fold_normalisation(struct lenet_plan *plan, const float *parameters)
{
    const struct lenet_layer *conv = &plan->layers[0];
    const struct folded *to = &plan->folded;
    const size_t outputs = (size_t)conv->out_channels, weights = layer_parameters(conv) - outputs;
    const float *weight = parameters + conv->offset;
    for (size_t i = 0; i < weights; i++)
        to->scaled[i] = weight[i] * plan->scale;
    transform_weights(to->weight, to->scaled, conv);
    for (int32_t kind = 0; kind < row_kinds(conv); kind++) {
        sum_weights(to->sums, conv, weight, rows_inside(conv, row_of_kind(conv, kind)));
        fold_biases(to->biases + (size_t)kind * (size_t)conv->out_width * outputs, conv, weight + weights, to->sums,
                    centred_offset(plan));
    }
}

void unfold_gradient(const struct lenet_plan *plan, float *gradient, const float *row_sums)
{
    const struct lenet_layer *conv = &plan->layers[0];
    const int32_t kernel_width = conv->kernel_width, outputs = conv->out_channels, kinds = row_kinds(conv);
    const int32_t pitch = (kernel_width + 1) * outputs;
    float *to = gradient;
    for (int32_t kh = 0; kh < conv->kernel_height; kh++)
        for (int32_t kw = 0; kw < kernel_width; kw++, to += conv->channels * outputs)
            for (int32_t co = 0; co < outputs; co++) {
                double sum = 0.0;
                for (int32_t kind = 0; kind < kinds; kind++) {
                    const struct taps rows = rows_inside(conv, row_of_kind(conv, kind));
                    if (kh >= rows.first && kh < rows.end)
                        sum += row_sums[kind * pitch + kw * outputs + co];
                }
                for (int32_t ci = 0; ci < conv->channels; ci++) {
                    float *g = to + ci * outputs + co;
                    *g = (float)((double)plan->scale * *g + centred_offset(plan) * sum);
                }
            }
    for (int32_t co = 0; co < outputs; co++) {
        double sum = 0.0;
        for (int32_t kind = 0; kind < kinds; kind++)
            sum += row_sums[kind * pitch + kernel_width * outputs + co];
        to[co] = (float)sum;
    }
}
