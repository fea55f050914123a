// Bindings of the CUDA kernels of conv3x3_chain.
#include "conv3x3_chain.h"

namespace rirn {
namespace cuda {
RIRN_ALL_CHAINS()
}  // namespace cuda

namespace {
using namespace cuda;

// The result keeps the memory format of the first input.
Tensor empty_result(const Tensor& like, const std::vector<int64_t>& sizes) {
  const int64_t n = sizes[0], c = sizes[1], h = sizes[2], w = sizes[3];
  if (like.size(1) == 1 || like.stride(1) != 1) return torch::stable::new_empty(like, {n, c, h, w});
  const Tensor pixels = torch::stable::new_empty(like, {n, h, w, c});
  return torch::stable::transpose(torch::stable::transpose(pixels, 1, 3), 2, 3);
}

Tensor conv3x3_chain(Tensors inputs, Tensors weights, Tensors biases, std::vector<double> slopes, std::vector<int64_t> skips,
                     bool unshuffle, bool shuffle) {
  check_conv3x3_chain(inputs, weights, biases, slopes, skips, unshuffle, shuffle);
  check_input_count(inputs);
  const DeviceGuard guard(inputs[0].get_device_index());
  Tensor out = empty_result(inputs[0], result_sizes(inputs, weights, unshuffle, shuffle));
  if (!out.numel()) return out;
  const Stream stream = current_stream(out);
  dispatch_dtype(out.scalar_type(), [&](auto sample) {
    using T = decltype(sample);
    const Chain<T> chain = chain_of<T>(inputs, weights, biases, slopes, skips, unshuffle);
    with_workspace(out, weights, [&](const Workspace& workspace) {
      return chain_forward(chain, image_of(view<T>(out), shuffle), workspace, stream);
    });
  });
  check_launch("conv3x3_chain");
  return out;
}

Tensors conv3x3_chain_backward(Tensor grad, Tensors inputs, Tensors weights, Tensors biases, std::vector<double> slopes,
                               std::vector<int64_t> skips, bool unshuffle, bool shuffle, int64_t output_mask) {
  check_conv3x3_chain(inputs, weights, biases, slopes, skips, unshuffle, shuffle);
  check_input_count(inputs);
  check_sizes(grad, "grad", inputs[0], result_sizes(inputs, weights, unshuffle, shuffle));
  return chain_gradients("conv3x3_chain_backward", grad, inputs, weights, biases, slopes, skips, unshuffle, shuffle, output_mask);
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CUDA, m) {
  m.impl("conv3x3_chain", TORCH_BOX(&rirn::conv3x3_chain));
  m.impl("conv3x3_chain_backward", TORCH_BOX(&rirn::conv3x3_chain_backward));
}
