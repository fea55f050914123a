#include "conv3x3_chain.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

#include "../checks.h"
#include "../gradients.h"
#include "conv3x3_direct.h"
#include "dense.h"
#include "simd.h"
#include "winograd_pack.h"

namespace rirn {
namespace {
using Tensors = std::vector<Tensor>;

// Working memory, zero from the start and aligned for any register.
class Arena {
 public:
  Arena() = default;
  explicit Arena(size_t floats) : memory_(std::calloc(floats * sizeof(float) + kAlignment, 1), std::free) {
    if (!memory_) throw std::bad_alloc();
  }
  float* get() const {
    const uintptr_t p = reinterpret_cast<uintptr_t>(memory_.get());
    return reinterpret_cast<float*>((p + kAlignment - 1) / kAlignment * kAlignment);
  }

 private:
  static constexpr size_t kAlignment = 64;
  std::unique_ptr<void, void (*)(void*)> memory_{nullptr, std::free};
};

// The calling thread's own scratch memory, kept between calls: fresh pages would cost more than they hold. Valid until the
// thread asks again.
float* thread_scratch(size_t floats) {
  static thread_local Arena arena;
  static thread_local size_t size = 0;
  if (size < floats) {
    arena = Arena();
    arena = Arena(floats);
    size = floats;
  }
  return arena.get();
}

std::vector<Image> images_of(const Tensors& tensors, int64_t n) {
  std::vector<Image> images;
  for (const Tensor& t : tensors) images.push_back(image_of(t, n));
  return images;
}

// Layers with their packed weights.
struct Packed {
  std::vector<std::vector<float>> weights, biases;
  std::vector<ConvLayer> layers;
};

Packed pack_layers(const std::vector<ChainLayer>& chain) {
  Packed packed;
  for (const ChainLayer& l : chain) {
    const int co = (int)l.weight.size(0), ci = (int)l.weight.size(1);
    packed.weights.push_back(pack_weights(read_dense<float>(l.weight).data(), co, ci));
    packed.biases.push_back(read_dense<float>(l.bias));
    packed.layers.push_back({packed.weights.back().data(), packed.biases.back().data(), ci, co, (float)l.slope, l.skip});
  }
  return packed;
}

// Layer l of n (from 1) has its rows of tiles at y = n - l modulo kTile, in a sweep and outside alike: the same bits.
int first_tile_row(int l, int n) { return -((kTile - (n - l) % kTile) % kTile); }

int widest(const std::vector<ConvLayer>& layers) {
  int channels = 0;
  for (const ConvLayer& l : layers) channels = std::max({channels, l.ci, l.co});
  return channels;
}

// One layer over a whole image, rows of tiles shared out among the threads.
void whole_layer(const SimdKernels& simd, LayerJob job, int first_row, int channels) {
  const int rows = (job.H - first_row + kTile - 1) / kTile;
  job.y_begin = 0;
  job.y_end = job.H;
  torch::stable::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
    LayerJob mine = job;
    mine.arena = thread_scratch(simd.layer_arena(channels));
    for (int64_t r = begin; r < end; ++r) {
      mine.y = first_row + (int)r * kTile;
      simd.layer(mine);
    }
  });
}

void load_plane(const SimdKernels& simd, const std::vector<Image>& images, const Plane& plane, int H, int W) {
  torch::stable::parallel_for(0, H, 4, [&](int64_t begin, int64_t end) {
    simd.load_rows(images.data(), (int)images.size(), plane, (int)begin, (int)end, H, W);
  });
}

// Inputs of all layers of one image as whole planes; the last layer's result goes to `out` unless that is null.
void forward_planes(const SimdKernels& simd, const std::vector<Image>& inputs, const std::vector<ConvLayer>& layers,
                    const std::vector<Plane>& planes, const Image* out, int H, int W) {
  const int n = (int)layers.size(), channels = widest(layers);
  load_plane(simd, inputs, planes[0], H, W);
  for (int l = 1; l <= n; ++l) {
    if (l == n && !out) return;
    LayerJob job{};
    job.layer = layers[l - 1];
    job.in = planes[l - 1];
    job.skip = layers[l - 1].skip ? &planes[l - 2] : nullptr;
    job.to = l < n ? &planes[l] : nullptr;
    job.image = out;
    job.H = H;
    job.W = W;
    whole_layer(simd, job, first_tile_row(l, n), channels);
  }
}

// Whole images of working rows, with a border of zeros that the tiles of any layer may touch: everything starts as zero, and
// whatever writes to a plane leaves what lies outside the image as it is or writes zeros there.
//
// The memory of the last call is kept for the next one of the same shape: in a backward pass fresh pages took a fifth of the
// time. Very large images give theirs back.
class WorkingPlanes {
 public:
  WorkingPlanes(std::vector<int> channels, int tiles, int H) {
    Memory wanted{std::move(channels), tiles, H, 0, Arena()};
    for (int c : wanted.channels) wanted.size += plane(c, wanted).size();
    {
      const std::lock_guard<std::mutex> lock(mutex());
      std::swap(memory_, kept());
    }
    if (memory_.channels != wanted.channels || memory_.tiles != tiles || memory_.H != H) {
      memory_ = Memory();
      wanted.arena = Arena(wanted.size);
      memory_ = std::move(wanted);
    }
    float* p = memory_.arena.get();
    for (int c : memory_.channels) {
      planes_.push_back(plane(c, memory_));
      planes_.back().base = p;
      p += planes_.back().size();
    }
  }
  ~WorkingPlanes() {
    if (memory_.size > kMostKept) return;
    const std::lock_guard<std::mutex> lock(mutex());
    std::swap(memory_, kept());
  }
  WorkingPlanes(const WorkingPlanes&) = delete;
  WorkingPlanes& operator=(const WorkingPlanes&) = delete;

  const std::vector<Plane>& planes() const { return planes_; }

 private:
  static constexpr size_t kMostKept = (256 << 20) / sizeof(float);
  struct Memory {
    std::vector<int> channels;
    int tiles = 0, H = 0;
    size_t size = 0;
    Arena arena;
  };
  static Plane plane(int channels, const Memory& m) { return {nullptr, channels, m.tiles, m.H + 4 * kTile}; }
  static std::mutex& mutex() {
    static std::mutex it;
    return it;
  }
  static Memory& kept() {
    static Memory it;
    return it;
  }

  Memory memory_;
  std::vector<Plane> planes_;
};

std::vector<int> input_channels(const std::vector<ConvLayer>& layers) {
  std::vector<int> channels;
  for (const ConvLayer& l : layers) channels.push_back(l.ci);
  return channels;
}

// Rows of the bands that the threads sweep, or 0 if the bands would be so short that the n (n - 1) / 2 blocks of rows which
// every band but the first recomputes at its top cost more than the 28 % by which a sweep beats one layer after the other.
int band_rows(int64_t N, int H, int n) {
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t bands = std::max<int64_t>(1, (threads + N - 1) / N);
  const int rows = (int)((H + bands * kTile - 1) / (bands * kTile)) * kTile;
  const double useful = 1. * n * H / kTile, repeated = (bands - 1) * n * (n - 1) / 2.;
  return repeated <= 0.28 * useful ? rows : 0;
}
}  // namespace

void conv3x3_chain(const Tensors& inputs, const std::vector<ChainLayer>& chain, const Tensor& out) {
  if (out.scalar_type() == ScalarType::Double) return conv3x3_direct(inputs, chain, out);
  if (!out.numel()) return;
  const SimdKernels& simd = simd_kernels();
  const Packed packed = pack_layers(chain);
  const std::vector<ConvLayer>& layers = packed.layers;
  const int n = (int)layers.size(), H = (int)out.size(2), W = (int)out.size(3);
  const int64_t N = out.size(0);
  const int rows = band_rows(N, H, n);
  if (!rows) {
    const WorkingPlanes working(input_channels(layers), simd.plane_tiles(W), H);
    for (int64_t i = 0; i < N; ++i) {
      const Image image = image_of(out, i);
      forward_planes(simd, images_of(inputs, i), layers, working.planes(), &image, H, W);
    }
    return;
  }
  const int64_t bands = (H + rows - 1) / rows;
  torch::stable::parallel_for(0, N * bands, 1, [&](int64_t begin, int64_t end) {
    float* arena = thread_scratch(simd.sweep_arena(layers.data(), n, W));
    for (int64_t i = begin; i < end; ++i) {
      const std::vector<Image> in = images_of(inputs, i / bands);
      const int y = (int)(i % bands) * rows;
      simd.sweep({in.data(), (int)in.size(), image_of(out, i / bands), layers.data(), n, H, W, y, std::min(H, y + rows),
                  arena});
    }
  });
}

namespace {
// Sums of one layer's weight gradient in the transform domain, in a fixed number of parts that different threads may make:
// the order of summation does not depend on who does.
class WeightSums {
 public:
  WeightSums(const SimdKernels& simd, const ConvLayer& layer, int H, int W)
      : simd_(simd), ci_(layer.ci), co_(layer.co), parts_(count_parts((H + kTile - 1) / kTile, (W + kTile - 1) / kTile)),
        stride_((size_t)kPoints * simd.padded_inputs(ci_) * simd.padded_outputs(co_)), sums_(parts_ * stride_),
        bias_((size_t)parts_ * co_) {}

  void add(const Plane& in, const Plane& grad, int H, int W) {
    const int blocks = (H + kTile - 1) / kTile;
    torch::stable::parallel_for(0, parts_, 1, [&](int64_t begin, int64_t end) {
      float* arena = thread_scratch(simd_.weight_arena(ci_, co_));
      for (int64_t s = begin; s < end; ++s)
        simd_.weight_gradient({in, grad, sums_.get() + s * stride_, bias_.data() + s * co_, H, W, (int)(s * blocks / parts_) * kTile,
                               (int)((s + 1) * blocks / parts_) * kTile, arena});
    });
  }

  std::vector<float> weight() const {
    return unpack_weight_gradient(sums_.get(), parts_, stride_, co_, ci_, simd_.padded_outputs(co_), simd_.padded_inputs(ci_));
  }

  std::vector<float> bias() const {
    std::vector<float> out(co_);
    for (int o = 0; o < co_; ++o) {
      double sum = 0;
      for (int s = 0; s < parts_; ++s) sum += bias_[(size_t)s * co_ + o];
      out[o] = (float)sum;
    }
    return out;
  }

 private:
  // Clearing a part and adding it up in the end costs about as much as the products of 100 tiles.
  static int count_parts(int rows, int tiles_per_row) {
    return std::max(1, std::min({kMostParts, rows, rows * tiles_per_row / 100}));
  }
  static constexpr int kMostParts = 8;
  const SimdKernels& simd_;
  int ci_, co_, parts_;
  size_t stride_;
  Arena sums_;
  std::vector<float> bias_;
};

bool wanted(const Tensor& t) { return t.numel() > 0; }
}  // namespace

void conv3x3_chain_backward(const Tensor& grad, const Tensors& inputs, const std::vector<ChainLayer>& chain,
                            const ChainGradients& gradients) {
  if (grad.scalar_type() == ScalarType::Double) return conv3x3_direct_backward(grad, inputs, chain, gradients);
  const SimdKernels& simd = simd_kernels();
  const Packed packed = pack_layers(chain);
  const std::vector<ConvLayer>& layers = packed.layers;
  const int n = (int)layers.size(), H = (int)grad.size(2), W = (int)grad.size(3), channels = widest(layers);
  const int64_t N = grad.size(0);

  // The lowest layer whose output gradient is needed at all.
  bool want_input = false;
  for (const Tensor& t : gradients.inputs) want_input |= wanted(t);
  int last = 0;
  while (!want_input && last < n && !wanted(gradients.weights[last]) && !wanted(gradients.biases[last])) ++last;
  if (last == n) return;

  std::vector<std::vector<float>> rotated(n);
  std::vector<std::unique_ptr<WeightSums>> sums(n);
  for (int l = 0; l < n; ++l) {
    if (l > last || want_input)
      rotated[l] = pack_rotated_weights(read_dense<float>(chain[l].weight).data(), layers[l].co, layers[l].ci);
    if (wanted(gradients.weights[l]) || wanted(gradients.biases[l]))
      sums[l] = std::make_unique<WeightSums>(simd, layers[l], H, W);
  }

  // Plane l holds the input of layer l; once that layer's weights have had their gradient it holds the gradient of that input,
  // before its activation. Plane n holds the gradient of the result.
  std::vector<int> widths = input_channels(layers);
  widths.push_back(layers.back().co);
  const WorkingPlanes working(widths, simd.plane_tiles(W), H);
  const std::vector<Plane>& planes = working.planes();
  for (int64_t i = 0; grad.numel() && i < N; ++i) {
    forward_planes(simd, images_of(inputs, i), layers, planes, nullptr, H, W);
    load_plane(simd, {image_of(grad, i)}, planes[n], H, W);
    for (int l = n - 1; l >= last; --l) {
      if (sums[l]) sums[l]->add(planes[l], planes[l + 1], H, W);
      if (l == last && !want_input) break;
      // The input of layer l also went round the layer after it if that one's result had it added.
      const bool skipped = l + 1 < n && layers[l + 1].skip;
      LayerJob job{};
      job.layer = {rotated[l].data(), nullptr, layers[l].co, layers[l].ci, 1.f, false};
      job.in = planes[l + 1];
      job.skip = skipped ? &planes[l + 2] : nullptr;
      job.gate = l > 0 && layers[l - 1].slope != 1 ? &planes[l] : nullptr;
      job.gate_slope = l > 0 ? layers[l - 1].slope : 1.f;
      job.to = &planes[l];
      job.H = H;
      job.W = W;
      whole_layer(simd, job, 0, channels);
    }
    if (!want_input) continue;
    std::vector<Image> images;
    for (size_t k = 0; k < inputs.size(); ++k) {
      images.push_back(image_of(wanted(gradients.inputs[k]) ? gradients.inputs[k] : inputs[k], i));
      if (!wanted(gradients.inputs[k])) images.back().data = nullptr;
    }
    torch::stable::parallel_for(0, H, 4, [&](int64_t begin, int64_t end) {
      simd.store_rows(planes[0], images.data(), (int)images.size(), (int)begin, (int)end, W);
    });
  }
  for (int l = 0; l < n; ++l) {
    if (wanted(gradients.weights[l])) write_dense(sums[l]->weight(), gradients.weights[l]);
    if (wanted(gradients.biases[l])) write_dense(sums[l]->bias(), gradients.biases[l]);
  }
}

namespace {
std::vector<ChainLayer> chain_of(const Tensors& weights, const Tensors& biases, const std::vector<double>& slopes,
                                 const std::vector<int64_t>& skips) {
  std::vector<ChainLayer> chain;
  for (size_t l = 0; l < weights.size(); ++l) chain.push_back({weights[l], biases[l], slopes[l], skips[l] != 0});
  return chain;
}

// A result of other channels than the input keeps its memory format.
Tensor empty_like_channels(const Tensor& like, int64_t channels) {
  const bool channels_last = like.size(1) > 1 && like.stride(1) == 1;
  Tensor out = torch::stable::new_empty(
      like, channels_last ? std::vector<int64_t>{like.size(0), like.size(2), like.size(3), channels}
                          : std::vector<int64_t>{like.size(0), channels, like.size(2), like.size(3)});
  if (!channels_last) return out;
  return torch::stable::transpose(torch::stable::transpose(out, 1, 3), 2, 3);
}

Tensor conv3x3_chain_op(Tensors inputs, Tensors weights, Tensors biases, std::vector<double> slopes, std::vector<int64_t> skips) {
  check_conv3x3_chain(inputs, weights, biases, slopes, skips);
  Tensor out = empty_like_channels(inputs[0], weights.back().size(0));
  conv3x3_chain(inputs, chain_of(weights, biases, slopes, skips), out);
  return out;
}

Tensors conv3x3_chain_backward_op(Tensor grad, Tensors inputs, Tensors weights, Tensors biases, std::vector<double> slopes,
                                  std::vector<int64_t> skips, int64_t needs) {
  check_conv3x3_chain(inputs, weights, biases, slopes, skips);
  check_same_kind(grad, "grad", inputs[0], "inputs[0]");
  const bool fits = grad.dim() == 4 && grad.size(0) == inputs[0].size(0) && grad.size(1) == weights.back().size(0) &&
                    grad.size(2) == inputs[0].size(2) && grad.size(3) == inputs[0].size(3);
  if (!fits) fail("grad must have the shape of the result; got ", shape_of(grad), " for inputs[0] ", shape_of(inputs[0]));
  Tensors tensors = inputs;
  tensors.insert(tensors.end(), weights.begin(), weights.end());
  tensors.insert(tensors.end(), biases.begin(), biases.end());
  const Tensors all = wanted_gradients(needs, tensors);
  const auto first_weight = all.begin() + inputs.size(), first_bias = first_weight + weights.size();
  const ChainGradients gradients{{all.begin(), first_weight}, {first_weight, first_bias}, {first_bias, all.end()}};
  conv3x3_chain_backward(grad, inputs, chain_of(weights, biases, slopes, skips), gradients);
  return all;
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CPU, m) {
  m.impl("conv3x3_chain", TORCH_BOX(&rirn::conv3x3_chain_op));
  m.impl("conv3x3_chain_backward", TORCH_BOX(&rirn::conv3x3_chain_backward_op));
}
