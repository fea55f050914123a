// fac on the CPU: out[n, c, y, x] = sum_ij kernels[n, 25c + 5i + j, y, x] * features[n, c, y + i - 2, x + j - 2], edges
// replicated. Every row of the output and of the gradients is computed by one thread directly from the tensors in memory: there
// is no unfolded, padded or reordered copy of anything.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <tuple>

#include "../checks.h"
#include "../gradients.h"
#include "output_memory.h"
#include "parallel.h"
#include "scalar.h"
#include "simd.h"

namespace rirn {
namespace {
// Calls f(image, job) for every row of every image, in parallel; the job lacks its images.
template <class F>
void each_row(const Tensor& features, const Tensor& kernels, const F& f) {
  const int64_t N = features.size(0), C = features.size(1), H = features.size(2), W = features.size(3);
  FacJob job{};
  job.element = simd_element(features.scalar_type());
  job.channels_inner = C > 1 && kernels.stride(1) == 1 && kernels.stride(3) != 1;  // the kernels are most of the memory
  job.H = (int)H;
  job.W = (int)W;
  const int64_t planes = job.channels_inner ? 1 : C, row_work = kFacTaps * W * (C / planes);
  const int64_t grain = std::max<int64_t>(1, (1 << 15) / row_work);
  parallel_for(0, N * planes * H, grain, [&](int64_t begin, int64_t end) {
    FacJob mine = job;
    for (int64_t i = begin; i < end; ++i) {
      mine.y = (int)(i % H);
      mine.channel = (int)(i / H % planes);
      f(i / H / planes, mine);
    }
  });
}

Tensor fac(Tensor features, Tensor kernels) {
  check_fac(features, kernels);
  const Tensor out = empty_output_like(features);
  if (!out.numel()) return out;
  const SimdKernels& simd = simd_kernels();
  each_row(features, kernels, [&](int64_t n, FacJob& job) {
    job.features = image_of(features, n);
    job.kernels = image_of(kernels, n);
    job.out = image_of(out, n);
    simd.fac(job);
  });
  return out;
}

std::tuple<Tensor, Tensor> fac_backward(Tensor grad, Tensor features, Tensor kernels, int64_t output_mask) {
  check_fac(features, kernels);
  check_like(grad, "grad", features);
  const Tensors out = wanted_outputs(output_mask, {features, kernels});
  if (!grad.numel()) return {out[0], out[1]};
  const SimdKernels& simd = simd_kernels();
  each_row(features, kernels, [&](int64_t n, FacJob& job) {
    job.grad = image_of(grad, n);
    job.features = image_of(features, n);
    job.kernels = image_of(kernels, n);
    job.grad_features = image_of(out[0], n);
    job.grad_kernels = image_of(out[1], n);
    simd.fac_backward(job);
  });
  return {out[0], out[1]};
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CPU, m) {
  m.impl("fac", TORCH_BOX(&rirn::fac));
  m.impl("fac_backward", TORCH_BOX(&rirn::fac_backward));
}
