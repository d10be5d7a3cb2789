/* update.c - the update on several threads; what is done to an element is in update.h. */
#include <omp.h>

#include "kernels.h"

#define WORTH_A_THREAD 16384  /* elements: some microseconds */

void lenet_descend(float *parameters, float *velocity, const int64_t *totals, int64_t count,
                   const struct lenet_descent *descent, int32_t threads, int32_t isa)
{
    const struct lane_kernels *k = lenet_kernels(isa);
    const int64_t worth = (count + WORTH_A_THREAD - 1) / WORTH_A_THREAD, team = worth < threads ? worth : threads;
#pragma omp parallel for num_threads((int)team) schedule(static, 1) if (team > 1)
    for (int64_t t = 0; t < team; t++) {
        const int64_t from = count * t / team, to = count * (t + 1) / team;
        k->descend(parameters + from, velocity + from, totals + from, (size_t)(to - from), descent);
    }
}

double lenet_sum_of_squares(const int64_t *totals, int64_t count, double unit, int32_t isa)
{
    return lenet_kernels(isa)->sum_of_squares(totals, (size_t)count, unit);
}
