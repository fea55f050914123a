// 3x3 convolutions (stride 1, zero padded) as implicit matrix products, for CUDA: one launch per layer, with its bias, skip
// connection, activation and, in a backward pass, the mask of the activation before it, all in the epilogue. Several inputs are
// read as if concatenated. Free of torch.
//
// Two forms: conv3x3_mma for fp16 and bf16 runs on the tensor cores, sums in float; conv3x3_ffma for fp32 and fp64.
#pragma once
#include "conv3x3_ffma.cuh"
#include "conv3x3_mma.cuh"

namespace rirn {
namespace cuda {
template <class T>
constexpr bool kOnTensorCores = sizeof(T) == 2;

// One layer; fp16 and bf16 with weights packed for mma_width of its outputs.
template <class T>
void launch_conv3x3(const ConvArgs<T>& a, const Stream& stream) {
  if constexpr (kOnTensorCores<T>) {
    launch_mma_of_width<T>(mma_width(a.weight.outputs), a, stream);
  } else {
    launch_ffma<T>(a, stream);
  }
}
}  // namespace cuda
}  // namespace rirn
