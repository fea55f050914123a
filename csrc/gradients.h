// What the backward ops return, for CPU and CUDA alike.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <vector>

namespace rirn {
using torch::stable::Tensor;
using Tensors = std::vector<Tensor>;

// Memory for the gradients of the inputs: if bit i of `output_mask` is set, gradient i is like input i, else it has no elements.
// `empty` makes an uninitialized tensor like another one.
inline Tensors wanted_gradients(int64_t output_mask, const Tensors& inputs,
                                Tensor (*empty)(const Tensor&) = torch::stable::empty_like) {
  Tensors gradients;
  for (size_t i = 0; i < inputs.size(); ++i)
    gradients.push_back(output_mask >> i & 1 ? empty(inputs[i]) : torch::stable::new_empty(inputs[i], {0}));
  return gradients;
}
}  // namespace rirn
