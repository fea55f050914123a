#include "winograd_pack.h"

#include <torch/csrc/stable/ops.h>

namespace rirn {
namespace {
constexpr double kA = 0.70710678118654752, kB = 1.41421356237309505;
constexpr double kG[kPatch][3] = {{1, 0, 0},
                                  {-2. / 3, -2. / 3 * kA, -1. / 3},
                                  {-2. / 3, 2. / 3 * kA, -1. / 3},
                                  {1. / 6, kB / 6, 1. / 3},
                                  {1. / 6, -kB / 6, 1. / 3},
                                  {0, 0, 1}};

int output_block(int co) { return co % 10 == 0 ? 10 : 8; }

// U = G w G^T, in double: the rounding of the weights would otherwise be felt in every output.
void transform_weights(const double* w, double* u) {
  double rows[kPatch][3];
  for (int i = 0; i < kPatch; ++i)
    for (int q = 0; q < 3; ++q) rows[i][q] = kG[i][0] * w[q] + kG[i][1] * w[3 + q] + kG[i][2] * w[6 + q];
  for (int i = 0; i < kPatch; ++i)
    for (int j = 0; j < kPatch; ++j)
      u[i * kPatch + j] = kG[j][0] * rows[i][0] + kG[j][1] * rows[i][1] + kG[j][2] * rows[i][2];
}

// Packs `co` outputs of `ci` inputs; weight(o, c, k) is tap k of the kernel from input c to output o.
template <class Weight>
std::vector<float> pack(int co, int ci, Weight weight) {
  const int block = output_block(co), blocks = (co + block - 1) / block;
  std::vector<float> packed((size_t)blocks * kPoints * ci * block);
  torch::stable::parallel_for(0, co, 8, [&](int64_t begin, int64_t end) {
    for (int o = (int)begin; o < end; ++o)
      for (int c = 0; c < ci; ++c) {
        double w[9], u[kPoints];
        for (int k = 0; k < 9; ++k) w[k] = weight(o, c, k);
        transform_weights(w, u);
        for (int p = 0; p < kPoints; ++p) packed[(((size_t)(o / block) * kPoints + p) * ci + c) * block + o % block] = (float)u[p];
      }
  });
  return packed;
}
}  // namespace

std::vector<float> pack_weights(const float* weights, int co, int ci) {
  return pack(co, ci, [=](int o, int c, int k) { return weights[((size_t)o * ci + c) * 9 + k]; });
}

std::vector<float> pack_rotated_weights(const float* weights, int co, int ci) {
  return pack(ci, co, [=](int c, int o, int k) { return weights[((size_t)o * ci + c) * 9 + 8 - k]; });
}

std::vector<float> unpack_weight_gradient(const float* sums, int count, size_t stride, int co, int ci, int padded_co,
                                          int padded_ci) {
  std::vector<float> out((size_t)co * ci * 9);
  torch::stable::parallel_for(0, co, 4, [&](int64_t begin, int64_t end) {
    std::vector<double> u((size_t)kPoints * ci);
    for (int64_t o = begin; o < end; ++o) {
      std::fill(u.begin(), u.end(), 0.);
      for (int s = 0; s < count; ++s)
        for (int p = 0; p < kPoints; ++p) {
          const float* row = sums + s * stride + ((size_t)p * padded_co + o) * padded_ci;
          for (int c = 0; c < ci; ++c) u[(size_t)p * ci + c] += row[c];
        }
      for (int c = 0; c < ci; ++c) {
        double rows[3][kPatch] = {};
        for (int q = 0; q < 3; ++q)
          for (int j = 0; j < kPatch; ++j)
            for (int i = 0; i < kPatch; ++i) rows[q][j] += kG[i][q] * u[(size_t)(i * kPatch + j) * ci + c];
        for (int q = 0; q < 3; ++q)
          for (int r = 0; r < 3; ++r) {
            double w = 0;
            for (int j = 0; j < kPatch; ++j) w += rows[q][j] * kG[j][r];
            out[((size_t)o * ci + c) * 9 + q * 3 + r] = (float)w;
          }
      }
    }
  });
  return out;
}
}  // namespace rirn
