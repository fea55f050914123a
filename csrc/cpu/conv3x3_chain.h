// Any chain of 3x3 convolutions (stride 1, zero padding 1) in one call, forward and backward:
//   x_l = act_l(conv_l(x_(l-1)) + b_l) [+ x_(l-2)],   act(v) = v < 0 ? slope v : v
// Sums are computed in float32 by Winograd F(4x4, 3x3); float64 goes to conv3x3_direct.h. Results are bit-identical for any
// number of threads.
#pragma once
#include <torch/csrc/stable/tensor.h>

#include <vector>

namespace rirn {
using torch::stable::Tensor;

struct ChainLayer {
  Tensor weight;  // [co, ci, 3, 3]
  Tensor bias;    // [co]
  double slope;   // 1: no activation, 0: ReLU
  bool skip;      // adds the input of the layer before, in front of the activation
};

// Whether the chain reads its inputs as pixel_unshuffle(input, 2), and whether its result is pixel_shuffle(x, 2) of the last
// layer's x.
struct Shuffles {
  bool in = false, out = false;
};

// out [N, co, H, W] from inputs [N, ci_k, H, W], read as if concatenated along the channels. One dtype for all, any strides.
// `held` gets the inputs of all layers but the first, for the backward pass, unless it is null. `fast`: factors of products may
// be rounded to bfloat16.
void conv3x3_chain(const std::vector<Tensor>& inputs, const std::vector<ChainLayer>& layers, const Tensor& out,
                   Shuffles shuffles = {}, float* held = nullptr, bool fast = false);

// Gradients to fill; an empty tensor (no elements) is not wanted.
struct ChainGradients {
  std::vector<Tensor> inputs, weights, biases;
};

// Recomputes the intermediate images, one group of images at a time, if nothing is held. `fast` as above, except for the sums
// of weight gradients.
void conv3x3_chain_backward(const Tensor& grad, const std::vector<Tensor>& inputs, const std::vector<ChainLayer>& layers,
                            const ChainGradients& gradients, Shuffles shuffles = {}, float* held = nullptr,
                            bool fast = false);
}  // namespace rirn
