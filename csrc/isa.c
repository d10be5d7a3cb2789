/* isa.c - which instruction sets this object holds and which of them this CPU has. Best last. */
#include "kernels.h"

static const struct lane_kernels *const tables[] = {
    &lenet_kernels_generic,
#if defined(__x86_64__)
    &lenet_kernels_avx2,
    &lenet_kernels_avx512,
#endif
};

static const int32_t table_count = sizeof tables / sizeof tables[0];

const char *lenet_isa_name(int32_t index)
{
    return index >= 0 && index < table_count ? tables[index]->name : NULL;
}

/* __builtin_cpu_supports also asks whether the operating system saves the registers. */
int32_t lenet_isa_supported(int32_t index)
{
    switch (index) {
    case 0:
        return 1;
#if defined(__x86_64__)
    case 1:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case 2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
    default:
        return 0;
    }
}

const struct lane_kernels *lenet_kernels(int32_t isa)
{
    return tables[isa];
}
