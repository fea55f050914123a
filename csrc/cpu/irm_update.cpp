// irm_update on the CPU: one step of the inner-recurrence module, a chain of six 3x3 convolutions:
//   x0 = relu(joint([hidden, inner])), x1 = x0 + res1b(relu(res1a(x0))), x2 = x1 + res2b(relu(res2a(x1))), result = out(x2)
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "../checks.h"
#include "conv3x3_chain.h"

namespace rirn {
namespace {
using Tensors = std::vector<Tensor>;

std::vector<ChainLayer> irm_chain(const Tensors& weights, const Tensors& biases) {
  constexpr float slopes[kIrmLayers] = {0, 0, 1, 0, 1, 1};
  constexpr bool skips[kIrmLayers] = {false, false, true, false, true, false};
  std::vector<ChainLayer> chain;
  for (int l = 0; l < kIrmLayers; ++l) chain.push_back({weights[l], biases[l], slopes[l], skips[l]});
  return chain;
}

Tensor irm_update(Tensor hidden, Tensor inner, Tensors weights, Tensors biases) {
  check_irm_update(hidden, inner, weights, biases);
  Tensor out = torch::stable::empty_like(hidden);
  conv3x3_chain({hidden, inner}, irm_chain(weights, biases), out);
  return out;
}

Tensors irm_update_backward(Tensor grad, Tensor hidden, Tensor inner, Tensors weights, Tensors biases, int64_t needs) {
  check_irm_update(hidden, inner, weights, biases);
  check_grad(grad, hidden, "hidden");
  const auto make = [&](int bit, const Tensor& like) {
    return needs >> bit & 1 ? torch::stable::empty_like(like) : torch::stable::new_empty(like, {0});
  };
  ChainGradients gradients{{make(0, hidden), make(1, inner)}, {}, {}};
  for (int l = 0; l < kIrmLayers; ++l) {
    gradients.weights.push_back(make(2 + l, weights[l]));
    gradients.biases.push_back(make(2 + kIrmLayers + l, biases[l]));
  }
  conv3x3_chain_backward(grad, {hidden, inner}, irm_chain(weights, biases), gradients);
  Tensors all = gradients.inputs;
  all.insert(all.end(), gradients.weights.begin(), gradients.weights.end());
  all.insert(all.end(), gradients.biases.begin(), gradients.biases.end());
  return all;
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CPU, m) {
  m.impl("irm_update", TORCH_BOX(&rirn::irm_update));
  m.impl("irm_update_backward", TORCH_BOX(&rirn::irm_update_backward));
}
