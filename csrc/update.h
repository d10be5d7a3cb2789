/*
 * update.h - from a step's totals to moved weights, in one pass.
 *
 *     g = totals * unit                            the gradient, in float64 until it is rounded once
 *     g = g * shrink                               where its norm was clipped
 *     decrease = rate * g + (weight_decay * rate) * p
 *     velocity = momentum * velocity - decrease
 *     p = p + velocity                             or, after Nesterov, p - decrease + momentum * velocity
 *
 * Every product and every sum is rounded to float32 in this order, element by element: the same bits on any machine and
 * for any number of threads. Nesterov's variant is the one of Sutskever et al. 2013.
 */

INLINE void descend_all(float *restrict parameters, float *restrict velocity, const int64_t *restrict totals, size_t count,
                        const struct lenet_descent *d, const int decays, const int shrinks, const int nesterov)
{
    const double unit = d->unit;
    const float rate = d->rate, momentum = d->momentum, decay = d->weight_decay * d->rate, shrink = d->shrink;
    for (size_t i = 0; i < count; i++) {
        float g = (float)((double)totals[i] * unit);
        if (shrinks)
            g *= shrink;
        float decrease = g * rate;
        if (decays)
            decrease += parameters[i] * decay;
        const float v = velocity[i] * momentum - decrease;
        velocity[i] = v;
        parameters[i] = nesterov ? (parameters[i] - decrease) + v * momentum : parameters[i] + v;
    }
}

static void descend(float *parameters, float *velocity, const int64_t *totals, size_t count, const struct lenet_descent *d)
{
    const int decays = d->weight_decay != 0.0f, shrinks = d->shrink != 1.0f;
    if (!decays && !shrinks && !d->nesterov)
        descend_all(parameters, velocity, totals, count, d, 0, 0, 0);
    else if (decays && shrinks && d->nesterov)
        descend_all(parameters, velocity, totals, count, d, 1, 1, 1);
    else
        descend_all(parameters, velocity, totals, count, d, decays, shrinks, d->nesterov);
}

#define SQUARE_CHAINS 8

/* Sum of the gradient's squares, in float64: chain j takes the elements j, j + 8, ...; the chains are added in order. */
static double sum_of_squares(const int64_t *totals, size_t count, double unit)
{
    double chains[SQUARE_CHAINS] = {0.0}, sum = 0.0;
    size_t i = 0;
    for (; i + SQUARE_CHAINS <= count; i += SQUARE_CHAINS)
#pragma GCC unroll 8
        for (size_t j = 0; j < SQUARE_CHAINS; j++) {
            const double g = (double)totals[i + j] * unit;
            chains[j] += g * g;
        }
    for (size_t j = 0; i + j < count; j++) {
        const double g = (double)totals[i + j] * unit;
        chains[j] += g * g;
    }
    for (size_t j = 0; j < SQUARE_CHAINS; j++)
        sum += chains[j];
    return sum;
}
