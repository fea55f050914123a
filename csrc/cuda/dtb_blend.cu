// Bindings of dtb_blend.
#include <tuple>

#include "pointwise.h"

namespace rirn {
namespace cuda {
// The logit may be one for all channels, beta is one for everything.
struct DtbBlendOp : DtbBlend, Elementwise {
  static constexpr unsigned kShareable = 0b1100;
};
struct DtbBlendGradient : DtbBlendBackward, Elementwise {
  static constexpr unsigned kShareable = 0b11000, kSummable = 0b0100;
  static constexpr int kTotal = 3;
  static constexpr unsigned kReads[] = {0b11001, 0b11001, 0b11111, 0b11111};
};
}  // namespace cuda

namespace {
using namespace cuda;

Tensor dtb_blend(Tensor f_prev, Tensor f_cur, Tensor logit, Tensor beta) {
  check_dtb_blend(f_prev, f_cur, logit, beta);
  const Tensor out = torch::stable::empty_like(f_cur);
  run_pointwise("dtb_blend", DtbBlendOp{}, out, {f_prev, f_cur, logit, beta}, {out});
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> dtb_blend_backward(Tensor grad, Tensor f_prev, Tensor f_cur, Tensor logit,
                                                              Tensor beta, int64_t output_mask) {
  check_dtb_blend(f_prev, f_cur, logit, beta);
  check_like(grad, "grad", f_cur);
  Tensors out = wanted_gradients(output_mask, {f_prev, f_cur, logit, beta});
  if (!grad.numel())
    for (Tensor& t : out) torch::stable::zero_(t);  // sums over nothing
  run_pointwise("dtb_blend_backward", DtbBlendGradient{}, f_cur, {grad, f_prev, f_cur, logit, beta}, out);
  return {out[0], out[1], out[2], out[3]};
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CUDA, m) {
  m.impl("dtb_blend", TORCH_BOX(&rirn::dtb_blend));
  m.impl("dtb_blend_backward", TORCH_BOX(&rirn::dtb_blend_backward));
}
