/*
 * pixels.h - the uint8 image becomes the first layer's input as it is read.
 *
 *     row[i][lane] = pixel i of that sample * scale + offset        one fused multiply-add, so one rounding
 *
 * LANES images are LANES address ranges; a vector needs the same pixel of each: a transposition of bytes. Naively
 * every byte is moved alone. Here a block of one register's worth of pixels is loaded from each image, and
 * log2(LANES) rounds of unpacking (a0 b0 a1 b1 ... of two registers) bring the bytes together:
 *
 *     round 1 pairs image l with l + LANES/2, round 2 the results in the same way, ...; after the last, the bytes of
 *     one pixel lie side by side in image order
 *
 * Unpacking works inside 16-byte pieces of a register. So piece p of a wider register goes its own way: result v
 * holds pixels 16 p + v * (16 / LANES) and those that follow it.
 *
 * No byte outside the images is touched: where the last block would, it works on a copy.
 */

#define PIXELS_AT_ONCE ((size_t)sizeof(bytes))
#define ROWS_AHEAD 2  /* far enough for memory, near enough for the cache */

INLINE void transpose(bytes *block)
{
#pragma GCC unroll 4
    for (int distance = LANES / 2; distance > 0; distance /= 2) {
        bytes next[LANES];
#pragma GCC unroll 8
        for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = unpack_low(block[i], block[i + LANES / 2]);
            next[2 * i + 1] = unpack_high(block[i], block[i + LANES / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            block[i] = next[i];
    }
}

/* Where pixel 16 * piece + i, i below 16, of a transposed block lies: its bytes in image order. */
INLINE const uint8_t *pixel_of(const bytes *block, size_t piece, size_t i)
{
    const size_t together = 16 / LANES;
    return (const uint8_t *)&block[i / together] + piece * 16 + i % together * LANES;
}

INLINE vec normalised(const uint8_t *pixel, vec factor, vec addend)
{
    return vec_fma(__builtin_convertvector((ivec)widen(pixel), vec), factor, addend);
}

/* The block of pixels from `start` on, transposed; pixels past the end of the image are arbitrary. Asks for the
 * pixels `ahead` of these to be fetched meanwhile. */
INLINE void load_block(bytes *block, const uint8_t *const *samples, size_t start, size_t total, size_t ahead)
{
    const size_t inside = total - start;
    if (inside >= PIXELS_AT_ONCE) {
        const size_t next = ahead < inside ? start + ahead : start;
#pragma GCC unroll 16
        for (int lane = 0; lane < LANES; lane++) {
            __builtin_memcpy(&block[lane], samples[lane] + start, sizeof(bytes));
            __builtin_prefetch(samples[lane] + next, 0, 2);
        }
    } else {
        for (int lane = 0; lane < LANES; lane++) {
            block[lane] = (bytes){0};
            __builtin_memcpy(&block[lane], samples[lane] + start, inside);
        }
    }
    transpose(block);
}

/* Pixels first ... first + count of images of `total` pixels each, as floats. */
static void read_pixels(float *row, const uint8_t *const *samples, size_t first, size_t count, size_t total,
                        float scale, float offset)
{
    const vec factor = splat(scale), addend = splat(offset);
    for (size_t i = 0; i < count; i += PIXELS_AT_ONCE, row += PIXELS_AT_ONCE * LANES) {
        const size_t wanted = count - i < PIXELS_AT_ONCE ? count - i : PIXELS_AT_ONCE;
        bytes block[LANES];
        load_block(block, samples, first + i, total, ROWS_AHEAD * count);
        size_t piece = 0;
        for (; 16 * piece + 16 <= wanted; piece++)
#pragma GCC unroll 16
            for (size_t j = 0; j < 16; j++)
                store(row, 16 * piece + j, normalised(pixel_of(block, piece, j), factor, addend));
        for (size_t j = 0; j < wanted % 16; j++)
            store(row, 16 * piece + j, normalised(pixel_of(block, piece, j), factor, addend));
    }
}

/* The same in two steps, for a reader who makes floats of a part of the row at a time: pixels becomes
 * [count rounded up to whole blocks][LANES] bytes, ... */
static void transpose_pixels(uint8_t *pixels, const uint8_t *const *samples, size_t first, size_t count, size_t total)
{
    for (size_t i = 0; i < count; i += PIXELS_AT_ONCE) {
        bytes block[LANES];
        load_block(block, samples, first + i, total, ROWS_AHEAD * count);
        for (size_t piece = 0; piece < sizeof(bytes) / 16; piece++)
#pragma GCC unroll 16
            for (size_t j = 0; j < 16; j += 16 / LANES, pixels += 16)
                __builtin_memcpy(pixels, pixel_of(block, piece, j), 16);
    }
}

/* ... and `count` of them become a row. */
static void normalise_pixels(float *row, const uint8_t *pixels, size_t count, float scale, float offset)
{
    const vec factor = splat(scale), addend = splat(offset);
#pragma GCC unroll 4
    for (size_t i = 0; i < count; i++)
        store(row, i, normalised(pixels + i * LANES, factor, addend));
}
