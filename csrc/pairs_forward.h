/*
 * pairs_forward.h - one output row of a convolution by minimal filtering; the mathematics is in pairs.h.
 *
 * A block is P pairs of output columns x Q output channels. It takes one of the four sums after the other, each like a block of
 * conv_forward.h: P inputs, here of two loads, and Q weights for P * Q multiplications. The sums of a block wait in the L1 cache.
 * Each is one chain in the order kh, product, ci; FIRST and SECOND begin with their output's bias.
 */

/* Column a of a pair's window, plus or minus column b, of channel c; `at` is the window's first input. */
INLINE vec pair_input(const void *row, size_t at, size_t c, const struct product p, size_t channels, const int bytes)
{
    const size_t a = at + (size_t)p.a * channels + c, b = at + (size_t)p.b * channels + c;
    if (bytes) {  /* differences of bytes are whole numbers: combined before they become floats */
        const ivec x = (ivec)widen((const int8_t *)row + a * LANES);
        if (p.sign == 0)
            return __builtin_convertvector(x, vec);
        const ivec other = (ivec)widen((const int8_t *)row + b * LANES);
        return __builtin_convertvector(p.sign > 0 ? x + other : x - other, vec);
    }
    if (p.sign == 0)
        return load(row, a);
    return p.sign > 0 ? load(row, a) + load(row, b) : load(row, a) - load(row, b);
}

/* Adds one product of one kernel row; returns the next one's weights. */
INLINE const float *add_product(vec *sum, const void *row, size_t x, const float *weight, const struct product product,
                                const struct conv_shape s, const int P, const int Q, const int bytes)
{
#pragma GCC unroll 3
    for (size_t c = 0; c < s.channels; c++, weight += s.out_channels) {
        vec in[WIDEST];
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) {
            in[p] = pair_input(row, x + 2 * (size_t)p * s.hop, c, product, s.channels, bytes);
            in_register(in[p]);
        }
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++) {
            vec w = splat(weight[q]);
#pragma GCC unroll 8
            for (int p = 0; p < P; p++)
                sum[p * Q + q] = vec_fma(in[p], w, sum[p * Q + q]);
        }
    }
    return weight;
}

/* One of the four sums of a block into `to`. bias is that of the first pair's y0 or y1, or NULL. */
INLINE const float *sum_products(float *to, const void *const *rows, size_t x, const float *weight, const float *bias,
                                 size_t bias_hop, const struct pattern *pattern, const int32_t which,
                                 const struct conv_shape s, const int P, const int Q, const int bytes)
{
    vec sum[CHAINS];
#pragma GCC unroll 8
    for (int p = 0; p < P; p++)
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++)
            sum[p * Q + q] = splat(bias ? bias[2 * (size_t)p * bias_hop + (size_t)q] : 0.0f);
    for (size_t kh = 0; kh < s.kernel_height; kh++) {
#define PRODUCT(i) \
        if (i < pattern->count && pattern->products[i].sum == which) \
            weight = add_product(sum, rows[kh], x, weight, pattern->products[i], s, P, Q, bytes);
        PRODUCT(0) PRODUCT(1) PRODUCT(2) PRODUCT(3) PRODUCT(4) PRODUCT(5) PRODUCT(6) PRODUCT(7)
#undef PRODUCT
    }
#pragma GCC unroll 24
    for (int i = 0; i < P * Q; i++)
        store(to, (size_t)i, sum[i]);
    return weight;
}

/* Outputs, `hop` vectors apart, from a block's four sums. */
INLINE void add_pair_sums(float *y, size_t hop, float sums[PAIR_SUMS][CHAINS * LANES], const int has_minus, const int P,
                          const int Q, const int both)
{
#pragma GCC unroll 8
    for (int p = 0; p < P; p++)
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++) {
            const size_t i = (size_t)(p * Q + q);
            vec first = load(sums[FIRST], i) + load(sums[PLUS], i);
            if (has_minus)
                first += load(sums[MINUS], i);
            store(y, 2 * (size_t)p * hop + (size_t)q, first);
            if (!both)
                continue;
            vec second = load(sums[SECOND], i) + load(sums[PLUS], i);
            if (has_minus)
                second -= load(sums[MINUS], i);
            store(y, (2 * (size_t)p + 1) * hop + (size_t)q, second);
        }
}

/* P pairs x Q channels; of a single column at the row's end (`both` is 0) the first of the pair alone. */
INLINE void pairs_block(float *y, const void *const *rows, size_t x, const float *weight, const float *bias, size_t bias_hop,
                        const struct pattern *pattern, const struct conv_shape s, const int P, const int Q, const int bytes,
                        const int both)
{
    float sums[PAIR_SUMS][CHAINS * LANES] __attribute__((aligned(64)));
    const int has_minus = products_of(pattern, MINUS) > 0;
    weight = sum_products(sums[FIRST], rows, x, weight, bias, bias_hop, pattern, FIRST, s, P, Q, bytes);
    weight = sum_products(sums[PLUS], rows, x, weight, NULL, 0, pattern, PLUS, s, P, Q, bytes);
    if (has_minus)
        weight = sum_products(sums[MINUS], rows, x, weight, NULL, 0, pattern, MINUS, s, P, Q, bytes);
    if (both)
        sum_products(sums[SECOND], rows, x, weight, bias + bias_hop, bias_hop, pattern, SECOND, s, P, Q, bytes);
    add_pair_sums(y, s.out_channels, sums, has_minus, P, Q, both);
}

/* All channels of P pairs, Q at a time: a shape with a pattern has a multiple of Q. */
INLINE void pairs_columns(float *y, const void *const *rows, size_t x, const float *weight, const float *bias,
                          const struct pattern *pattern, const struct conv_shape s, const int P, const int Q,
                          const int bytes, const int both)
{
    const size_t bias_hop = bytes ? s.out_channels : 0;
    for (size_t co = 0; co < s.out_channels; co += (size_t)Q)
        pairs_block(y + co * LANES, rows, x, weight + co, bias + co, bias_hop, pattern, s, P, Q, bytes, both);
}

/* Some pairs of a shape: a function of its own, since a compiler that sees several in one spills their sums. */
typedef void pairs_function(float *y, const void *const *rows, size_t x, const float *weight, const float *bias);

#define PAIRS_FUNCTION(NAME, SIZE, BOTH, K, S, I, O, BYTES) \
    __attribute__((noinline)) static void NAME(float *y, const void *const *rows, size_t x, const float *weight, \
                                               const float *bias) \
    { \
        const struct pattern *const pattern = find_pattern(K, S, I); \
        if (pattern) \
            pairs_columns(y, rows, x, weight, bias, pattern, conv_shape(K, S, I, O), SIZE, block_channels(O), BYTES, BOTH); \
    }

/* As many as there are registers for, 4, 2, 1, and a column alone. */
struct pairs_functions {
    pairs_function *full, *four, *two, *one, *half;
};

/* A row of `width` output columns, as many pairs at a time as possible. P: those of `full`. */
INLINE void pairs_row(float *y, const void *const *rows, const float *weight, const float *bias, size_t width,
                      const struct pairs_functions pairs, const struct conv_shape s, const int P, const int bytes)
{
    const size_t bias_hop = bytes ? s.out_channels : 0;
    size_t ow = 0;
#define PAIRS(function) function(y + ow * s.out_channels * LANES, rows, ow * s.hop, weight, bias + ow * bias_hop)
    for (; ow + 2 * (size_t)P <= width; ow += 2 * (size_t)P)
        PAIRS(pairs.full);
    for (; P > 4 && ow + 8 <= width; ow += 8)
        PAIRS(pairs.four);
    for (; P > 2 && ow + 4 <= width; ow += 4)
        PAIRS(pairs.two);
    for (; ow + 2 <= width; ow += 2)
        PAIRS(pairs.one);
    if (ow < width)
        PAIRS(pairs.half);
#undef PAIRS
}
