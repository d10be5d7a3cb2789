/*
 * augment.c - what is drawn for a sample.
 *
 * A draw follows from seed, epoch and the sample's number in the data set, whichever thread, rank or step works it.
 * The generator is Philox4x64-10 (Salmon et al. 2011): ten rounds of multiplication make 256 random bits of a counter.
 * The counter is (block, sample, STREAM, 0) and the key (seed, epoch), so the words are those of NumPy's
 *
 *     numpy.random.Philox(key=[seed, epoch], counter=[0, sample, STREAM, 0]).random_raw(DRAWN)
 *
 * Every word has one use: what is drawn for one kind of change does not depend on which others are on. All is integer
 * arithmetic, but for a square root, which IEEE 754 rounds alike everywhere.
 */
#include <math.h>

#include "kernels.h"

#define STREAM 1      /* 0 shuffles the shards (loader.py) */
#define MEAN_ROWS 16  /* rows that a mean is taken over at most */

enum word {
    MIRROR, SHIFT_ROWS, SHIFT_COLUMNS, BRIGHTNESS,
    CONTRAST, ERASE, AREA, RATIO,
    UPRIGHT, TOP, LEFT,
    DRAWN = 12
};

/* The upper half of the product; 64-bit machines and others by the same four multiplications of halves. */
static uint64_t multiply_upper(uint64_t a, uint64_t b)
{
    const uint64_t a1 = a >> 32, a0 = a & UINT32_MAX, b1 = b >> 32, b0 = b & UINT32_MAX;
    const uint64_t middle = a1 * b0 + (a0 * b0 >> 32);  /* can not overflow */
    return a1 * b1 + (middle >> 32) + ((a0 * b1 + (middle & UINT32_MAX)) >> 32);
}

static void philox(uint64_t *words, uint64_t block, uint64_t sample, uint64_t key0, uint64_t key1)
{
    uint64_t c0 = block, c1 = sample, c2 = STREAM, c3 = 0;
    for (int round = 0; round < 10; round++) {
        const uint64_t high0 = multiply_upper(UINT64_C(0xD2E7470EE14C6C93), c0);
        const uint64_t high2 = multiply_upper(UINT64_C(0xCA5A826395121157), c2);
        const uint64_t low0 = UINT64_C(0xD2E7470EE14C6C93) * c0, low2 = UINT64_C(0xCA5A826395121157) * c2;
        c0 = high2 ^ c1 ^ key0;
        c1 = low2;
        c2 = high0 ^ c3 ^ key1;
        c3 = low0;
        key0 += UINT64_C(0x9E3779B97F4A7C15);
        key1 += UINT64_C(0xBB67AE8584CAA73B);
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
}

/* 0 ... n - 1, each as likely to within 2^-32; n is at most 2^32. */
static int64_t below(uint64_t word, int64_t n)
{
    return (int64_t)((word >> 32) * (uint64_t)n >> 32);
}

/* -largest ... largest */
static int32_t around_zero(uint64_t word, int32_t largest)
{
    return (int32_t)below(word, 2 * (int64_t)largest + 1) - largest;
}

/* Whether an event of this probability, in units of 2^-16, happens. */
static int32_t happens(uint64_t word, int32_t probability)
{
    return below(word, 1 << 16) < probability;
}

static const uint8_t *mean_row(const struct lenet_augmentation *rules, const uint8_t *image, int32_t i, int32_t rows)
{
    const int64_t row = (2 * i + 1) * (int64_t)rules->height / (2 * rows);
    return image + (size_t)row * (size_t)rules->width * (size_t)rules->channels;
}

/* The image's mean, rounded down, over at most MEAN_ROWS rows, evenly spread: over all it would be a second pass. These
 * rows are the first that is read of an image: all are asked for before one is waited for. */
static int32_t mean(const struct lenet_augmentation *rules, const uint8_t *image)
{
    const size_t count = (size_t)rules->width * (size_t)rules->channels;
    const int32_t rows = rules->height < MEAN_ROWS ? rules->height : MEAN_ROWS;
    uint64_t total = 0;
    for (int32_t i = 0; i < rows; i++)
        for (size_t j = 0; j < count; j += CACHE_LINE)
            __builtin_prefetch(mean_row(rules, image, i, rows) + j, 0, 3);
    for (int32_t i = 0; i < rows; i++) {
        const uint8_t *row = mean_row(rules, image, i, rows);
        uint32_t sum = 0;
        for (size_t j = 0; j < count; j++)
            sum += row[j];
        total += sum;
    }
    return (int32_t)(total / ((uint64_t)rows * count));
}

/* brightness * (mean + contrast * (pixel - mean)), as one factor and one addend. */
static void draw_jitter(struct draw *draw, const uint64_t *words, const struct lenet_augmentation *rules,
                        const uint8_t *image)
{
    const int32_t brightness = 256 + around_zero(words[BRIGHTNESS], rules->brightness);
    const int32_t contrast = 256 + around_zero(words[CONTRAST], rules->contrast);
    draw->gain = (brightness * contrast + 128) >> 8;
    if (contrast != 256)
        draw->shift = (brightness * (256 - contrast) * mean(rules, image) + (1 << 15)) >> 16;
}

/* A rectangle of a drawn area and a drawn ratio of its sides, inside the image. */
static void draw_rectangle(struct draw *draw, const uint64_t *words, const struct lenet_augmentation *rules)
{
    const int64_t area = rules->least_area + below(words[AREA], (int64_t)rules->most_area - rules->least_area + 1);
    const int64_t ratio = (1 << 16) + below(words[RATIO], (int64_t)rules->most_ratio - (1 << 16) + 1);
    const int64_t side = (int64_t)(sqrt((double)(area * ratio)) / 256.0);
    const int64_t longer = side > 1 ? side : 1, shorter = area > longer ? area / longer : 1;
    const int32_t upright = happens(words[UPRIGHT], 1 << 15);
    const int64_t height = upright ? longer : shorter, width = upright ? shorter : longer;
    const int32_t rows = height < rules->height ? (int32_t)height : rules->height;
    const int32_t columns = width < rules->width ? (int32_t)width : rules->width;
    draw->top = (int32_t)below(words[TOP], (int64_t)rules->height - rows + 1);
    draw->left = (int32_t)below(words[LEFT], (int64_t)rules->width - columns + 1);
    draw->bottom = draw->top + rows;
    draw->right = draw->left + columns;
}

struct draw draw_sample(const struct lenet_augmentation *rules, int64_t sample, const uint8_t *image)
{
    struct draw draw = {.gain = 256};
    uint64_t words[DRAWN];
    for (uint64_t block = 0; block < DRAWN / 4; block++)
        philox(words + 4 * block, block + 1, (uint64_t)sample, rules->seed, rules->epoch);
    draw.mirrored = happens(words[MIRROR], rules->mirror);
    draw.dy = around_zero(words[SHIFT_ROWS], rules->padding_rows);
    draw.dx = around_zero(words[SHIFT_COLUMNS], rules->padding_columns);
    draw_jitter(&draw, words, rules, image);
    if (happens(words[ERASE], rules->erase))
        draw_rectangle(&draw, words, rules);
    return draw;
}
