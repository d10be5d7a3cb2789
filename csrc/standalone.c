/*
 * standalone.c - one layer, or the augmentation, alone on ordinary arrays, for tests, feature maps and measurements.
 *
 * Samples are packed into lanes, go through the very functions that the step calls, and are unpacked. Clarity over speed:
 * one thread, memory from the heap.
 */
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "loss_sample.h"

/* Samples first ... of an (n, H, W, C) array into lanes; the last sample stands in for lanes past the end. */
static void pack(const struct tensor *t, const float *array, int64_t first, int64_t n, int32_t lanes)
{
    const size_t row = (size_t)t->width * (size_t)t->channels, sample = row * (size_t)t->height;
    for (int32_t lane = 0; lane < lanes; lane++) {
        const float *from = array + (size_t)(first + lane < n ? first + lane : n - 1) * sample;
        for (int32_t h = 0; h < t->height; h++)
            for (size_t i = 0; i < row; i++)
                t->data[(tensor_at(t, h) + i) * (size_t)lanes + (size_t)lane] = from[(size_t)h * row + i];
    }
}

/* The same for gradients, of which lanes past the end have none. */
static void pack_gradient(const struct tensor *t, const float *array, int64_t first, int64_t n, int32_t lanes)
{
    pack(t, array, first, n, lanes);
    for (size_t i = 0; i < tensor_vectors(t); i++)
        for (int32_t lane = 0; lane < lanes; lane++)
            if (first + lane >= n)
                t->data[i * (size_t)lanes + (size_t)lane] = 0.0f;
}

static void unpack(float *array, const struct tensor *t, int64_t first, int64_t n, int32_t lanes)
{
    const size_t row = (size_t)t->width * (size_t)t->channels, sample = row * (size_t)t->height;
    for (int32_t lane = 0; lane < lanes && first + lane < n; lane++)
        for (int32_t h = 0; h < t->height; h++)
            for (size_t i = 0; i < row; i++)
                array[(size_t)(first + lane) * sample + (size_t)h * row + i] =
                    t->data[(tensor_at(t, h) + i) * (size_t)lanes + (size_t)lane];
}

int32_t lenet_layer_forward(float *y, const float *x, const float *parameters, int64_t n,
                            const struct lenet_layer *layer, int32_t isa)
{
    struct bench b;
    int32_t result = open_bench(&b, layer, isa);
    for (int64_t first = 0; result == 0 && first < n; first += b.k->lanes) {
        pack(&b.x, x, first, n, b.k->lanes);
        layer_forward(b.k, layer, &b.y, &b.x, parameters, &b.work);
        unpack(y, &b.y, first, n, b.k->lanes);
    }
    close_bench(&b);
    return result;
}

/* One group's gradients, its parameters' in b->gradient. */
static void backward_group(struct bench *b, const struct lenet_layer *layer, float *dx, const float *dy,
                           const float *x, const float *y, const float *parameters, int64_t first, int64_t n)
{
    const int32_t lanes = b->k->lanes, parts = LENET_GROUP / lanes;
    const size_t count = layer_sums(layer);
    const int64_t end = first + LENET_GROUP < n ? first + LENET_GROUP : n;
    memset(b->sums, 0, count * (size_t)parts * sizeof(float));
    for (int32_t part = 0; part < parts && first + part * lanes < end; part++) {
        const int64_t start = first + part * lanes;
        pack_gradient(&b->dy, dy, start, end, lanes);
        if (x)
            pack(&b->x, x, start, end, lanes);
        if (y)
            pack(&b->y, y, start, end, lanes);
        if (count && x) {
            float *sums = b->sums + (layer_sums_lanes(layer) ? (size_t)part * count : 0);
            layer_backward_parameters(b->k, layer, sums, &b->dy, &b->x, part == 0, &b->work);
        }
        if (dx) {
            layer_backward_input(b->k, layer, &b->dx, &b->dy, &b->x, &b->y, parameters, &b->work);
            unpack(dx, &b->dx, start, end, lanes);
        }
    }
    if (layer_sums_lanes(layer))
        add_parts(b->sums, count, count, parts);
    layer_finish(b->gradient, b->sums, layer);
}

int32_t lenet_layer_backward(float *dx, float *dparameters, const float *dy, const float *x, const float *y,
                             const float *parameters, int64_t n, const struct lenet_layer *layer, int32_t isa)
{
    struct bench b;
    const size_t count = dparameters ? layer_parameters(layer) : 0;
    int32_t result = open_bench(&b, layer, isa);
    double *totals = calloc(count + 1, sizeof(double));
    if (!totals)
        result = -1;
    for (int64_t first = 0; result == 0 && first < n; first += LENET_GROUP) {
        backward_group(&b, layer, dx, dy, x, y, parameters, first, n);
        for (size_t i = 0; i < count; i++)
            totals[i] += (double)b.gradient[i];
    }
    for (size_t i = 0; result == 0 && i < count; i++)
        dparameters[i] = (float)totals[i];
    free(totals);
    close_bench(&b);
    return result;
}

int32_t lenet_softmax_cross_entropy(float *loss, float *dlogits, const float *logits, const int32_t *labels,
                                    const struct lenet_target *targets, int64_t n, int32_t classes, int32_t isa)
{
    const struct lane_kernels *k = lenet_kernels(isa);
    struct tensor z = new_tensor(1, 1, classes, 0, k->lanes), p = new_tensor(1, 1, classes, 0, k->lanes);
    float *sums = allocate((size_t)k->lanes), *maxima = allocate((size_t)k->lanes);
    int32_t result = z.data && p.data && sums && maxima ? 0 : -1;
    for (int64_t first = 0; result == 0 && first < n; first += k->lanes) {
        pack(&z, logits, first, n, k->lanes);
        k->softmax(p.data, sums, maxima, z.data, (size_t)classes);
        unpack(dlogits, &p, first, n, k->lanes);
        for (int32_t lane = 0; lane < k->lanes && first + lane < n; lane++) {
            const int64_t i = first + lane, row = i * classes;
            loss[i] = (float)sample_loss(sums[lane], maxima[lane], logits + row, 1, classes, labels[i], targets);
            sample_gradient(dlogits + row, 1, classes, labels[i], targets);
        }
    }
    free(z.data);
    free(p.data);
    free(sums);
    free(maxima);
    return result;
}

/* Reads n images row by row, as many side by side as there are lanes. */
static void read_views(uint8_t *out, const uintptr_t *images, const int64_t *samples, int64_t n,
                       const struct lane_kernels *k, struct pixel_reader *reader, const uint8_t **addresses)
{
    const size_t lanes = (size_t)k->lanes, image_bytes = (size_t)reader->height * reader->count;
    for (int64_t first = 0; first < n; first += k->lanes) {
        for (int64_t lane = 0; lane < k->lanes; lane++) {
            const int64_t i = first + lane < n ? first + lane : first;
            addresses[lane] = (const uint8_t *)images[i];
            reader->view->draws[lane] = draw_sample(reader->view->rules, samples[i], addresses[lane]);
        }
        k->open_view(reader->view);
        for (int32_t h = 0; h < reader->height; h++) {
            k->transpose_row(reader, h);
            const int8_t *row = reader_row(reader, h);
            for (size_t lane = 0; lane < lanes && first + (int64_t)lane < n; lane++)
                for (size_t x = 0; x < reader->count; x++)
                    out[((size_t)first + lane) * image_bytes + (size_t)h * reader->count + x] =
                        (uint8_t)(row[x * lanes + lane] + 128);
        }
    }
}

int32_t lenet_augment(uint8_t *out, const uintptr_t *images, const int64_t *samples, int64_t n,
                      const struct lenet_augmentation *rules, int32_t isa)
{
    const struct lane_kernels *k = lenet_kernels(isa);
    const size_t lanes = (size_t)k->lanes, count = (size_t)rules->width * (size_t)rules->channels;
    const uint8_t *addresses[LENET_GROUP];
    struct view view = {.rules = rules, .keep = malloc(view_keep_bytes(count, lanes)),
                        .scratch = calloc(view_scratch_bytes(count, lanes), 1)};
    struct pixel_reader reader = {.samples = addresses, .view = &view, .lanes = k->lanes, .height = rules->height,
                                  .count = count};
    reader.pixels = malloc(reader_bytes(&reader));
    const int32_t result = view.keep && view.scratch && reader.pixels ? 0 : -1;
    if (result == 0)
        read_views(out, images, samples, n, k, &reader, addresses);
    free(view.keep);
    free(view.scratch);
    free(reader.pixels);
    return result;
}
