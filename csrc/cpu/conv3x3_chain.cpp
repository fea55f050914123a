#include "conv3x3_chain.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>
#include <memory>

#include "../checks.h"
#include "../gradients.h"
#include "conv3x3_direct.h"
#include "dense.h"
#include "groups.h"
#include "layer_split.h"
#include "output_memory.h"
#include "parallel.h"
#include "simd.h"
#include "winograd_pack.h"
#include "working_memory.h"

namespace rirn {
namespace {
using Tensors = std::vector<Tensor>;

std::vector<Image> images_of(const Tensors& tensors, int64_t n, bool shuffled) {
  std::vector<Image> images;
  for (const Tensor& t : tensors) images.push_back(image_of(t, n, shuffled));
  return images;
}

// Height (2) or width (3) of the images that the layers see.
int side(const Tensor& t, int dimension, bool shuffled) { return (int)t.size(dimension) / (shuffled ? 2 : 1); }

// Layers with their packed weights.
struct Packed {
  std::vector<std::vector<float>> biases;
  std::vector<std::shared_ptr<const float>> weights;
  std::vector<ConvLayer> layers;
};

// Packs the weights of the first `used` layers only.
Packed pack_layers(const SimdKernels& simd, const std::vector<ChainLayer>& chain, size_t used) {
  Packed packed;
  for (size_t i = 0; i < chain.size(); ++i) {
    const ChainLayer& l = chain[i];
    packed.biases.push_back(read_dense<float>(l.bias));
    packed.weights.push_back(i < used ? pack_weights(simd, l.weight, false) : nullptr);
    packed.layers.push_back({packed.weights.back().get(), packed.biases.back().data(), (int)l.weight.size(1),
                             (int)l.weight.size(0), (float)l.slope, l.skip});
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

// One layer over a whole image, divided among the threads.
void whole_layer(const SimdKernels& simd, LayerJob job, int first_row, int channels) {
  const int registers = (job.H - first_row + kTile - 1) / kTile * (job.columns.stride / simd.lanes);
  const LayerSplit split = split_layer(simd, registers, job.layer.ci, job.layer.co, torch::stable::get_num_threads());
  job.y = first_row;
  job.y_begin = 0;
  job.y_end = job.H;
  const auto run = [&](LayerJob mine, int64_t first, int64_t last) {
    mine.arena = thread_scratch(Scratch::job, simd.layer_arena(channels));
    mine.first = (int)first;
    mine.count = (int)(last - first);
    simd.layer(mine);
  };
  if (!split.shared) return parallel_for(0, registers, 1, [&](int64_t begin, int64_t end) { run(job, begin, end); });
  const int items = (registers + split.shared - 1) / split.shared;
  const size_t floats = simd.transformed_floats(job.layer.ci, split.shared);
  float* transformed = thread_scratch(Scratch::transformed, items * floats);
  for (const bool makes_outputs : {false, true}) {
    int size = makes_outputs ? simd.output_block(job.layer.co) : kTransformed;
    // Of two channels that share a row of a shuffled result, the second fills in what the first left out.
    if (makes_outputs && !job.to && job.image->shuffled && size % 2) size *= 2;
    const int parts = ((makes_outputs ? job.layer.co : job.layer.ci) + size - 1) / size;
    parallel_for(0, (int64_t)items * parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        LayerJob mine = job;
        mine.transformed = transformed + i / parts * floats;
        mine.makes_outputs = makes_outputs;
        mine.begin = (int)(i % parts) * size;
        mine.end = mine.begin + size;
        const int64_t first = i / parts * split.shared;
        run(mine, first, std::min<int64_t>(registers, first + split.shared));
      }
    });
  }
}

void load_plane(const SimdKernels& simd, const std::vector<Image>& images, const Plane& plane, int H, const Columns& columns) {
  parallel_for(0, H, 4, [&](int64_t begin, int64_t end) {
    simd.load_rows(images.data(), (int)images.size(), plane, (int)begin, (int)end, H, columns);
  });
}

// Inputs of all layers of a group of images as whole planes; the last layer's result goes to `out` unless that is null.
void forward_planes(const SimdKernels& simd, const std::vector<Image>& inputs, const std::vector<ConvLayer>& layers,
                    const std::vector<Plane>& planes, const Image* out, int H, const Columns& columns) {
  const int n = (int)layers.size(), channels = widest(layers);
  load_plane(simd, inputs, planes[0], H, columns);
  for (int l = 1; l <= n; ++l) {
    if (l == n && !out) return;
    LayerJob job{};
    job.layer = layers[l - 1];
    job.in = planes[l - 1];
    job.skip = layers[l - 1].skip ? &planes[l - 2] : nullptr;
    job.to = l < n ? &planes[l] : nullptr;
    job.image = out;
    job.H = H;
    job.columns = columns;
    whole_layer(simd, job, first_tile_row(l, n), channels);
  }
}

std::vector<int> input_channels(const std::vector<ConvLayer>& layers) {
  std::vector<int> channels;
  for (const ConvLayer& l : layers) channels.push_back(l.ci);
  return channels;
}

// Planes of the inputs of all layers but the first, of group g, in what is held for the backward pass.
std::vector<Plane> held_planes(const std::vector<ConvLayer>& layers, const Groups& groups, int H, float* held, int64_t g) {
  std::vector<int> channels = input_channels(layers);
  channels.erase(channels.begin());
  return planes_at(held + g * planes_size(channels, groups.plane_tiles(), H), channels, groups.plane_tiles(), H);
}

// Planes of the inputs of all layers: in working memory, or those above and one more.
class LayerPlanes {
 public:
  LayerPlanes(const std::vector<ConvLayer>& layers, const Groups& groups, int H, float* held)
      : layers_(layers), groups_(groups), H_(H), held_(held),
        working_(held ? std::vector<int>{layers[0].ci} : input_channels(layers), groups.plane_tiles(), H) {}

  std::vector<Plane> of(int64_t g) const {
    std::vector<Plane> planes = working_.planes();
    if (!held_) return planes;
    const std::vector<Plane> others = held_planes(layers_, groups_, H_, held_, g);
    planes.insert(planes.end(), others.begin(), others.end());
    return planes;
  }

 private:
  const std::vector<ConvLayer>& layers_;
  const Groups& groups_;
  int H_;
  float* held_;
  WorkingPlanes working_;
};

// How a forward pass is divided among `threads`.
ChainSplit forward_split(const SimdKernels& simd, const Groups& groups, int H, std::vector<int> channels, int64_t threads, bool held) {
  const int row = groups.columns(0).stride / simd.lanes;
  // A sweep has a single register of tiles at a time if a row has no more; going layer by layer has pairs.
  const bool unpaired = *std::max_element(channels.begin(), channels.end()) >= simd.paired_from && row == 1;
  // Bands that recompute each other's rows would write held planes twice.
  return split_chain(simd, groups.count(), H, row, channels, threads, !unpaired, held);
}
}  // namespace

void conv3x3_chain(const Tensors& inputs, const std::vector<ChainLayer>& chain, const Tensor& out, Shuffles shuffles,
                   float* held, bool fast) {
  if (out.scalar_type() == ScalarType::Double) return conv3x3_direct(inputs, chain, out, shuffles);
  if (!out.numel()) return;
  const SimdKernels& simd = simd_kernels(fast);
  const Packed packed = pack_layers(simd, chain, chain.size());
  const std::vector<ConvLayer>& layers = packed.layers;
  const int n = (int)layers.size(), H = side(out, 2, shuffles.out);
  const Groups groups(simd, out.size(0), side(out, 3, shuffles.out));
  std::vector<int> channels = input_channels(layers);
  channels.push_back(layers.back().co);
  const int rows = forward_split(simd, groups, H, channels, torch::stable::get_num_threads(), held != nullptr).band_rows;
  if (!rows) {
    const LayerPlanes planes(layers, groups, H, held);
    for (int64_t g = 0; g < groups.count(); ++g) {
      const Image image = image_of(out, groups.first(g), shuffles.out);
      forward_planes(simd, images_of(inputs, groups.first(g), shuffles.in), layers, planes.of(g), &image, H, groups.columns(g));
    }
    return;
  }
  const int64_t bands = (H + rows - 1) / rows;
  parallel_for(0, groups.count() * bands, 1, [&](int64_t begin, int64_t end) {
    float* arena = thread_scratch(Scratch::job, simd.sweep_arena(layers.data(), n, groups.columns(0)));
    for (int64_t i = begin; i < end; ++i) {
      const int64_t g = i / bands;
      const std::vector<Image> in = images_of(inputs, groups.first(g), shuffles.in);
      const std::vector<Plane> planes = held ? held_planes(layers, groups, H, held, g) : std::vector<Plane>();
      const int y = (int)(i % bands) * rows;
      simd.sweep({in.data(), (int)in.size(), image_of(out, groups.first(g), shuffles.out), layers.data(), n, H, groups.columns(g),
                  y, std::min(H, y + rows), held ? planes.data() : nullptr, arena});
    }
  });
}

namespace {
// Sums of one layer's weight gradient in the transform domain, in a fixed number of parts that different threads may compute:
// the order of summation does not depend on which thread does.
class WeightSums {
 public:
  WeightSums(const SimdKernels& simd, const ConvLayer& layer, int H, const Groups& groups)
      : simd_(simd), ci_(layer.ci), co_(layer.co), parts_(count_parts((H + kTile - 1) / kTile, groups)),
        stride_(kPoints * simd.point_sums(ci_, co_)), bias_((size_t)parts_ * co_) {}

  size_t size() const { return parts_ * stride_; }
  void use(float* memory) { sums_ = memory; }

  void add(const Plane& in, const Plane& grad, int H, const Columns& columns) {
    const int blocks = (H + kTile - 1) / kTile;
    parallel_for(0, parts_, 1, [&](int64_t begin, int64_t end) {
      float* arena = thread_scratch(Scratch::job, simd_.weight_arena(ci_, co_));
      for (int64_t s = begin; s < end; ++s)
        simd_.weight_gradient({in, grad, ci_, co_, sums_ + s * stride_, bias_.data() + s * co_, first_, columns,
                               (int)(s * blocks / parts_) * kTile, (int)((s + 1) * blocks / parts_) * kTile, arena});
    });
    first_ = false;
  }

  std::vector<float> weight() const {
    if (first_) return std::vector<float>((size_t)co_ * ci_ * 9);
    return unpack_weight_gradient(simd_, sums_, parts_, stride_, co_, ci_);
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
  // Writing a part and adding it up at the end costs about as much as the products of kTilesOfPart tiles.
  static int count_parts(int rows, const Groups& groups) {
    int64_t tiles = 0;
    for (int64_t g = 0; g < groups.count(); ++g) tiles += (int64_t)rows * groups.columns(g).tiles();
    return (int)std::max<int64_t>(1, std::min<int64_t>({kMostParts, rows, tiles / kTilesOfPart}));
  }
  static constexpr int kMostParts = 8, kTilesOfPart = 50;
  const SimdKernels& simd_;
  int ci_, co_, parts_;
  size_t stride_;
  float* sums_ = nullptr;
  bool first_ = true;
  std::vector<float> bias_;
};

bool wanted(const Tensor& t) { return t.numel() > 0; }
}  // namespace

void conv3x3_chain_backward(const Tensor& grad, const Tensors& inputs, const std::vector<ChainLayer>& chain,
                            const ChainGradients& gradients, Shuffles shuffles, float* held, bool fast) {
  if (grad.scalar_type() == ScalarType::Double) return conv3x3_direct_backward(grad, inputs, chain, gradients, shuffles);
  const SimdKernels &simd = simd_kernels(), &images_simd = simd_kernels(fast);
  const Packed packed = pack_layers(images_simd, chain, chain.size() - 1);
  const std::vector<ConvLayer>& layers = packed.layers;
  const int n = (int)layers.size(), H = side(grad, 2, shuffles.out), channels = widest(layers);
  const Groups groups(simd, grad.size(0), side(grad, 3, shuffles.out));

  // The lowest layer whose output gradient is needed at all.
  bool want_input = false;
  for (const Tensor& t : gradients.inputs) want_input |= wanted(t);
  int last = 0;
  while (!want_input && last < n && !wanted(gradients.weights[last]) && !wanted(gradients.biases[last])) ++last;
  if (last == n) return;

  std::vector<std::shared_ptr<const float>> rotated(n);
  std::vector<std::unique_ptr<WeightSums>> sums(n);
  size_t sums_size = 0;
  for (int l = last; l < n; ++l) {
    if (l > last || want_input) rotated[l] = pack_weights(images_simd, chain[l].weight, true);
    if (!wanted(gradients.weights[l]) && !wanted(gradients.biases[l])) continue;
    sums[l] = std::make_unique<WeightSums>(simd, layers[l], H, groups);
    sums_size += sums[l]->size();
  }
  float* next_sums = thread_scratch(Scratch::weight_sums, sums_size);
  for (int l = last; l < n; ++l) {
    if (!sums[l]) continue;
    sums[l]->use(next_sums);
    next_sums += sums[l]->size();
  }

  // Plane l holds the input of layer l. Three gradients before activations are needed at a time: that of a layer's
  // result, that of its input, and, for a skip connection, that of the next layer's result.
  const LayerPlanes layer_planes(layers, groups, H, held);
  const WorkingPlanes gradient_planes(std::vector<int>(3, channels), groups.plane_tiles(), H);
  auto gradient_of = [&](int l) { return &gradient_planes.planes()[l % 3]; };
  for (int64_t g = 0; grad.numel() && g < groups.count(); ++g) {
    const int64_t i = groups.first(g);
    const Columns columns = groups.columns(g);
    const std::vector<Plane> planes = layer_planes.of(g);
    if (held) load_plane(simd, images_of(inputs, i, shuffles.in), planes[0], H, columns);
    else forward_planes(images_simd, images_of(inputs, i, shuffles.in), layers, planes, nullptr, H, columns);
    load_plane(simd, {image_of(grad, i, shuffles.out)}, *gradient_of(n), H, columns);
    for (int l = n - 1; l >= last; --l) {
      if (sums[l]) sums[l]->add(planes[l], *gradient_of(l + 1), H, columns);
      if (l == last && !want_input) break;
      // The input of layer l also bypassed it if the next layer added it to its result.
      const bool skipped = l + 1 < n && layers[l + 1].skip;
      LayerJob job{};
      job.layer = {rotated[l].get(), nullptr, layers[l].co, layers[l].ci, 1.f, false};
      job.in = *gradient_of(l + 1);
      job.skip = skipped ? gradient_of(l + 2) : nullptr;
      job.gate = l > 0 && layers[l - 1].slope != 1 ? &planes[l] : nullptr;
      job.gate_slope = l > 0 ? layers[l - 1].slope : 1.f;
      job.to = gradient_of(l);
      job.H = H;
      job.columns = columns;
      whole_layer(images_simd, job, 0, channels);
    }
    if (!want_input) continue;
    std::vector<Image> images;
    for (size_t k = 0; k < inputs.size(); ++k) {
      images.push_back(image_of(wanted(gradients.inputs[k]) ? gradients.inputs[k] : inputs[k], i, shuffles.in));
      if (!wanted(gradients.inputs[k])) images.back().data = nullptr;
    }
    parallel_for(0, H, 4, [&](int64_t begin, int64_t end) {
      simd.store_rows(*gradient_of(0), images.data(), (int)images.size(), (int)begin, (int)end, columns);
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

// The result keeps the memory format of the first input.
Tensor empty_result(const Tensors& inputs, const Tensors& weights, Shuffles shuffles) {
  const std::vector<int64_t> s = result_sizes(inputs, weights, shuffles.in, shuffles.out);
  const bool channels_last = inputs[0].size(1) > 1 && inputs[0].stride(1) == 1;
  if (channels_last) return empty_output(inputs[0], s, {s[1] * s[2] * s[3], 1, s[3] * s[1], s[1]});
  return empty_output(inputs[0], s, {s[1] * s[2] * s[3], s[2] * s[3], s[3], 1});
}

Tensor conv3x3_chain_op(Tensors inputs, Tensors weights, Tensors biases, std::vector<double> slopes, std::vector<int64_t> skips,
                        bool unshuffle, bool shuffle) {
  check_conv3x3_chain(inputs, weights, biases, slopes, skips, unshuffle, shuffle);
  Tensor out = empty_result(inputs, weights, {unshuffle, shuffle});
  conv3x3_chain(inputs, chain_of(weights, biases, slopes, skips), out, {unshuffle, shuffle});
  return out;
}

Tensor conv3x3_chain_fast_op(Tensors inputs, Tensors weights, Tensors biases, std::vector<double> slopes,
                             std::vector<int64_t> skips, bool unshuffle, bool shuffle) {
  check_conv3x3_chain(inputs, weights, biases, slopes, skips, unshuffle, shuffle);
  Tensor out = empty_result(inputs, weights, {unshuffle, shuffle});
  conv3x3_chain(inputs, chain_of(weights, biases, slopes, skips), out, {unshuffle, shuffle}, nullptr, true);
  return out;
}

// Counted efficiency of a forward pass, work over the time of all threads: channels of the input and of every layer's result.
double conv3x3_chain_balance(int64_t N, int64_t H, int64_t W, std::vector<int64_t> channels, int64_t threads) {
  STD_TORCH_CHECK(N > 0 && H > 0 && W > 0 && channels.size() > 1 && threads > 0, "rirn::conv3x3_chain_balance: sizes must be positive");
  const SimdKernels& simd = simd_kernels();
  return forward_split(simd, Groups(simd, N, (int)W), (int)H, {channels.begin(), channels.end()}, threads, false).balance;
}

Tensors backward_of(const Tensor& grad, const Tensors& inputs, const Tensors& weights, const Tensors& biases,
                    const std::vector<double>& slopes, const std::vector<int64_t>& skips, Shuffles shuffles, int64_t output_mask,
                    float* held, bool fast) {
  Tensors tensors = inputs;
  tensors.insert(tensors.end(), weights.begin(), weights.end());
  tensors.insert(tensors.end(), biases.begin(), biases.end());
  const Tensors all = wanted_outputs(output_mask, tensors);
  const auto first_weight = all.begin() + inputs.size(), first_bias = first_weight + weights.size();
  const ChainGradients gradients{{all.begin(), first_weight}, {first_weight, first_bias}, {first_bias, all.end()}};
  conv3x3_chain_backward(grad, inputs, chain_of(weights, biases, slopes, skips), gradients, shuffles, held, fast);
  return all;
}

Tensors conv3x3_chain_backward_op(Tensor grad, Tensors inputs, Tensors weights, Tensors biases, std::vector<double> slopes,
                                  std::vector<int64_t> skips, bool unshuffle, bool shuffle, int64_t output_mask) {
  check_conv3x3_chain(inputs, weights, biases, slopes, skips, unshuffle, shuffle);
  check_sizes(grad, "grad", inputs[0], result_sizes(inputs, weights, unshuffle, shuffle));
  return backward_of(grad, inputs, weights, biases, slopes, skips, {unshuffle, shuffle}, output_mask, nullptr, false);
}

// What is held for the backward pass: for each group of images, the inputs of all layers but the first.
struct HeldShape {
  std::vector<int> channels;  // of all planes of all groups
  int tiles, H;

  HeldShape(const Tensor& out, const Tensors& weights, Shuffles shuffles) : H(side(out, 2, shuffles.out)) {
    const Groups groups(simd_kernels(), out.size(0), side(out, 3, shuffles.out));
    tiles = groups.plane_tiles();
    for (int64_t g = 0; g < groups.count(); ++g)
      for (size_t l = 1; l < weights.size(); ++l) channels.push_back((int)weights[l].size(1));
  }
};

std::tuple<Tensor, Tensor> conv3x3_chain_holding_op(Tensors inputs, Tensors weights, Tensors biases, std::vector<double> slopes,
                                                    std::vector<int64_t> skips, bool unshuffle, bool shuffle, int64_t most, bool fast) {
  check_conv3x3_chain(inputs, weights, biases, slopes, skips, unshuffle, shuffle);
  const Shuffles shuffles{unshuffle, shuffle};
  Tensor out = empty_result(inputs, weights, shuffles);
  std::shared_ptr<WorkingPlanes> held;
  if (out.numel() && weights.size() > 1 && out.scalar_type() != ScalarType::Double && most > 0) {
    const HeldShape shape(out, weights, shuffles);
    held = WorkingPlanes::held(shape.channels, shape.tiles, shape.H, (size_t)most);
  }
  float* memory = held ? held->planes()[0].base : nullptr;
  conv3x3_chain(inputs, chain_of(weights, biases, slopes, skips), out, shuffles, memory, fast);
  const std::vector<int64_t> sizes{held ? (int64_t)held->size() : 0}, strides{1};
  if (!held) return {out, torch::stable::new_empty(out, sizes, ScalarType::Float)};
  return {out, torch::stable::from_blob(memory, sizes, strides, out.device(), ScalarType::Float, [held](void*) {})};
}

Tensors conv3x3_chain_held_backward_op(Tensor grad, Tensor held, Tensors inputs, Tensors weights, Tensors biases,
                                       std::vector<double> slopes, std::vector<int64_t> skips, bool unshuffle, bool shuffle,
                                       int64_t output_mask, bool fast) {
  check_conv3x3_chain(inputs, weights, biases, slopes, skips, unshuffle, shuffle);
  check_sizes(grad, "grad", inputs[0], result_sizes(inputs, weights, unshuffle, shuffle));
  const Shuffles shuffles{unshuffle, shuffle};
  if (!held.numel()) return backward_of(grad, inputs, weights, biases, slopes, skips, shuffles, output_mask, nullptr, fast);
  const HeldShape shape(grad, weights, shuffles);
  const bool fits = held.scalar_type() == ScalarType::Float && held.is_contiguous() && held.device() == grad.device() &&
                    grad.scalar_type() != ScalarType::Double &&
                    (size_t)held.numel() == planes_size(shape.channels, shape.tiles, shape.H);
  STD_TORCH_CHECK(fits, "rirn::conv3x3_chain_held_backward: held must be what conv3x3_chain_holding returned for these arguments");
  float* memory = static_cast<float*>(held.mutable_data_ptr());
  if (reinterpret_cast<uintptr_t>(memory) % 64) memory = nullptr;  // a copy that somebody made: recompute
  return backward_of(grad, inputs, weights, biases, slopes, skips, shuffles, output_mask, memory, fast);
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CompositeExplicitAutograd, m) {
  m.impl("conv3x3_chain_balance", TORCH_BOX(&rirn::conv3x3_chain_balance));
}

STABLE_TORCH_LIBRARY_IMPL(rirn, CPU, m) {
  m.impl("conv3x3_chain", TORCH_BOX(&rirn::conv3x3_chain_op));
  m.impl("conv3x3_chain_backward", TORCH_BOX(&rirn::conv3x3_chain_backward_op));
  m.impl("conv3x3_chain_fast", TORCH_BOX(&rirn::conv3x3_chain_fast_op));
  m.impl("conv3x3_chain_holding", TORCH_BOX(&rirn::conv3x3_chain_holding_op));
  m.impl("conv3x3_chain_held_backward", TORCH_BOX(&rirn::conv3x3_chain_held_backward_op));
}
