// The SIMD kernels for AVX2, FMA and F16C.
#include "isa.h"
#include "simd.h"

#if RIRN_X86_VARIANTS
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

#define RIRN_VARIANT avx2
#define RIRN_LANES 8
#include "simd/variant.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
