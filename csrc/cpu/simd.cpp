#include "simd.h"

#include "isa.h"

namespace rirn {
const SimdKernels& simd_kernels(bool fast) {
  switch (current_isa()) {
#if RIRN_X86_VARIANTS
    case Isa::avx512_bf16: return fast ? simd_avx512_bf16 : simd_avx512;
    case Isa::avx512: return simd_avx512;
    case Isa::avx2: return simd_avx2;
#endif
    default: return simd_generic;
  }
}
}  // namespace rirn
