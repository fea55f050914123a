// Which of the SIMD variants in this binary the current machine runs.
#pragma once

// The variants for AVX2 and AVX-512 need GCC's or clang's vector extensions and target pragmas.
#if defined(__x86_64__) && defined(__GNUC__)
#define RIRN_X86_VARIANTS 1
#else
#define RIRN_X86_VARIANTS 0
#endif

namespace rirn {
enum class Isa { generic, avx2, avx512, avx512_bf16 };

// The best variant that this processor can run, or the lower one that the environment variable RIRN_CPU_ISA
// (generic, avx2, avx512, avx512_bf16) requests; requesting more than the processor has is an error. Read at each call.
Isa current_isa();
const char* isa_name(Isa isa);
const char* built_isas();  // comma separated
}  // namespace rirn
