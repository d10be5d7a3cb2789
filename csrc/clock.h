/* clock.h - where a step's time goes, for those who ask: nothing but a test of a flag where nobody does. */
#ifndef LENET_CLOCK_H
#define LENET_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Seconds of an arbitrary origin, 0 where the flag is not set. */
static inline double clock_start(int32_t profile)
{
    struct timespec now;
    if (!profile)
        return 0.0;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Adds the time since start, a value of clock_start. */
static inline void clock_add(double *seconds, double start)
{
    if (start != 0.0)
        *seconds += clock_start(1) - start;
}

#endif
