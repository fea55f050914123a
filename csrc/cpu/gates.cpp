// gru_update and lstm_update on the CPU. The formulas are in ../formulas.h.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "../checks.h"
#include "../lstm_gates.h"
#include "output_memory.h"
#include "pointwise.h"

namespace rirn {
namespace {
Tensor gru_update(Tensor hidden, Tensor logit_z, Tensor logit_n) {
  check_gru_update(hidden, logit_z, logit_n);
  const Tensor out = empty_output_like(hidden);
  run_pointwise(Pointwise::gru_update, out, {hidden, logit_z, logit_n}, {out});
  return out;
}

std::tuple<Tensor, Tensor, Tensor> gru_update_backward(Tensor grad, Tensor hidden, Tensor logit_z, Tensor logit_n,
                                                       int64_t output_mask) {
  check_gru_update(hidden, logit_z, logit_n);
  check_like(grad, "grad", hidden);
  const Tensors out = wanted_outputs(output_mask, {hidden, logit_z, logit_n});
  run_pointwise(Pointwise::gru_update_backward, hidden, {grad, hidden, logit_z, logit_n}, out);
  return {out[0], out[1], out[2]};
}

std::tuple<Tensor, Tensor> lstm_update(Tensor gates, Tensor cell) {
  check_lstm_update(gates, cell);
  const Tensor new_hidden = empty_output_like(cell), new_cell = empty_output_like(cell);
  Tensors inputs = split_gates(gates, cell.size(1));
  inputs.push_back(cell);
  run_pointwise(Pointwise::lstm_update, new_cell, inputs, {new_hidden, new_cell});
  return {new_hidden, new_cell};
}

std::tuple<Tensor, Tensor> lstm_update_backward(Tensor grad_hidden, Tensor grad_cell, Tensor gates, Tensor cell,
                                                int64_t output_mask) {
  check_lstm_update(gates, cell);
  check_like(grad_hidden, "grad_hidden", cell);
  check_like(grad_cell, "grad_cell", cell);
  const Tensors out = wanted_outputs(output_mask, {gates, cell});
  Tensors inputs = {grad_hidden, grad_cell}, outputs = split_gates(out[0], cell.size(1));
  for (const Tensor& gate : split_gates(gates, cell.size(1))) inputs.push_back(gate);
  inputs.push_back(cell);
  outputs.push_back(out[1]);
  run_pointwise(Pointwise::lstm_update_backward, cell, inputs, outputs);
  return {out[0], out[1]};
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CPU, m) {
  m.impl("gru_update", TORCH_BOX(&rirn::gru_update));
  m.impl("gru_update_backward", TORCH_BOX(&rirn::gru_update_backward));
  m.impl("lstm_update", TORCH_BOX(&rirn::lstm_update));
  m.impl("lstm_update_backward", TORCH_BOX(&rirn::lstm_update_backward));
}
