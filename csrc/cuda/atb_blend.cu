// Bindings of atb_blend.
#include <tuple>

#include "pointwise.h"

namespace rirn {
namespace cuda {
struct AtbBlendOp : Elementwise {
  static constexpr int kInputs = 4, kOutputs = 1;
  static constexpr unsigned kShareable = 0b1100;
  double max_weight;

  explicit AtbBlendOp(double max_weight) : max_weight(max_weight) {}
  template <class V>
  RIRN_INLINE_MEMBER void apply(const V* in, V* out) const {
    const V f_prev = in[0], f_cur = in[1], logit_prev = in[2], logit_cur = in[3];
    out[0] = sigmoid(logit_prev) * f_prev + static_cast<V>(max_weight) * sigmoid(logit_cur) * f_cur;
  }
};

struct AtbBlendGradient : Elementwise {
  static constexpr int kInputs = 5, kOutputs = 4;
  static constexpr unsigned kShareable = 0b11000, kSummable = 0b1100;
  static constexpr unsigned kReads[] = {0b01001, 0b10001, 0b01011, 0b10101};
  double max_weight;

  explicit AtbBlendGradient(double max_weight) : max_weight(max_weight) {}
  template <class V>
  RIRN_INLINE_MEMBER void apply(const V* in, V* out) const {
    const V grad = in[0], f_prev = in[1], f_cur = in[2], gate_prev = sigmoid(in[3]), gate_cur = sigmoid(in[4]);
    out[0] = grad * gate_prev;
    out[1] = grad * static_cast<V>(max_weight) * gate_cur;
    out[2] = out[0] * (1 - gate_prev) * f_prev;
    out[3] = out[1] * (1 - gate_cur) * f_cur;
  }
};
}  // namespace cuda

namespace {
using namespace cuda;

Tensor atb_blend(Tensor f_prev, Tensor f_cur, Tensor logit_prev, Tensor logit_cur, double max_weight) {
  check_atb_blend(f_prev, f_cur, logit_prev, logit_cur);
  const Tensor out = torch::stable::empty_like(f_cur);
  run_pointwise("atb_blend", AtbBlendOp(max_weight), out, {f_prev, f_cur, logit_prev, logit_cur}, {out});
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> atb_blend_backward(Tensor grad, Tensor f_prev, Tensor f_cur, Tensor logit_prev,
                                                              Tensor logit_cur, double max_weight, int64_t output_mask) {
  check_atb_blend(f_prev, f_cur, logit_prev, logit_cur);
  check_like(grad, "grad", f_cur);
  Tensors out = wanted_gradients(output_mask, {f_prev, f_cur, logit_prev, logit_cur});
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
