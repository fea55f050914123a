// Binding of the CUDA kernels of atb_update.
#include "atb_update.cuh"

#include "conv3x3_chain.h"

namespace rirn {
namespace {
using namespace cuda;

Tensor atb_update(Tensor f_cur, Tensor f_prev, Tensors weights, Tensors biases, double slope, double decay, double max_weight) {
  check_atb_update(f_cur, f_prev, weights, biases);
  if (f_cur.scalar_type() != ScalarType::Half && f_cur.scalar_type() != ScalarType::BFloat16)
    fail("the CUDA kernel of atb_update takes float16 and bfloat16; got ", torch::headeronly::toString(f_cur.scalar_type()));
  const DeviceGuard guard(f_cur.get_device_index());
  Tensor out = torch::stable::empty_like(f_cur);
  if (!out.numel()) return out;
  const Stream stream = current_stream(out);
  const auto run = [&](auto sample) {
    using T = decltype(sample);
    AtbUpdate<T> job{};
    job.f_cur = image_of(view<T>(f_cur), false);
    job.f_prev = image_of(view<T>(f_prev), false);
    job.out = image_of(view<T>(out), false);
    for (int l = 0; l < kAtbLayers; ++l) {
      job.weights[l] = weights_of<T>(weights[l]);
      job.biases[l] = pointer<T>(biases[l]);
      job.bias_strides[l] = biases[l].stride(0);
    }
    job.slope = slope;
    job.decay = decay;
    job.max_weight = max_weight;
    job.images = out.size(0);
    job.h = (int)out.size(2);
    job.w = (int)out.size(3);
    with_workspace(out, weights, [&](const Workspace& workspace) { return cuda::atb_update(job, workspace, stream); });
  };
  if (out.scalar_type() == ScalarType::Half) run(__half{});
  else run(__nv_bfloat16{});
  check_launch("atb_update");
  return out;
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CUDA, m) { m.impl("atb_update", TORCH_BOX(&rirn::atb_update)); }
