// From torch's tensors to the structs of conv3x3_chain.cuh, for the ops that are chains of 3x3 convolutions.
#pragma once
#include "binding.h"
#include "conv3x3_chain.cuh"
#include "packed_weights.h"

namespace rirn {
namespace cuda {
// Compiled once, in conv3x3_chain.cu, with the kernels that they launch.
#define RIRN_CHAINS(PREFIX, T)                                                                    \
  PREFIX template void launch_conv3x3(const ConvArgs<T>&, const Stream&);                         \
  PREFIX template size_t chain_forward(const Chain<T>&, const Image<T>&, const Workspace&, const Stream&);   \
  PREFIX template size_t chain_backward(const Chain<T>&, const Image<T>&, const ChainGradients<T>&, const Workspace&, const Stream&);
#define RIRN_ALL_CHAINS(PREFIX) \
  RIRN_CHAINS(PREFIX, float)    \
  RIRN_CHAINS(PREFIX, double)   \
  RIRN_CHAINS(PREFIX, __half)   \
  RIRN_CHAINS(PREFIX, __nv_bfloat16)
RIRN_ALL_CHAINS(extern)

template <class T>
Weights<T> weights_of(const Tensor& w) {
  return {pointer<T>(w), w.stride(0), w.stride(1), w.stride(2), w.stride(3), (int)w.size(0), (int)w.size(1)};
}

template <class T>
Chain<T> chain_of(const Tensors& inputs, const Tensors& weights, const Tensors& biases, const std::vector<double>& slopes,
                  const std::vector<int64_t>& skips, bool unshuffle) {
  Chain<T> chain{};
  for (const Tensor& t : inputs) append(chain.inputs, image_of(view<T>(t), unshuffle));
  for (size_t l = 0; l < weights.size(); ++l) {
    const Tensor& b = biases[l];
    chain.layers[l] = {weights_of<T>(weights[l]), pointer<T>(b), b.stride(0), slopes[l], skips[l] != 0};
  }
  chain.count = (int)weights.size();
  const int down = unshuffle ? 2 : 1;
  chain.images = inputs[0].size(0);
  chain.h = (int)(inputs[0].size(2) / down);
  chain.w = (int)(inputs[0].size(3) / down);
  return chain;
}

// `all`: gradients of inputs, weights and biases, without elements if not wanted.
template <class T>
ChainGradients<T> gradients_of(const Tensors& all, const Chain<T>& chain, bool unshuffle) {
  ChainGradients<T> gradients{};
  const int inputs = chain.inputs.count;
  for (int k = 0; k < inputs; ++k) {
    Image<T> image = chain.inputs.v[k];
    image.data = nullptr;
    append(gradients.inputs, all[k].numel() ? image_of(view<T>(all[k]), unshuffle) : image);
  }
  for (int l = 0; l < chain.count; ++l) {
    const Tensor &w = all[inputs + l], &b = all[inputs + chain.count + l];
    WeightGradient<T>& g = gradients.layers[l];
    if (w.numel()) g = {pointer<T>(w), w.stride(0), w.stride(1), w.stride(2), w.stride(3)};
    if (b.numel()) {
      g.bias = pointer<T>(b);
      g.bias_stride = b.stride(0);
    }
  }
  return gradients;
}

// Runs `f(workspace)`, which without memory returns the bytes that it needs, on memory of torch's allocator. It is freed
// in stream order, so nothing has to wait. `weights`: what `f` may keep packed.
template <class F>
void with_workspace(const Tensor& like, const Tensors& weights, F&& f) {
  KeptWeights* kept = kept_weights(like, weights);
  const size_t bytes = f(Workspace{nullptr, kept});
  const Tensor memory = torch::stable::new_empty(like, {(int64_t)bytes}, ScalarType::Byte);
  f(Workspace{memory.data_ptr(), kept});
}

inline void check_input_count(const Tensors& inputs) {
  if ((int)inputs.size() > kMostImages)
    fail("the CUDA kernel of conv3x3_chain reads at most ", kMostImages, " inputs; got ", inputs.size(), "; concatenate some of them");
}

// All wanted gradients of a chain; `grad` is that of the result before its activation.
inline Tensors chain_gradients(const char* op, const Tensor& grad, const Tensors& inputs, const Tensors& weights, const Tensors& biases,
                               const std::vector<double>& slopes, const std::vector<int64_t>& skips, bool unshuffle, bool shuffle,
                               int64_t output_mask) {
  const DeviceGuard guard(grad.get_device_index());
  Tensors tensors = inputs;
  tensors.insert(tensors.end(), weights.begin(), weights.end());
  tensors.insert(tensors.end(), biases.begin(), biases.end());
  Tensors all = wanted_gradients(output_mask, tensors);
  if (!grad.numel()) {
    for (Tensor& t : all) torch::stable::zero_(t);
    return all;
  }
  const Stream stream = current_stream(grad);
  dispatch_dtype(grad.scalar_type(), [&](auto sample) {
    using T = decltype(sample);
    const Chain<T> chain = chain_of<T>(inputs, weights, biases, slopes, skips, unshuffle);
    const ChainGradients<T> gradients = gradients_of<T>(all, chain, unshuffle);
    with_workspace(grad, weights, [&](const Workspace& workspace) {
      return chain_backward(chain, image_of(view<T>(grad), shuffle), gradients, workspace, stream);
    });
  });
  check_launch(op);
  return all;
}
}  // namespace cuda
}  // namespace rirn
