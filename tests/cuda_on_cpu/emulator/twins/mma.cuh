// The functions of csrc/cuda/mma.cuh for the CPU, by the layouts of the PTX ISA. The order in which tensor cores add is not
// documented; here sums are made in double and rounded once.
#pragma once
#include "cuda_on_cpu.h"

namespace rirn {
namespace cuda {
namespace twin {
template <class T>
float half_of(uint32_t word, int which) {
  const uint16_t bits = static_cast<uint16_t>(word >> (16 * which));
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return static_cast<float>(value);
}
struct Operands {
  uint32_t a[4], b[2];
};
}  // namespace twin

template <class T>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], CUDA_ON_CPU_SITE) {
  twin::Operands mine;
  std::copy_n(a, 4, mine.a);
  std::copy_n(b, 2, mine.b);
  const unsigned char* all = cuda_on_cpu::exchange(cuda_on_cpu::kFull, mine, CUDA_ON_CPU_HERE);
  const unsigned lane = cuda_on_cpu::here().lane, g = lane / 4, t = lane % 4;
  float rows[2][16], columns[2][16];  // rows g and g + 8 of a, columns 2t and 2t + 1 of b
  for (unsigned from = 0; from < 4; ++from) {
    const auto in_a = cuda_on_cpu::lane_value<twin::Operands>(all, 4 * g + from);
    for (unsigned n = 0; n < 2; ++n) {
      const auto in_b = cuda_on_cpu::lane_value<twin::Operands>(all, 4 * (2 * t + n) + from);
      for (unsigned k = 0; k < 4; ++k) {
        rows[n][8 * (k / 2) + 2 * from + k % 2] = twin::half_of<T>(in_a.a[2 * (k / 2) + n], k % 2);
        columns[n][8 * (k / 2) + 2 * from + k % 2] = twin::half_of<T>(in_b.b[k / 2], k % 2);
      }
    }
  }
  for (int r = 0; r < 4; ++r) {
    double sum = d[r];
    for (int k = 0; k < 16; ++k) sum += double(rows[r / 2][k]) * columns[r % 2][k];
    d[r] = static_cast<float>(sum);
  }
}

template <int kMatrices, bool kTransposed = false>
void ldmatrix(uint32_t (&r)[kMatrices], const void* row, CUDA_ON_CPU_SITE) {
  static_assert(kMatrices == 2 || kMatrices == 4, "two or four matrices");
  const unsigned lane = cuda_on_cpu::here().lane;
  if (lane < 8 * kMatrices && reinterpret_cast<uintptr_t>(row) % 16)
    cuda_on_cpu::stop("ldmatrix reads a row that is not aligned to 16 bytes", CUDA_ON_CPU_HERE);
  const unsigned char* all = cuda_on_cpu::exchange(cuda_on_cpu::kFull, row, CUDA_ON_CPU_HERE);
  const auto element = [&](int m, int i, int j) {
    return uint32_t(cuda_on_cpu::lane_value<const uint16_t*>(all, 8 * m + i)[j]);
  };
  const int outer = lane / 4, inner = 2 * (lane % 4);
  for (int m = 0; m < kMatrices; ++m)
    r[m] = kTransposed ? element(m, inner, outer) | element(m, inner + 1, outer) << 16
                       : element(m, outer, inner) | element(m, outer, inner + 1) << 16;
}

// The copy is made as late as it may be, when it is waited for: who reads earlier reads what was there before.
inline void cp_async_16(void* shared, const void* global, bool valid = true, CUDA_ON_CPU_SITE) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 || reinterpret_cast<uintptr_t>(global) % 16)
    cuda_on_cpu::stop("cp.async of 16 bytes at an address that is not aligned to them", CUDA_ON_CPU_HERE);
  cuda_on_cpu::pending_copies().push_back({shared, valid ? global : nullptr, false});
}
inline void cp_async_commit() { cuda_on_cpu::pending_copies().push_back({nullptr, nullptr, true}); }
template <int kPending>
void cp_async_wait() {
  auto& copies = cuda_on_cpu::pending_copies();
  int groups = 0;
  for (const auto& copy : copies) groups += copy.ends_group;
  size_t done = 0;
  for (; done < copies.size() && groups > kPending; ++done) {
    const cuda_on_cpu::AsyncCopy copy = copies[done];
    if (copy.ends_group) {
      --groups;
      continue;
    }
    for (int i = 0; i < 2; ++i)
      static_cast<uint64_t*>(copy.to)[i] = copy.from ? static_cast<const uint64_t*>(copy.from)[i] : 0;
  }
  copies.erase(copies.begin(), copies.begin() + done);
}
}  // namespace cuda
}  // namespace rirn
