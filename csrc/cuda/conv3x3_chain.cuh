// Chains of 3x3 convolutions on CUDA, forward and backward: which kernels run on what, in plain pointers. One launch per layer,
// and in fp16 and bf16 one to pack their weights, unless these are kept packed.
//
// What a chain moves: per layer its inputs with a rim of one pixel around tiles of 32x8 (1.33 times them, mostly from cache), the
// skip connection and the result, once each. An eager chain reads and writes the result again for the bias or the
// activation and for the sum.
#pragma once
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "conv3x3.cuh"
#include "conv3x3_weight_gradient.cuh"

namespace rirn {
namespace cuda {
constexpr int kMostLayers = 30;

template <class T>
struct Layer {
  Weights<T> weight;
  const T* bias;
  int64_t bias_stride;
  double slope;
  bool skip;
};

template <class T>
struct Chain {
  Images<T> inputs;
  Layer<T> layers[kMostLayers];
  int count;
  int64_t images;
  int h, w;
};

using Half = uint16_t;  // fp16 or bf16: packing weights only moves bits

inline void launch_packs(const std::vector<PackJob<Half>>& jobs, const Stream& stream) {
  PackArgs<Half> args;
  for (size_t first = 0; first < jobs.size(); first += kMostPackJobs) {
    const int count = static_cast<int>(std::min<size_t>(jobs.size() - first, kMostPackJobs));
    std::copy_n(jobs.begin() + first, count, args.jobs);
    launch_pack(args, count, stream);
  }
}

// Weights packed for the tensor cores, reused by later calls: those of one address and shape must not change.
class KeptWeights {
 public:
  struct Entry {
    PackJob<Half> job;
    bool packed;  // or will be, by work queued on its stream
  };
  virtual ~KeptWeights() = default;

  // Weights for a kernel that makes 8 n outputs in a block of the current device.
  Entry& find(const Weights<Half>& w, int n, const Stream& stream) {
    int device = 0;
    cudaGetDevice(&device);
    Entry& entry = entries_[{{device, stream.handle}, {w.data, w.o, w.i, w.y, w.x, w.outputs, w.inputs, n}}];
    if (!entry.job.packed) entry.job = {w, static_cast<uint4*>(allocate(packed_size(w, n) * sizeof(uint4))), n};
    return entry;
  }
  // Repacks all those of the current device and of a stream, with their current values.
  void pack_again(const Stream& stream) {
    int device = 0;
    cudaGetDevice(&device);
    std::vector<PackJob<Half>> jobs;
    for (auto& [key, entry] : entries_) {
      if (key.first != Place{device, stream.handle}) continue;
      jobs.push_back(entry.job);
      entry.packed = true;
    }
    launch_packs(jobs, stream);
  }

 private:
  using Place = std::pair<int, cudaStream_t>;
  using Source = std::tuple<const Half*, int64_t, int64_t, int64_t, int64_t, int, int, int>;

  virtual void* allocate(size_t bytes) = 0;

  std::map<std::pair<Place, Source>, Entry> entries_;
};

// What a call may write to besides its results.
struct Workspace {
  void* memory;        // null: the call only counts how much it needs
  KeptWeights* kept;  // null: weights are packed for this call alone
};

// Hands out stretches of a workspace; without memory it only counts.
class Arena {
 public:
  explicit Arena(const Workspace& workspace) : memory_(static_cast<char*>(workspace.memory)) {}
  template <class T>
  T* take(int64_t count) {
    char* start = memory_ ? memory_ + used_ : nullptr;
    used_ += (count * sizeof(T) + 255) / 256 * 256;
    return reinterpret_cast<T*>(start);
  }
  size_t used() const { return std::max<size_t>(used_, 1); }  // a workspace of no bytes would look like none

 private:
  char* memory_;
  size_t used_ = 0;
};

// Images between layers: on tensor cores pixel by pixel in whole groups of 8 channels, else channel by channel.
template <class T>
Image<T> between(T* data, int channels, int h, int w) {
  const int64_t pixels = static_cast<int64_t>(h) * w;
  if (!kOnTensorCores<T>) return {data, channels * pixels, pixels, w, 1, channels, false, 1};
  const int64_t padded = 8 * groups_of(channels);
  return {data, padded * pixels, 1, w * padded, padded, channels, false, 8};
}
inline int64_t size_between(int channels, int64_t images, int h, int w) {
  return images * 8 * groups_of(channels) * h * w;
}

// The weights of a call, packed for the tensor cores.
class Packing {
 public:
  Packing(Arena& arena, const Workspace& workspace, const Stream& stream) : arena_(arena), workspace_(workspace), stream_(stream) {}

  // Where weights are after `launch`, for a kernel that makes 8 n outputs in a block.
  template <class T>
  uint4* take(const Weights<T>& w, int n) {
    if (!kOnTensorCores<T>) return nullptr;
    const Weights<Half> weight{reinterpret_cast<const Half*>(w.data), w.o, w.i, w.y, w.x, w.outputs, w.inputs};
    if (!workspace_.kept) {
      jobs_.push_back({weight, arena_.take<uint4>(packed_size(weight, n)), n});
      return jobs_.back().packed;
    }
    KeptWeights::Entry& entry = workspace_.kept->find(weight, n, stream_);
    if (workspace_.memory && !entry.packed) {
      jobs_.push_back(entry.job);
      entry.packed = true;
    }
    return entry.job.packed;
  }
  template <class T>
  uint4* take(const Weights<T>& weight) {
    return take(weight, mma_width(weight.outputs));
  }
  void launch() const { launch_packs(jobs_, stream_); }

 private:
  Arena& arena_;
  const Workspace& workspace_;
  const Stream& stream_;
  std::vector<PackJob<Half>> jobs_;
};

// Layer `l`: `images[k]` is what layer k reads, and `to` what this one's result goes to.
template <class T>
void forward_layer(const Chain<T>& chain, int l, const Images<T>* images, const Images<T>& to, const uint4* packed,
                   const Stream& stream) {
  const Layer<T>& layer = chain.layers[l];
  ConvArgs<T> a{};
  a.in = images[l];
  a.out = to;
  if (layer.skip) {
    a.skip = images[l - 1];
    a.out.chunk = std::min(a.out.chunk, a.skip.chunk);
  }
  a.bias = layer.bias;
  a.bias_stride = layer.bias_stride;
  a.slope = layer.slope;
  a.weight = layer.weight;
  a.packed = packed;
  a.images = chain.images;
  a.h = chain.h;
  a.w = chain.w;
  launch_conv3x3(a, stream);
}

// Computes the chain's result; returns the bytes of workspace that it needs, and without one does nothing else.
template <class T>
size_t chain_forward(const Chain<T>& chain, const Image<T>& out, const Workspace& workspace, const Stream& stream) {
  const int n = chain.count;
  Arena arena(workspace);
  Packing packing(arena, workspace, stream);
  uint4* packed[kMostLayers];
  for (int l = 0; l < n; ++l) packed[l] = packing.take(chain.layers[l].weight);
  int64_t largest = 0;
  for (int l = 0; l + 1 < n; ++l)
    largest = std::max(largest, size_between(chain.layers[l].weight.outputs, chain.images, chain.h, chain.w));
  T* buffers[3];  // a layer reads at most the last two results
  for (int k = 0; k < 3; ++k) buffers[k] = k < n - 1 ? arena.take<T>(largest) : nullptr;
  if (!workspace.memory) return arena.used();

  packing.launch();
  Images<T> images[kMostLayers];
  images[0] = chain.inputs;
  for (int l = 0; l < n; ++l) {
    const bool last = l == n - 1;
    const Images<T> to = only(last ? out : between(buffers[l % 3], chain.layers[l].weight.outputs, chain.h, chain.w));
    forward_layer(chain, l, images, to, packed[l], stream);
    if (!last) images[l + 1] = to;
  }
  return arena.used();
}

template <class T>
struct WeightGradient {
  T* weight;  // null: not wanted
  int64_t o, i, y, x;
  T* bias;  // null: not wanted
  int64_t bias_stride;
};

template <class T>
struct ChainGradients {
  Images<T> inputs;  // without data where not wanted
  WeightGradient<T> layers[kMostLayers];
};

// Computes the wanted gradients from that of the result before its activation; workspace as above. Everything between the inputs
// and the result is recomputed and kept in the workspace.
template <class T>
size_t chain_backward(const Chain<T>& chain, const Image<T>& grad, const ChainGradients<T>& gradients, const Workspace& workspace,
                      const Stream& stream) {
  const int n = chain.count, h = chain.h, w = chain.w;
  bool want_input = false;
  for (int k = 0; k < gradients.inputs.count; ++k) want_input |= gradients.inputs.v[k].data != nullptr;
  int lowest = 0;  // layer whose result has a gradient that is needed
  while (!want_input && lowest < n && !gradients.layers[lowest].weight && !gradients.layers[lowest].bias) ++lowest;
  if (lowest == n) return 0;

  Arena arena(workspace);
  Packing packing(arena, workspace, stream);
  uint4 *packed[kMostLayers], *rotated[kMostLayers];
  T* results[kMostLayers];
  int64_t widest = 0, partial = 0, bias_partial = 0;
  for (int l = 0; l < n; ++l) {
    const Weights<T>& weight = chain.layers[l].weight;
    const bool turns = l > lowest || want_input, sums = gradients.layers[l].weight || gradients.layers[l].bias;
    packed[l] = l + 1 < n ? packing.take(weight) : nullptr;
    rotated[l] = turns ? packing.take(weight.rotated()) : nullptr;
    results[l] = l + 1 < n ? arena.take<T>(size_between(weight.outputs, chain.images, h, w)) : nullptr;
    if (l + 1 < n) widest = std::max(widest, size_between(weight.outputs, chain.images, h, w));
    if (!sums) continue;
    const int64_t parts = gradient_parts(chain.images, h, w, weight.inputs, weight.outputs);
    partial = std::max(partial, parts * weight.outputs * weight.inputs * 9);
    bias_partial = std::max(bias_partial, parts * weight.outputs);
  }
  T* buffers[3];
  for (int k = 0; k < 3; ++k) buffers[k] = k < n - 1 ? arena.take<T>(widest) : nullptr;
  Wide<T>* partials = arena.take<Wide<T>>(partial);
  Wide<T>* bias_partials = arena.take<Wide<T>>(bias_partial);
  if (!workspace.memory) return arena.used();

  packing.launch();
  Images<T> images[kMostLayers];
  images[0] = chain.inputs;
  for (int l = 0; l + 1 < n; ++l) {
    images[l + 1] = only(between(results[l], chain.layers[l].weight.outputs, h, w));
    forward_layer(chain, l, images, images[l + 1], packed[l], stream);
  }

  Image<T> of[kMostLayers + 1];  // gradient of what layer l reads, before the activation that made it; [n]: of the result
  of[n] = grad;
  for (int l = n - 1; l >= lowest; --l) {
    const Weights<T>& weight = chain.layers[l].weight;
    const WeightGradient<T>& wanted = gradients.layers[l];
    if (wanted.weight || wanted.bias) {
      const int parts = gradient_parts(chain.images, h, w, weight.inputs, weight.outputs);
      launch_weight_gradient<T>({images[l], only(of[l + 1]), partials, bias_partials, parts, weight.inputs, weight.outputs,
                                 chain.images, h, w},
                                {partials, bias_partials, wanted.weight, wanted.bias, wanted.o, wanted.i, wanted.y, wanted.x,
                                 wanted.bias_stride, parts, weight.inputs, weight.outputs},
                                stream);
    }
    if (l == lowest && !want_input) break;
    ConvArgs<T> a{};
    a.in = only(of[l + 1]);
    if (l > 0) of[l] = between(buffers[(l - 1) % 3], weight.inputs, h, w);
    a.out = l > 0 ? only(of[l]) : gradients.inputs;
    // What layer l reads was also added to the result of the layer after it, if that one has a skip connection.
    if (l + 1 < n && chain.layers[l + 1].skip) a.skip = only(of[l + 2]);
    a.slope = 1;
    a.gate_slope = 1;
    if (l > 0 && chain.layers[l - 1].slope != 1) {
      a.gate = images[l].v[0];
      a.gate_slope = chain.layers[l - 1].slope;
    }
    a.weight = weight.rotated();
    a.packed = rotated[l];
    a.images = chain.images;
    a.h = h;
    a.w = w;
    launch_conv3x3(a, stream);
  }
  return arena.used();
}
}  // namespace cuda
}  // namespace rirn
