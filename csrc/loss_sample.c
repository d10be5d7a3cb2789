/*
 * loss_sample.c - what a sample's logits mean for its own label.
 *
 * One logarithm a sample, in double and of our own: the C library's may differ from machine to machine in the last bit.
 * With sum = m 2^e, 1/sqrt(2) <= m < sqrt(2), and f = (m - 1) / (m + 1):
 *
 *     log(sum) = e ln 2 + 2 (f + f^3 / 3 + f^5 / 5 + ...),    |f| < 0.1716, twelve terms for 2^-53
 */
#include <math.h>
#include <string.h>

#include "loss_sample.h"

static double logarithm(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    int32_t exponent = (int32_t)(bits >> 52) - 1023;
    bits = (bits & UINT64_C(0xfffffffffffff)) | UINT64_C(0x3ff0000000000000);
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        exponent++;
    }
    double f = (m - 1.0) / (m + 1.0), square = f * f, sum = 0.0;
    for (int32_t n = 23; n > 0; n -= 2)
        sum = sum * square + 1.0 / n;
    return exponent * 0.69314718055994531 + 2.0 * f * sum;
}

double cross_entropy(float sum, float maximum, float logit)
{
    if (!(isfinite(sum) && isfinite(maximum) && isfinite(logit)))
        return NAN;
    return logarithm(sum) + ((double)maximum - (double)logit);
}

int32_t classes_ahead(const float *logits, size_t stride, int32_t classes, int32_t label)
{
    const float own = logits[(size_t)label * stride];
    int32_t ahead = 0;
    if (own != own)
        return classes;
    for (int32_t j = 0; j < classes; j++) {
        const float z = logits[(size_t)j * stride];
        ahead += j != label && !(z < own || (z == own && j > label));
    }
    return ahead;
}
