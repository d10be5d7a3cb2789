/*
 * pixels.h - the uint8 image becomes the first layer's input as it is read.
 *
 *     row[i][lane] = pixel i of that sample * scale + offset        one fused multiply-add, so one rounding
 *
 * LANES images are LANES address ranges; a vector needs the same pixel of each: a transposition of bytes. Naively
 * every byte is moved alone. Here a block of 16 pixels is taken from all images at once, as four registers of LANES / 4
 * pieces of 16 bytes: piece k of register i is image 4 k + i. Two rounds of unpacking (a0 b0 a1 b1 ... of two registers), which
 * pair register 0 with 2 and 1 with 3, bring the bytes of one pixel together as far as a piece goes:
 *
 *     register j, piece k:    pixels 4 j ... 4 j + 3, and of each the four bytes of images 4 k ... 4 k + 3
 *
 * What is left is a transposition of these 4-byte units inside each register, one permutation (`settle`).
 *
 * The transposed bytes of the whole image stay: forward and backward make floats of them as they need them, a pixel in one load, one
 * conversion, one multiply-add and one store. As floats they would take four times as much.
 *
 * No byte outside the images is touched: the last block of an image is read from a copy.
 */

#define ROWS_AHEAD 2  /* far enough for memory, near enough for the cache */

/* Registers one by one: copied as a whole, a block would go over the stack. i counts registers. */
INLINE bytes load_bytes(const void *p, size_t i)
{
    bytes v;
    __builtin_memcpy(&v, (const uint8_t *)p + i * sizeof v, sizeof v);
    return v;
}

INLINE void store_block(uint8_t *to, const bytes *block)
{
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++)
        __builtin_memcpy(to + i * sizeof(bytes), &block[i], sizeof(bytes));
}

/* Four registers of pieces become 16 pixels, one after the other, of all lanes. */
INLINE void unpack_block(bytes *block)
{
#pragma GCC unroll 2
    for (int round = 0; round < 2; round++) {
        const bytes next[4] = {unpack_low(block[0], block[2]), unpack_high(block[0], block[2]),
                               unpack_low(block[1], block[3]), unpack_high(block[1], block[3])};
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            block[i] = next[i];
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        block[i] = settle(block[i]);
}

/* The block from `at` bytes behind each address on, transposed. */
INLINE void load_block(bytes *block, const uint8_t *const *images, size_t at)
{
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        block[i] = pieces(images, i, at);
    unpack_block(block);
}

/* A block of which less than 16 bytes may be read. */
__attribute__((noinline)) static void load_last_block(bytes *block, const uint8_t *const *images, size_t at,
                                                    size_t readable)
{
    uint8_t copies[LANES][READER_BLOCK] = {{0}};
    const uint8_t *copied[LANES];
    for (size_t lane = 0; lane < LANES; lane++) {
        __builtin_memcpy(copies[lane], images[lane] + at, readable);
        copied[lane] = copies[lane];
    }
    load_block(block, copied, 0);
}

/* The block at pixel `at` of the images, counted from their first. Asks for those two rows further on to be fetched meanwhile, a
 * cache line of each image at a time. */
INLINE void read_block(bytes *block, const struct pixel_reader *r, size_t at)
{
    const size_t ahead = at + ROWS_AHEAD * r->count, total = (size_t)r->height * r->count;
    if (at % CACHE_LINE < READER_BLOCK && ahead < total)
        for (size_t lane = 0; lane < LANES; lane++)
            __builtin_prefetch(r->samples[lane] + ahead, 0, 2);
    if (total - at >= READER_BLOCK)
        load_block(block, r->samples, at);
    else
        load_last_block(block, r->samples, at, total - at);
}

/* view.h */
static void transpose_view(uint8_t *to, const struct pixel_reader *r, int32_t h);

/* An image row as bytes. */
static void transpose_row(const struct pixel_reader *r, int32_t row)
{
    uint8_t *to = reader_row(r, row);
    if (r->view) {
        transpose_view(to, r, row);
        return;
    }
    for (size_t done = 0; done < r->count; done += READER_BLOCK, to += READER_BLOCK * LANES) {
        bytes block[4];
        read_block(block, r, (size_t)row * r->count + done);
        store_block(to, block);
    }
}

/* Where the reader stands, for an inner loop: `left` transposed pixels to go. */
struct run {
    const uint8_t *from;
    float *to;
    size_t left;
    vec factor, addend;
};

INLINE struct run run_of(const struct pixel_reader *r)
{
    if (r->row >= r->end)
        return (struct run){0};
    return (struct run){reader_row(r, r->row) + r->done * LANES,
                        r->ring + (size_t)(r->row % r->slots) * r->pitch + r->done * LANES, r->count - r->done,
                        splat(r->scale), splat(r->offset)};
}

/* n pixels, if as many are left. */
INLINE void read_on(struct run *run, const int n)
{
    if (n == 0 || run->left < (size_t)n)
        return;
#pragma GCC unroll 8
    for (int i = 0; i < n; i++)
        store(run->to, (size_t)i,
              vec_fma(__builtin_convertvector((ivec)widen(run->from + i * LANES), vec), run->factor, run->addend));
    run->from += n * LANES;
    run->to += n * LANES;
    run->left -= (size_t)n;
}

/* Notes how far it has come, and does the rest of the row if that is less than n pixels. */
INLINE void stop_run(struct pixel_reader *r, struct run run, const int n)
{
    if (r->row >= r->end)
        return;
    if (run.left < (size_t)n)
        while (run.left)
            read_on(&run, 1);
    r->done = r->count - run.left;
    if (run.left == 0) {
        r->row++;
        r->done = 0;
    }
}

/* All rows up to r->end as floats. */
static void finish_rows(struct pixel_reader *r)
{
    while (r->row < r->end) {
        struct run run = run_of(r);
        while (run.left >= 4)
            read_on(&run, 4);
        stop_run(r, run, 4);
    }
}

/* Pixels first ... first + count of a transposed row as floats. */
static void normalise_pixels(float *to, const struct pixel_reader *r, int32_t row, size_t first, size_t count)
{
    struct run run = {reader_row(r, row) + first * LANES, to, count, splat(r->scale), splat(r->offset)};
    while (run.left >= 8)
        read_on(&run, 8);
    while (run.left)
        read_on(&run, 1);
}
