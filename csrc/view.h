/*
 * view.h - image rows transposed as augment.c drew them: mirrored, shifted, brighter, with holes.
 *
 * Nothing is copied first. A lane's blocks are taken from where its draw puts them, and the rest happens to a block in
 * registers, on its way to the transposed row:
 *
 *     shifted    the block begins so many bytes further on; what is read beside the row is filled below
 *     mirrored   blocks are taken from the row's end, and one byte shuffle turns the pixels of each around. For that a
 *                block serves whole pixels: `step` of its 16 bytes; the next block overwrites the rest
 *     brighter   a multiplication and an addition of words
 *     filled     `keep` lies like a transposed row and says where images are shown. It is applied where any lane needs
 *                it, and changed where a lane's hole (the row is outside the image, or partly erased) begins or ends
 *
 * Beside a row lie the rows before and after it, so that all reads stay inside the image, but at its first and last
 * rows: those are read from a copy.
 */

#define LONGEST_PIXEL 16  /* channels up to which a block holds whole pixels */

INLINE size_t absolute(int32_t value)
{
    return (size_t)(value < 0 ? -value : value);
}

/* Bytes begin ... end of its row in which a lane shows its image, but for its hole. */
INLINE void find_inside(size_t *inside, const struct view *v, int lane)
{
    const struct draw *d = &v->draws[lane];
    const size_t channels = (size_t)v->rules->channels, count = (size_t)v->rules->width * channels;
    const size_t shift = absolute(d->dx) * channels;
    inside[0] = d->dx < 0 ? shift : 0;
    inside[1] = d->dx > 0 ? count - shift : count;
}

/* Notes where the next row has no image, besides beside it. */
static void move_hole(struct view *v, int lane, size_t begin, size_t end)
{
    size_t inside[2], *hole = v->holes[lane];
    find_inside(inside, v, lane);
    for (size_t x = hole[0]; x < hole[1]; x++)
        v->keep[x * LANES + (size_t)lane] = x >= inside[0] && x < inside[1] ? 255 : 0;
    for (size_t x = begin; x < end; x++)
        v->keep[x * LANES + (size_t)lane] = 0;
    hole[0] = begin;
    hole[1] = end;
}

/* Which byte of a piece comes to place i of a mirrored block. */
INLINE size_t mirrored_place(const struct view *v, size_t i)
{
    const size_t channels = (size_t)v->rules->channels;
    return i < v->step ? v->step - channels - i / channels * channels + i % channels : i;
}

/* Makes a view of the draws. */
static void open_view(struct view *v)
{
    const size_t channels = (size_t)v->rules->channels, count = (size_t)v->rules->width * channels;
    const int32_t turns = channels <= LONGEST_PIXEL;
    v->step = turns ? 16 / channels * channels : 16;
    v->mirrors = v->jitters = 0;
    v->inner_begin = 0;
    v->inner_end = count;
    __builtin_memset(v->keep, 255, view_keep_bytes(count, LANES));
    for (int lane = 0; lane < LANES; lane++) {
        const struct draw *d = &v->draws[lane];
        const int32_t mirrored = d->mirrored && turns;
        size_t inside[2];
        v->mirrors |= mirrored;
        v->jitters |= d->gain != 256 || d->shift != 0;
        v->hops[lane] = mirrored ? -(ptrdiff_t)v->step : (ptrdiff_t)v->step;
        const ptrdiff_t shift = (ptrdiff_t)d->dx * (ptrdiff_t)channels;
        v->starts[lane] = mirrored ? (ptrdiff_t)count - shift - (ptrdiff_t)v->step : shift;
        v->reaches[lane] = absolute(d->dx) * channels + VIEW_SLACK;
        v->turned[lane] = d->mirrored && !turns;
        for (size_t i = 0; i < 16; i++)
            v->places[lane % 4][lane / 4 * 16 + (int)i] = (uint8_t)(mirrored ? mirrored_place(v, i) : i);
        find_inside(inside, v, lane);
        v->inner_begin = inside[0] > v->inner_begin ? inside[0] : v->inner_begin;
        v->inner_end = inside[1] < v->inner_end ? inside[1] : v->inner_end;
        v->holes[lane][0] = 0;
        v->holes[lane][1] = inside[0];
        move_hole(v, lane, 0, 0);
        v->holes[lane][0] = inside[1];
        v->holes[lane][1] = count;
        move_hole(v, lane, 0, 0);
    }
    for (size_t i = 0; i < sizeof(bytes); i++) {
        const size_t half = i % 16 / 8, word = half * (sizeof(bytes) / 2) + i / 16 * 8 + i % 8;
        v->gains[word] = (int16_t)v->draws[i % LANES].gain;
        v->shifts[word] = (int16_t)v->draws[i % LANES].shift;
    }
}

/* For rows beside which lies no image, and for those whose pixels are too long for a block: they are turned here. */
__attribute__((noinline)) static const uint8_t *copy_row(const struct view *v, const uint8_t *source, int lane,
                                                         int32_t turned)
{
    const size_t channels = (size_t)v->rules->channels, width = (size_t)v->rules->width, count = width * channels;
    uint8_t *row = v->scratch + (size_t)lane * view_scratch_bytes(count, 1) + count + VIEW_SLACK;
    if (turned)
        for (size_t w = 0; w < width; w++)
            __builtin_memcpy(row + w * channels, source + (width - 1 - w) * channels, channels);
    else
        __builtin_memcpy(row, source, count);
    return row;
}

/* A lane's hole in row h: all of a row outside the image, what is erased of others. Returns whether there is one. */
INLINE int32_t find_hole(struct view *v, const struct pixel_reader *r, int lane, int32_t h, int32_t outside)
{
    const struct draw *d = &v->draws[lane];
    const size_t channels = (size_t)v->rules->channels;
    size_t begin = 0, end = 0;
    if (outside) {
        end = r->count;
    } else if (h >= d->top && h < d->bottom) {
        begin = (size_t)d->left * channels;
        end = (size_t)d->right * channels;
    }
    if (begin != v->holes[lane][0] || end != v->holes[lane][1])
        move_hole(v, lane, begin, end);
    return begin < end;
}

/* Where each lane's first block of row h lies, and the row to fetch meanwhile. Returns whether any lane has a hole. */
INLINE int32_t find_lines(const uint8_t **lines, const uint8_t **ahead, struct view *v, const struct pixel_reader *r,
                          int32_t h)
{
    const size_t count = r->count;
    int32_t holes = 0;
    for (int lane = 0; lane < LANES; lane++) {
        const int32_t at = h + v->draws[lane].dy, outside = at < 0 || at >= r->height;
        const int32_t row = outside ? r->height / 2 : at, next = row + ROWS_AHEAD < r->height ? row + ROWS_AHEAD : row;
        const size_t before = (size_t)row * count, after = (size_t)(r->height - 1 - row) * count;
        const uint8_t *source = r->samples[lane] + before;
        holes |= find_hole(v, r, lane, h, outside);
        if (before < v->reaches[lane] || after < v->reaches[lane] || v->turned[lane])
            source = copy_row(v, source, lane, v->turned[lane]);
        lines[lane] = source + v->starts[lane];
        ahead[lane] = r->samples[lane] + (size_t)next * count;
    }
    return holes;
}

INLINE void jitter_block(bytes *block, const struct view *v)
{
#if defined(multiply_high)
    const bytes half = (bytes)((words){0} + (int16_t)0x8080);
    const words low_gain = (words)load_bytes(v->gains, 0), high_gain = (words)load_bytes(v->gains, 1);
    const words low_shift = (words)load_bytes(v->shifts, 0), high_shift = (words)load_bytes(v->shifts, 1);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        block[i] = pack(multiply_high((words)unpack_low(half, block[i]), low_gain) + low_shift,
                        multiply_high((words)unpack_high(half, block[i]), high_gain) + high_shift);
#else
    uint8_t *byte = (uint8_t *)block;
    for (size_t i = 0; i < 4 * sizeof(bytes); i++) {
        const struct draw *d = &v->draws[i % LANES];
        const int32_t value = ((byte[i] * 256 + 128) * d->gain >> 16) + d->shift;
        byte[i] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
    }
#endif
}

INLINE void fill_block(bytes *block, const struct view *v, size_t x, bytes fill)
{
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const bytes keep = load_bytes(v->keep + x * LANES, (size_t)i);
        block[i] = (block[i] & keep) | (fill & ~keep);
    }
}

/* Row h of all lanes as drawn. */
static void transpose_view(int8_t *to, const struct pixel_reader *r, int32_t h)
{
    struct view *v = r->view;
    const uint8_t *lines[LANES], *ahead[LANES];
    const int32_t holes = find_lines(lines, ahead, v, r, h);
    const int32_t mirrors = v->mirrors, jitters = v->jitters;
    const size_t count = r->count, step = v->step, inner_begin = v->inner_begin, inner_end = v->inner_end;
    size_t fetched = 0;
    const bytes fill = (bytes)((words){0} + (int16_t)(v->rules->fill * 0x101));
    for (size_t x = 0; x < count; x += step, to += step * LANES) {
        if (x >= fetched) {
            for (int lane = 0; lane < LANES; lane++)
                __builtin_prefetch(ahead[lane] + fetched, 0, 2);
            fetched += CACHE_LINE;
        }
        bytes block[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            block[i] = pieces(lines, i, 0);
        if (mirrors) {
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                block[i] = select_bytes(block[i], load_bytes(v->places[i], 0));
        }
        for (int lane = 0; lane < LANES; lane++)
            lines[lane] += v->hops[lane];
        unpack_block(block);
        if (jitters)
            jitter_block(block, v);
        if (holes || x < inner_begin || x + 16 > inner_end)
            fill_block(block, v, x, fill);
        store_block(to, block);
    }
}
