/* bench.h - one layer alone, with the memory that it works on: for tests, feature maps and measurements. */
#ifndef LENET_BENCH_H
#define LENET_BENCH_H

#include "layers.h"

struct bench {
    const struct lane_kernels *k;
    struct tensor x, y, dx, dy;
    struct workspace work;
    float *sums;      /* of each part of a group */
    float *gradient;  /* of the group */
};

/* 64-byte aligned, zero; NULL where memory is short. */
float *allocate(size_t floats);
struct tensor new_tensor(int32_t height, int32_t width, int32_t channels, int32_t padding, int32_t lanes);

/* Returns 0, or -1 where memory is short; close it in either case. */
int32_t open_bench(struct bench *b, const struct lenet_layer *layer, int32_t isa);
void close_bench(struct bench *b);

#endif
