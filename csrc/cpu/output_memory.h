// Memory for results.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <vector>

#include "../gradients.h"

namespace rirn {
// Uninitialized tensors on the CPU. Large ones reuse the memory of results that are no longer used: the system must clear the
// pages of fresh memory first, which took more than twice as long as blending 80 channels of 180x320.
Tensor empty_output(const Tensor& like, const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides);

// With the sizes and, if it is dense, the strides of another tensor.
Tensor empty_output_like(const Tensor& like);

// See gradients.h.
inline Tensors wanted_outputs(int64_t output_mask, const Tensors& inputs) {
  return wanted_gradients(output_mask, inputs, empty_output_like);
}
}  // namespace rirn
