// The SIMD kernels for AVX-512 (F, BW, DQ, VL).
#include "isa.h"
#include "simd.h"

#if RIRN_X86_VARIANTS
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif

#define RIRN_VARIANT avx512
#define RIRN_LANES 16
#include "simd/variant.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
