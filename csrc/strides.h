// How four-dimensional tensors lie in memory, for CPU and CUDA alike.
#pragma once
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <array>

namespace rirn {
using torch::stable::Tensor;

// Dimensions from the slowest to the fastest in memory.
inline std::array<int, 4> memory_order(const Tensor& t) {
  std::array<int, 4> order = {0, 1, 2, 3};
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return t.stride(a) > t.stride(b); });
  return order;
}

// Whether the elements fill one stretch of memory without gaps or overlap, in whatever order.
inline bool is_dense(const Tensor& t) {
  const std::array<int, 4> order = memory_order(t);
  int64_t expected = 1;
  for (int k = 3; k >= 0; --k) {
    if (t.size(order[k]) == 1) continue;
    if (t.stride(order[k]) != expected) return false;
    expected *= t.size(order[k]);
  }
  return true;
}

// For tensors of one shape; where there is one index only, the stride means nothing.
inline bool same_strides(const Tensor& a, const Tensor& b) {
  for (int d = 0; d < 4; ++d)
    if (a.size(d) != 1 && a.stride(d) != b.stride(d)) return false;
  return true;
}

// 0 if there is one channel: it then serves for all.
inline int64_t channel_stride(const Tensor& t) { return t.size(1) == 1 ? 0 : t.stride(1); }
}  // namespace rirn
