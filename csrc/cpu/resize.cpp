// halve and enlarge_onto on the CPU: dense float32 images, a row of the result at a time.
#include <torch/csrc/stable/library.h>

#include <algorithm>

#include "../checks.h"
#include "output_memory.h"
#include "parallel.h"
#include "simd.h"

namespace rirn {
namespace {
constexpr int64_t kRowWork = 1 << 15;  // fewest elements for a thread

void check_dense(const Tensor& t, const char* name) {
  check_image(t, name);
  if (t.scalar_type() != ScalarType::Float || !t.is_contiguous()) fail(name, " must be contiguous float32; got ", text(t, sizes_of(t)));
}

Tensor halve(Tensor images, double shift) {
  check_dense(images, "images");
  const int64_t H = images.size(2), W = images.size(3), h = H / 2, w = W / 2, rows = images.size(0) * images.size(1) * h;
  if (H % 2 || W % 2) fail("images must have even H and W; got ", text(images, sizes_of(images)));
  const Tensor out = empty_output(images, {images.size(0), images.size(1), h, w}, {images.size(1) * h * w, h * w, w, 1});
  if (!out.numel()) return out;
  const SimdKernels& simd = simd_kernels();
  const float* from = static_cast<const float*>(images.data_ptr());
  float* to = static_cast<float*>(out.data_ptr());
  parallel_for(0, rows, std::max<int64_t>(1, kRowWork / W), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      simd.halve_row(from + 2 * i * W, from + (2 * i + 1) * W, to + i * w, w, static_cast<float>(shift));
  });
  return out;
}

Tensor enlarge_onto(Tensor image, Tensor onto, double scale) {
  check_dense(image, "image");
  check_dense(onto, "onto");
  const int64_t h = image.size(2), w = image.size(3);
  check_sizes(onto, "onto", image, {image.size(0), image.size(1), 2 * h, 2 * w});
  const Tensor out = empty_output_like(onto);
  if (!out.numel()) return out;
  const SimdKernels& simd = simd_kernels();
  const float* from = static_cast<const float*>(image.data_ptr());
  const float* add = static_cast<const float*>(onto.data_ptr());
  float* to = static_cast<float*>(out.data_ptr());
  parallel_for(0, 2 * image.size(0) * image.size(1) * h, std::max<int64_t>(1, kRowWork / w), [&](int64_t begin, int64_t end) {
    std::vector<float> mixed(w + 2);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t near = i / 2, y = near % h, far = i % 2 ? (y + 1 < h ? near + 1 : near) : (y ? near - 1 : near);
      simd.enlarge_row(from + near * w, from + far * w, add + 2 * i * w, to + 2 * i * w, mixed.data(), w, static_cast<float>(scale));
    }
  });
  return out;
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CPU, m) {
  m.impl("halve", TORCH_BOX(&rirn::halve));
  m.impl("enlarge_onto", TORCH_BOX(&rirn::enlarge_onto));
}
