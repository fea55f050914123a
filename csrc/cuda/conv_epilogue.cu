// Binding of conv_epilogue.
#include "conv3x3_args.cuh"
#include "pointwise.h"

namespace rirn {
namespace cuda {
// The bias is one for all pixels.
template <bool kSkip>
struct ConvEpilogueOp : Elementwise {
  static constexpr int kInputs = kSkip ? 3 : 2, kOutputs = 1;
  static constexpr unsigned kShareable = 0b010;
  double slope;

  explicit ConvEpilogueOp(double slope) : slope(slope) {}
  template <class V>
  RIRN_INLINE_MEMBER void apply(const V* in, V* out) const {
    V sum = in[0] + in[1];
    if constexpr (kSkip) sum += in[2];
    out[0] = activate(sum, static_cast<V>(slope));
  }
};
}  // namespace cuda

namespace {
using namespace cuda;

Tensor conv_epilogue(Tensor x, Tensor bias, std::optional<Tensor> skip, double slope) {
  check_conv_epilogue(x, bias, skip);
  const Tensor out = torch::stable::empty_like(x);
  if (skip) run_pointwise("conv_epilogue", ConvEpilogueOp<true>(slope), out, {x, bias, *skip}, {out});
  else run_pointwise("conv_epilogue", ConvEpilogueOp<false>(slope), out, {x, bias}, {out});
  return out;
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CUDA, m) { m.impl("conv_epilogue", TORCH_BOX(&rirn::conv_epilogue)); }
