// irm_update on the CPU: one step of the inner-recurrence module, a chain of six 3x3 convolutions:
//   x0 = relu(joint([hidden, inner])), x1 = x0 + res1b(relu(res1a(x0))), x2 = x1 + res2b(relu(res2a(x1))), result = out(x2)
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "../checks.h"
#include "../gradients.h"
#include "conv3x3_chain.h"
#include "output_memory.h"

namespace rirn {
namespace {
std::vector<ChainLayer> irm_chain(const Tensors& weights, const Tensors& biases) {
  constexpr float slopes[kIrmLayers] = {0, 0, 1, 0, 1, 1};
  constexpr bool skips[kIrmLayers] = {false, false, true, false, true, false};
  std::vector<ChainLayer> chain;
  for (int l = 0; l < kIrmLayers; ++l) chain.push_back({weights[l], biases[l], slopes[l], skips[l]});
  return chain;
}

Tensor irm_update(Tensor hidden, Tensor inner, Tensors weights, Tensors biases) {
  check_irm_update(hidden, inner, weights, biases);
  Tensor out = empty_output_like(hidden);
  conv3x3_chain({hidden, inner}, irm_chain(weights, biases), out);
  return out;
}

Tensors irm_update_backward(Tensor grad, Tensor hidden, Tensor inner, Tensors weights, Tensors biases, int64_t needs) {
  check_irm_update(hidden, inner, weights, biases);
  check_grad(grad, hidden, "hidden");
  Tensors inputs = {hidden, inner};
  inputs.insert(inputs.end(), weights.begin(), weights.end());
  inputs.insert(inputs.end(), biases.begin(), biases.end());
  const Tensors all = wanted_outputs(needs, inputs);
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
