/*
 * activation.h - exp, tanh and the activations, element by element.
 *
 * Derivatives are taken from the OUTPUT y, which the step has at hand where the input is overwritten:
 *
 *     squash   1.7159 tanh(2x/3)         dy (2/3) (1.7159 - y^2 / 1.7159)
 *     sigmoid  1 / (1 + exp(-x))         dy y (1 - y)
 *     tanh                               dy (1 - y^2)
 *     relu     x > 0 ? x : 0             y > 0 ? dy : 0
 *     prelu    x > 0 ? x : 0.1 x         y > 0 ? dy : 0.1 dy
 *     elu      x > 0 ? x : 0.5 (e^x - 1) y > 0 ? dy : dy (y + 0.5)
 *
 * exp(x): x = n ln 2 + r with n whole and |r| <= ln(2)/2. Adding 1.5 * 2^23 to x / ln 2 leaves n in the low bits of
 * the sum. e^r - 1 = r + r^2 q(r), q a polynomial of degree 4 fitted to the smallest largest error, 1.4e-8 of
 * e^r - 1 (weighted least squares, weights raised where the error is large until it is level). exp is then 2^n (1 + p),
 * expm1 is 2^n p + (2^n - 1), which keeps its digits where the result is small, and tanh(a) = t / (t + 2) with
 * t = expm1(2a). exp takes n ln 2 off in two pieces, the first with so few bits that n times it is exact. expm1 does
 * without: where |n| is large enough for the difference to show, its result is close to -1 or tanh close to 1.
 * Errors against float64 are asserted over the whole range in tests/test_kernels_activation.py: at most 2 ulp for exp,
 * 4 for the others. NaN gives NaN, infinities their limits, denormals are kept.
 */

#define LOG2_E 1.44269504088896341f
#define LN2 0.693147180559945309f
#define LN2_HIGH 0.693145751953125f         /* 15 bits: n times it is exact for |n| < 512 */
#define LN2_LOW 1.42860682030941723212e-6f
#define ROUNDER 12582912.0f                 /* 1.5 * 2^23: adding it leaves no bits behind the point */

#define SQUASH_A 1.7159f
#define SQUASH_B 0.66666666666666667f
#define PRELU_SLOPE 0.1f
#define ELU_ALPHA 0.5f
#define ELU_HALVINGS 1  /* ELU_ALPHA is 1 / 2^this */

/* 2^n for whole n from -126 to 127. */
INLINE vec power_of_two(ivec n)
{
    return (vec)((n + 127) << 23);
}

/* e^r - 1 for |r| <= ln(2)/2. */
INLINE vec expm1_remainder(vec r)
{
    vec q = splat(1.3882488762e-3f);
    q = vec_fma(q, r, splat(8.3666915722e-3f));
    q = vec_fma(q, r, splat(4.1667205365e-2f));
    q = vec_fma(q, r, splat(1.6666542351e-1f));
    q = vec_fma(q, r, splat(4.9999998125e-1f));
    return vec_fma(r * r, q, r);
}

/* At most 2 ulp, denormal results included: 2^n is applied in two halves, neither of which leaves the range. */
INLINE vec vec_exp(vec x)
{
    x = blend(x < -104.0f, splat(-104.0f), x);
    x = blend(x > 89.0f, splat(89.0f), x);
    vec shifted = vec_fma(x, splat(LOG2_E), splat(ROUNDER));
    vec whole = shifted - splat(ROUNDER);
    vec r = vec_fma(whole, splat(-LN2_HIGH), x);
    r = vec_fma(whole, splat(-LN2_LOW), r);
    ivec n = (ivec)shifted - (ivec)splat(ROUNDER), half = n >> 1;
    return (expm1_remainder(r) + 1.0f) * power_of_two(half) * power_of_two(n - half);
}

/*
 * (e^x - 1) / 2^halvings for x from -80 to 80. The rounder carries the exponent's bias, so that shifting alone makes 2^n of its
 * bits; and less the halvings, so that they cost nothing.
 */
INLINE vec vec_expm1(vec x, const int halvings)
{
    const float rounder = ROUNDER + 127.0f - (float)halvings;
    vec shifted = vec_fma(x, splat(LOG2_E), splat(rounder));
    vec p = expm1_remainder(vec_fma(shifted - splat(rounder), splat(-LN2), x));
    vec scale = (vec)((ivec)shifted << 23);
    return vec_fma(scale, p, scale - 1.0f / (float)(1 << halvings));
}

INLINE vec magnitude(vec x)
{
    return (vec)((ivec)x & 0x7fffffff);
}

INLINE vec with_sign_of(vec x, vec sign)
{
    return (vec)((ivec)x | ((ivec)sign & (int32_t)0x80000000));
}

/* 1 / d for d from 1 to 2^100, without the division unit (16 cycles a vector). Taking the bits from a constant gives it
 * to 12 %; with e = d r - 1 the series r (1 - e + e^2) leaves an error of e^3, twice. */
INLINE vec reciprocal(vec d)
{
    vec r = (vec)(0x7ef311c3 - (ivec)d);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        vec e = vec_fma(d, r, splat(-1.0f));
        r = vec_fnma(vec_fnma(e, e, e), r, r);
    }
    return r;
}

/* scale * tanh(x), given 2|x| and x for its sign. tanh is 1 to 24 bits from 9.01 on. */
INLINE vec scaled_tanh(vec twice, vec x, const float scale)
{
    vec t = vec_expm1(vec_min(splat(20.0f), twice), 0);
    return with_sign_of(scale * t * reciprocal(t + 2.0f), x);
}

INLINE vec vec_sigmoid(vec x)
{
    vec e = vec_exp(-magnitude(x));  /* never overflows */
    return blend(x < 0.0f, e, splat(1.0f)) * reciprocal(e + 1.0f);
}

INLINE vec activate(vec x, int32_t name)
{
    switch (name) {
    case LENET_SQUASH: return scaled_tanh(magnitude(x) * (2.0f * SQUASH_B), x, SQUASH_A);
    case LENET_SIGMOID: return vec_sigmoid(x);
    case LENET_TANH: return scaled_tanh(magnitude(x) * 2.0f, x, 1.0f);
    case LENET_RELU: return blend(x <= 0.0f, splat(0.0f), x);  /* this way round NaN stays NaN */
    case LENET_PRELU: return blend(x <= 0.0f, PRELU_SLOPE * x, x);
    default: return blend(x <= 0.0f, vec_expm1(blend(x < -20.0f, splat(-20.0f), x), ELU_HALVINGS), x);
    }
}

INLINE vec derivative_times(vec dy, vec y, int32_t name)
{
    switch (name) {
    case LENET_SQUASH: return dy * vec_fma(y * y, splat(-SQUASH_B / SQUASH_A), splat(SQUASH_A * SQUASH_B));
    case LENET_SIGMOID: return dy * (y * (1.0f - y));
    case LENET_TANH: return dy * vec_fma(-y, y, splat(1.0f));
    case LENET_RELU: return blend(y > 0.0f, dy, splat(0.0f));
    case LENET_PRELU: return blend(y > 0.0f, dy, PRELU_SLOPE * dy);
    default: return blend(y > 0.0f, dy, dy * (y + ELU_ALPHA));
    }
}

INLINE void activate_all(float *y, const float *x, size_t vectors, int32_t name)
{
    for (size_t i = 0; i < vectors; i++)
        store(y, i, activate(load(x, i), name));
}

/* One loop for each name, so that the choice is made outside. */
static void activation_forward(float *y, const float *x, size_t vectors, int32_t name)
{
    switch (name) {
    case LENET_SQUASH: activate_all(y, x, vectors, LENET_SQUASH); break;
    case LENET_SIGMOID: activate_all(y, x, vectors, LENET_SIGMOID); break;
    case LENET_TANH: activate_all(y, x, vectors, LENET_TANH); break;
    case LENET_RELU: activate_all(y, x, vectors, LENET_RELU); break;
    case LENET_PRELU: activate_all(y, x, vectors, LENET_PRELU); break;
    default: activate_all(y, x, vectors, LENET_ELU); break;
    }
}

INLINE void derive_all(float *dx, const float *dy, const float *y, size_t vectors, int32_t name)
{
    for (size_t i = 0; i < vectors; i++)
        store(dx, i, derivative_times(load(dy, i), load(y, i), name));
}

static void activation_backward(float *dx, const float *dy, const float *y, size_t vectors, int32_t name)
{
    switch (name) {
    case LENET_SQUASH: derive_all(dx, dy, y, vectors, LENET_SQUASH); break;
    case LENET_SIGMOID: derive_all(dx, dy, y, vectors, LENET_SIGMOID); break;
    case LENET_TANH: derive_all(dx, dy, y, vectors, LENET_TANH); break;
    case LENET_RELU: derive_all(dx, dy, y, vectors, LENET_RELU); break;
    case LENET_PRELU: derive_all(dx, dy, y, vectors, LENET_PRELU); break;
    default: derive_all(dx, dy, y, vectors, LENET_ELU); break;
    }
}
