// CUDA kernels of atb_blend and its gradient: out = sigmoid(logit_prev) * f_prev + max_weight * sigmoid(logit_cur) * f_cur.
// No atomics, so equal inputs give equal bits.
#pragma once
#include "common.cuh"

namespace rirn {
namespace cuda {
template <class T>
struct AtbBlendArgs {
  View<const T> f_prev, f_cur, logit_prev, logit_cur;  // the logits may have one channel
  View<T> out;                                         // dense
  double max_weight;
};

template <class T>
struct AtbBlendBackwardArgs {
  View<const T> grad, f_prev, f_cur, logit_prev, logit_cur;
  View<T> grad_f_prev, grad_f_cur, grad_logit_prev, grad_logit_cur;  // null: not wanted
  double max_weight;
};

template <class T>
struct BlendTensors {
  const T *f_prev, *f_cur, *logit_prev, *logit_cur;
  T* out;
};

template <class T>
struct BlendGradTensors {
  const T *grad, *f_prev, *f_cur, *logit_prev, *logit_cur;
  T *grad_f_prev, *grad_f_cur, *grad_logit_prev, *grad_logit_cur;  // null: not wanted
};

template <class T>
__device__ __forceinline__ T blend_one(T f_prev, T f_cur, T logit_prev, T logit_cur, Wide<T> max_weight) {
  using S = Scalar<T>;
  const Wide<T> prev = sigmoid(S::widen(logit_prev)) * S::widen(f_prev);
  const Wide<T> cur = max_weight * sigmoid(S::widen(logit_cur)) * S::widen(f_cur);
  return S::narrow(prev + cur);
}

// Gradients of one frame's side at one element: of the features, and (not yet rounded) of the logit.
template <class T>
struct SideGrad {
  Wide<T> f, logit;
};
template <class T>
__device__ __forceinline__ SideGrad<T> side_grad(T grad, T f, T logit, Wide<T> scale) {
  using S = Scalar<T>;
  const Wide<T> gate = sigmoid(S::widen(logit)), weighted = S::widen(grad) * scale * gate;
  return {weighted, weighted * (1 - gate) * S::widen(f)};
}

// ---- all tensors dense with the same strides: n elements in a row, N at a time, the remainder one at a time ----

template <class T, int N>
__global__ void __launch_bounds__(kThreads) blend_flat(BlendTensors<T> t, Wide<T> max_weight, int64_t n) {
  using P = Pack<T, N>;
  const int64_t step = (int64_t)gridDim.x * blockDim.x, first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, packs = n / N;
  for (int64_t i = first; i < packs; i += step) {
    const P fp = reinterpret_cast<const P*>(t.f_prev)[i], fc = reinterpret_cast<const P*>(t.f_cur)[i];
    const P lp = reinterpret_cast<const P*>(t.logit_prev)[i], lc = reinterpret_cast<const P*>(t.logit_cur)[i];
    P out;
#pragma unroll
    for (int k = 0; k < N; ++k) out.v[k] = blend_one<T>(fp.v[k], fc.v[k], lp.v[k], lc.v[k], max_weight);
    reinterpret_cast<P*>(t.out)[i] = out;
  }
  for (int64_t i = packs * N + first; i < n; i += step)
    t.out[i] = blend_one<T>(t.f_prev[i], t.f_cur[i], t.logit_prev[i], t.logit_cur[i], max_weight);
}

template <class T, int N>
__device__ __forceinline__ void side_backward_flat(const Pack<T, N>& grad, const T* f, const T* logit, T* grad_f, T* grad_logit,
                                                   Wide<T> scale, int64_t i) {
  using P = Pack<T, N>;
  if (!grad_f && !grad_logit) return;
  const P fv = reinterpret_cast<const P*>(f)[i], lv = reinterpret_cast<const P*>(logit)[i];
  P gf, gl;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    const SideGrad<T> g = side_grad<T>(grad.v[k], fv.v[k], lv.v[k], scale);
    gf.v[k] = Scalar<T>::narrow(g.f);
    gl.v[k] = Scalar<T>::narrow(g.logit);
  }
  if (grad_f) reinterpret_cast<P*>(grad_f)[i] = gf;
  if (grad_logit) reinterpret_cast<P*>(grad_logit)[i] = gl;
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads) blend_backward_flat(BlendGradTensors<T> t, Wide<T> max_weight, int64_t n) {
  const int64_t step = (int64_t)gridDim.x * blockDim.x, first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, packs = n / N;
  for (int64_t i = first; i < packs; i += step) {
    const Pack<T, N> grad = reinterpret_cast<const Pack<T, N>*>(t.grad)[i];
    side_backward_flat<T, N>(grad, t.f_prev, t.logit_prev, t.grad_f_prev, t.grad_logit_prev, Wide<T>(1), i);
    side_backward_flat<T, N>(grad, t.f_cur, t.logit_cur, t.grad_f_cur, t.grad_logit_cur, max_weight, i);
  }
  for (int64_t i = packs * N + first; i < n; i += step) {
    const Pack<T, 1> grad = {{t.grad[i]}};
    side_backward_flat<T, 1>(grad, t.f_prev, t.logit_prev, t.grad_f_prev, t.grad_logit_prev, Wide<T>(1), i);
    side_backward_flat<T, 1>(grad, t.f_cur, t.logit_cur, t.grad_f_cur, t.grad_logit_cur, max_weight, i);
  }
}

// ---- any strides ----

struct BlendStrides {
  Strides f_prev, f_cur, logit_prev, logit_cur, out;  // of a shared logit the channels' stride is 0
};

template <class T>
__global__ void __launch_bounds__(kThreads) blend_strided(BlendTensors<T> t, BlendStrides strides, Sizes sizes, Wide<T> max_weight,
                                                          int64_t n) {
  const int64_t step = (int64_t)gridDim.x * blockDim.x;
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
    const Index x = index_of(i, sizes);
    t.out[x.at(strides.out)] = blend_one<T>(t.f_prev[x.at(strides.f_prev)], t.f_cur[x.at(strides.f_cur)],
                                            t.logit_prev[x.at(strides.logit_prev)], t.logit_cur[x.at(strides.logit_cur)], max_weight);
  }
}

struct BlendGradStrides {
  PixelStrides grad, f_prev, f_cur, logit_prev, logit_cur, grad_f_prev, grad_f_cur, grad_logit_prev, grad_logit_cur;
};
// One frame's side at one pixel. kLanes neighbouring threads share the channels: 1 where pixels are neighbours in memory, 32
// where channels are. The gradient of a shared logit is their sum, added up in a fixed order.
template <class T, int kLanes>
__device__ __forceinline__ void side_backward_pixel(const T* grad, int64_t grad_c, const T* f, int64_t f_c, const T* logit,
                                                    int64_t logit_c, T* grad_f, int64_t grad_f_c, T* grad_logit,
                                                    int64_t grad_logit_c, bool shared, Wide<T> scale, int64_t channels, int lane) {
  if (!grad_f && !grad_logit) return;
  Wide<T> sum = 0;
  for (int64_t c = lane; c < channels; c += kLanes) {
    const SideGrad<T> g = side_grad<T>(grad[c * grad_c], f[c * f_c], logit[c * logit_c], scale);
    if (grad_f) grad_f[c * grad_f_c] = Scalar<T>::narrow(g.f);
    if (shared) sum += g.logit;
    else if (grad_logit) grad_logit[c * grad_logit_c] = Scalar<T>::narrow(g.logit);
  }
  if (!shared || !grad_logit) return;  // the same for all threads of a warp
#pragma unroll
  for (int offset = kLanes / 2; offset; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  if (lane == 0) *grad_logit = Scalar<T>::narrow(sum);
}

template <class T, int kLanes>
__global__ void __launch_bounds__(kThreads) blend_backward_pixels(BlendGradTensors<T> t, BlendGradStrides s, PixelSizes sizes,
                                                                  bool shared_prev, bool shared_cur, Wide<T> max_weight) {
  const int lane = threadIdx.x % kLanes;
  const int64_t pixels = sizes.n * sizes.h * sizes.w, step = (int64_t)gridDim.x * (kThreads / kLanes);
  for (int64_t i = (int64_t)blockIdx.x * (kThreads / kLanes) + threadIdx.x / kLanes; i < pixels; i += step) {
    const int64_t w = i % sizes.w, h = i / sizes.w % sizes.h, n = i / sizes.w / sizes.h;
    const T* grad = t.grad + s.grad.at(n, h, w);
    side_backward_pixel<T, kLanes>(grad, s.grad.c, t.f_prev + s.f_prev.at(n, h, w), s.f_prev.c,
                                   t.logit_prev + s.logit_prev.at(n, h, w), s.logit_prev.c,
                                   moved(t.grad_f_prev, s.grad_f_prev.at(n, h, w)), s.grad_f_prev.c,
                                   moved(t.grad_logit_prev, s.grad_logit_prev.at(n, h, w)), s.grad_logit_prev.c, shared_prev,
                                   Wide<T>(1), sizes.c, lane);
    side_backward_pixel<T, kLanes>(grad, s.grad.c, t.f_cur + s.f_cur.at(n, h, w), s.f_cur.c,
                                   t.logit_cur + s.logit_cur.at(n, h, w), s.logit_cur.c,
                                   moved(t.grad_f_cur, s.grad_f_cur.at(n, h, w)), s.grad_f_cur.c,
                                   moved(t.grad_logit_cur, s.grad_logit_cur.at(n, h, w)), s.grad_logit_cur.c, shared_cur,
                                   max_weight, sizes.c, lane);
  }
}

// ---- launchers ----

template <class T>
void launch_atb_blend(const AtbBlendArgs<T>& a, const Stream& stream) {
  const int64_t n = a.out.numel();
  if (!n) return;
  const BlendTensors<T> t{a.f_prev.data, a.f_cur.data, a.logit_prev.data, a.logit_cur.data, a.out.data};
  const Wide<T> weight = static_cast<Wide<T>>(a.max_weight);
  const auto all = [&](auto&& holds) {
    return holds(a.f_prev) && holds(a.f_cur) && holds(a.logit_prev) && holds(a.logit_cur) && holds(a.out);
  };
  if (is_dense(a.out) && all([&](const auto& view) { return is_flat_like(view, a.out); })) {
    if (all([](const auto& view) { return is_aligned(view); }))
      blend_flat<T, kPack<T>><<<stream.grid_for(n / kPack<T> + 1), kThreads, 0, stream.handle>>>(t, weight, n);
    else
      blend_flat<T, 1><<<stream.grid_for(n), kThreads, 0, stream.handle>>>(t, weight, n);
    return;
  }
  const std::array<int, 4> order = memory_order(a.out);
  const BlendStrides strides{strides_in(order, a.f_prev), strides_in(order, a.f_cur), strides_in(order, a.logit_prev),
                             strides_in(order, a.logit_cur), strides_in(order, a.out)};
  blend_strided<T><<<stream.grid_for(n), kThreads, 0, stream.handle>>>(t, strides, sizes_in(order, a.out), weight, n);
}

template <class T>
void launch_atb_blend_backward(const AtbBlendBackwardArgs<T>& a, const Stream& stream) {
  const int64_t n = a.grad.numel();
  if (!n) return;
  const BlendGradTensors<T> t{a.grad.data,        a.f_prev.data,     a.f_cur.data,           a.logit_prev.data,    a.logit_cur.data,
                              a.grad_f_prev.data, a.grad_f_cur.data, a.grad_logit_prev.data, a.grad_logit_cur.data};
  const Wide<T> weight = static_cast<Wide<T>>(a.max_weight);
  const auto all = [&](auto&& holds) {
    return holds(a.grad) && holds(a.f_prev) && holds(a.f_cur) && holds(a.logit_prev) && holds(a.logit_cur) &&
           holds(a.grad_f_prev) && holds(a.grad_f_cur) && holds(a.grad_logit_prev) && holds(a.grad_logit_cur);
  };
  if (is_dense(a.f_cur) && all([&](const auto& view) { return is_flat_like(view, a.f_cur); })) {
    if (all([](const auto& view) { return is_aligned(view); }))
      blend_backward_flat<T, kPack<T>><<<stream.grid_for(n / kPack<T> + 1), kThreads, 0, stream.handle>>>(t, weight, n);
    else
      blend_backward_flat<T, 1><<<stream.grid_for(n), kThreads, 0, stream.handle>>>(t, weight, n);
    return;
  }
  const BlendGradStrides s{pixel_strides(a.grad),        pixel_strides(a.f_prev),     pixel_strides(a.f_cur),
                           pixel_strides(a.logit_prev),  pixel_strides(a.logit_cur),  pixel_strides(a.grad_f_prev),
                           pixel_strides(a.grad_f_cur),  pixel_strides(a.grad_logit_prev), pixel_strides(a.grad_logit_cur)};
  const PixelSizes sizes{a.grad.size(0), a.grad.size(2), a.grad.size(3), a.grad.size(1)};
  const bool shared_prev = a.logit_prev.size(1) == 1, shared_cur = a.logit_cur.size(1) == 1;
  const int64_t pixels = sizes.n * sizes.h * sizes.w;
  if (a.f_cur.stride(1) == 1 && sizes.c > 1)
    blend_backward_pixels<T, 32>
        <<<stream.grid_for(pixels * 32), kThreads, 0, stream.handle>>>(t, s, sizes, shared_prev, shared_cur, weight);
  else
    blend_backward_pixels<T, 1>
        <<<stream.grid_for(pixels), kThreads, 0, stream.handle>>>(t, s, sizes, shared_prev, shared_cur, weight);
}
}  // namespace cuda
}  // namespace rirn
