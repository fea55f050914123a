// Tensors [N, C, H, W] of any strides as runs of pixels, which is what the SIMD kernels of the ops on pixels take: everything
// is read and written in place.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "../gradients.h"
#include "../strides.h"
#include "parallel.h"
#include "simd.h"

namespace rirn {
constexpr int64_t kPixelsAtATime = 2048;

// How the tensors of one call are cut: `rows` runs of `pixels` pixels for each of `images`.
struct Layout {
  int64_t images, rows, pixels, channels;
  bool flat;  // all strides agree and nothing is shared: one long run of elements
  bool channels_inner;

  int64_t pieces_per_run() const { return (pixels + kPixelsAtATime - 1) / kPixelsAtATime; }
  int64_t pieces() const { return images * rows * pieces_per_run(); }
};

// A part of a run, with all its channels.
struct Piece {
  int64_t index;  // among all pieces
  int64_t image, row, pixel;
  int64_t pixels;
};

// `like` has the full shape; tensors without elements are gradients that are not wanted.
inline Layout layout_of(const Tensor& like, const Tensors& tensors) {
  const int64_t N = like.size(0), C = like.size(1), H = like.size(2), W = like.size(3);
  const auto joins = [&](const Tensor& t) { return H == 1 || t.stride(2) == W * t.stride(3); };
  bool flat = is_dense(like), rows_join = joins(like);
  for (const Tensor& t : tensors) {
    if (!t.numel()) continue;
    flat &= same_shape(t, like) && same_strides(t, like);
    rows_join &= joins(t);
  }
  if (flat) return {1, 1, like.numel(), 1, true, false};
  const bool channels_inner = C > 1 && like.stride(1) == 1;
  return {N, rows_join ? 1 : H, rows_join ? H * W : W, C, false, channels_inner};
}

// Where a tensor's part of a piece starts, and its strides.
inline Run run_of(const Tensor& t, const Layout& layout, const Piece& piece) {
  if (!t.numel()) return {nullptr, 0, 0};
  char* data = static_cast<char*>(t.data_ptr());
  const int64_t size = static_cast<int64_t>(t.element_size());
  if (layout.flat) return {data + piece.pixel * size, 1, 0};
  const int64_t offset = piece.image * t.stride(0) + piece.row * t.stride(2) + piece.pixel * t.stride(3);
  return {data + offset * size, t.stride(3), channel_stride(t)};
}

// Calls f(piece) for all pieces of the layout, in parallel.
template <class F>
void each_piece(const Layout& layout, const F& f) {
  const int64_t per_run = layout.pieces_per_run();
  const int64_t work = std::min(layout.pixels, kPixelsAtATime) * layout.channels;
  const int64_t grain = std::max<int64_t>(1, 8 * kPixelsAtATime / work);
  parallel_for(0, layout.pieces(), grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t p = i % per_run * kPixelsAtATime;
      f(Piece{i, i / per_run / layout.rows, i / per_run % layout.rows, p, std::min(kPixelsAtATime, layout.pixels - p)});
    }
  });
}
}  // namespace rirn
