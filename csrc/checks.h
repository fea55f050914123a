// Argument checks of the ops, for CPU and CUDA alike. A failed check throws std::runtime_error (RuntimeError in Python) with
// the rule, the value seen and, where there is one, the cure.
#pragma once
#include <torch/csrc/stable/device.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <array>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace rirn {
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// The layers of the inner-recurrence module in the order of their weights.
constexpr int kIrmLayers = 6;
constexpr std::array<const char*, kIrmLayers> kIrmNames = {"joint", "res1a", "res1b", "res2a", "res2b", "out"};

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

inline std::string shape_of(const Tensor& t) {
  std::ostringstream text;
  text << '[';
  for (int64_t i = 0; i < t.dim(); ++i) text << (i ? ", " : "") << t.size(i);
  text << ']';
  return text.str();
}

inline std::string dtype_of(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return "float32";
    case ScalarType::Double: return "float64";
    case ScalarType::Half: return "float16";
    case ScalarType::BFloat16: return "bfloat16";
    default: return torch::headeronly::toString(t.scalar_type());
  }
}

inline std::string device_of(const Tensor& t) {
  if (t.is_cpu()) return "cpu";
  return (t.is_cuda() ? "cuda:" : "device ") + std::to_string(t.get_device_index());
}

inline bool same_shape(const Tensor& a, const Tensor& b) {
  if (a.dim() != b.dim()) return false;
  for (int64_t i = 0; i < a.dim(); ++i)
    if (a.size(i) != b.size(i)) return false;
  return true;
}

inline void check_float_dtype(const Tensor& t, const char* name) {
  switch (t.scalar_type()) {
    case ScalarType::Float:
    case ScalarType::Double:
    case ScalarType::Half:
    case ScalarType::BFloat16: return;
    default:
      fail(name, " must be float32, float64, float16 or bfloat16; got ", dtype_of(t), "; convert it with .float()");
  }
}

inline void check_same_kind(const Tensor& t, const char* name, const Tensor& like, const char* like_name) {
  if (t.scalar_type() != like.scalar_type())
    fail(name, " must have the dtype of ", like_name, " (", dtype_of(like), "); got ", dtype_of(t),
         "; convert one of them with .to()");
  if (device_of(t) != device_of(like))
    fail(name, " must be on the device of ", like_name, " (", device_of(like), "); got ", device_of(t),
         "; move one of them with .to()");
}

inline void check_same_shape(const Tensor& t, const char* name, const Tensor& like, const char* like_name) {
  if (!same_shape(t, like))
    fail(name, " must have the shape of ", like_name, " ", shape_of(like), "; got ", shape_of(t));
}

inline void check_image(const Tensor& t, const char* name) {
  check_float_dtype(t, name);
  if (t.dim() != 4) fail(name, " must be [N, C, H, W]; got ", shape_of(t));
}

// `rule` says in words how many channels there may be: `channels` or `or_channels`.
inline void check_channels(const Tensor& t, const char* name, const char* rule, int64_t channels, int64_t or_channels,
                           const Tensor& like, const char* like_name) {
  check_same_kind(t, name, like, like_name);
  const bool fits = t.dim() == 4 && t.size(0) == like.size(0) && t.size(2) == like.size(2) && t.size(3) == like.size(3) &&
                    (t.size(1) == channels || t.size(1) == or_channels);
  if (!fits)
    fail(name, " must be [N, ", rule, ", H, W] with the N, C, H, W of ", like_name, " ", shape_of(like), "; got ",
         shape_of(t));
}

inline void check_alike(const Tensor& t, const char* name, const Tensor& like, const char* like_name) {
  check_same_kind(t, name, like, like_name);
  check_same_shape(t, name, like, like_name);
}

inline void check_logit(const Tensor& logit, const char* name, const Tensor& f_cur) {
  check_channels(logit, name, "C or 1", f_cur.size(1), 1, f_cur, "f_cur");
}

inline void check_atb_blend(const Tensor& f_prev, const Tensor& f_cur, const Tensor& logit_prev,
                            const Tensor& logit_cur) {
  check_image(f_cur, "f_cur");
  check_alike(f_prev, "f_prev", f_cur, "f_cur");
  check_logit(logit_prev, "logit_prev", f_cur);
  check_logit(logit_cur, "logit_cur", f_cur);
}

inline void check_dtb_blend(const Tensor& f_prev, const Tensor& f_cur, const Tensor& logit, const Tensor& beta) {
  check_image(f_cur, "f_cur");
  check_alike(f_prev, "f_prev", f_cur, "f_cur");
  check_logit(logit, "logit", f_cur);
  check_same_kind(beta, "beta", f_cur, "f_cur");
  if (beta.dim() != 0) fail("beta must be one number without dimensions; got ", shape_of(beta), "; use beta.squeeze()");
}

inline void check_fac(const Tensor& features, const Tensor& kernels) {
  check_image(features, "features");
  const int64_t channels = 25 * features.size(1);
  check_channels(kernels, "kernels", "25C", channels, channels, features, "features");
}

inline void check_gru_reset(const Tensor& logit_r, const Tensor& hidden) {
  check_image(hidden, "hidden");
  check_alike(logit_r, "logit_r", hidden, "hidden");
}

inline void check_gru_update(const Tensor& hidden, const Tensor& logit_z, const Tensor& logit_n) {
  check_image(hidden, "hidden");
  check_alike(logit_z, "logit_z", hidden, "hidden");
  check_alike(logit_n, "logit_n", hidden, "hidden");
}

inline void check_lstm_update(const Tensor& gates, const Tensor& cell) {
  check_image(cell, "cell");
  const int64_t channels = 4 * cell.size(1);
  check_channels(gates, "gates", "4C", channels, channels, cell, "cell");
}

// A 3x3 convolution from `inputs` to `outputs` channels, whose tensors are called weights[name] and biases[name].
inline void check_layer(const Tensor& w, const Tensor& b, const char* name, int64_t outputs, int64_t inputs, const Tensor& like,
                        const char* like_name) {
  const std::string at = std::string("[") + name + "]", weight = "weights" + at, bias = "biases" + at;
  check_same_kind(w, weight.c_str(), like, like_name);
  check_same_kind(b, bias.c_str(), like, like_name);
  if (w.dim() != 4 || w.size(0) != outputs || w.size(1) != inputs || w.size(2) != 3 || w.size(3) != 3)
    fail(weight, " must be [", outputs, ", ", inputs, ", 3, 3] for ", like_name, " of ", like.size(1), " channels; got ", shape_of(w));
  if (b.dim() != 1 || b.size(0) != outputs)
    fail(bias, " must be [", outputs, "] for ", like_name, " of ", like.size(1), " channels; got ", shape_of(b));
}

inline void check_irm_update(const Tensor& hidden, const Tensor& inner, const std::vector<Tensor>& weights,
                             const std::vector<Tensor>& biases) {
  check_image(hidden, "hidden");
  check_alike(inner, "inner", hidden, "hidden");
  if (weights.size() != kIrmLayers || biases.size() != kIrmLayers)
    fail("weights and biases must be six tensors each (joint, res1a, res1b, res2a, res2b, out); got ",
         weights.size(), " weights and ", biases.size(), " biases");
  const int64_t c = hidden.size(1);
  for (int l = 0; l < kIrmLayers; ++l)
    check_layer(weights[l], biases[l], kIrmNames[l], l == kIrmLayers - 1 ? c : 2 * c, 2 * c, hidden, "hidden");
}

inline void check_atb_update(const Tensor& f_cur, const Tensor& f_prev, const std::vector<Tensor>& weights,
                             const std::vector<Tensor>& biases, double slope) {
  constexpr std::array<const char*, 5> kNames = {"joint", "prev1", "prev2", "cur1", "cur2"};
  check_image(f_cur, "f_cur");
  check_alike(f_prev, "f_prev", f_cur, "f_cur");
  if (weights.size() != kNames.size() || biases.size() != kNames.size())
    fail("weights and biases must be five tensors each (joint, prev1, prev2, cur1, cur2); got ", weights.size(), " weights and ",
         biases.size(), " biases");
  const int64_t c = f_cur.size(1);
  for (size_t l = 0; l < kNames.size(); ++l)
    check_layer(weights[l], biases[l], kNames[l], l ? c : 2 * c, l ? c : 2 * c, f_cur, "f_cur");
  if (!(slope >= 0 && slope <= 1e30)) fail("slope must be finite and not negative; got ", slope);
}

inline void check_conv3x3_chain(const std::vector<Tensor>& inputs, const std::vector<Tensor>& weights,
                                const std::vector<Tensor>& biases, const std::vector<double>& slopes,
                                const std::vector<int64_t>& skips, bool unshuffle, bool shuffle) {
  if (inputs.empty()) fail("inputs must be at least one tensor; got none");
  const size_t n = weights.size();
  if (inputs.size() + 2 * n > 62)  // the gradients that are wanted are bits of one integer
    fail("inputs, weights and biases must be at most 62 tensors together; got ", inputs.size() + 2 * n);
  if (n == 0 || biases.size() != n || slopes.size() != n || skips.size() != n)
    fail("weights, biases, slopes and skips must be of one length, at least 1; got ", n, ", ", biases.size(), ", ",
         slopes.size(), " and ", skips.size());
  int64_t channels = 0;
  for (size_t k = 0; k < inputs.size(); ++k) {
    const std::string name = "inputs[" + std::to_string(k) + "]";
    check_image(inputs[k], name.c_str());
    check_same_kind(inputs[k], name.c_str(), inputs[0], "inputs[0]");
    for (int d : {0, 2, 3})
      if (inputs[k].size(d) != inputs[0].size(d))
        fail(name, " must have the N, H, W of inputs[0] ", shape_of(inputs[0]), "; got ", shape_of(inputs[k]));
    channels += inputs[k].size(1) * (unshuffle ? 4 : 1);
  }
  if (unshuffle && (inputs[0].size(2) % 2 || inputs[0].size(3) % 2))
    fail("inputs to unshuffle must have even H and W; got ", shape_of(inputs[0]));
  if (shuffle && weights.back().dim() == 4 && weights.back().size(0) % 4)
    fail("the last layer must have a multiple of 4 channels to shuffle; got ", weights.back().size(0));
  int64_t before = -1;  // channels of what goes into the layer before
  for (size_t l = 0; l < n; ++l) {
    const std::string at = "[" + std::to_string(l) + "]", weight = "weights" + at, bias = "biases" + at;
    const Tensor &w = weights[l], &b = biases[l];
    check_same_kind(w, weight.c_str(), inputs[0], "inputs[0]");
    check_same_kind(b, bias.c_str(), inputs[0], "inputs[0]");
    if (w.dim() != 4 || w.size(0) == 0 || w.size(1) != channels || w.size(2) != 3 || w.size(3) != 3)
      fail(weight, " must be [out, ", channels, ", 3, 3] for the ", channels, " channels it reads, out at least 1; got ",
           shape_of(w));
    // Not negative: the backward pass takes the sign of what an activation read from what it returned.
    if (!(slopes[l] >= 0 && slopes[l] <= 1e30)) fail("slopes must be finite and not negative; got ", slopes[l], " for layer ", l);
    if (b.dim() != 1 || b.size(0) != w.size(0))
      fail(bias, " must be [", w.size(0), "] for ", weight, " ", shape_of(w), "; got ", shape_of(b));
    if (skips[l] && before != w.size(0))
      fail("skips", at, " needs a layer before it that reads the ", w.size(0), " channels of this one's result");
    before = channels;
    channels = w.size(0);
  }
}

// Of a chain that passed its check.
inline std::vector<int64_t> result_sizes(const std::vector<Tensor>& inputs, const std::vector<Tensor>& weights, bool unshuffle,
                                         bool shuffle) {
  const Tensor& like = inputs[0];
  const int64_t channels = weights.back().size(0), down = unshuffle ? 2 : 1, up = shuffle ? 2 : 1;
  return {like.size(0), channels / (up * up), like.size(2) / down * up, like.size(3) / down * up};
}

inline void check_chain_grad(const Tensor& grad, const std::vector<Tensor>& inputs, const std::vector<Tensor>& weights,
                             bool unshuffle, bool shuffle) {
  check_same_kind(grad, "grad", inputs[0], "inputs[0]");
  const std::vector<int64_t> sizes = result_sizes(inputs, weights, unshuffle, shuffle);
  bool fits = grad.dim() == 4;
  for (int d = 0; fits && d < 4; ++d) fits = grad.size(d) == sizes[d];
  if (!fits) fail("grad must have the shape of the result; got ", shape_of(grad), " for inputs[0] ", shape_of(inputs[0]));
}

inline void check_grad(const Tensor& grad, const Tensor& output_like, const char* like_name, const char* name = "grad") {
  check_alike(grad, name, output_like, like_name);
}
}  // namespace rirn
