// The instructions of csrc/cuda/mma.cuh on the CPU, by the fragment layouts that are written down there.
#pragma once
#include <cstdint>
#include <cstring>

namespace rirn {
namespace cuda {
inline void ldmatrix_x4(uint32_t (&r)[4], const void* row, CUDA_ON_CPU_SITE) {
  if (reinterpret_cast<uintptr_t>(row) % 16) cuda_on_cpu::stop("a row of ldmatrix is not aligned to 16 bytes", CUDA_ON_CPU_HERE);
  const unsigned char* all = cuda_on_cpu::exchange(cuda_on_cpu::kFull, row, CUDA_ON_CPU_HERE);
  const unsigned lane = cuda_on_cpu::here().lane;
  for (unsigned matrix = 0; matrix < 4; ++matrix) {
    const char* start = static_cast<const char*>(cuda_on_cpu::lane_value<const void*>(all, matrix * 8 + lane / 4));
    std::memcpy(&r[matrix], start + lane % 4 * 4, 4);
  }
}

struct Fragments {
  uint32_t a[4], b[2];
};
template <class T>
float half_of(uint32_t pair, int k) {
  T both[2];
  std::memcpy(both, &pair, 4);
  return static_cast<float>(both[k]);
}

template <class T>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, CUDA_ON_CPU_SITE) {
  const Fragments mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
  const unsigned char* all = cuda_on_cpu::exchange(cuda_on_cpu::kFull, mine, CUDA_ON_CPU_HERE);
  const unsigned lane = cuda_on_cpu::here().lane, g = lane / 4, t = lane % 4;
  float rows[2][16], columns[2][16];  // A[g], A[g+8]; B[.][2t], B[.][2t+1]
  for (unsigned from = 0; from < 4; ++from) {
    const Fragments left = cuda_on_cpu::lane_value<Fragments>(all, 4 * g + from);
    Fragments right[2];
    for (int n = 0; n < 2; ++n) right[n] = cuda_on_cpu::lane_value<Fragments>(all, 4 * (2 * t + n) + from);
    for (int upper = 0; upper < 2; ++upper)
      for (int k = 0; k < 2; ++k)
        for (int n = 0; n < 2; ++n) {
          rows[n][8 * upper + 2 * from + k] = half_of<T>(left.a[2 * upper + n], k);
          columns[n][8 * upper + 2 * from + k] = half_of<T>(right[n].b[upper], k);
        }
  }
  for (int i = 0; i < 4; ++i) {
    float sum = 0;
    for (int k = 0; k < 16; ++k) sum += rows[i / 2][k] * columns[i % 2][k];
    d[i] += sum;
  }
}
}  // namespace cuda
}  // namespace rirn
