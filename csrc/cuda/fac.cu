// Bindings of fac.
#include <tuple>

#include "binding.h"
#include "fac.cuh"

namespace rirn {
namespace {
using namespace cuda;

Tensor fac(Tensor features, Tensor kernels) {
  check_fac(features, kernels);
  const DeviceGuard guard(features.get_device_index());
  const Tensor out = torch::stable::empty_like(features);
  if (!out.numel()) return out;
  dispatch_dtype(out.scalar_type(), [&](auto sample) {
    using T = decltype(sample);
    launch_fac<T>({view<const T>(features), view<const T>(kernels), view<T>(out)}, current_stream(out));
  });
  check_launch("fac");
  return out;
}

std::tuple<Tensor, Tensor> fac_backward(Tensor grad, Tensor features, Tensor kernels, int64_t output_mask) {
  check_fac(features, kernels);
  check_like(grad, "grad", features);
  const DeviceGuard guard(features.get_device_index());
  const Tensors out = wanted_gradients(output_mask, {features, kernels});
  if (!grad.numel() || !(output_mask & 3)) return {out[0], out[1]};
  dispatch_dtype(grad.scalar_type(), [&](auto sample) {
    using T = decltype(sample);
    launch_fac_backward<T>({view<const T>(grad), view<const T>(features), view<const T>(kernels), view<T>(out[0]), view<T>(out[1])},
                           current_stream(grad));
  });
  check_launch("fac_backward");
  return {out[0], out[1]};
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CUDA, m) {
  m.impl("fac", TORCH_BOX(&rirn::fac));
  m.impl("fac_backward", TORCH_BOX(&rirn::fac_backward));
}
