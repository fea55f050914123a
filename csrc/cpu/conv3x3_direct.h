// conv3x3_chain for float64: convolutions by the definition, one layer after the other. Same arguments, see conv3x3_chain.h.
#pragma once
#include "conv3x3_chain.h"

namespace rirn {
void conv3x3_direct(const std::vector<Tensor>& inputs, const std::vector<ChainLayer>& layers, const Tensor& out,
                    Shuffles shuffles);
void conv3x3_direct_backward(const Tensor& grad, const std::vector<Tensor>& inputs, const std::vector<ChainLayer>& layers,
                             const ChainGradients& gradients, Shuffles shuffles);
}  // namespace rirn
