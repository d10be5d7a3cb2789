/*
 * {{ about }}
 *
 * Values are float, (row, column, channel) with the channel running fastest. A weight is (kernel row, kernel column,
 * input channel, output channel), followed by a bias for each output channel.
 */
#include "{{ header }}"

#include <stdint.h>

struct window {
    int height, width, channels;             /* of the input */
    int out_height, out_width, out_channels;
    int kernel_height, kernel_width, stride, padding;
};

const char *const {{ name }}_class_names[{{ macro }}_CLASSES] = {
{% for text in classes %}
    {{ text }},
{% endfor %}
};
{% for array in arrays %}

static const float {{ array.name }}[{{ array.count }}] = {
{% for line in array.lines %}
    {{ line }}
{% endfor %}
};
{% endfor %}

/* Copy the pixels as numbers from {{ low }} (black) to {{ high }} (white). */
static void normalize(float *y, const unsigned char *image, int count)
{
    int i;
    for (i = 0; i < count; i++)
        y[i] = (float)image[i] * {{ scale }} + {{ offset }};
}
{% if 'conv' in used %}

/* Convolution; a dense layer is one whose kernel covers its whole input. */
static void conv(float *y, const float *x, const float *weight, struct window w)
{
    const float *bias = weight + w.kernel_height * w.kernel_width * w.channels * w.out_channels;
    int row, column, kh, kw, ci, co;
    for (row = 0; row < w.out_height; row++)
        for (column = 0; column < w.out_width; column++, y += w.out_channels) {
            for (co = 0; co < w.out_channels; co++)
                y[co] = bias[co];
            for (kh = 0; kh < w.kernel_height; kh++)
                for (kw = 0; kw < w.kernel_width; kw++) {
                    const int h = row * w.stride + kh - w.padding, v = column * w.stride + kw - w.padding;
                    const float *from = weight + (kh * w.kernel_width + kw) * w.channels * w.out_channels;
                    if (h < 0 || h >= w.height || v < 0 || v >= w.width)
                        continue;
                    for (ci = 0; ci < w.channels; ci++, from += w.out_channels) {
                        const float value = x[(h * w.width + v) * w.channels + ci];
                        for (co = 0; co < w.out_channels; co++)
                            y[co] += value * from[co];
                    }
                }
        }
}
{% endif %}
{% if 'average_pool' in used or 'subsample' in used %}

/* Mean of each window. */
static void average_pool(float *y, const float *x, struct window w)
{
    const float share = 1.0f / (float)(w.kernel_height * w.kernel_width);
    int row, column, kh, kw, c;
    for (row = 0; row < w.out_height; row++)
        for (column = 0; column < w.out_width; column++, y += w.channels)
            for (c = 0; c < w.channels; c++) {
                float sum = 0.0f;
                for (kh = 0; kh < w.kernel_height; kh++)
                    for (kw = 0; kw < w.kernel_width; kw++)
                        sum += x[((row * w.stride + kh) * w.width + column * w.stride + kw) * w.channels + c];
                y[c] = sum * share;
            }
}
{% endif %}
{% if 'subsample' in used %}

/* Trainable pooling: the mean of each window times a weight, plus a bias, one of each a channel. */
static void subsample(float *y, const float *x, const float *weight, struct window w)
{
    int i;
    average_pool(y, x, w);
    for (i = 0; i < w.out_height * w.out_width * w.channels; i++)
        y[i] = y[i] * weight[i % w.channels] + weight[w.channels + i % w.channels];
}
{% endif %}
{% if 'max_pool' in used %}

/* Maximum of each window. */
static void max_pool(float *y, const float *x, struct window w)
{
    int row, column, kh, kw, c;
    for (row = 0; row < w.out_height; row++)
        for (column = 0; column < w.out_width; column++, y += w.channels)
            for (c = 0; c < w.channels; c++) {
                y[c] = x[(row * w.stride * w.width + column * w.stride) * w.channels + c];
                for (kh = 0; kh < w.kernel_height; kh++)
                    for (kw = 0; kw < w.kernel_width; kw++) {
                        const int place = (row * w.stride + kh) * w.width + column * w.stride + kw;
                        if (x[place * w.channels + c] > y[c])
                            y[c] = x[place * w.channels + c];
                    }
            }
}
{% endif %}
{% if uses_exp %}

/*
 * exp(x) - 1 for x from -80 to 80: x = n ln 2 + r with |r| at most ln(2) / 2; e^r - 1 is a polynomial (coefficients of
 * Moshier's Cephes library) and 2^n the exponent of a float. ln 2 is taken off in two pieces to keep r exact.
 */
static float exp_minus_1(float x)
{
    const int n = (int)(x * 1.44269504f + (x < 0.0f ? -0.5f : 0.5f));
    const float r = x - (float)n * 0.693145752f - (float)n * 1.42860677e-6f;
    const float q = ((((1.98756915e-4f * r + 1.39819995e-3f) * r + 8.33345191e-3f) * r + 4.16657959e-2f) * r
                     + 1.66666655e-1f) * r + 0.5f;
    union { uint32_t bits; float value; } power;
    power.bits = (uint32_t)(n + 127) << 23;
    return power.value * (r * r * q + r) + (power.value - 1.0f);
}
{% endif %}
{% if uses_tanh %}

static float tanh_of(float x)
{
    const float size = x < 0.0f ? -x : x;
    const float t = exp_minus_1(size > 10.0f ? 20.0f : 2.0f * size);
    return x < 0.0f ? -t / (t + 2.0f) : t / (t + 2.0f);
}
{% endif %}
{% for activation in activations %}

static void {{ activation }}(float *y, int count)
{
    int i;
    for (i = 0; i < count; i++) {
        const float x = y[i];
{% if activation == 'squash' %}
        y[i] = 1.7159f * tanh_of(x * (2.0f / 3.0f));
{% elif activation == 'tanh_all' %}
        y[i] = tanh_of(x);
{% elif activation == 'sigmoid' %}
        const float e = exp_minus_1(x > 0.0f ? (x > 80.0f ? -80.0f : -x) : (x < -80.0f ? -80.0f : x)) + 1.0f;
        y[i] = (x > 0.0f ? 1.0f : e) / (1.0f + e);
{% elif activation == 'relu' %}
        y[i] = x > 0.0f ? x : 0.0f;
{% elif activation == 'prelu' %}
        y[i] = x > 0.0f ? x : 0.1f * x;
{% else %}
        y[i] = x > 0.0f ? x : 0.5f * exp_minus_1(x < -20.0f ? -20.0f : x);
{% endif %}
    }
}
{% endfor %}

void {{ name }}_logits(const unsigned char *image, float *logits, float *scratch)
{
    float *a = scratch;
{% if uses_second %}
    float *b = scratch + {{ first_buffer }};
{% endif %}
{% for window in windows %}
    static const struct window {{ window.name }}_window = { {{ window.numbers }} };
{% endfor %}
    normalize(a, image, {{ macro }}_BYTES);
{% for call in calls %}
    {{ call }};
{% endfor %}
}

int {{ name }}_best(const float *logits)
{
    int best = 0, i;
    for (i = 1; i < {{ macro }}_CLASSES; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* The answers for images of pseudo-random bytes, seeds 1, 2, ... */
static const float answers[{{ answers | length }}][{{ macro }}_CLASSES] = {
{% for answer in answers %}
    {
{% for line in answer %}
        {{ line }}
{% endfor %}
    },
{% endfor %}
};

int {{ name }}_self_test(unsigned char *image, float *scratch)
{
    float logits[{{ macro }}_CLASSES];
    int wrong = 0, seed, i;
    for (seed = 1; seed <= {{ answers | length }}; seed++) {
        uint32_t state = (uint32_t)seed;
        for (i = 0; i < {{ macro }}_BYTES; i++) {
            state = state * 1664525u + 1013904223u;
            image[i] = (unsigned char)(state >> 24);
        }
        {{ name }}_logits(image, logits, scratch);
        for (i = 0; i < {{ macro }}_CLASSES; i++) {
            const float difference = logits[i] - answers[seed - 1][i];
            const float size = answers[seed - 1][i] < 0.0f ? -answers[seed - 1][i] : answers[seed - 1][i];
            if (!(difference <= 1e-4f * (1.0f + size) && -difference <= 1e-4f * (1.0f + size)))
                wrong++;
        }
    }
    return wrong;
}
