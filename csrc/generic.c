/* generic.c - the lane functions for any CPU: four lanes (SSE2, NEON, or what the compiler makes of them). */
#include "kernels.h"

#define ISA_NAME "generic"
#define ISA_TABLE lenet_kernels_generic
#define LANES 4
#if defined(__aarch64__)
#include <arm_neon.h>
#define REGISTERS 32
#define vec_fma(a, b, c) ((vec)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#else
#define REGISTERS 16
#define vec_fma(a, b, c) fma_by_doubles(a, b, c)
#endif
#include "all_lanes.h"
