// Checks that keep an op within the memory of its tensors, on CPU and CUDA: dtypes, devices, shapes and counts. All other rules,
// and messages for people, are in Python (rirn/ops/<op>.py). A failed check throws std::runtime_error (RuntimeError in Python).
#pragma once
#include <torch/csrc/stable/device.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace rirn {
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Sizes = std::vector<int64_t>;

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

inline Sizes sizes_of(const Tensor& t) {
  Sizes sizes;
  for (int64_t d = 0; d < t.dim(); ++d) sizes.push_back(t.size(d));
  return sizes;
}

inline bool same_shape(const Tensor& a, const Tensor& b) { return sizes_of(a) == sizes_of(b); }

inline bool same_device(const Tensor& a, const Tensor& b) {
  return a.is_cpu() == b.is_cpu() && a.is_cuda() == b.is_cuda() && a.get_device_index() == b.get_device_index();
}

// A tensor of `t`'s dtype and device with these sizes, in words.
inline std::string text(const Tensor& t, const Sizes& sizes) {
  std::ostringstream words;
  words << torch::headeronly::toString(t.scalar_type()) << " [";
  for (size_t i = 0; i < sizes.size(); ++i) words << (i ? ", " : "") << sizes[i];
  words << "] on " << (t.is_cpu() ? "cpu" : t.is_cuda() ? "cuda:" + std::to_string(t.get_device_index()) : "another device");
  return words.str();
}

// That `t` has the dtype and the device of `like`, and these sizes.
inline void check_sizes(const Tensor& t, const std::string& name, const Tensor& like, const Sizes& sizes) {
  if (t.scalar_type() != like.scalar_type() || !same_device(t, like) || sizes_of(t) != sizes)
    fail(name, " must be ", text(like, sizes), "; got ", text(t, sizes_of(t)));
}

inline void check_like(const Tensor& t, const std::string& name, const Tensor& like) { check_sizes(t, name, like, sizes_of(like)); }

inline void check_image(const Tensor& t, const std::string& name) {
  const ScalarType dtype = t.scalar_type();
  const bool is_float = dtype == ScalarType::Float || dtype == ScalarType::Double || dtype == ScalarType::Half || dtype == ScalarType::BFloat16;
  if (!is_float || t.dim() != 4) fail(name, " must be float32, float64, float16 or bfloat16 [N, C, H, W]; got ", text(t, sizes_of(t)));
}

// The N, H, W of an image with other channels.
inline Sizes with_channels(const Tensor& like, int64_t channels) { return {like.size(0), channels, like.size(2), like.size(3)}; }

// One logit for each channel, or one for all.
inline void check_logit(const Tensor& logit, const char* name, const Tensor& f_cur) {
  check_sizes(logit, name, f_cur, with_channels(f_cur, logit.dim() == 4 && logit.size(1) == 1 ? 1 : f_cur.size(1)));
}

inline void check_atb_blend(const Tensor& f_prev, const Tensor& f_cur, const Tensor& logit_prev, const Tensor& logit_cur) {
  check_image(f_cur, "f_cur");
  check_like(f_prev, "f_prev", f_cur);
  check_logit(logit_prev, "logit_prev", f_cur);
  check_logit(logit_cur, "logit_cur", f_cur);
}

inline void check_dtb_blend(const Tensor& f_prev, const Tensor& f_cur, const Tensor& logit, const Tensor& beta) {
  check_image(f_cur, "f_cur");
  check_like(f_prev, "f_prev", f_cur);
  check_logit(logit, "logit", f_cur);
  check_sizes(beta, "beta", f_cur, {});
}

inline void check_fac(const Tensor& features, const Tensor& kernels) {
  check_image(features, "features");
  check_sizes(kernels, "kernels", features, with_channels(features, 25 * features.size(1)));
}

inline void check_gru_update(const Tensor& hidden, const Tensor& logit_z, const Tensor& logit_n) {
  check_image(hidden, "hidden");
  check_like(logit_z, "logit_z", hidden);
  check_like(logit_n, "logit_n", hidden);
}

inline void check_lstm_update(const Tensor& gates, const Tensor& cell) {
  check_image(cell, "cell");
  check_sizes(gates, "gates", cell, with_channels(cell, 4 * cell.size(1)));
}

// Layer `at` of 3x3 convolutions, from `inputs` to `outputs` channels.
inline void check_layer(const std::vector<Tensor>& weights, const std::vector<Tensor>& biases, size_t at, int64_t outputs,
                        int64_t inputs, const Tensor& like) {
  const std::string index = "[" + std::to_string(at) + "]";
  check_sizes(weights[at], "weights" + index, like, {outputs, inputs, 3, 3});
  check_sizes(biases[at], "biases" + index, like, {outputs});
}

inline void check_count(size_t weights, size_t biases, size_t count) {
  if (weights != count || biases != count)
    fail("weights and biases must be ", count, " each; got ", weights, " weights and ", biases, " biases");
}

inline void check_conv_epilogue(const Tensor& x, const Tensor& bias, const std::optional<Tensor>& skip) {
  check_image(x, "x");
  check_sizes(bias, "bias", x, {x.size(1)});
  if (skip) check_like(*skip, "skip", x);
}

// Joint convolution of both features, then two layers for each.
inline void check_atb_update(const Tensor& f_cur, const Tensor& f_prev, const std::vector<Tensor>& weights,
                             const std::vector<Tensor>& biases) {
  check_image(f_cur, "f_cur");
  check_like(f_prev, "f_prev", f_cur);
  check_count(weights.size(), biases.size(), 5);
  const int64_t c = f_cur.size(1);
  for (size_t l = 0; l < 5; ++l) check_layer(weights, biases, l, l ? c : 2 * c, l ? c : 2 * c, f_cur);
}

inline void check_conv3x3_chain(const std::vector<Tensor>& inputs, const std::vector<Tensor>& weights,
                                const std::vector<Tensor>& biases, const std::vector<double>& slopes,
                                const std::vector<int64_t>& skips, bool unshuffle, bool shuffle) {
  const size_t n = weights.size();
  if (inputs.empty() || n == 0 || inputs.size() + 2 * n > 62)  // the gradients that are wanted are bits of one integer
    fail("there must be at least one input and one layer, and at most 62 tensors; got ", inputs.size(), " inputs and ", n, " layers");
  if (biases.size() != n || slopes.size() != n || skips.size() != n) fail("biases, slopes and skips must be one for each of ", n, " weights");
  int64_t channels = 0;
  for (size_t k = 0; k < inputs.size(); ++k) {
    const std::string name = "inputs[" + std::to_string(k) + "]";
    check_image(inputs[k], name);
    check_sizes(inputs[k], name, inputs[0], with_channels(inputs[0], inputs[k].size(1)));
    channels += inputs[k].size(1) * (unshuffle ? 4 : 1);
  }
  if (unshuffle && (inputs[0].size(2) % 2 || inputs[0].size(3) % 2)) fail("inputs to unshuffle must have even H and W");
  int64_t before = -1;  // channels of what goes into the layer before
  for (size_t l = 0; l < n; ++l) {
    const int64_t outputs = weights[l].dim() ? weights[l].size(0) : 0;
    if (outputs == 0) fail("weights[", l, "] must have outputs");
    check_layer(weights, biases, l, outputs, channels, inputs[0]);
    if (skips[l] && before != outputs) fail("skips[", l, "] needs a layer before it that reads ", outputs, " channels");
    before = channels;
    channels = outputs;
  }
  if (shuffle && channels % 4) fail("the last layer must have a multiple of 4 channels to shuffle; got ", channels);
}

// Of a chain that passed its check.
inline Sizes result_sizes(const std::vector<Tensor>& inputs, const std::vector<Tensor>& weights, bool unshuffle, bool shuffle) {
  const Tensor& like = inputs[0];
  const int64_t channels = weights.back().size(0), down = unshuffle ? 2 : 1, up = shuffle ? 2 : 1;
  return {like.size(0), channels / (up * up), like.size(2) / down * up, like.size(3) / down * up};
}
}  // namespace rirn
