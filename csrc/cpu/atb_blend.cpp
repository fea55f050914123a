// atb_blend on the CPU: out = sigmoid(logit_prev) * f_prev + max_weight * sigmoid(logit_cur) * f_cur.
// Any strides are read and written in place. The SIMD kernels take runs of pixels; here tensors become such runs.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "../checks.h"
#include "../strides.h"
#include "scalar.h"
#include "simd.h"

namespace rirn {
namespace {
using Tensors = std::vector<Tensor>;

constexpr int64_t kPixelsAtATime = 2048;

// How the tensors of one call are cut: `rows` runs of `pixels` pixels for each of `images`.
struct Layout {
  int64_t images, rows, pixels, channels;
  bool flat;  // all strides agree and nothing is shared: one long run of elements
  bool channels_inner;
};

// `like` has the full shape; tensors without elements are gradients that are not wanted.
Layout layout_of(const Tensor& like, const Tensors& tensors) {
  const int64_t N = like.size(0), C = like.size(1), H = like.size(2), W = like.size(3);
  bool flat = is_dense(like), rows_join = true;
  for (const Tensor& t : tensors) {
    if (!t.numel()) continue;
    flat &= same_shape(t, like) && same_strides(t, like);
    rows_join &= H == 1 || t.stride(2) == W * t.stride(3);
  }
  if (flat) return {1, 1, like.numel(), 1, true, false};
  const bool channels_inner = C > 1 && like.stride(1) == 1;
  return {N, rows_join ? 1 : H, rows_join ? H * W : W, C, false, channels_inner};
}

// Where a tensor's pixel run starts: image n, row r, pixel p.
Run run_of(const Tensor& t, const Layout& layout, int64_t n, int64_t r, int64_t p) {
  if (!t.numel()) return {nullptr, 0, 0};
  char* data = static_cast<char*>(t.data_ptr());
  const int64_t size = static_cast<int64_t>(t.element_size());
  if (layout.flat) return {data + p * size, 1, 0};
  const int64_t offset = n * t.stride(0) + r * t.stride(2) + p * t.stride(3);
  return {data + offset * size, t.stride(3), channel_stride(t)};
}

// Calls f(image, row, first pixel, pixel count) for all pieces of the layout, in parallel.
template <class F>
void each_piece(const Layout& layout, const F& f) {
  const int64_t pieces = (layout.pixels + kPixelsAtATime - 1) / kPixelsAtATime, total = layout.images * layout.rows * pieces;
  const int64_t work = std::min(layout.pixels, kPixelsAtATime) * layout.channels;
  const int64_t grain = std::max<int64_t>(1, 8 * kPixelsAtATime / work);
  torch::stable::parallel_for(0, total, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t p = i % pieces * kPixelsAtATime;
      f(i / pieces / layout.rows, i / pieces % layout.rows, p, std::min(kPixelsAtATime, layout.pixels - p));
    }
  });
}

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
  Tensor out = torch::stable::empty_like(f_cur);
  if (!out.numel()) return out;
  const bool is_double = out.scalar_type() == ScalarType::Double;
  const SimdKernels& simd = simd_kernels();
  const Layout layout = layout_of(out, {f_prev, f_cur, logit_prev, logit_cur});
  each_piece(layout, [&](int64_t n, int64_t r, int64_t p, int64_t count) {
    const auto run = [&](const Tensor& t) { return run_of(t, layout, n, r, p); };
    const BlendJob job{simd_element(out.scalar_type()), count, layout.channels, layout.channels_inner, (float)max_weight,
                       run(f_prev), run(f_cur), run(logit_prev), run(logit_cur), run(out)};
    if (is_double) blend_double(job, max_weight);
    else simd.blend(job);
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> atb_blend_backward(Tensor grad, Tensor f_prev, Tensor f_cur, Tensor logit_prev,
                                                              Tensor logit_cur, double max_weight, int64_t needs) {
  check_atb_blend(f_prev, f_cur, logit_prev, logit_cur);
  check_grad(grad, f_cur, "f_cur");
  const auto make = [&](int bit, const Tensor& like) {
    return needs >> bit & 1 ? torch::stable::empty_like(like) : torch::stable::new_empty(like, {0});
  };
  const Tensors out = {make(0, f_prev), make(1, f_cur), make(2, logit_prev), make(3, logit_cur)};
  if (grad.numel() && needs & 15) {
    const bool is_double = grad.scalar_type() == ScalarType::Double;
    const SimdKernels& simd = simd_kernels();
    const Layout layout = layout_of(f_cur, {grad, f_prev, logit_prev, logit_cur, out[0], out[1], out[2], out[3]});
    each_piece(layout, [&](int64_t n, int64_t r, int64_t p, int64_t count) {
      const auto run = [&](const Tensor& t) { return run_of(t, layout, n, r, p); };
      const BlendBackwardJob job{simd_element(grad.scalar_type()), count, layout.channels, layout.channels_inner, (float)max_weight,
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
