/*
 * kernels.h - the table of lane functions that every instruction set provides.
 *
 * A *lane* is a sample. A vector holds the same element of `lanes` samples (4, 8 or 16: one register), and a
 * *part* is that many samples going through the network side by side. An activation lies as
 *
 *     [row][column][channel][lane]        64-byte aligned, rows with `padding` zero columns at both ends
 *
 * so that the source of a kernel reads like the scalar algorithm with `vec` for `float`. Nothing is padded to a
 * vector length, no operation crosses lanes inside a loop, and no sum's order depends on how wide a register is:
 * with the same fused multiply-adds every instruction set gives the same bits.
 *
 * A group of 16 samples is 16 / lanes parts, run one after the other.
 */
#ifndef LENET_KERNELS_H
#define LENET_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "lenet.h"

#include "augment.h"

/* One part's activations between two layers. `data` is the padded origin; the border is zero and stays so. */
struct tensor {
    float *data;
    int32_t height, width, channels, padding;
};

/* Vectors from one row to the next. */
static inline size_t tensor_pitch(const struct tensor *t)
{
    return (size_t)(t->width + 2 * t->padding) * (size_t)t->channels;
}

/* Vectors of the whole tensor, border included. */
static inline size_t tensor_vectors(const struct tensor *t)
{
    return (size_t)(t->height + 2 * t->padding) * tensor_pitch(t);
}

/* Vectors from `data` to the first one inside the border of a row, which may lie in the border (-padding ...). */
static inline size_t tensor_at(const struct tensor *t, int32_t row)
{
    return (size_t)(row + t->padding) * tensor_pitch(t) + (size_t)t->padding * (size_t)t->channels;
}

/*
 * A part's images on their way into the network, row by row, as transposed and centred bytes (pixels.h). Rows lie like a tensor's,
 * with a border of zeros at both ends, so that a convolution can read past them.
 */
struct pixel_reader {
    const uint8_t *const *samples;  /* addresses of the images, one a lane */
    struct view *view;              /* NULL where images are read as they are */
    int32_t lanes, height;          /* rows of an image, ... */
    size_t count, border;           /* ... pixels (values) of a row, and of the border at either end of it */
    float scale, offset;            /* of the normalisation */
    int8_t *pixels;
};

#define CACHE_LINE 64
#define READER_BLOCK 16  /* pixels that are transposed at once */

static inline size_t reader_blocks(size_t pixels)
{
    return (pixels + READER_BLOCK - 1) / READER_BLOCK * READER_BLOCK;
}

/* Bytes of a row, [pixel][lane]: its left border in whole blocks, so that the first block is aligned, and room behind it for
 * the right one and for what its last block may write besides (view.h). */
static inline size_t reader_pitch(const struct pixel_reader *r)
{
    const size_t border = reader_blocks(r->border);
    return (border + reader_blocks(r->count) + (border ? border : READER_BLOCK)) * (size_t)r->lanes;
}

/* Of all rows. */
static inline size_t reader_bytes(const struct pixel_reader *r)
{
    return (size_t)r->height * reader_pitch(r);
}

/* The first pixel of a row. */
static inline int8_t *reader_row(const struct pixel_reader *r, int32_t row)
{
    return r->pixels + (size_t)row * reader_pitch(r) + reader_blocks(r->border) * (size_t)r->lanes;
}

/* In place of an enum lenet_activation: none. */
#define LENET_LINEAR (-1)

struct lane_kernels {
    const char *name;
    int32_t lanes;

    /* pixels.h */
    void (*transpose_row)(const struct pixel_reader *reader, int32_t row);
    void (*normalise_row)(float *to, const struct pixel_reader *reader, int32_t row);
    /* view.h */
    void (*open_view)(struct view *view);
    /* conv_forward.h: rows[kh] are the padded input rows under the kernel's rows; of bytes, biases has one for each output */
    void (*conv_forward_row)(float *y, const void *const *rows, const float *weight, const float *bias,
                             const struct lenet_layer *layer);
    void (*conv_forward_pixels)(float *y, const void *const *rows, const float *weight, const float *biases,
                                const struct lenet_layer *layer);
    /* conv_weight.h */
    void (*conv_backward_weight)(float *dweight, const struct tensor *dy, const struct tensor *x,
                                 const struct lenet_layer *layer);
    void (*conv_backward_weight_pixels)(float *dweight, size_t kh, const float *dy, const int8_t *x, size_t columns,
                                        const struct lenet_layer *layer);
    size_t (*conv_strip_columns)(const struct lenet_layer *layer);
    /* conv_bias.h */
    void (*conv_backward_bias)(float *dbias, const float *dy, size_t pixels, size_t channels);
    void (*conv_row_sums)(float *sums, const float *dy, const struct lenet_layer *layer);
    /* conv_input.h */
    void (*conv_backward_input)(const struct tensor *dx, const struct tensor *dy, const float *weight, const float *paired,
                                const struct lenet_layer *layer);
    /* dense.h */
    void (*dense_forward)(float *y, const float *x, const float *weight, const float *bias, size_t inputs,
                          size_t outputs);
    void (*dense_backward_input)(float *dx, const float *dy, const float *weight, size_t inputs, size_t outputs);
    void (*dense_backward_weight)(float *dparameters, const float *dy, const float *x, size_t inputs,
                                  size_t outputs, int32_t first, float *scratch);
    /* pool.h */
    void (*pool_forward)(const struct tensor *y, const struct tensor *x, const float *parameters,
                         const struct lenet_layer *layer);
    void (*pool_backward)(const struct tensor *dx, const struct tensor *dy, const struct tensor *x,
                          const float *parameters, const struct lenet_layer *layer, int32_t activation);
    void (*subsample_backward_weight)(float *dparameters, const struct tensor *dy, const struct tensor *x,
                                      const struct lenet_layer *layer);
    /* activation.h: y and x, dx and dy may be the same */
    void (*activation_forward)(float *y, const float *x, size_t vectors, int32_t name);
    void (*activation_backward)(float *dx, const float *dy, const float *y, size_t vectors, int32_t name);
    /* loss.h */
    void (*softmax)(float *probabilities, float *sums, float *maxima, const float *logits, size_t classes);
    /* sums.h */
    void (*lane_sums)(float *sums, const float *lanes, size_t count);
    void (*add_quantised)(int64_t *totals, int64_t *refused, const float *values, size_t count, float limit);
    /* update.h */
    void (*descend)(float *parameters, float *velocity, const int64_t *totals, size_t count,
                    const struct lenet_descent *descent);
    double (*sum_of_squares)(const int64_t *totals, size_t count, double unit);
    /* peak.h */
    float (*fma_chains)(size_t rounds);
    int32_t chains;
};

extern const struct lane_kernels lenet_kernels_generic;
#if defined(__x86_64__)
extern const struct lane_kernels lenet_kernels_avx2;
extern const struct lane_kernels lenet_kernels_avx512;
#endif

/* isa.c; the index is known to be supported. */
const struct lane_kernels *lenet_kernels(int32_t isa);

#endif
