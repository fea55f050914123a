// What the CUDA kernels share. The files *.cuh of this folder are free of torch: <op>.cuh holds the kernels of an op, a struct
// of plain pointers, sizes and strides (all in elements), and `launch_<op>`, which picks kernel and grid; <op>.cu checks,
// allocates, fills the struct and calls it. So the whole of <op>.cuh also runs without a GPU, see tests/cuda_on_cpu. What is
// written in PTX stands in mma.cuh alone, which has a twin there.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "../strides.h"

namespace rirn {
namespace cuda {
constexpr int kThreads = 256;  // of a block, where nothing speaks for another number

// ---- scalars: computed in float (double for double), rounded once ----

template <class T>
struct Scalar {
  using Wide = float;
  static __device__ __forceinline__ float widen(T x) { return x; }
  static __device__ __forceinline__ T narrow(float x) { return x; }
};
template <>
struct Scalar<double> {
  using Wide = double;
  static __device__ __forceinline__ double widen(double x) { return x; }
  static __device__ __forceinline__ double narrow(double x) { return x; }
};
template <>
struct Scalar<__half> {
  using Wide = float;
  static __device__ __forceinline__ float widen(__half x) { return __half2float(x); }
  static __device__ __forceinline__ __half narrow(float x) { return __float2half_rn(x); }
};
template <>
struct Scalar<__nv_bfloat16> {
  using Wide = float;
  static __device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
  static __device__ __forceinline__ __nv_bfloat16 narrow(float x) { return __float2bfloat16_rn(x); }
};

template <class T>
using Wide = typename Scalar<T>::Wide;

// The quotient without the steps that make it exact to the last bit: a blend of half-precision tensors would wait for them and not
// for memory. The divisor is at least 1, and 1 / infinity is 0.
__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.f, 1.f + expf(-x)); }
__device__ __forceinline__ double sigmoid(double x) { return 1. / (1. + exp(-x)); }

// `N` neighbours that are loaded and stored together; the address is a multiple of their size.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T v[N];
};
constexpr int kAccess = 16;  // bytes of the widest access
template <class T>
constexpr int kPack = kAccess / sizeof(T);

// Null stays null: a gradient that is not wanted.
template <class T>
__device__ __forceinline__ T* moved(T* p, int64_t offset) {
  return p ? p + offset : p;
}

// ---- tensors ----

// [N, C, H, W] with strides in elements. No elements, null: a gradient that is not wanted.
template <class T>
struct View {
  T* data;
  int64_t sizes[4], strides[4];
  int64_t size(int d) const { return sizes[d]; }
  int64_t stride(int d) const { return strides[d]; }
  int64_t numel() const { return sizes[0] * sizes[1] * sizes[2] * sizes[3]; }
};

// Whether `t` can be read and written element by element in the order of `like`, which is dense.
template <class A, class B>
bool is_flat_like(const View<A>& t, const View<B>& like) {
  if (!t.data) return true;
  for (int d = 0; d < 4; ++d)
    if (t.size(d) != like.size(d)) return false;
  return same_strides(t, like);
}

template <class T>
bool is_aligned(const View<T>& t) {
  return reinterpret_cast<uintptr_t>(t.data) % kAccess == 0;
}

// Four dimensions from the slowest to the fastest in memory, so that neighbouring threads touch neighbouring elements.
struct Strides {
  int64_t s[4];
};
struct Sizes {
  int64_t s[4];
};

template <class T>
Sizes sizes_in(const std::array<int, 4>& order, const View<T>& t) {
  return {{t.size(order[0]), t.size(order[1]), t.size(order[2]), t.size(order[3])}};
}
// The channels' stride of a tensor with one channel is 0: it serves for all.
template <class T>
Strides strides_in(const std::array<int, 4>& order, const View<T>& t) {
  Strides s;
  for (int k = 0; k < 4; ++k) s.s[k] = order[k] == 1 ? channel_stride(t) : t.stride(order[k]);
  return s;
}

struct Index {
  int64_t i[4];
  __device__ __forceinline__ int64_t at(const Strides& strides) const {
    return i[0] * strides.s[0] + i[1] * strides.s[1] + i[2] * strides.s[2] + i[3] * strides.s[3];
  }
};
__device__ __forceinline__ Index index_of(int64_t linear, const Sizes& sizes) {
  Index x;
#pragma unroll
  for (int d = 3; d > 0; --d) {
    x.i[d] = linear % sizes.s[d];
    linear /= sizes.s[d];
  }
  x.i[0] = linear;
  return x;
}

// Pixels are [N, H, W], and every tensor has one stride more for its channels.
struct PixelStrides {
  int64_t n, h, w, c;
  __device__ __forceinline__ int64_t at(int64_t in, int64_t ih, int64_t iw) const { return in * n + ih * h + iw * w; }
};
struct PixelSizes {
  int64_t n, h, w, c;
};

template <class T>
PixelStrides pixel_strides(const View<T>& t) {
  return {t.stride(0), t.stride(2), t.stride(3), channel_stride(t)};
}

// ---- launches ----

// Where kernels run: the stream, and how many multiprocessors its device has.
struct Stream {
  cudaStream_t handle;
  int processors;

  // Blocks for `work` threads, at most as many as keep every multiprocessor busy: the kernels stride over the rest.
  int grid_for(int64_t work, int threads = kThreads) const {
    return static_cast<int>(std::max<int64_t>(1, std::min<int64_t>((work + threads - 1) / threads, int64_t(processors) * 16)));
  }
};
}  // namespace cuda
}  // namespace rirn
