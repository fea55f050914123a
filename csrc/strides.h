// Memory layout of four-dimensional tensors, for CPU and CUDA: works on anything that has size(d) and stride(d).
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>

namespace rirn {
// Dimensions from the slowest to the fastest in memory.
template <class Tensor>
std::array<int, 4> memory_order(const Tensor& t) {
  std::array<int, 4> order = {0, 1, 2, 3};
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return t.stride(a) > t.stride(b); });
  return order;
}

// Whether the elements fill one stretch of memory without gaps or overlap, in any order.
template <class Tensor>
bool is_dense(const Tensor& t) {
  const std::array<int, 4> order = memory_order(t);
  int64_t expected = 1;
  for (int k = 3; k >= 0; --k) {
    if (t.size(order[k]) == 1) continue;
    if (t.stride(order[k]) != expected) return false;
    expected *= t.size(order[k]);
  }
  return true;
}

// For tensors of one shape; the stride of a dimension of size 1 means nothing.
template <class A, class B>
bool same_strides(const A& a, const B& b) {
  for (int d = 0; d < 4; ++d)
    if (a.size(d) != 1 && a.stride(d) != b.stride(d)) return false;
  return true;
}

// 0 if there is one channel: it then serves for all.
template <class Tensor>
int64_t channel_stride(const Tensor& t) {
  return t.size(1) == 1 ? 0 : t.stride(1);
}
}  // namespace rirn
