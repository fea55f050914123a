// irm_update on the CPU: one step of the inner-recurrence module, the chain of ../irm_layers.h.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "../gradients.h"
#include "../irm_layers.h"
#include "conv3x3_chain.h"
#include "output_memory.h"

namespace rirn {
namespace {
std::vector<ChainLayer> irm_chain(const Tensors& weights, const Tensors& biases) {
  std::vector<ChainLayer> chain;
  for (size_t l = 0; l < kIrmLayers; ++l) chain.push_back({weights[l], biases[l], kIrmSlopes[l], kIrmSkips[l] != 0});
  return chain;
}

Tensor irm_update(Tensor hidden, Tensor inner, Tensors weights, Tensors biases) {
  check_irm_update(hidden, inner, weights, biases);
  Tensor out = empty_output_like(hidden);
  conv3x3_chain({hidden, inner}, irm_chain(weights, biases), out);
  return out;
}

Tensors irm_update_backward(Tensor grad, Tensor hidden, Tensor inner, Tensors weights, Tensors biases, int64_t output_mask) {
  check_irm_update(hidden, inner, weights, biases);
  check_like(grad, "grad", hidden);
  Tensors inputs = {hidden, inner};
  inputs.insert(inputs.end(), weights.begin(), weights.end());
  inputs.insert(inputs.end(), biases.begin(), biases.end());
  const Tensors all = wanted_outputs(output_mask, inputs);
  const auto first_weight = all.begin() + 2, first_bias = first_weight + kIrmLayers;
  ChainGradients gradients{{all[0], all[1]}, {first_weight, first_bias}, {first_bias, all.end()}};
  conv3x3_chain_backward(grad, {hidden, inner}, irm_chain(weights, biases), gradients);
  return all;
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CPU, m) {
  m.impl("irm_update", TORCH_BOX(&rirn::irm_update));
  m.impl("irm_update_backward", TORCH_BOX(&rirn::irm_update_backward));
}
