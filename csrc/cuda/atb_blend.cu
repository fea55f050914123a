// Bindings of atb_blend.
#include <tuple>

#include "atb_blend.cuh"
#include "pointwise.h"

namespace rirn {
namespace {
using namespace cuda;

Tensor atb_blend(Tensor f_prev, Tensor f_cur, Tensor logit_prev, Tensor logit_cur, double max_weight) {
  check_atb_blend(f_prev, f_cur, logit_prev, logit_cur);
  const Tensor out = torch::stable::empty_like(f_cur);
  run_pointwise("atb_blend", AtbBlendOp(max_weight), out, {f_prev, f_cur, logit_prev, logit_cur}, {out});
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> atb_blend_backward(Tensor grad, Tensor f_prev, Tensor f_cur, Tensor logit_prev,
                                                              Tensor logit_cur, double max_weight, int64_t needs) {
  check_atb_blend(f_prev, f_cur, logit_prev, logit_cur);
  check_grad(grad, f_cur, "f_cur");
  Tensors out = wanted_gradients(needs, {f_prev, f_cur, logit_prev, logit_cur});
  if (!grad.numel())
    for (Tensor& t : out) torch::stable::zero_(t);  // sums over nothing
  run_pointwise("atb_blend_backward", AtbBlendGradient(max_weight), f_cur, {grad, f_prev, f_cur, logit_prev, logit_cur}, out);
  return {out[0], out[1], out[2], out[3]};
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CUDA, m) {
  m.impl("atb_blend", TORCH_BOX(&rirn::atb_blend));
  m.impl("atb_blend_backward", TORCH_BOX(&rirn::atb_blend_backward));
}
