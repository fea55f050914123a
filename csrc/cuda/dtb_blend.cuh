// dtb_blend and its gradients, for pointwise.cuh. Free of torch.
#pragma once
#include "pointwise.cuh"

namespace rirn {
namespace cuda {
// The logit may be one for all channels, beta is one for everything.
struct DtbBlendOp : DtbBlend, Elementwise {
  static constexpr unsigned kShareable = 0b1100;
};
struct DtbBlendGradient : DtbBlendBackward, Elementwise {
  static constexpr unsigned kShareable = 0b11000, kSummable = 0b0100;
  static constexpr int kTotal = 3;
  static constexpr unsigned kReads[] = {0b11001, 0b11001, 0b11111, 0b11111};
};
}  // namespace cuda
}  // namespace rirn
