// Weights of 3x3 convolutions to and from the transform domain of Winograd F(4x4, 3x3), see simd/weights.h.
#pragma once
#include <torch/csrc/stable/tensor.h>

#include <memory>
#include <vector>

#include "scalar.h"
#include "simd.h"

namespace rirn {
// Packs weights [co][ci][3][3] of any dtype and strides as the layers read them: [co / block][point][ci][block], the last block
// filled up with zeros; with bfloat16 products, pairs of inputs. `rotated` is for the convolution that takes the gradient of the output to that of the input: co and ci
// trade places and the kernels are rotated by 180 degrees.
//
// The frames of a video or a clip use the same weights, so packed weights are kept and looked up by the values that they were
// made from. Comparing these is cheap compared with packing, and weights that were changed in place, or others in the same
// memory, cannot be mistaken for them.
std::shared_ptr<const float> pack_weights(const SimdKernels& simd, const Tensor& weight, bool rotated);

// The gradient of dense weights [co][ci][3][3] from `parts` partial sums as WeightJob makes them, `stride` floats apart.
std::vector<float> unpack_weight_gradient(const SimdKernels& simd, const float* sums, int parts, size_t stride, int co, int ci);
}  // namespace rirn
