#include "conv3x3_direct.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "dense.h"
#include "parallel.h"

namespace rirn {
namespace {
using Values = std::vector<double>;
using Tensors = std::vector<Tensor>;

struct Size {
  int64_t H, W;
  int64_t pixels() const { return H * W; }
};

Size size_of(const Tensor& t, bool shuffled) {
  const int64_t step = shuffled ? 2 : 1;
  return {t.size(2) / step, t.size(3) / step};
}

// The pixels x for which x + tap - 1 lies inside [0, n).
int64_t first_inside(int64_t tap) { return tap == 0 ? 1 : 0; }
int64_t last_inside(int64_t tap, int64_t n) { return tap == 2 ? n - 1 : n; }

// Images are dense [channels][H][W]; bias may be empty.
Values convolve(const Values& x, const Values& weight, const Values& bias, int64_t co, Size s) {
  const int64_t ci = (int64_t)x.size() / s.pixels();
  Values y(co * s.pixels());
  parallel_for(0, co * s.H, 8, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t o = r / s.H, h = r % s.H;
      double* out = y.data() + r * s.W;
      std::fill(out, out + s.W, bias.empty() ? 0. : bias[o]);
      for (int64_t c = 0; c < ci; ++c)
        for (int64_t i = 0; i < 3; ++i) {
          if (h + i - 1 < 0 || h + i - 1 >= s.H) continue;
          const double* in = x.data() + (c * s.H + h + i - 1) * s.W;
          for (int64_t j = 0; j < 3; ++j) {
            const double k = weight[((o * ci + c) * 3 + i) * 3 + j];
            for (int64_t v = first_inside(j); v < last_inside(j, s.W); ++v) out[v] += k * in[v + j - 1];
          }
        }
    }
  });
  return y;
}

// Weights of the convolution that takes the gradient of the output to that of the input.
Values rotated(const Values& w, int64_t co, int64_t ci) {
  Values out(w.size());
  for (int64_t o = 0; o < co; ++o)
    for (int64_t c = 0; c < ci; ++c)
      for (int64_t k = 0; k < 9; ++k) out[(c * co + o) * 9 + 8 - k] = w[(o * ci + c) * 9 + k];
  return out;
}

// Adds to the gradients of weight and bias; each element is summed by one thread, in a fixed order.
void add_weight_gradient(const Values& x, const Values& grad, Values& weight, Values& bias, Size s) {
  const int64_t co = (int64_t)bias.size(), ci = (int64_t)x.size() / s.pixels();
  parallel_for(0, co * ci, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const double *g = grad.data() + r / ci * s.pixels(), *in = x.data() + r % ci * s.pixels();
      for (int64_t i = 0; i < 3; ++i)
        for (int64_t j = 0; j < 3; ++j) {
          double sum = 0;
          for (int64_t h = first_inside(i); h < last_inside(i, s.H); ++h)
            for (int64_t v = first_inside(j); v < last_inside(j, s.W); ++v)
              sum += g[h * s.W + v] * in[(h + i - 1) * s.W + v + j - 1];
          weight[r * 9 + i * 3 + j] += sum;
        }
    }
  });
  for (int64_t o = 0; o < co; ++o)
    for (int64_t k = 0; k < s.pixels(); ++k) bias[o] += grad[o * s.pixels() + k];
}

// Calls f(element of the tensor, k) for all elements of image n, k counting in the order of dense images, or of their phases as
// channels.
template <class F>
void each_pixel(const Tensor& t, int64_t n, bool shuffled, F f) {
  double* p = static_cast<double*>(t.data_ptr()) + n * t.stride(0);
  const int64_t step = shuffled ? 2 : 1;
  int64_t k = 0;
  for (int64_t c = 0; c < t.size(1); ++c)
    for (int64_t a = 0; a < step; ++a)
      for (int64_t b = 0; b < step; ++b)
        for (int64_t h = a; h < t.size(2); h += step)
          for (int64_t w = b; w < t.size(3); w += step) f(p[c * t.stride(1) + h * t.stride(2) + w * t.stride(3)], k++);
}

Values read_images(const Tensors& tensors, int64_t n, bool shuffled) {
  Values out;
  for (const Tensor& t : tensors) each_pixel(t, n, shuffled, [&](double v, int64_t) { out.push_back(v); });
  return out;
}

struct DenseLayers {
  std::vector<Values> weights, biases;
};

DenseLayers read_layers(const std::vector<ChainLayer>& layers) {
  DenseLayers dense;
  for (const ChainLayer& l : layers) {
    dense.weights.push_back(read_dense<double>(l.weight));
    dense.biases.push_back(read_dense<double>(l.bias));
  }
  return dense;
}

// The input of every layer, then the result.
std::vector<Values> forward(const Tensors& inputs, int64_t n, const std::vector<ChainLayer>& layers, const DenseLayers& dense,
                            Size s, bool shuffled) {
  std::vector<Values> x = {read_images(inputs, n, shuffled)};
  for (size_t l = 0; l < layers.size(); ++l) {
    Values y = convolve(x[l], dense.weights[l], dense.biases[l], layers[l].weight.size(0), s);
    if (layers[l].skip)
      for (size_t k = 0; k < y.size(); ++k) y[k] += x[l - 1][k];
    for (double& v : y) v = v < 0 ? (layers[l].slope == 0 ? 0 : layers[l].slope * v) : v;
    x.push_back(std::move(y));
  }
  return x;
}

bool wanted(const Tensor& t) { return t.numel() > 0; }
}  // namespace

void conv3x3_direct(const Tensors& inputs, const std::vector<ChainLayer>& layers, const Tensor& out, Shuffles shuffles) {
  if (!out.numel()) return;
  const DenseLayers dense = read_layers(layers);
  for (int64_t n = 0; n < out.size(0); ++n) {
    const std::vector<Values> x = forward(inputs, n, layers, dense, size_of(out, shuffles.out), shuffles.in);
    each_pixel(out, n, shuffles.out, [&](double& v, int64_t k) { v = x.back()[k]; });
  }
}

void conv3x3_direct_backward(const Tensor& grad, const Tensors& inputs, const std::vector<ChainLayer>& layers,
                             const ChainGradients& gradients, Shuffles shuffles) {
  const DenseLayers dense = read_layers(layers);
  const Size s = size_of(grad, shuffles.out);
  const int n = (int)layers.size();
  DenseLayers sums;
  for (int l = 0; l < n; ++l) {
    sums.weights.emplace_back(dense.weights[l].size());
    sums.biases.emplace_back(dense.biases[l].size());
  }
  for (int64_t i = 0; grad.numel() && i < grad.size(0); ++i) {
    const std::vector<Values> x = forward(inputs, i, layers, dense, s, shuffles.in);
    std::vector<Values> g(n + 1);  // of the input of layer l, before its activation; last of the result
    g[n] = read_images({grad}, i, shuffles.out);
    for (int l = n - 1; l >= 0; --l) {
      add_weight_gradient(x[l], g[l + 1], sums.weights[l], sums.biases[l], s);
      const int64_t co = layers[l].weight.size(0), ci = layers[l].weight.size(1);
      g[l] = convolve(g[l + 1], rotated(dense.weights[l], co, ci), {}, ci, s);
      if (l + 1 < n && layers[l + 1].skip)
        for (size_t k = 0; k < g[l].size(); ++k) g[l][k] += g[l + 2][k];
      if (l > 0 && layers[l - 1].slope != 1)
        for (size_t k = 0; k < g[l].size(); ++k)
          if (x[l][k] <= 0) g[l][k] = layers[l - 1].slope == 0 ? 0 : layers[l - 1].slope * g[l][k];
    }
    int64_t first = 0;
    for (size_t k = 0; k < inputs.size(); first += inputs[k].size(1) * inputs[k].size(2) * inputs[k].size(3), ++k)
      if (wanted(gradients.inputs[k]))
        each_pixel(gradients.inputs[k], i, shuffles.in, [&](double& v, int64_t j) { v = g[0][first + j]; });
  }
  for (int l = 0; l < n; ++l) {
    if (wanted(gradients.weights[l])) write_dense(sums.weights[l], gradients.weights[l]);
    if (wanted(gradients.biases[l])) write_dense(sums.biases[l], gradients.biases[l]);
  }
}
}  // namespace rirn
