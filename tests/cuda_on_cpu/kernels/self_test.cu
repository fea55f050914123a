// Kernels that try the emulator itself: what is right must come out right, what is wrong must be named.
#include "binding.h"
#include "mma.cuh"

namespace rirn {
namespace {
using namespace cuda;

__global__ void sum_of_block(const float* in, float* out, int n) {
  __shared__ float partial[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float sum = 0.f;
  for (int i = threadIdx.x; i < n; i += blockDim.x) sum += in[i];
  for (int offset = 16; offset; offset /= 2) sum += __shfl_down_sync(0xffffffffu, sum, offset);
  if (lane == 0) partial[warp] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < int(blockDim.x) / 32; ++w) sum += partial[w];
    *out = sum;
  }
}

__global__ void missing_barrier(const float* in, float* out) {
  __shared__ float tile[64];
  tile[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = tile[63 - threadIdx.x];
}

__global__ void write_after_read(const float* in, float* out) {
  __shared__ float tile[64];
  tile[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  const float other = tile[(threadIdx.x + 1) % 64];
  tile[threadIdx.x] = 2.f * other;
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x];
}

// As write_after_read, but what is read is in registers of all lanes of a warp before one of them writes.
__global__ void write_after_others_read(const float* in, float* out) {
  __shared__ float tile[64];
  tile[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  const float other = __shfl_xor_sync(0xffffffffu, tile[63 - threadIdx.x], 1);
  tile[threadIdx.x] = 2.f * other;
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x];
}

__global__ void two_blocks_one_place(float* out) { out[threadIdx.x] = float(blockIdx.x); }

__global__ void uninitialised(float* out, bool dynamic) {
  extern __shared__ __align__(16) float more[];
  __shared__ float tile[64];
  if (threadIdx.x != 5) (dynamic ? more : tile)[threadIdx.x] = 1.f;
  __syncthreads();
  out[threadIdx.x] = (dynamic ? more : tile)[threadIdx.x];
}

__global__ void divergent_barriers() {
  if (threadIdx.x % 2)
    __syncthreads();
  else
    __syncthreads();
}

__global__ void barrier_against_shuffle(float* out) {
  if (threadIdx.x < 16)
    __syncthreads();
  else
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.f, 1);
}

__global__ void shuffle_past_mask(float* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, 1.f, 20);
}

__global__ void shuffle_without_me(float* out) { out[threadIdx.x] = __shfl_sync(0xffffu, 1.f, 0); }

__global__ void shuffle_with_the_dead(float* out) {
  if (threadIdx.x >= 16) return;
  out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.f, 1);
}

__global__ void out_of_bounds(const float* in, float* out, int n) {
  if (int(threadIdx.x) <= n) out[threadIdx.x] = in[threadIdx.x];
}

__global__ void votes(const float* in, float* out) {
  const bool positive = in[threadIdx.x] > 0.f;
  const unsigned ballot = __ballot_sync(0xffffffffu, positive);
  const int any = __any_sync(0xffffffffu, positive), all = __all_sync(0xffffffffu, positive);
  const int count = __syncthreads_count(positive);
  if (threadIdx.x == 0) {
    out[0] = float(ballot);
    out[1] = float(any);
    out[2] = float(all);
    out[3] = float(count);
  }
}

// a [16, 16] row by row times b [16, 8] row by row, by fragments that are gathered one by one or loaded with ldmatrix.
template <class T, bool kLoad>
__global__ void multiply(const T* a, const T* b, float* out) {
  __shared__ __align__(16) T tile_a[16 * 16];
  __shared__ __align__(16) T tile_b[16 * 8];
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  cp_async_16(tile_a + 8 * lane, a + 8 * lane);
  cp_async_16(tile_b + 8 * (lane % 16), b + 8 * (lane % 16));
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  const auto pair = [](T low, T high) {
    uint16_t l, h;
    memcpy(&l, &low, 2);
    memcpy(&h, &high, 2);
    return uint32_t(l) | uint32_t(h) << 16;
  };
  uint32_t fa[4], fb[2];
  if constexpr (kLoad) {
    ldmatrix<4>(fa, tile_a + (lane % 16) * 16 + lane / 16 * 8);
    ldmatrix<2, true>(fb, tile_b + (lane % 16) * 8);
  } else {
    for (int r = 0; r < 4; ++r) {
      const T* p = tile_a + (g + 8 * (r % 2)) * 16 + 2 * t + 8 * (r / 2);
      fa[r] = pair(p[0], p[1]);
    }
    for (int r = 0; r < 2; ++r) {
      const T* p = tile_b + (2 * t + 8 * r) * 8 + g;
      fb[r] = pair(p[0], p[8]);
    }
  }
  float d[4] = {0.f, 0.f, 0.f, 0.f};
  mma_m16n8k16<T>(d, fa, fb);
  for (int r = 0; r < 4; ++r) out[(g + 8 * (r / 2)) * 8 + 2 * t + r % 2] = d[r];
}

// Reads what was copied with `kPending` groups still allowed under way, of two.
template <int kPending, bool kValid>
__global__ void copy(const float* in, float* out) {
  __shared__ __align__(16) float tile[2][4];
  for (int group = 0; group < 2; ++group) {
    cp_async_16(tile[group], in + 4 * group, kValid);
    cp_async_commit();
  }
  cp_async_wait<kPending>();
  for (int i = 0; i < 8; ++i) out[i] = tile[i / 4][i % 4];
}

template <class T>
void launch_multiply(const Tensor& a, const Tensor& b, const Tensor& out, bool load) {
  if (load)
    multiply<T, true><<<1, 32>>>(pointer<const T>(a), pointer<const T>(b), pointer<float>(out));
  else
    multiply<T, false><<<1, 32>>>(pointer<const T>(a), pointer<const T>(b), pointer<float>(out));
}

Tensor run(int64_t which, Tensor a, Tensor b, Tensor out) {
  const float* in = pointer<const float>(a);
  float* to = pointer<float>(out);
  const int n = static_cast<int>(a.numel());
  switch (which) {
    case 0: sum_of_block<<<1, 128>>>(in, to, n); break;
    case 1: missing_barrier<<<1, 64>>>(in, to); break;
    case 2: write_after_read<<<1, 64>>>(in, to); break;
    case 3: two_blocks_one_place<<<2, 64>>>(to); break;
    case 4: uninitialised<<<1, 64>>>(to, false); break;
    case 5: uninitialised<<<1, 64, 64 * sizeof(float)>>>(to, true); break;
    case 6: divergent_barriers<<<1, 64>>>(); break;
    case 7: barrier_against_shuffle<<<1, 32>>>(to); break;
    case 8: shuffle_past_mask<<<1, 32>>>(to); break;
    case 9: shuffle_without_me<<<1, 32>>>(to); break;
    case 10: shuffle_with_the_dead<<<1, 32>>>(to); break;
    case 11: out_of_bounds<<<1, 64>>>(in, to, n); break;
    case 12: votes<<<1, 32>>>(in, to); break;
    case 13: uninitialised<<<1, 2048>>>(to, false); break;
    case 14: uninitialised<<<1, 64, 50000>>>(to, true); break;
    case 15: copy<0, true><<<1, 1>>>(in, to); break;
    case 16: copy<1, true><<<1, 1>>>(in, to); break;
    case 17: copy<0, false><<<1, 1>>>(in, to); break;
    case 18: write_after_others_read<<<1, 64>>>(in, to); break;
    case 20:
    case 21:
      if (a.scalar_type() == ScalarType::Half) launch_multiply<__half>(a, b, out, which == 21);
      else launch_multiply<__nv_bfloat16>(a, b, out, which == 21);
      break;
    default: fail("there is no kernel ", which);
  }
  check_launch("self_test");
  return out;
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY(cuda_on_cpu_self_test, m) { m.def("run(int which, Tensor a, Tensor b, Tensor out) -> Tensor"); }
STABLE_TORCH_LIBRARY_IMPL(cuda_on_cpu_self_test, CPU, m) { m.impl("run", TORCH_BOX(&rirn::run)); }
