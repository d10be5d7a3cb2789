/*
 * augment.h - what is drawn for a sample of an augmented step, and how the images of a part are seen because of it.
 * Part of kernels.h.
 */
#ifndef LENET_AUGMENT_H
#define LENET_AUGMENT_H

#define VIEW_SLACK 32  /* bytes on either side of a row that may be read besides those that it is shifted by */

/*
 *     out[h][w] = jitter(image[r][c'])  r = h + dy, c = w + dx, c' = c or, mirrored, width - 1 - c
 *                 fill                  where (r, c) is outside the image, and inside the erased rectangle
 *     jitter(v) = (v + 1/2) * gain / 256, rounded down, + shift, within 0 ... 255
 */
struct draw {
    int32_t mirrored;
    int32_t dy, dx;
    int32_t gain, shift;
    int32_t top, bottom, left, right;  /* erased are rows top to before bottom, columns left to before right */
};

/* The draw of a sample: by (seed, epoch, sample) and, for contrast, by its pixels. */
struct draw draw_sample(const struct lenet_augmentation *rules, int64_t sample, const uint8_t *image);

/* A part's images as drawn, for the reader of their rows (view.h). */
struct view {
    const struct lenet_augmentation *rules;
    struct draw draws[LENET_GROUP];      /* one a lane */
    size_t step;                         /* bytes of a row that a block serves: whole pixels, at most 16 bytes */
    int32_t mirrors, jitters;            /* whether any lane does */
    ptrdiff_t hops[LENET_GROUP];         /* from block to block: step, or -step where mirrored */
    ptrdiff_t starts[LENET_GROUP];       /* of the first block, counted from the row's first byte */
    size_t reaches[LENET_GROUP];         /* bytes beside a row that blocks may read */
    int32_t turned[LENET_GROUP];         /* whether rows must be turned around first, whose pixels are too long for blocks */
    uint8_t places[4][4 * LENET_GROUP];  /* which byte of its piece each byte of a block's registers becomes */
    int16_t gains[4 * LENET_GROUP];      /* of the bytes of a transposed register: of the pieces' first halves, ... */
    int16_t shifts[4 * LENET_GROUP];     /* ... then of their second ones */
    size_t inner_begin, inner_end;       /* between these all lanes show their images, but for holes */
    size_t holes[LENET_GROUP][2];        /* begin and end of what is outside or erased in the present row */
    uint8_t *keep;                       /* like a transposed row: 255 where an image is shown, 0 where it is filled */
    uint8_t *scratch;                    /* a row of each lane, and on either side as much as it may be shifted */
};

/* Bytes of keep and scratch for rows of `count` bytes. */
static inline size_t view_keep_bytes(size_t count, size_t lanes)
{
    return (count + 16) * lanes;
}

static inline size_t view_scratch_bytes(size_t count, size_t lanes)
{
    return (3 * count + 2 * VIEW_SLACK) * lanes;
}

#endif
