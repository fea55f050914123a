// The inner-recurrence module as a chain of 3x3 convolutions, for CPU and CUDA alike:
//   x0 = relu(joint([hidden, inner])), x1 = x0 + res1b(relu(res1a(x0))), x2 = x1 + res2b(relu(res2a(x1))), result = out(x2)
#pragma once
#include "checks.h"

namespace rirn {
constexpr size_t kIrmLayers = 6;
inline const std::vector<double> kIrmSlopes = {0, 0, 1, 0, 1, 1};
inline const std::vector<int64_t> kIrmSkips = {0, 0, 1, 0, 1, 0};

inline void check_irm_update(const Tensor& hidden, const Tensor& inner, const std::vector<Tensor>& weights,
                             const std::vector<Tensor>& biases) {
  check_image(hidden, "hidden");
  check_like(inner, "inner", hidden);
  check_count(weights.size(), biases.size(), kIrmLayers);
  const int64_t c = hidden.size(1);
  for (size_t l = 0; l < kIrmLayers; ++l) check_layer(weights, biases, l, l == kIrmLayers - 1 ? c : 2 * c, 2 * c, hidden);
}
}  // namespace rirn
