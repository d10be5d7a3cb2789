/*
 * step_on_threads.c - steps of a small network on 1 to 4 threads in one process, for ThreadSanitizer (scripts/sanitize)
 * and for processors that are only emulated (scripts/other-cpus).
 *
 * A C program, because a sanitizer that is loaded into Python sees little of it, and Python is slow to emulate. It runs a network with a front, a
 * second convolution and dense layers over groups of all sizes, trains and evaluates, and compares the totals with those of
 * one thread. Prints the instruction set and a hash of the totals. Exit code 0, or 1 where they differ.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lenet.h"

#define SAMPLES 100
#define PIXELS (19 * 19 * 3)
#define PARAMETERS (456 + 220 + 5 * 16 + 5)

static const struct lenet_layer layers[] = {
    {LENET_CONV, 0, 19, 19, 3, 6, 6, 6, 5, 5, 3, 1, 0},
    {LENET_ACTIVATION, LENET_SQUASH, 6, 6, 6, 6, 6, 6, 1, 1, 1, 0, 0},
    {LENET_AVERAGE_POOL, 0, 6, 6, 6, 3, 3, 6, 2, 2, 2, 0, 0},
    {LENET_CONV, 0, 3, 3, 6, 2, 2, 4, 3, 3, 1, 1, 456},
    {LENET_ACTIVATION, LENET_ELU, 2, 2, 4, 2, 2, 4, 1, 1, 1, 0, 0},
    {LENET_DENSE, 0, 2, 2, 4, 1, 1, 5, 2, 2, 1, 0, 676},
};

/* Label smoothing and class weights; every second step is with them. */
static const struct lenet_target targets[] = {
    {0.45f, 0.01f, 0.55f}, {0.9f, 0.02f, 1.0f}, {1.8f, 0.04f, 1.9f}, {0.0f, 0.0f, 0.1f}, {1.35f, 0.03f, 1.45f},
};

static uint8_t images[SAMPLES][PIXELS];

int main(void)
{
    static const int32_t starts[] = {0, 16, 17, 33, 33, 40, 56, 72, 88, 100};
    const int32_t groups = sizeof starts / sizeof starts[0] - 1, count = sizeof layers / sizeof layers[0];
    static float parameters[PARAMETERS], logits[SAMPLES * 5];
    static int64_t expected[3][PARAMETERS + LENET_COUNTS], totals[PARAMETERS + LENET_COUNTS];
    static int64_t numbers[SAMPLES];
    const struct lenet_augmentation rules = {
        .seed = 7, .epoch = 1, .height = 19, .width = 19, .channels = 3, .fill = 128, .mirror = 1 << 15,
        .padding_rows = 4, .padding_columns = 5, .brightness = 100, .contrast = 100,
        .erase = 1 << 15, .least_area = 10, .most_area = 100, .most_ratio = 200000,
    };
    uintptr_t addresses[SAMPLES];
    int32_t labels[SAMPLES], isa = 0, different = 0;
    uint32_t random = 1;

    for (int32_t i = 0; i < SAMPLES; i++) {
        addresses[i] = (uintptr_t)images[i];
        labels[i] = i % 5;
        numbers[i] = 3 * i;
        for (int32_t j = 0; j < PIXELS; j++)
            images[i][j] = (uint8_t)((random = random * 1664525u + 1013904223u) >> 24);
    }
    for (int32_t i = 0; i < PARAMETERS; i++)
        parameters[i] = (float)((random = random * 1664525u + 1013904223u) >> 8) / (1 << 25) - 0.25f;
    while (lenet_isa_name(isa + 1) && lenet_isa_supported(isa + 1))
        isa++;
    for (int32_t threads = 1; threads <= 4; threads++) {
        struct lenet_plan *plan = lenet_plan_create(layers, count, 2.0f / 255.0f, -1.0f, threads, isa);
        if (!plan)
            return 1;
        for (int32_t repeat = 0; repeat < 20; repeat++) {
            const int32_t kind = repeat % 3;
            lenet_plan_step(plan, totals, parameters, addresses, labels, starts, groups, 1e5f, kind ? targets : NULL,
                            kind == 2 ? &rules : NULL, kind == 2 ? numbers : NULL);
            if (threads == 1 && repeat == kind)
                memcpy(expected[kind], totals, sizeof totals);
            different |= memcmp(expected[kind], totals, sizeof totals) != 0;
            lenet_plan_forward(plan, totals + PARAMETERS, logits, parameters, addresses, labels, SAMPLES, 1e3f);
            different |= memcmp(expected[0] + PARAMETERS, totals + PARAMETERS, LENET_COUNTS * sizeof(int64_t)) != 0;
        }
        lenet_plan_free(plan);
    }
    uint64_t hash = UINT64_C(14695981039346656037);  /* FNV-1a over words */
    for (size_t i = 0; i < sizeof expected / sizeof(int64_t); i++)
        hash = (hash ^ (uint64_t)(&expected[0][0])[i]) * UINT64_C(1099511628211);
    printf("%s: totals on 1 to 4 threads are %s, hash %016llx\n", lenet_isa_name(isa),
           different ? "DIFFERENT" : "the same", (unsigned long long)hash);
    return different;
}
