/*
 * loss.h - softmax, 16 samples side by side.
 *
 *     p[j] = exp(z[j] - m) / s,   m = max z,   s = sum over j of exp(z[j] - m)
 *
 * Taking the maximum off changes nothing in exact arithmetic and keeps exp from overflowing however large the
 * logits are. The loss, log s + m - z[label], and the gradient p - one-hot are finished sample by sample in
 * loss_sample.c, where each sample has its own label. NaN logits give NaN.
 */
static void softmax(float *probabilities, float *sums, float *maxima, const float *logits, size_t classes)
{
    vec best = load(logits, 0);
    for (size_t j = 1; j < classes; j++) {
        vec z = load(logits, j);
        best = blend((z > best) | (z != z), z, best);
    }
    vec sum = splat(0.0f);
    for (size_t j = 0; j < classes; j++) {
        vec e = vec_exp(load(logits, j) - best);
        store(probabilities, j, e);
        sum += e;
    }
    for (size_t j = 0; j < classes; j++)
        store(probabilities, j, load(probabilities, j) / sum);
    store(sums, 0, sum);
    store(maxima, 0, best);
}
