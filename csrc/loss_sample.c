/*
 * loss_sample.c - what a sample's logits mean for its own label.
 *
 * One logarithm a sample, in double and of our own: the C library's may differ from machine to machine in the last bit.
 * With sum = m 2^e, 1/sqrt(2) <= m < sqrt(2), and f = (m - 1) / (m + 1):
 *
 *     log(sum) = e ln 2 + 2 (f + f^3 / 3 + f^5 / 5 + ...),    |f| < 0.1716, twelve terms for 2^-53
 *
 * With targets t (label smoothing and class weights), p the softmax and -log p[j] = log(sum) + maximum - z[j]:
 *
 *     loss = sum over j of t[j] (-log p[j]),    dloss / dz[j] = mass p[j] - t[j],    mass = sum over j of t[j]
 *     t[j] = share[j] + (j == label ? own[j] : 0)
 *
 * Without, t is 1 for the label and 0 elsewhere, and the same formulas give the plain loss to the last bit. All of it is
 * scalar code without contraction, compiled once: the same bits whatever the width of the vectors.
 */
#include <math.h>
#include <string.h>

#include "loss_sample.h"

#include "lenet.h"

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

double sample_loss(float sum, float maximum, const float *logits, size_t stride, int32_t classes, int32_t label,
                   const struct lenet_target *targets)
{
    const float logit = logits[(size_t)label * stride];
    if (!(isfinite(sum) && isfinite(maximum) && isfinite(logit)))
        return NAN;
    const double log_sum = logarithm(sum), plain = log_sum + ((double)maximum - (double)logit);
    if (!targets)
        return plain;
    double loss = (double)targets[label].own * plain;
    for (int32_t j = 0; j < classes; j++)
        if (targets[j].share > 0.0f)  /* a class that nothing asks for may be infinitely far off */
            loss += (double)targets[j].share * (log_sum + ((double)maximum - (double)logits[(size_t)j * stride]));
    return loss;
}

void sample_gradient(float *probabilities, size_t stride, int32_t classes, int32_t label,
                     const struct lenet_target *targets)
{
    if (!targets) {
        probabilities[(size_t)label * stride] -= 1.0f;
        return;
    }
    const float mass = targets[label].mass;
    for (int32_t j = 0; j < classes; j++) {
        const float target = targets[j].share + (j == label ? targets[j].own : 0.0f);
        probabilities[(size_t)j * stride] = mass * probabilities[(size_t)j * stride] - target;
    }
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
