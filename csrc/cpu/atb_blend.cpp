// atb_blend on the CPU: out = sigmoid(logit_prev) * f_prev + max_weight * sigmoid(logit_cur) * f_cur.
#include <torch/csrc/stable/library.h>

#include <cmath>
#include <tuple>

#include "../checks.h"
#include "output_memory.h"
#include "pixel_runs.h"
#include "scalar.h"
#include "simd.h"

namespace rirn {
namespace {
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

double& at(const Run& run, int64_t pixel, int64_t channel) {
  return static_cast<double*>(run.data)[pixel * run.pixel + channel * run.channel];
}

// float64, by the definition.
void blend_double(const BlendJob& job, double max_weight) {
  for (int64_t c = 0; c < job.channels; ++c)
    for (int64_t p = 0; p < job.pixels; ++p)
      at(job.out, p, c) = sigmoid(at(job.logit_prev, p, c)) * at(job.f_prev, p, c) +
                          max_weight * sigmoid(at(job.logit_cur, p, c)) * at(job.f_cur, p, c);
}

void blend_backward_double(const BlendBackwardJob& job, double max_weight) {
  const auto side = [&](const Run& f, const Run& logit, const Run& grad_f, const Run& grad_logit, double scale) {
    const bool shared = grad_logit.data && grad_logit.channel == 0;
    for (int64_t p = 0; shared && p < job.pixels; ++p) at(grad_logit, p, 0) = 0;
    for (int64_t c = 0; c < job.channels; ++c)
      for (int64_t p = 0; p < job.pixels; ++p) {
        const double gate = sigmoid(at(logit, p, c)), weighted = at(job.grad, p, c) * scale * gate;
        if (grad_f.data) at(grad_f, p, c) = weighted;
        if (!grad_logit.data) continue;
        const double slope = weighted * (1 - gate) * at(f, p, c);
        at(grad_logit, p, c) = shared ? at(grad_logit, p, c) + slope : slope;
      }
  };
  side(job.f_prev, job.logit_prev, job.grad_f_prev, job.grad_logit_prev, 1);
  side(job.f_cur, job.logit_cur, job.grad_f_cur, job.grad_logit_cur, max_weight);
}

Tensor atb_blend(Tensor f_prev, Tensor f_cur, Tensor logit_prev, Tensor logit_cur, double max_weight) {
  check_atb_blend(f_prev, f_cur, logit_prev, logit_cur);
  Tensor out = empty_output_like(f_cur);
  if (!out.numel()) return out;
  const bool is_double = out.scalar_type() == ScalarType::Double;
  const SimdKernels& simd = simd_kernels();
  const Layout layout = layout_of(out, {f_prev, f_cur, logit_prev, logit_cur});
  each_piece(layout, [&](const Piece& piece) {
    const auto run = [&](const Tensor& t) { return run_of(t, layout, piece); };
    const BlendJob job{simd_element(out.scalar_type()), piece.pixels, layout.channels, layout.channels_inner, (float)max_weight,
                       run(f_prev), run(f_cur), run(logit_prev), run(logit_cur), run(out)};
    if (is_double) blend_double(job, max_weight);
    else simd.blend(job);
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> atb_blend_backward(Tensor grad, Tensor f_prev, Tensor f_cur, Tensor logit_prev,
                                                              Tensor logit_cur, double max_weight, int64_t output_mask) {
  check_atb_blend(f_prev, f_cur, logit_prev, logit_cur);
  check_like(grad, "grad", f_cur);
  Tensors out = wanted_outputs(output_mask, {f_prev, f_cur, logit_prev, logit_cur});
  if (!grad.numel())
    for (Tensor& t : out) torch::stable::zero_(t);  // sums over nothing
  if (grad.numel() && output_mask & 15) {
    const bool is_double = grad.scalar_type() == ScalarType::Double;
    const SimdKernels& simd = simd_kernels();
    const Layout layout = layout_of(f_cur, {grad, f_prev, logit_prev, logit_cur, out[0], out[1], out[2], out[3]});
    each_piece(layout, [&](const Piece& piece) {
      const auto run = [&](const Tensor& t) { return run_of(t, layout, piece); };
      const BlendBackwardJob job{simd_element(grad.scalar_type()), piece.pixels, layout.channels, layout.channels_inner, (float)max_weight,
                                 run(grad), run(f_prev), run(f_cur), run(logit_prev), run(logit_cur),
                                 run(out[0]), run(out[1]), run(out[2]), run(out[3])};
      if (is_double) blend_backward_double(job, max_weight);
      else simd.blend_backward(job);
    });
  }
  return {out[0], out[1], out[2], out[3]};
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CPU, m) {
  m.impl("atb_blend", TORCH_BOX(&rirn::atb_blend));
  m.impl("atb_blend_backward", TORCH_BOX(&rirn::atb_blend_backward));
}
