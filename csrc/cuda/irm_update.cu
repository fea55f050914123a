// Bindings of the CUDA kernels of irm_update.
#include "irm_update.cuh"

#include "../irm_layers.h"
#include "conv3x3_chain.h"

namespace rirn {
namespace {
using namespace cuda;

// Bytes of shared memory that a block on the tensor's device may ask for.
int shared_limit(const Tensor& t) {
  int bytes = 0;
  const cudaError_t error = cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, t.get_device_index());
  if (error != cudaSuccess) fail("the CUDA device cannot be asked for its shared memory: ", cudaGetErrorString(error));
  return bytes;
}

Tensor irm_update(Tensor hidden, Tensor inner, Tensors weights, Tensors biases) {
  check_irm_update(hidden, inner, weights, biases);
  const DeviceGuard guard(hidden.get_device_index());
  Tensor out = torch::stable::empty_like(hidden);
  if (!out.numel()) return out;
  const Stream stream = current_stream(out);
  dispatch_dtype(out.scalar_type(), [&](auto sample) {
    using T = decltype(sample);
    const Chain<T> chain = chain_of<T>({hidden, inner}, weights, biases, kIrmSlopes, kIrmSkips, false);
    with_workspace(out, weights, [&](const Workspace& workspace) {
      return irm_forward(chain, image_of(view<T>(out), false), shared_limit(out), workspace, stream);
    });
  });
  check_launch("irm_update");
  return out;
}

Tensors irm_update_backward(Tensor grad, Tensor hidden, Tensor inner, Tensors weights, Tensors biases, int64_t output_mask) {
  check_irm_update(hidden, inner, weights, biases);
  check_like(grad, "grad", hidden);
  return chain_gradients("irm_update_backward", grad, {hidden, inner}, weights, biases, kIrmSlopes, kIrmSkips, false, false,
                         output_mask);
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CUDA, m) {
  m.impl("irm_update", TORCH_BOX(&rirn::irm_update));
  m.impl("irm_update_backward", TORCH_BOX(&rirn::irm_update_backward));
}
