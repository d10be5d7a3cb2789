/*
 * pairs.h - minimal filtering: two neighbouring output columns at once, with fewer multiplications than taps.
 *
 * A kernel row of weights g meets, for the outputs y0 and y1 of two neighbouring columns, inputs `stride` apart:
 *
 *     y0 = sum over k of x[k] g[k]        y1 = sum over k of x[k + stride] g[k]
 *
 * Where k + stride is a tap too, x[k + stride] is in both, and two products can be had as one. Two taps k < m = k + stride:
 *
 *     x[k] g[k] + x[m] g[m]               = (x[k] - x[m]) g[k] + x[m] (g[k] + g[m])
 *     x[m] g[k] + x[m + stride] g[m]      = (x[m + stride] - x[m]) g[m] + x[m] (g[k] + g[m])
 *
 * are three products instead of four, and three taps k, l, m, each `stride` from the next, four instead of six, with n = m + stride
 * (S. Winograd, Arithmetic Complexity of Computations, 1980):
 *
 *     p = (x[l] + x[m]) (g[k] + g[l] + g[m]) / 2        q = (x[m] - x[l]) (g[k] - g[l] + g[m]) / 2
 *     y0 = (x[k] - x[m]) g[k] + p + q                   y1 = (x[n] - x[l]) g[m] + p - q
 *
 * A *pattern* lists the products of a kernel width and stride. Each is a sum or difference of two inputs times a combination of
 * weights, and belongs to one of four sums, over all products, kernel rows and channels:
 *
 *     y0 = FIRST + PLUS + MINUS           y1 = SECOND + PLUS - MINUS
 *
 * so that what is saved is not spent again at each product: weights are combined once (transform_weights), inputs are where
 * they are loaded, by units that do not multiply, and sums once for an output. The gradient goes the same way back: dy0 belongs to
 * FIRST, dy1 to SECOND, dy0 + dy1 to PLUS, dy0 - dy1 to MINUS, and the gradients by product become those of the weights at the end.
 *
 * Combined inputs and weights are as large as their parts together, and so is the bound of the rounding error, chain for chain; whole
 * numbers and halves of them stay exact.
 */
#ifndef LENET_PAIRS_H
#define LENET_PAIRS_H

#include "kernels.h"

enum { FIRST, PLUS, MINUS, SECOND, PAIR_SUMS };

#define MOST_PRODUCTS 8

/* (x[a] + sign x[b]) (half[0] g[0] + half[1] g[1] + ...) / 2 */
struct product {
    int32_t sum, a, sign, b;
    int32_t half[5];
};

/* Products in the order of their sums. */
struct pattern {
    int32_t kernel_width, stride, count;
    struct product products[MOST_PRODUCTS];
};

static const struct pattern pattern_2_1 = {2, 1, 3, {
    {FIRST, 0, -1, 1, {2}},
    {PLUS, 1, 0, 1, {2, 2}},
    {SECOND, 2, -1, 1, {0, 2}},
}};
static const struct pattern pattern_3_1 = {3, 1, 4, {
    {FIRST, 0, -1, 2, {2}},
    {PLUS, 1, 1, 2, {1, 1, 1}},
    {MINUS, 2, -1, 1, {1, -1, 1}},
    {SECOND, 3, -1, 1, {0, 0, 2}},
}};
static const struct pattern pattern_5_1 = {5, 1, 7, {
    {FIRST, 0, -1, 2, {2}},
    {FIRST, 3, -1, 4, {0, 0, 0, 2}},
    {PLUS, 1, 1, 2, {1, 1, 1}},
    {PLUS, 4, 0, 4, {0, 0, 0, 2, 2}},
    {MINUS, 2, -1, 1, {1, -1, 1}},
    {SECOND, 3, -1, 1, {0, 0, 2}},
    {SECOND, 5, -1, 4, {0, 0, 0, 0, 2}},
}};
static const struct pattern pattern_5_3 = {5, 3, 8, {
    {FIRST, 0, -1, 3, {2}},
    {FIRST, 1, -1, 4, {0, 2}},
    {FIRST, 2, 0, 2, {0, 0, 2}},
    {PLUS, 3, 0, 3, {2, 0, 0, 2}},
    {PLUS, 4, 0, 4, {0, 2, 0, 0, 2}},
    {SECOND, 6, -1, 3, {0, 0, 0, 2}},
    {SECOND, 7, -1, 4, {0, 0, 0, 0, 2}},
    {SECOND, 5, 0, 5, {0, 0, 2}},
}};

/* The pattern of a kernel width, stride and number of input channels, or NULL where plain sums are as fast. Of a single channel an
 * input serves too few multiplications for the work of combining two. */
static inline __attribute__((always_inline)) const struct pattern *find_pattern(int32_t kernel_width, int32_t stride,
                                                                                int32_t channels)
{
    return channels < 3                             ? NULL
           : kernel_width == 2 && stride == 1       ? &pattern_2_1
           : kernel_width == 3 && stride == 1       ? &pattern_3_1
           : kernel_width == 5 && stride == 1       ? &pattern_5_1
           : kernel_width == 5 && stride == 3       ? &pattern_5_3
                                                    : NULL;
}

/* Products of one sum. */
static inline __attribute__((always_inline)) size_t products_of(const struct pattern *pattern, int32_t sum)
{
    size_t count = 0;
    for (int32_t i = 0; i < pattern->count; i++)
        count += pattern->products[i].sum == sum;
    return count;
}

/*
 * Where product i of kernel row kh has its (C_in, C_out) combined weights or gradients, counted in such blocks: they lie
 * [sum][kernel row][product of that sum], as the sums are taken.
 */
static inline __attribute__((always_inline)) size_t product_place(const struct pattern *pattern, size_t kernel_height,
                                                                  size_t kh, int32_t i)
{
    const int32_t sum = pattern->products[i].sum;
    size_t before = 0, inside = 0;
    for (int32_t j = 0; j < i; j++)
        if (pattern->products[j].sum == sum)
            inside++;
        else
            before++;
    return before * kernel_height + kh * products_of(pattern, sum) + inside;
}

/* The pattern that a convolution's kernels use, or NULL: those of the shapes that have instances (conv_shapes.inc). */
const struct pattern *pattern_of(const struct lenet_layer *layer);

/*
 * The gradient of the input is a convolution too, of dy with the kernel turned around: an input column meets every stride-th kernel
 * column, beginning with its phase, and neighbours of one phase meet neighbouring outputs. So the stride is 1, and the width the
 * number of those kernel columns; of phases that meet one less, plain sums are taken.
 */
static inline __attribute__((always_inline)) int32_t input_taps(int32_t kernel_width, int32_t stride)
{
    return (kernel_width + stride - 1) / stride;
}

/* Its pattern, or NULL. */
const struct pattern *input_pattern_of(const struct lenet_layer *layer);

/* Values that transform_input_weights makes. */
size_t transformed_input_weights(const struct lenet_layer *layer);

/* to[phase][as product_place says][C_out][C_in] from the layer's weights. */
void transform_input_weights(float *to, const float *weight, const struct lenet_layer *layer);

/* Values of a convolution's weights as its kernels want them: combined, or as they are. */
size_t transformed_weights(const struct lenet_layer *layer);

/* to[transformed_weights] from the layer's weights, (KH, KW, C_in, C_out). */
void transform_weights(float *to, const float *weight, const struct lenet_layer *layer);

/* The gradient of the layer's weights from that of the transformed ones. */
void restore_weight_gradient(float *dweight, const float *from, const struct lenet_layer *layer);

#endif
