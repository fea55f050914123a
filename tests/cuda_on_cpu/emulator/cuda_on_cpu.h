// CUDA C++ on the CPU: included before every translated source, it gives the host compiler the words of the language that
// the kernels use. One fiber per CUDA thread, one block at a time; see runtime.cpp for the scheduler. The types of
// cuda_fp16.h and cuda_bf16.h are the toolkit's own, which convert on the host as they do on the device.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#undef __shared__
#undef __launch_bounds__
#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __forceinline__
#define __shared__ static thread_local  // one copy per OS thread, and an OS thread runs one block at a time
#define __launch_bounds__(...)
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline

namespace cuda_on_cpu {
constexpr unsigned kFull = 0xffffffffu;
constexpr int kPayload = 64;  // bytes that a lane can hand over in one warp operation

struct Position {
  uint3 thread;
  uint3 block;
  dim3 block_dim, grid_dim;
  unsigned lane;
};
struct Votes {
  int any, all, count;
};
struct Site {
  const char* file;
  int line;
};

// ---- runtime.cpp ----
const Position& here();
Votes wait_for_block(int predicate, Site site);
// Meets the other lanes of `mask` and hands over `bytes` of `mine`. Returns what lane i gave at [i * kPayload].
const unsigned char* wait_for_warp(unsigned mask, const void* mine, size_t bytes, Site site);
[[noreturn]] void stop(const char* why, Site site);
// Whether seeded bug number `bug` is switched on (RIRN_SEEDED_BUG), see ../mutants.
bool seeded(int bug);
void* dynamic_shared(size_t alignment);
// Fills a static __shared__ variable with NaNs (all bits set), once per block.
void poison_shared(void* variable, size_t bytes);

// Of a thread, in the order of its calls. A group's end copies nothing.
struct AsyncCopy {
  void* to;
  const void* from;  // null: zeros
  bool ends_group;
};
std::vector<AsyncCopy>& pending_copies();

struct Launch {
  const char* kernel;
  const void* function;
  dim3 grid, block;
  size_t shared;
};
void run(const Launch& launch, void (*entry)(void*), void* argument);

template <class Function>
const void* address(Function* function) {
  return reinterpret_cast<const void*>(function);
}
// What `kernel<<<grid, block, shared, stream>>>(...)` becomes, see translate.py.
template <class Body>
void launch(const char* kernel, const void* function, dim3 grid, dim3 block, size_t shared, cudaStream_t, Body body) {
  run({kernel, function, grid, block, shared}, [](void* p) { (*static_cast<Body*>(p))(); }, &body);
}
template <class Body>
void launch(const char* kernel, const void* function, dim3 grid, dim3 block, size_t shared, Body body) {
  launch(kernel, function, grid, block, shared, cudaStream_t{}, body);
}
template <class Body>
void launch(const char* kernel, const void* function, dim3 grid, dim3 block, Body body) {
  launch(kernel, function, grid, block, 0, cudaStream_t{}, body);
}

template <class T>
T lane_value(const unsigned char* all, unsigned lane) {
  T value;
  std::memcpy(&value, all + lane * kPayload, sizeof value);
  return value;
}
template <class T>
const unsigned char* exchange(unsigned mask, const T& mine, Site site) {
  static_assert(sizeof(T) <= kPayload && std::is_trivially_copyable<T>::value, "too much for one warp operation");
  return wait_for_warp(mask, &mine, sizeof mine, site);
}
template <class T>
T shuffle(unsigned mask, const T& mine, int source, Site site) {
  const unsigned char* all = exchange(mask, mine, site);
  if (!(mask >> source & 1)) stop("a shuffle reads a lane outside its mask", site);
  return lane_value<T>(all, source);
}
inline void check_width(int width, Site site) {
  if (width < 1 || width > 32 || (width & (width - 1))) stop("the width of a shuffle is no power of two up to 32", site);
}
}  // namespace cuda_on_cpu

#define threadIdx (cuda_on_cpu::here().thread)
#define blockIdx (cuda_on_cpu::here().block)
#define blockDim (cuda_on_cpu::here().block_dim)
#define gridDim (cuda_on_cpu::here().grid_dim)
#define warpSize 32

// Where the caller stands: the default of a last argument.
#define CUDA_ON_CPU_SITE const char *file_ = __builtin_FILE(), int line_ = __builtin_LINE()
#define CUDA_ON_CPU_HERE \
  cuda_on_cpu::Site { file_, line_ }

inline void __syncthreads(CUDA_ON_CPU_SITE) { cuda_on_cpu::wait_for_block(0, CUDA_ON_CPU_HERE); }
inline int __syncthreads_or(int p, CUDA_ON_CPU_SITE) { return cuda_on_cpu::wait_for_block(p, CUDA_ON_CPU_HERE).any; }
inline int __syncthreads_and(int p, CUDA_ON_CPU_SITE) { return cuda_on_cpu::wait_for_block(p, CUDA_ON_CPU_HERE).all; }
inline int __syncthreads_count(int p, CUDA_ON_CPU_SITE) { return cuda_on_cpu::wait_for_block(p, CUDA_ON_CPU_HERE).count; }
inline void __syncwarp(unsigned mask = cuda_on_cpu::kFull, CUDA_ON_CPU_SITE) {
  cuda_on_cpu::wait_for_warp(mask, nullptr, 0, CUDA_ON_CPU_HERE);
}

template <class T>
T __shfl_sync(unsigned mask, T v, int source, int width = 32, CUDA_ON_CPU_SITE) {
  cuda_on_cpu::check_width(width, CUDA_ON_CPU_HERE);
  const int lane = cuda_on_cpu::here().lane;
  return cuda_on_cpu::shuffle(mask, v, (lane & ~(width - 1)) | (source & (width - 1)), CUDA_ON_CPU_HERE);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, CUDA_ON_CPU_SITE) {
  cuda_on_cpu::check_width(width, CUDA_ON_CPU_HERE);
  const int lane = cuda_on_cpu::here().lane, source = lane ^ bits;
  return cuda_on_cpu::shuffle(mask, v, source < (lane & ~(width - 1)) + width ? source : lane, CUDA_ON_CPU_HERE);
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, int delta, int width = 32, CUDA_ON_CPU_SITE) {
  cuda_on_cpu::check_width(width, CUDA_ON_CPU_HERE);
  const int lane = cuda_on_cpu::here().lane;
  return cuda_on_cpu::shuffle(mask, v, (lane & (width - 1)) + delta < width ? lane + delta : lane, CUDA_ON_CPU_HERE);
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, int delta, int width = 32, CUDA_ON_CPU_SITE) {
  cuda_on_cpu::check_width(width, CUDA_ON_CPU_HERE);
  const int lane = cuda_on_cpu::here().lane;
  return cuda_on_cpu::shuffle(mask, v, (lane & (width - 1)) >= delta ? lane - delta : lane, CUDA_ON_CPU_HERE);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, CUDA_ON_CPU_SITE) {
  const unsigned char* all = cuda_on_cpu::exchange(mask, int(predicate != 0), CUDA_ON_CPU_HERE);
  unsigned votes = 0;
  for (unsigned lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1) votes |= unsigned(cuda_on_cpu::lane_value<int>(all, lane)) << lane;
  return votes;
}
inline int __any_sync(unsigned mask, int predicate, CUDA_ON_CPU_SITE) {
  return __ballot_sync(mask, predicate, file_, line_) != 0;
}
inline int __all_sync(unsigned mask, int predicate, CUDA_ON_CPU_SITE) {
  return __ballot_sync(mask, predicate, file_, line_) == mask;
}

inline void __threadfence() {}
inline void __threadfence_block() {}

// Atomic to the race detector, too.
template <class T, class U>
T atomicAdd(T* p, U value) {
  if constexpr (std::is_integral<T>::value) {
    return __atomic_fetch_add(p, static_cast<T>(value), __ATOMIC_RELAXED);
  } else {
    T before, after;
    __atomic_load(p, &before, __ATOMIC_RELAXED);
    do after = before + static_cast<T>(value);
    while (!__atomic_compare_exchange(p, &before, &after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return before;
  }
}

// Caching hints change nothing here. The toolkit's own are for the device alone.
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
T __ldca(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, T value) {
  *p = value;
}
template <class T>
void __stcg(T* p, T value) {
  *p = value;
}
template <class T>
void __stwt(T* p, T value) {
  *p = value;
}

// As on the device up to the last bits: __expf is ex2.approx of the scaled argument there.
inline float cuda_on_cpu_expf(float x) { return ::exp2f(x * 1.4426950408889634f); }
inline float cuda_on_cpu_logf(float x) { return ::log2f(x) * 0.6931471805599453f; }
#define __expf cuda_on_cpu_expf
#define __logf cuda_on_cpu_logf
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.f / x; }
inline float __fmaf_rn(float a, float b, float c) { return ::fmaf(a, b, c); }
inline float __saturatef(float x) { return x > 0.f ? (x < 1.f ? x : 1.f) : 0.f; }  // of a NaN, 0
using std::max;
using std::min;
