/* avx512.c - the lane functions for AVX-512 F, BW, DQ, VL (Intel since 2017, AMD since 2022): sixteen lanes. */
#include "kernels.h"

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,evex512"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#include <immintrin.h>

#define ISA_NAME "avx512"
#define ISA_TABLE lenet_kernels_avx512
#define LANES 16
#define REGISTERS 32
#define vec_fma(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#include "all_lanes.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
