/*
 * pixels.h - the uint8 image becomes the first layer's input as it is read.
 *
 *     row[i][lane] = pixel i of that sample * scale + offset        one fused multiply-add, so one rounding
 *
 * Sixteen images are sixteen address ranges; a vector needs the same pixel of each: a transposition of bytes.
 */
static void read_pixels(float *row, const uint8_t *const *samples, size_t first, size_t count, float scale,
                        float offset)
{
    for (size_t i = 0; i < count; i++) {
        ivec pixel = {0};
        for (int lane = 0; lane < LANES; lane++)
            pixel[lane] = samples[lane][first + i];
        vec v = __builtin_convertvector(pixel, vec);
        store(row, i, vec_fma(v, splat(scale), splat(offset)));
    }
}
