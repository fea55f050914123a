// pointwise.cuh on tensors.
#pragma once
#include "binding.h"
#include "pointwise.cuh"

namespace rirn {
namespace cuda {
// One number for all elements has no dimensions, one for each channel has one.
template <class T>
View<T> pointwise_view(const Tensor& t) {
  if (t.dim() == 4 || !t.numel()) return view<T>(t);
  if (t.dim() == 1) return {pointer<T>(t), {1, t.size(0), 1, 1}, {0, t.stride(0), 0, 0}};
  return {pointer<T>(t), {1, 1, 1, 1}, {0, 0, 0, 0}};
}

// `like` has the full shape; outputs without elements are unwanted gradients.
template <class Op>
void run_pointwise(const char* name, const Op& op, const Tensor& like, const Tensors& inputs, const Tensors& outputs) {
  if (!like.numel()) return;
  const DeviceGuard guard(like.get_device_index());
  Tensor workspace;
  if constexpr (Op::kTotal >= 0) {
    if (outputs[Op::kTotal].numel())
      workspace = torch::stable::new_empty(like, {workspace_of(like.numel())}, ScalarType::Double);
  }
  dispatch_dtype(like.scalar_type(), [&](auto sample) {
    using T = decltype(sample);
    PointwiseArgs<T, Op> args = {};
    for (int d = 0; d < 4; ++d) args.sizes[d] = like.size(d);
    for (int i = 0; i < Op::kInputs; ++i) args.inputs[i] = pointwise_view<const T>(inputs[i]);
    for (int i = 0; i < Op::kOutputs; ++i) args.outputs[i] = pointwise_view<T>(outputs[i]);
    if (workspace.defined()) args.workspace = static_cast<double*>(workspace.data_ptr());
    launch_pointwise(op, args, current_stream(like));
  });
  check_launch(name);
}
}  // namespace cuda
}  // namespace rirn
