// The ops of simd.h's `Pointwise` on tensors.
#pragma once
#include <array>

#include "pixel_runs.h"
#include "scalar.h"
#include "simd.h"

namespace rirn {
// One number for all elements has no dimensions.
inline Run pointwise_run(const Tensor& t, const Layout& layout, const Piece& piece) {
  return t.dim() ? run_of(t, layout, piece) : Run{t.data_ptr(), 0, 0};
}

inline PointwiseJob pointwise_job(Pointwise op, const Layout& layout, const Piece& piece, const Tensors& inputs,
                                  const Tensors& outputs) {
  PointwiseJob job{};
  job.op = op;
  job.element = simd_element(inputs[0].scalar_type());
  job.pixels = piece.pixels;
  job.channels = layout.channels;
  job.channels_inner = layout.channels_inner;
  for (size_t i = 0; i < inputs.size(); ++i) job.inputs[i] = pointwise_run(inputs[i], layout, piece);
  for (size_t i = 0; i < outputs.size(); ++i) job.outputs[i] = pointwise_run(outputs[i], layout, piece);
  return job;
}

// The layout of all of them that have dimensions.
inline Layout pointwise_layout(const Tensor& like, const Tensors& inputs, const Tensors& outputs) {
  Tensors all;
  for (const Tensors* some : {&inputs, &outputs})
    for (const Tensor& t : *some)
      if (t.dim()) all.push_back(t);
  return layout_of(like, all);
}

// An op whose outputs are all written element by element; `like` has the full shape.
inline void run_pointwise(Pointwise op, const Tensor& like, const Tensors& inputs, const Tensors& outputs) {
  if (!like.numel()) return;
  const SimdKernels& simd = simd_kernels();
  const Layout layout = pointwise_layout(like, inputs, outputs);
  each_piece(layout, [&](const Piece& piece) { simd.pointwise(pointwise_job(op, layout, piece, inputs, outputs)); });
}
}  // namespace rirn
