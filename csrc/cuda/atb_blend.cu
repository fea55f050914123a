// Bindings of the CUDA kernels of atb_blend.
#include <tuple>

#include "atb_blend.cuh"
#include "binding.h"

namespace rirn {
namespace {
using namespace cuda;

Tensor atb_blend(Tensor f_prev, Tensor f_cur, Tensor logit_prev, Tensor logit_cur, double max_weight) {
  check_atb_blend(f_prev, f_cur, logit_prev, logit_cur);
  const DeviceGuard guard(f_cur.get_device_index());
  Tensor out = torch::stable::empty_like(f_cur);
  if (!out.numel()) return out;
  dispatch_dtype(out.scalar_type(), [&](auto sample) {
    using T = decltype(sample);
    launch_atb_blend<T>({view<const T>(f_prev), view<const T>(f_cur), view<const T>(logit_prev), view<const T>(logit_cur),
                         view<T>(out), max_weight},
                        current_stream(out));
  });
  check_launch("atb_blend");
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> atb_blend_backward(Tensor grad, Tensor f_prev, Tensor f_cur, Tensor logit_prev,
                                                              Tensor logit_cur, double max_weight, int64_t needs) {
  check_atb_blend(f_prev, f_cur, logit_prev, logit_cur);
  check_grad(grad, f_cur, "f_cur");
  const DeviceGuard guard(f_cur.get_device_index());
  const Tensors out = wanted_gradients(needs, {f_prev, f_cur, logit_prev, logit_cur});
  if (!grad.numel() || !(needs & 15)) return {out[0], out[1], out[2], out[3]};
  dispatch_dtype(grad.scalar_type(), [&](auto sample) {
    using T = decltype(sample);
    launch_atb_blend_backward<T>({view<const T>(grad), view<const T>(f_prev), view<const T>(f_cur), view<const T>(logit_prev),
                                  view<const T>(logit_cur), view<T>(out[0]), view<T>(out[1]), view<T>(out[2]), view<T>(out[3]),
                                  max_weight},
                                 current_stream(grad));
  });
  check_launch("atb_blend_backward");
  return {out[0], out[1], out[2], out[3]};
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CUDA, m) {
  m.impl("atb_blend", TORCH_BOX(&rirn::atb_blend));
  m.impl("atb_blend_backward", TORCH_BOX(&rirn::atb_blend_backward));
}
