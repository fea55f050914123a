// conv3x3_ffma, the convolution of conv3x3.cuh for fp32 and fp64. Free of torch.
//
// A thread makes 8 outputs of 4 pixels in a row; a warp's threads have the same outputs, so weights are broadcast. A block
// has a tile of 64 such runs of pixels, two warps, for every 8 outputs that it makes, up to 40.
#pragma once
#include "conv3x3_args.cuh"

namespace rirn {
namespace cuda {
constexpr int kRun = 4, kFfmaTileH = 8, kFfmaTileW = 32, kFfmaPitch = kFfmaTileW + kRun, kFfmaInputs = 8, kMostFfmaBlocks = 5;

template <class T>
__global__ void __launch_bounds__(64 * kMostFfmaBlocks) conv3x3_ffma(ConvArgs<T> a) {
  extern __shared__ __align__(32) unsigned char shared[];
  const int width = blockDim.x / 64 * 8, threads = blockDim.x;  // outputs
  T* region = reinterpret_cast<T*>(shared);                     // [input][y][x]
  T* weights = region + kFfmaInputs * (kFfmaTileH + 2) * kFfmaPitch;  // [input][tap][output]
  const Place place = place_of(blockIdx.x, a.h, a.w, kFfmaTileH, kFfmaTileW);
  const int run = threadIdx.x % 64, row = run / (kFfmaTileW / kRun), column = run % (kFfmaTileW / kRun) * kRun;
  const int mine = threadIdx.x / 64 * 8, first_out = blockIdx.y * width;
  T sums[8][kRun] = {};
  for (int first = 0; first < a.weight.inputs; first += kFfmaInputs) {
    const int inputs = min(kFfmaInputs, a.weight.inputs - first);
    if (first) __syncthreads();  // the inputs before have been read
    constexpr int kRegion = (kFfmaTileH + 2) * kFfmaPitch;
    for (int i = threadIdx.x; i < inputs * kRegion; i += threads) {
      const int y = place.y - 1 + i % kRegion / kFfmaPitch, x = place.x - 1 + i % kFfmaPitch;
      int channel = first + i / kRegion;
      const Image<T>& image = find(a.in, channel);
      region[i] = y >= 0 && y < a.h && x >= 0 && x < a.w ? image.data[image.at(place.image, channel, y, x)] : T(0);
    }
    for (int i = threadIdx.x; i < inputs * 9 * width; i += threads) {
      const int out = first_out + i / (9 * inputs), k = i % (9 * inputs);
      weights[k * width + i / (9 * inputs)] = out < a.weight.outputs ? *a.weight.at(out, first + k / 9, k % 9) : T(0);
    }
    __syncthreads();
    for (int i = 0; i < inputs; ++i)
#pragma unroll
      for (int ky = 0; ky < 3; ++ky) {
        const T* line = region + i * kRegion + (row + ky) * kFfmaPitch + column;
        const Pack<T, 4> head = *reinterpret_cast<const Pack<T, 4>*>(line);
        const Pack<T, 2> tail = *reinterpret_cast<const Pack<T, 2>*>(line + 4);
        const T x[6] = {head.v[0], head.v[1], head.v[2], head.v[3], tail.v[0], tail.v[1]};
#pragma unroll
        for (int kx = 0; kx < 3; ++kx) {
          const T* w = weights + (i * 9 + ky * 3 + kx) * width + mine;
          const Pack<T, 4> w0 = *reinterpret_cast<const Pack<T, 4>*>(w), w1 = *reinterpret_cast<const Pack<T, 4>*>(w + 4);
#pragma unroll
          for (int o = 0; o < 8; ++o)
#pragma unroll
            for (int p = 0; p < kRun; ++p) sums[o][p] += (o < 4 ? w0.v[o % 4] : w1.v[o % 4]) * x[p + kx];
        }
      }
  }
  const int y = place.y + row;
#pragma unroll
  for (int o = 0; o < 8; ++o) {
    const int channel = first_out + mine + o;
    if (channel >= a.weight.outputs || y >= a.h) continue;
    int out_channel = channel, skip_channel = channel;
    const Image<T>& out = find(a.out, out_channel);
    if (!out.data) continue;
    const T bias = a.bias ? a.bias[channel * a.bias_stride] : T(0);
#pragma unroll
    for (int p = 0; p < kRun; ++p) {
      const int x = place.x + column + p;
      if (x >= a.w) continue;
      T sum = sums[o][p] + bias;
      if (a.skip.count) {
        skip_channel = channel;
        const Image<T>& skip = find(a.skip, skip_channel);
        sum += skip.data[skip.at(place.image, skip_channel, y, x)];
      }
      sum = activate(sum, static_cast<Wide<T>>(a.slope));
      if (a.gate.data) sum = gated(sum, a.gate.data[a.gate.at(place.image, channel, y, x)], static_cast<T>(a.gate_slope));
      out.data[out.at(place.image, out_channel, y, x)] = sum;
    }
  }
}

template <class T>
void launch_ffma(const ConvArgs<T>& a, const Stream& stream) {
  const int groups = groups_of(a.weight.outputs), blocks = (groups + kMostFfmaBlocks - 1) / kMostFfmaBlocks;
  const int per_block = (groups + blocks - 1) / blocks;
  const size_t bytes = kFfmaInputs * ((kFfmaTileH + 2) * kFfmaPitch + 9 * 8 * per_block) * sizeof(T);
  const dim3 grid(static_cast<unsigned>(tiles_of(a.images, a.h, a.w, kFfmaTileH, kFfmaTileW)), blocks);
  allow_shared<conv3x3_ffma<T>>(bytes);
  conv3x3_ffma<T><<<grid, 64 * per_block, bytes, stream.handle>>>(a);
}
}  // namespace cuda
}  // namespace rirn
