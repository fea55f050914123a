// atb_blend and its gradients, for pointwise.cuh: out = sigmoid(logit_prev) * f_prev + max_weight * sigmoid(logit_cur) * f_cur.
// Free of torch.
#pragma once
#include "pointwise.cuh"

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
}  // namespace rirn
