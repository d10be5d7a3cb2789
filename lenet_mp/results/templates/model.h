/*
 * {{ about }}
 *
 * C99 without any library: no allocation, no state, safe for any number of threads with a scratch each.
 *
 *     static float scratch[{{ macro }}_SCRATCH];
 *     float logits[{{ macro }}_CLASSES];
 *     {{ name }}_logits(image, logits, scratch);
 *     puts({{ name }}_class_names[{{ name }}_best(logits)]);
 *
 * An image is {{ macro }}_HEIGHT rows of {{ macro }}_WIDTH pixels of {{ macro }}_CHANNELS bytes ({{ order }}).
 */
#ifndef {{ macro }}_H
#define {{ macro }}_H

#define {{ macro }}_HEIGHT {{ shape[0] }}
#define {{ macro }}_WIDTH {{ shape[1] }}
#define {{ macro }}_CHANNELS {{ shape[2] }}
#define {{ macro }}_BYTES ({{ macro }}_HEIGHT * {{ macro }}_WIDTH * {{ macro }}_CHANNELS)
#define {{ macro }}_CLASSES {{ classes | length }}
#define {{ macro }}_SCRATCH {{ scratch }} /* floats */

#ifdef __cplusplus
extern "C" {
#endif

extern const char *const {{ name }}_class_names[{{ macro }}_CLASSES];

/* Logits of an image; the largest belongs to the most likely class. */
void {{ name }}_logits(const unsigned char *image, float *logits, float *scratch);

/* The class of the largest logit; of equals the first. */
int {{ name }}_best(const float *logits);

/* 0 if this code gives the answers of the program that wrote it, else how many are wrong; overwrites image. */
int {{ name }}_self_test(unsigned char *image, float *scratch);

#ifdef __cplusplus
}
#endif
#endif
