#include "winograd_pack.h"

#include <torch/csrc/stable/ops.h>

#include "working_memory.h"

namespace rirn {
namespace {
int output_block(int co) { return co % 10 == 0 ? 10 : 8; }
int blocks(int co) { return (co + output_block(co) - 1) / output_block(co); }

void pack(const SimdKernels& simd, PackJob job) {
  torch::stable::parallel_for(0, blocks(job.co), 2, [&](int64_t begin, int64_t end) {
    PackJob mine = job;
    mine.arena = thread_scratch(Scratch::job, simd.pack_arena(job.co, job.ci));
    for (int64_t b = begin; b < end; ++b) simd.pack_block(mine, (int)b * output_block(job.co));
  });
}
}  // namespace

size_t packed_size(int co, int ci) { return (size_t)blocks(co) * output_block(co) * kPoints * ci; }

void pack_weights(const SimdKernels& simd, const float* weights, int co, int ci, float* packed) {
  pack(simd, {weights, (int64_t)ci * 9, 9, false, co, ci, packed, nullptr});
}

void pack_rotated_weights(const SimdKernels& simd, const float* weights, int co, int ci, float* packed) {
  pack(simd, {weights, 9, (int64_t)ci * 9, true, ci, co, packed, nullptr});
}

std::vector<float> unpack_weight_gradient(const SimdKernels& simd, const float* sums, int parts, size_t stride, int co, int ci) {
  std::vector<float> out((size_t)co * ci * 9);
  const UnpackJob job{sums, parts, stride, co, ci, out.data()};
  torch::stable::parallel_for(0, co, 8, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) simd.unpack_output(job, (int)o);
  });
  return out;
}
}  // namespace rirn
