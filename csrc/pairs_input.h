/*
 * pairs_input.h - the gradient of a convolution's input by minimal filtering; see pairs.h and conv_input.h.
 *
 * A block is P pairs of pixels of one phase x Q input channels, all of whose kernel columns meet outputs. Like a block of
 * pairs_forward.h it takes the four sums one after the other, over kernel rows, products and output channels.
 */

struct range {
    size_t first, end;
};

/* The convolution of dy that makes dx. */
INLINE struct conv_shape turned(const struct conv_shape s)
{
    return (struct conv_shape){s.kernel_height, s.kernel_width, 1, s.out_channels, s.channels, 0, s.out_channels};
}

/* Weights of one phase among those that transform_input_weights makes. */
INLINE size_t paired_phase(const struct conv_shape s)
{
    const struct pattern *pattern = find_pattern(input_taps((int32_t)s.kernel_width, (int32_t)s.stride), 1,
                                                 (int32_t)s.out_channels);
    return pattern ? (size_t)pattern->count * s.kernel_height * s.channels * s.out_channels : 0;
}

/* One of the four sums. dy is the first output column of the first pair's window, in the output row that kernel row kh meets. */
INLINE void input_products(float *to, const float *dy, size_t dy_pitch, const float *weight, size_t kh, struct range down,
                           const struct pattern *pattern, const int32_t which, const struct conv_shape s, const int P,
                           const int Q)
{
    vec sum[CHAINS];
#pragma GCC unroll 24
    for (int i = 0; i < P * Q; i++)
        sum[i] = splat(0.0f);
    for (size_t j = down.first; j < down.end; j++) {
        const float *row = dy - j * dy_pitch * LANES;
#define PRODUCT(i) \
        if (i < pattern->count && pattern->products[i].sum == which) \
            add_product(sum, row, 0, weight + product_place(pattern, s.kernel_height, kh + j * s.stride, i) * s.channels * \
                        s.out_channels, pattern->products[i], turned(s), P, Q, 0);
        PRODUCT(0) PRODUCT(1) PRODUCT(2) PRODUCT(3) PRODUCT(4) PRODUCT(5) PRODUCT(6) PRODUCT(7)
#undef PRODUCT
    }
#pragma GCC unroll 24
    for (int i = 0; i < P * Q; i++)
        store(to, (size_t)i, sum[i]);
}

INLINE void input_pairs_block(float *dx, const float *dy, size_t dy_pitch, const float *weight, size_t kh, struct range down,
                              const struct pattern *pattern, const struct conv_shape s, const int P, const int Q)
{
    float sums[PAIR_SUMS][CHAINS * LANES] __attribute__((aligned(64)));
    const int has_minus = products_of(pattern, MINUS) > 0;
    input_products(sums[FIRST], dy, dy_pitch, weight, kh, down, pattern, FIRST, s, P, Q);
    input_products(sums[PLUS], dy, dy_pitch, weight, kh, down, pattern, PLUS, s, P, Q);
    if (has_minus)
        input_products(sums[MINUS], dy, dy_pitch, weight, kh, down, pattern, MINUS, s, P, Q);
    input_products(sums[SECOND], dy, dy_pitch, weight, kh, down, pattern, SECOND, s, P, Q);
    add_pair_sums(dx, s.hop, sums, has_minus, P, Q, 1);
}

/* Some pairs of a shape, all channels; a function of its own as in pairs_forward.h. */
typedef void input_pairs_function(float *dx, const float *dy, size_t dy_pitch, const float *weight, size_t kh,
                                  struct range down);

#define INPUT_PAIRS_FUNCTION(NAME, SIZE, K, S, I, O) \
    __attribute__((noinline)) static void NAME(float *dx, const float *dy, size_t dy_pitch, const float *weight, size_t kh, \
                                               struct range down) \
    { \
        const struct pattern *const pattern = find_pattern(input_taps(K, S), 1, O); \
        const size_t Q = (size_t)block_channels(I); \
        for (size_t ci = 0; pattern && ci + Q <= (I); ci += Q) \
            input_pairs_block(dx + ci * LANES, dy, dy_pitch, weight + ci, kh, down, pattern, conv_shape(K, S, I, O), SIZE, \
                              block_channels(I)); \
    }

/* As many as there are registers for, 2, and 1; all NULL where there is no pattern. */
struct input_pairs {
    input_pairs_function *full, *two, *one;
};
