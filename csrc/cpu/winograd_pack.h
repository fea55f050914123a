// Weights of 3x3 convolutions to and from the transform domain of Winograd F(4x4, 3x3), see simd/weights.h.
#pragma once
#include <vector>

#include "simd.h"

namespace rirn {
// Floats of `co` outputs of `ci` inputs as the layers read them: [co / block][point][ci][block], the last block filled up with
// zeros.
size_t packed_size(int co, int ci);

// Packs dense weights [co][ci][3][3].
void pack_weights(const SimdKernels& simd, const float* weights, int co, int ci, float* packed);

// The same for the convolution that takes the gradient of the output to that of the input: co and ci trade places and the
// kernels are rotated by 180 degrees. The result is packed as ci outputs of co inputs.
void pack_rotated_weights(const SimdKernels& simd, const float* weights, int co, int ci, float* packed);

// The gradient of dense weights [co][ci][3][3] from `parts` partial sums as WeightJob makes them, `stride` floats apart.
std::vector<float> unpack_weight_gradient(const SimdKernels& simd, const float* sums, int parts, size_t stride, int co, int ci);
}  // namespace rirn
