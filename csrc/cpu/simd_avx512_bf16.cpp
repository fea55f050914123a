// Convolutions with bfloat16 products for AVX-512 (F, BW, DQ, VL, BF16).
#include "isa.h"
#include "simd.h"

#if RIRN_X86_VARIANTS
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif

#define RIRN_VARIANT avx512_bf16
#define RIRN_BF16_PRODUCTS 1
#define RIRN_LANES 16
#include "simd/variant.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
