// 3x3 convolution (stride 1, zero padding 1) of one image by the definition: the plain version for double precision.
// Images are dense [channels][H][W], weights dense [co][ci][3][3].
#pragma once
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace rirn {
struct Size {
  int64_t H, W;
};

// The pixels x for which x + k - 1 lies inside [0, n).
inline int64_t first_inside(int64_t k) { return k == 0 ? 1 : 0; }
inline int64_t last_inside(int64_t k, int64_t n) { return k == 2 ? n - 1 : n; }

// y = conv(x, w) + bias (bias may be null).
template <class A>
void conv3x3_direct(const A* x, int64_t ci, const A* w, const A* bias, int64_t co, A* y, Size s) {
  torch::stable::parallel_for(0, co * s.H, 8, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t o = r / s.H, h = r % s.H;
      A* out = y + r * s.W;
      std::fill(out, out + s.W, bias ? bias[o] : A(0));
      for (int64_t c = 0; c < ci; ++c)
        for (int64_t i = 0; i < 3; ++i) {
          if (h + i - 1 < 0 || h + i - 1 >= s.H) continue;
          const A* in = x + (c * s.H + h + i - 1) * s.W - 1;
          for (int64_t j = 0; j < 3; ++j) {
            const A k = w[((o * ci + c) * 3 + i) * 3 + j];
            for (int64_t v = first_inside(j); v < last_inside(j, s.W); ++v) out[v] += k * in[v + j];
          }
        }
    }
  });
}

// The weights of the convolution that takes the gradient of y to the gradient of x: transposed and rotated by 180 degrees.
template <class A>
std::vector<A> rotated(const A* w, int64_t ci, int64_t co) {
  std::vector<A> out(ci * co * 9);
  for (int64_t o = 0; o < co; ++o)
    for (int64_t c = 0; c < ci; ++c)
      for (int64_t k = 0; k < 9; ++k) out[(c * co + o) * 9 + 8 - k] = w[(o * ci + c) * 9 + k];
  return out;
}

// dw += the gradient of the weights, db += that of the bias. Each element is summed by one thread in a fixed order.
template <class A>
void conv3x3_direct_weights(const A* x, int64_t ci, const A* dy, int64_t co, A* dw, A* db, Size s) {
  torch::stable::parallel_for(0, co * ci, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const A *g = dy + r / ci * s.H * s.W, *in = x + r % ci * s.H * s.W;
      for (int64_t i = 0; i < 3; ++i)
        for (int64_t j = 0; j < 3; ++j) {
          A sum = 0;
          for (int64_t h = first_inside(i); h < last_inside(i, s.H); ++h)
            for (int64_t v = first_inside(j); v < last_inside(j, s.W); ++v)
              sum += g[h * s.W + v] * in[(h + i - 1) * s.W + v + j - 1];
          dw[r * 9 + i * 3 + j] += sum;
        }
    }
  });
  for (int64_t o = 0; o < co; ++o) {
    A sum = 0;
    for (int64_t k = 0; k < s.H * s.W; ++k) sum += dy[o * s.H * s.W + k];
    db[o] += sum;
  }
}
}  // namespace rirn
