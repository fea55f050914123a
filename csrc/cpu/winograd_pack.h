// Weights of 3x3 convolutions to and from the transform domain of Winograd F(4x4, 3x3): U = G w G^T (see simd/winograd.h).
#pragma once
#include <vector>

#include "simd.h"

namespace rirn {
// Dense weights [co][ci][3][3] as the layers read them: [co / block][point][ci][block], the last block filled up with zeros.
std::vector<float> pack_weights(const float* weights, int co, int ci);

// The same for the convolution that takes the gradient of the output to that of the input: co and ci trade places and the
// kernels are rotated by 180 degrees. The result is packed as ci outputs of co inputs.
std::vector<float> pack_rotated_weights(const float* weights, int co, int ci);

// The gradient of dense weights [co][ci][3][3], dw = G^T dU G, from `count` partial sums dU as WeightJob makes them, `stride`
// floats apart.
std::vector<float> unpack_weight_gradient(const float* sums, int count, size_t stride, int co, int ci, int padded_co,
                                          int padded_ci);
}  // namespace rirn
