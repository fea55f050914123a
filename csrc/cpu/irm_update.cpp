// irm_update on the CPU: one step of the inner-recurrence module.
//   x0 = relu(joint([hidden, inner])), x1 = x0 + res1b(relu(res1a(x0))), x2 = x1 + res2b(relu(res2a(x1))), result = out(x2)
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "conv3x3_direct.h"
#include "scalar.h"

namespace rirn {
namespace {
using Tensors = std::vector<Tensor>;

template <class T, class A>
std::vector<A> widened(const Tensor& t) {
  const Tensor dense = torch::stable::contiguous(t);
  const T* p = (const T*)dense.const_data_ptr();
  return std::vector<A>(p, p + dense.numel());
}

template <class T, class A>
void read_image(const Tensor& t, int64_t n, A* out) {
  const int64_t C = t.size(1), H = t.size(2), W = t.size(3);
  const T* p = (const T*)t.const_data_ptr() + n * t.stride(0);
  for (int64_t c = 0; c < C; ++c)
    for (int64_t h = 0; h < H; ++h)
      for (int64_t w = 0; w < W; ++w) *out++ = A(p[c * t.stride(1) + h * t.stride(2) + w * t.stride(3)]);
}

template <class T, class A>
void write_image(const A* in, int64_t n, const Tensor& t) {
  const int64_t C = t.size(1), H = t.size(2), W = t.size(3);
  T* p = (T*)t.mutable_data_ptr() + n * t.stride(0);
  for (int64_t c = 0; c < C; ++c)
    for (int64_t h = 0; h < H; ++h)
      for (int64_t w = 0; w < W; ++w) p[c * t.stride(1) + h * t.stride(2) + w * t.stride(3)] = T(*in++);
}

template <class T, class A>
void write_dense(const std::vector<A>& in, const Tensor& t) {
  Tensor dense = torch::stable::empty(t.sizes(), t.scalar_type());
  T* p = (T*)dense.mutable_data_ptr();
  for (size_t i = 0; i < in.size(); ++i) p[i] = T(in[i]);
  Tensor target = t;
  torch::stable::copy_(target, dense);
}

template <class A>
void relu(std::vector<A>& x) {
  for (A& v : x) v = v < A(0) ? A(0) : v;
}

template <class A>
struct Parameters {
  std::vector<A> w[kIrmLayers], b[kIrmLayers];
};

// Inputs of the six layers in turn, then the result; from the input x[0] on.
template <class A>
void forward(const Parameters<A>& p, int64_t c, Size s, std::vector<A>* x) {
  for (int l = 0; l < kIrmLayers; ++l) {
    const int64_t co = l == kIrmLayers - 1 ? c : 2 * c;
    x[l + 1].resize(co * s.H * s.W);
    conv3x3_direct(x[l].data(), 2 * c, p.w[l].data(), p.b[l].data(), co, x[l + 1].data(), s);
    if (l == 0 || l == 1 || l == 3) relu(x[l + 1]);
    if (l == 2 || l == 4)
      for (size_t i = 0; i < x[l + 1].size(); ++i) x[l + 1][i] += x[l - 1][i];
  }
}

template <class T, class A>
Parameters<A> parameters(const Tensors& weights, const Tensors& biases) {
  Parameters<A> p;
  for (int l = 0; l < kIrmLayers; ++l) p.w[l] = widened<T, A>(weights[l]), p.b[l] = widened<T, A>(biases[l]);
  return p;
}

Tensor irm_update(Tensor hidden, Tensor inner, Tensors weights, Tensors biases) {
  check_irm_update(hidden, inner, weights, biases);
  Tensor out = torch::stable::empty_like(hidden);
  if (!out.numel()) return out;
  const int64_t N = hidden.size(0), c = hidden.size(1);
  const Size s{hidden.size(2), hidden.size(3)};
  dispatch_float(hidden.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = Wide<T>;
    const auto p = parameters<T, A>(weights, biases);
    std::vector<A> x[kIrmLayers + 1];
    x[0].resize(2 * c * s.H * s.W);
    for (int64_t n = 0; n < N; ++n) {
      read_image<T>(hidden, n, x[0].data());
      read_image<T>(inner, n, x[0].data() + c * s.H * s.W);
      forward(p, c, s, x);
      write_image<T>(x[kIrmLayers].data(), n, out);
    }
  });
  return out;
}

Tensors irm_update_backward(Tensor grad, Tensor hidden, Tensor inner, Tensors weights, Tensors biases, int64_t needs) {
  check_irm_update(hidden, inner, weights, biases);
  check_grad(grad, hidden, "hidden");
  const int64_t N = hidden.size(0), c = hidden.size(1);
  const Size s{hidden.size(2), hidden.size(3)};
  Tensors like = {hidden, inner}, out;
  like.insert(like.end(), weights.begin(), weights.end());
  like.insert(like.end(), biases.begin(), biases.end());
  for (size_t i = 0; i < like.size(); ++i)
    out.push_back(needs >> i & 1 ? torch::stable::empty_like(like[i]) : torch::stable::new_empty(like[i], {0}));
  dispatch_float(hidden.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = Wide<T>;
    const auto p = parameters<T, A>(weights, biases);
    Parameters<A> d;
    std::vector<A> turned[kIrmLayers];
    for (int l = 0; l < kIrmLayers; ++l) {
      d.w[l].assign(p.w[l].size(), A(0)), d.b[l].assign(p.b[l].size(), A(0));
      turned[l] = rotated(p.w[l].data(), 2 * c, l == kIrmLayers - 1 ? c : 2 * c);
    }
    std::vector<A> x[kIrmLayers + 1];
    const size_t full = 2 * c * s.H * s.W;
    x[0].resize(full);
    for (int64_t n = 0; full && n < N; ++n) {
      read_image<T>(hidden, n, x[0].data());
      read_image<T>(inner, n, x[0].data() + full / 2);
      forward(p, c, s, x);
      std::vector<A> g(full / 2), skip;
      read_image<T>(grad, n, g.data());
      for (int l = kIrmLayers - 1; l >= 0; --l) {
        const int64_t co = l == kIrmLayers - 1 ? c : 2 * c;
        if (l == 2 || l == 4) skip = g;
        if (l == 0 || l == 1 || l == 3)
          for (size_t i = 0; i < g.size(); ++i) g[i] = x[l + 1][i] <= A(0) ? A(0) : g[i];
        conv3x3_direct_weights(x[l].data(), 2 * c, g.data(), co, d.w[l].data(), d.b[l].data(), s);
        std::vector<A> dx(full);
        conv3x3_direct<A>(g.data(), co, turned[l].data(), nullptr, 2 * c, dx.data(), s);
        if (l == 1 || l == 3)
          for (size_t i = 0; i < full; ++i) dx[i] += skip[i];
        g.swap(dx);
      }
      if (needs & 1) write_image<T>(g.data(), n, out[0]);
      if (needs & 2) write_image<T>(g.data() + full / 2, n, out[1]);
    }
    for (int l = 0; l < kIrmLayers; ++l) {
      if (needs >> (2 + l) & 1) write_dense<T>(d.w[l], out[2 + l]);
      if (needs >> (8 + l) & 1) write_dense<T>(d.b[l], out[8 + l]);
    }
  });
  return out;
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CPU, m) {
  m.impl("irm_update", TORCH_BOX(&rirn::irm_update));
  m.impl("irm_update_backward", TORCH_BOX(&rirn::irm_update_backward));
}
