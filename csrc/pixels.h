/*
 * pixels.h - images of uint8 on their way into the first layer.
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
 * The transposed bytes of the whole image stay until the way back is done. A byte is *centred*, pixel - 128 in int8: one bit
 * of it is flipped. The first convolution reads these bytes themselves; load_pixel makes floats of them, whole numbers
 * from -128 to 127, on their way from the cache to a multiplication, and what turns them into the network's input,
 *
 *     x = pixel * scale + offset = byte * scale + (128 scale + offset)
 *
 * is in its weights and biases (front.c). A byte of 0 thus adds nothing to a sum, and is what borders are made of.
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

/* Centred. */
INLINE void store_block(int8_t *to, const bytes *block)
{
    const bytes flip = (bytes)((words){0} + (int16_t)0x8080);
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        const bytes centred = block[i] ^ flip;
        __builtin_memcpy(to + i * sizeof(bytes), &centred, sizeof(bytes));
    }
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
static void transpose_view(int8_t *to, const struct pixel_reader *r, int32_t h);

/* An image row, and the border behind it, which the row's last block has written over. */
static void transpose_row(const struct pixel_reader *r, int32_t row)
{
    int8_t *to = reader_row(r, row);
    if (r->view)
        transpose_view(to, r, row);
    else
        for (size_t done = 0; done < r->count; done += READER_BLOCK) {
            bytes block[4];
            read_block(block, r, (size_t)row * r->count + done);
            store_block(to + done * LANES, block);
        }
    __builtin_memset(to + r->count * LANES, 0, r->border * LANES);
}

/* i counts vectors of bytes. */
INLINE vec load_pixel(const int8_t *p, size_t i)
{
    return __builtin_convertvector((ivec)widen(p + i * LANES), vec);
}

/* A transposed row as the network's input, floats: each pixel with one rounding. */
static void normalise_row(float *to, const struct pixel_reader *r, int32_t row)
{
    const int8_t *from = reader_row(r, row);
    for (size_t i = 0; i < r->count; i++)
        store(to, i, vec_fma(load_pixel(from, i) + 128.0f, splat(r->scale), splat(r->offset)));
}
