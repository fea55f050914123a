// What the CUDA kernels share. The files *.cuh of this folder are free of torch: <op>.cuh holds the kernels of an op, a struct
// of plain pointers, sizes and strides (all in elements), and `launch_<op>`, which picks kernel and grid; <op>.cu checks,
// allocates, fills the struct and calls it. Hence all of <op>.cuh also runs without a GPU, see tests/cuda_on_cpu. PTX is only in
// mma.cuh, which has a twin there.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <array>
#include <cstdint>

#include "../strides.h"

namespace rirn {
namespace cuda {
constexpr int kThreads = 256;  // of a block, unless another number is better

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

// The quotient without the steps that make it exact to the last bit, which would bind a blend of half-precision tensors by
// arithmetic instead of memory. The divisor is at least 1, and 1 / infinity is 0.
__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.f, 1.f + expf(-x)); }
__device__ __forceinline__ double sigmoid(double x) { return 1. / (1. + exp(-x)); }

// `N` adjacent elements that are loaded and stored together; the address is a multiple of their size.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T v[N];
};
constexpr int kAccess = 16;  // bytes of the widest access
template <class T>
constexpr int kPack = kAccess / sizeof(T);

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

template <class T>
bool is_aligned(const View<T>& t) {
  return reinterpret_cast<uintptr_t>(t.data) % kAccess == 0;
}

// Where kernels run.
struct Stream {
  cudaStream_t handle;
};
}  // namespace cuda
}  // namespace rirn
