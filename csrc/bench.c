/*
 * bench.c - memory for one layer alone, and the two measurements that a throughput is compared with.
 *
 * A layer is measured on one part in warm caches and scaled to a group. In a step it is a little slower, where data
 * comes from further away, or faster, where it runs in bands (front.c).
 */
#include <stdlib.h>
#include <string.h>

#include <omp.h>

#include "bench.h"

float *allocate(size_t floats)
{
    size_t bytes = (floats * sizeof(float) + 63) / 64 * 64 + 64;
    float *p = aligned_alloc(64, bytes);
    if (p)
        memset(p, 0, bytes);
    return p;
}

struct tensor new_tensor(int32_t height, int32_t width, int32_t channels, int32_t padding, int32_t lanes)
{
    struct tensor t = {NULL, height, width, channels, padding};
    t.data = allocate(tensor_vectors(&t) * (size_t)lanes);
    return t;
}

int32_t open_bench(struct bench *b, const struct lenet_layer *layer, int32_t isa)
{
    b->k = lenet_kernels(isa);
    const int32_t lanes = b->k->lanes, parts = LENET_GROUP / lanes;
    b->x = new_tensor(layer->height, layer->width, layer->channels, layer->padding, lanes);
    b->dx = new_tensor(layer->height, layer->width, layer->channels, 0, lanes);
    b->y = new_tensor(layer->out_height, layer->out_width, layer->out_channels, 0, lanes);
    b->dy = new_tensor(layer->out_height, layer->out_width, layer->out_channels, 0, lanes);
    b->work.rows = malloc((size_t)layer->kernel_height * sizeof(void *));
    b->work.lanes = allocate(layer_lanes(layer, lanes));
    b->work.weights = allocate(layer_transformed(layer));
    b->sums = allocate(layer_sums(layer) * (size_t)parts);
    b->gradient = allocate(layer_parameters(layer));
    return b->x.data && b->dx.data && b->y.data && b->dy.data && b->work.rows && b->work.lanes && b->work.weights &&
                   b->sums && b->gradient
               ? 0
               : -1;
}

void close_bench(struct bench *b)
{
    free(b->x.data);
    free(b->dx.data);
    free(b->y.data);
    free(b->dy.data);
    free((void *)b->work.rows);
    free(b->work.lanes);
    free(b->work.weights);
    free(b->sums);
    free(b->gradient);
}

#define PEAK_SECONDS 5e-3
#define LAYER_SECONDS 2e-3

double lenet_fma_rate(int32_t threads, int32_t isa)
{
    const struct lane_kernels *k = lenet_kernels(isa);
    const size_t rounds = 10000;
    const double operations = 2.0 * k->lanes * k->chains * (double)rounds;
    double rate = 0.0;
#pragma omp parallel num_threads(threads) reduction(+ : rate)
    {
        volatile float sink = k->fma_chains(rounds);
        const double start = omp_get_wtime();
        double now = start, done = 0.0;
        for (; now - start < PEAK_SECONDS; now = omp_get_wtime(), done += operations)
            sink = k->fma_chains(rounds);
        (void)sink;
        rate += done / (now - start);
    }
    return rate;
}

static void one_pass(struct bench *b, const struct lenet_layer *layer, const float *parameters, int32_t pass)
{
    if (pass == LENET_PASS_FORWARD)
        layer_forward(b->k, layer, &b->y, &b->x, parameters, &b->work);
    else if (pass == LENET_PASS_INPUT)
        layer_backward_input(b->k, layer, &b->dx, &b->dy, &b->x, &b->y, parameters, &b->work);
    else
        layer_backward_parameters(b->k, layer, b->sums, &b->dy, &b->x, 1, &b->work);
}

double lenet_layer_seconds(const struct lenet_layer *layer, int32_t pass, int32_t isa)
{
    struct bench b;
    float *parameters = allocate(layer_parameters(layer));
    double seconds = -1.0;
    if (open_bench(&b, layer, isa) == 0 && parameters) {
        one_pass(&b, layer, parameters, pass);
        const double start = omp_get_wtime();
        int32_t count = 0;
        for (; count == 0 || omp_get_wtime() - start < LAYER_SECONDS; count++)
            one_pass(&b, layer, parameters, pass);
        seconds = (omp_get_wtime() - start) / count * (LENET_GROUP / b.k->lanes);
    }
    close_bench(&b);
    free(parameters);
    return seconds;
}
