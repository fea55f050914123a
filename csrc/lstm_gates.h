// The gates of lstm_update one by one, for CPU and CUDA alike.
#pragma once
#include <torch/csrc/stable/ops.h>

#include "gradients.h"

namespace rirn {
// The gates i, f, o, g as separate tensors; for an unwanted gradient, four without elements.
inline Tensors split_gates(Tensor gates, int64_t channels) {
  if (gates.dim() != 4) return {gates, gates, gates, gates};
  Tensors parts;
  for (int k = 0; k < 4; ++k) parts.push_back(torch::stable::narrow(gates, 1, k * channels, channels));
  return parts;
}
}  // namespace rirn
