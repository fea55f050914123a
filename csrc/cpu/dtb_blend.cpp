// dtb_blend on the CPU: out = w * f_cur + (1 - w) * f_prev, w = clamp(|tanh(logit)| + beta, 0, 1). The formula is in
// ../formulas.h; here are the sums: beta's gradient, and the logit's if all channels share it.
#include <torch/csrc/stable/library.h>

#include <tuple>
#include <vector>

#include "../checks.h"
#include "output_memory.h"
#include "pointwise.h"

namespace rirn {
namespace {
Tensor dtb_blend(Tensor f_prev, Tensor f_cur, Tensor logit, Tensor beta) {
  check_dtb_blend(f_prev, f_cur, logit, beta);
  const Tensor out = empty_output_like(f_cur);
  run_pointwise(Pointwise::dtb_blend, out, {f_prev, f_cur, logit, beta}, {out});
  return out;
}

// Rounds the sums into memory, `stride` elements apart.
void write_sums(const std::vector<double>& sums, void* to, int64_t stride, ScalarType dtype) {
  dispatch_float(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (size_t i = 0; i < sums.size(); ++i) static_cast<T*>(to)[(int64_t)i * stride] = static_cast<T>(sums[i]);
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> dtb_blend_backward(Tensor grad, Tensor f_prev, Tensor f_cur, Tensor logit,
                                                              Tensor beta, int64_t output_mask) {
  check_dtb_blend(f_prev, f_cur, logit, beta);
  check_like(grad, "grad", f_cur);
  Tensors out = wanted_outputs(output_mask, {f_prev, f_cur, logit, beta});
  Tensor& grad_logit = out[2];
  Tensor& grad_beta = out[3];
  if (!grad.numel()) {
    for (Tensor& t : out) torch::stable::zero_(t);  // sums over nothing
    return {out[0], out[1], out[2], out[3]};
  }
  const bool logit_summed = grad_logit.numel() && logit.size(1) < f_cur.size(1), beta_summed = grad_beta.numel();
  const Tensors inputs = {grad, f_prev, f_cur, logit, beta}, outputs = {out[0], out[1], grad_logit};
  const SimdKernels& simd = simd_kernels();
  const Layout layout = pointwise_layout(f_cur, inputs, outputs);
  // One sum per piece, added up in order: bit-identical on any number of threads.
  std::vector<double> beta_sums(layout.pieces());
  each_piece(layout, [&](const Piece& piece) {
    PointwiseJob job = pointwise_job(Pointwise::dtb_blend_backward, layout, piece, inputs, outputs);
    const Run logits = job.outputs[2];
    std::vector<double> logit_sums(logit_summed ? piece.pixels : 0);
    if (logit_summed) {
      job.outputs[2] = {logit_sums.data(), 1, 0};
      job.summed |= 1 << 2;
    }
    if (beta_summed) {
      job.outputs[3] = {&beta_sums[piece.index], 0, 0};
      job.summed |= 1 << 3;
    }
    simd.pointwise(job);
    write_sums(logit_sums, logits.data, logits.pixel, logit.scalar_type());
  });
  if (beta_summed) {
    double sum = 0;
    for (double part : beta_sums) sum += part;
    write_sums({sum}, grad_beta.data_ptr(), 1, beta.scalar_type());
  }
  return {out[0], out[1], out[2], out[3]};
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CPU, m) {
  m.impl("dtb_blend", TORCH_BOX(&rirn::dtb_blend));
  m.impl("dtb_blend_backward", TORCH_BOX(&rirn::dtb_blend_backward));
}
