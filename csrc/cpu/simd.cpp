#include "simd.h"

#include "isa.h"

namespace rirn {
const SimdKernels& simd_kernels() {
  switch (current_isa()) {
#if RIRN_X86_VARIANTS
    case Isa::avx512: return simd_avx512;
    case Isa::avx2: return simd_avx2;
#endif
    default: return simd_generic;
  }
}
}  // namespace rirn
