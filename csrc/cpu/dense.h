// Copies small dense tensors (weights, biases) to plain vectors and back.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <vector>

#include "scalar.h"

namespace rirn {
// The elements in row-major order, whatever the tensor's dtype and strides.
template <class A>
std::vector<A> read_dense(const Tensor& t) {
  const Tensor dense = torch::stable::contiguous(t);
  return dispatch_float(t.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* p = static_cast<const T*>(dense.const_data_ptr());
    return std::vector<A>(p, p + dense.numel());
  });
}

template <class A>
void write_dense(const std::vector<A>& values, const Tensor& t) {
  Tensor dense = torch::stable::empty(t.sizes(), t.scalar_type()), target = t;
  dispatch_float(t.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* p = static_cast<T*>(dense.mutable_data_ptr());
    for (size_t i = 0; i < values.size(); ++i) p[i] = static_cast<T>(values[i]);
  });
  torch::stable::copy_(target, dense);
}
}  // namespace rirn
