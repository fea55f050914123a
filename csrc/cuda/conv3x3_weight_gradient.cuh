// Gradients of the weights and the bias of a 3x3 convolution, in two steps and without atomics: each part of the image is summed
// separately, then the parts are added up in order. The number of parts depends only on sizes, so equal inputs give
// equal bits on any device. Sums are float (double for double) at every dtype; fp16 and bf16 are multiplied on the tensor cores.
#pragma once
#include "conv3x3.cuh"

namespace rirn {
namespace cuda {
template <class T>
struct WeightGradientArgs {
  Images<T> in;   // what the layer read
  Images<T> grad;  // of its result, before the activation: one image
  Wide<T>* partial;       // [part][output][input][tap]
  Wide<T>* bias_partial;  // [part][output]
  int parts, inputs, outputs;
  int64_t images;
  int h, w;
};

// A block takes kGradOutputs x kGradInputs of the products; a thread 4 outputs, 1 input and the 9 taps.
constexpr int kGradOutputs = 32, kGradInputs = 32, kGradTileH = 8, kGradTileW = 16;
constexpr int kGradPitchX = kGradInputs + 1, kGradPitchG = kGradOutputs + 4;  // of a pixel, in elements
static_assert(kGradOutputs / 4 * kGradInputs == kThreads, "a thread takes 4 outputs of one input");

template <class T>
__global__ void __launch_bounds__(kThreads) conv3x3_weight_gradient(WeightGradientArgs<T> a) {
  using W = Wide<T>;
  extern __shared__ __align__(32) unsigned char shared[];
  constexpr int kWidth = kGradTileW + 2;
  W* g = reinterpret_cast<W*>(shared);                        // [y][x][output]
  W* x = g + kGradTileH * kGradTileW * kGradPitchG;           // [y][x][input], one pixel more on each side
  const int input_blocks = (a.inputs + kGradInputs - 1) / kGradInputs;
  const int first_out = blockIdx.y / input_blocks * kGradOutputs, first_in = blockIdx.y % input_blocks * kGradInputs;
  const int in = threadIdx.x % 32, out = threadIdx.x / 32 * 4;
  const int64_t tiles = a.images * ((a.h + kGradTileH - 1) / kGradTileH) * ((a.w + kGradTileW - 1) / kGradTileW);
  const Image<T>& grad = a.grad.v[0];
  W sums[4][9] = {}, bias[4] = {};
  for (int64_t tile = blockIdx.x; tile < tiles; tile += a.parts) {
    const Place place = place_of(tile, a.h, a.w, kGradTileH, kGradTileW);
    const int rows = min(kGradTileH, a.h - place.y), columns = min(kGradTileW, a.w - place.x);
    __syncthreads();  // the tile before has been read
    for (int i = threadIdx.x; i < kGradOutputs * rows * columns; i += kThreads) {
      const bool by_channel = grad.wide > 1;
      const int pixel = by_channel ? i / kGradOutputs : i % (rows * columns);
      const int c = by_channel ? i % kGradOutputs : i / (rows * columns), py = pixel / columns, px = pixel % columns;
      W value = 0;
      if (first_out + c < a.outputs)
        value = Scalar<T>::widen(grad.data[grad.at(place.image, first_out + c, place.y + py, place.x + px)]);
      g[(py * kGradTileW + px) * kGradPitchG + c] = value;
    }
    const int halo_columns = columns + 2, halo = (rows + 2) * halo_columns;
    for (int i = threadIdx.x; i < kGradInputs * halo; i += kThreads) {
      const bool by_channel = a.in.v[0].wide > 1;
      const int pixel = by_channel ? i / kGradInputs : i % halo, c = by_channel ? i % kGradInputs : i / halo;
      const int py = pixel / halo_columns, px = pixel % halo_columns, iy = place.y - 1 + py, ix = place.x - 1 + px;
      W value = 0;
      if (first_in + c < a.inputs && iy >= 0 && iy < a.h && ix >= 0 && ix < a.w) {
        int channel = first_in + c;
        const Image<T>& image = find(a.in, channel);
        value = Scalar<T>::widen(image.data[image.at(place.image, channel, iy, ix)]);
      }
      x[(py * kWidth + px) * kGradPitchX + c] = value;
    }
    __syncthreads();
    for (int py = 0; py < rows; ++py) {
      const W* line = x + py * kWidth * kGradPitchX + in;
      W window[3][3];
#pragma unroll
      for (int ky = 0; ky < 3; ++ky)
#pragma unroll
        for (int kx = 0; kx < 2; ++kx) window[ky][kx + 1] = line[(ky * kWidth + kx) * kGradPitchX];
      for (int px = 0; px < columns; ++px) {
#pragma unroll
        for (int ky = 0; ky < 3; ++ky) {
          window[ky][0] = window[ky][1];
          window[ky][1] = window[ky][2];
          window[ky][2] = line[(ky * kWidth + px + 2) * kGradPitchX];
        }
        const Pack<W, 4> of_four = *reinterpret_cast<const Pack<W, 4>*>(g + (py * kGradTileW + px) * kGradPitchG + out);
#pragma unroll
        for (int o = 0; o < 4; ++o) {
          bias[o] += of_four.v[o];
#pragma unroll
          for (int tap = 0; tap < 9; ++tap) sums[o][tap] += of_four.v[o] * window[tap / 3][tap % 3];
        }
      }
    }
  }
#pragma unroll
  for (int o = 0; o < 4; ++o) {
    const int64_t row = static_cast<int64_t>(blockIdx.x) * a.outputs + first_out + out + o;
    if (first_out + out + o >= a.outputs) continue;
    if (first_in + in == 0) a.bias_partial[row] = bias[o];
    if (first_in + in >= a.inputs) continue;
#pragma unroll
    for (int tap = 0; tap < 9; ++tap) a.partial[(row * a.inputs + first_in + in) * 9 + tap] = sums[o][tap];
  }
}

// The same on the tensor cores: a step of K is the 16 pixels of a row of the tile. A warp takes 16 outputs, 8 inputs and the 9 taps.
// Pixels of a tile to the right of the image are no part of the products: their gradient is 0, but the input next to it may be
// infinite.
template <class T>
__global__ void __launch_bounds__(kThreads) conv3x3_weight_gradient_mma(WeightGradientArgs<T> a) {
  extern __shared__ __align__(32) unsigned char shared[];
  constexpr int kGroups = kGradInputs / 8, kSlots = kGroups + 1, kWidth = kGradTileW + 2;
  static_assert(kGradTileW == 16 && kGradTileH == kWarps && kGradInputs == 32 && kGradOutputs == 32, "see above");
  constexpr OddSlots slots{kSlots};
  T* g = reinterpret_cast<T*>(shared);                // [y][x][output]
  T* x = g + kGradTileH * kGradTileW * kSlots * 8;    // [y][x][input], one pixel more on each side
  const int input_blocks = (a.inputs + kGradInputs - 1) / kGradInputs;
  const int first_out = blockIdx.y / input_blocks * kGradOutputs, first_in = blockIdx.y % input_blocks * kGradInputs;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int out_group = warp % 2 * 2, in_group = warp / 2;  // of 8 channels
  const int g_pixel = lane % 8 + lane / 16 * 8, g_group = out_group + lane / 8 % 2;
  const int64_t tiles = a.images * ((a.h + kGradTileH - 1) / kGradTileH) * ((a.w + kGradTileW - 1) / kGradTileW);
  float sums[9][4] = {}, bias = 0;  // of output `lane` in row `warp` of all tiles
  for (int64_t tile = blockIdx.x; tile < tiles; tile += a.parts) {
    const Place place = place_of(tile, a.h, a.w, kGradTileH, kGradTileW);
    __syncthreads();  // the tile before has been read
    fill_region(g, slots, a.grad, {place.image, place.y, place.x, kGradTileH, kGradTileW}, a.h, a.w, first_out, kGroups);
    fill_region(x, slots, a.in, {place.image, place.y - 1, place.x - 1, kGradTileH + 2, kWidth}, a.h, a.w, first_in, kGroups);
    __syncthreads();
    const int rows = min(kGradTileH, a.h - place.y), columns = min(kGradTileW, a.w - place.x);
    uint32_t there[2];  // of the two pixels in each register of `inputs`
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int pixel = lane % 4 * 2 + 8 * r;
      there[r] = (pixel < columns ? 0xffffu : 0) | (pixel + 1 < columns ? 0xffff0000u : 0);
    }
    for (int row = 0; row < rows; ++row) {
      uint32_t outputs[4];
      ldmatrix<4, true>(outputs, g + slots.at(row * kGradTileW + g_pixel, g_group) * 8);
#pragma unroll
      for (int tap = 0; tap < 9; ++tap) {
        uint32_t inputs[2];
        ldmatrix<2, true>(inputs, x + slots.at((row + tap / 3) * kWidth + tap % 3 + lane % 16, in_group) * 8);
#pragma unroll
        for (int r = 0; r < 2; ++r) inputs[r] &= there[r];
        mma_m16n8k16<T>(sums[tap], outputs, inputs);
      }
    }
    for (int px = 0; px < kGradTileW; ++px)
      bias += Scalar<T>::widen(g[slots.at(warp * kGradTileW + px, lane / 8) * 8 + lane % 8]);
  }
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int out = first_out + out_group * 8 + lane / 4 + k / 2 * 8, in = first_in + in_group * 8 + lane % 4 * 2 + k % 2;
    if (out >= a.outputs || in >= a.inputs) continue;
    float* to = a.partial + ((static_cast<int64_t>(blockIdx.x) * a.outputs + out) * a.inputs + in) * 9;
#pragma unroll
    for (int tap = 0; tap < 9; ++tap) to[tap] = sums[tap][k];
  }
  __syncthreads();  // the rows' sums take the place of the tile
  float* of_rows = reinterpret_cast<float*>(shared);
  of_rows[threadIdx.x] = bias;
  __syncthreads();
  if (warp || first_in || first_out + lane >= a.outputs) return;
  for (int row = 1; row < kWarps; ++row) bias += of_rows[row * 32 + lane];
  a.bias_partial[static_cast<int64_t>(blockIdx.x) * a.outputs + first_out + lane] = bias;
}

template <class T>
struct SumPartsArgs {
  const Wide<T>*partial, *bias_partial;
  T* weight;  // null: not wanted
  T* bias;    // null: not wanted
  int64_t o, i, y, x, bias_stride;
  int parts, inputs, outputs;
};

template <class T>
__global__ void __launch_bounds__(kThreads) conv3x3_sum_parts(SumPartsArgs<T> a) {
  const int64_t size = static_cast<int64_t>(a.outputs) * a.inputs * 9, first = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (a.weight && first < size) {
    Wide<T> sum = 0;
    for (int part = 0; part < a.parts; ++part) sum += a.partial[part * size + first];
    const int64_t tap = first % 9, in = first / 9 % a.inputs, out = first / 9 / a.inputs;
    a.weight[out * a.o + in * a.i + tap / 3 * a.y + tap % 3 * a.x] = Scalar<T>::narrow(sum);
  }
  if (a.bias && first < a.outputs) {
    Wide<T> sum = 0;
    for (int part = 0; part < a.parts; ++part) sum += a.bias_partial[static_cast<int64_t>(part) * a.outputs + first];
    a.bias[first * a.bias_stride] = Scalar<T>::narrow(sum);
  }
}

inline int gradient_blocks(int inputs, int outputs) {
  return ((inputs + kGradInputs - 1) / kGradInputs) * ((outputs + kGradOutputs - 1) / kGradOutputs);
}
inline int gradient_parts(int64_t images, int h, int w, int inputs, int outputs) {
  // Blocks for two on each multiprocessor of today's devices, and no more: every part goes through memory.
  const int most = std::max(8, 256 / gradient_blocks(inputs, outputs));
  return static_cast<int>(std::min<int64_t>(most, tiles_of(images, h, w, kGradTileH, kGradTileW)));
}

template <class T>
void launch_weight_gradient(const WeightGradientArgs<T>& a, const SumPartsArgs<T>& sum, const Stream& stream) {
  constexpr int kPixels = kGradTileH * kGradTileW, kWithRim = (kGradTileH + 2) * (kGradTileW + 2);
  const dim3 grid(a.parts, gradient_blocks(a.inputs, a.outputs));
  if constexpr (kOnTensorCores<T>) {
    constexpr size_t kBytes = (kPixels + kWithRim) * (kGradInputs / 8 + 1) * 16;
    conv3x3_weight_gradient_mma<T><<<grid, kThreads, kBytes, stream.handle>>>(a);
  } else {
    constexpr size_t kBytes = (kPixels * kGradPitchG + kWithRim * kGradPitchX) * sizeof(Wide<T>);
    allow_shared<conv3x3_weight_gradient<T>>(kBytes);
    conv3x3_weight_gradient<T><<<grid, kThreads, kBytes, stream.handle>>>(a);
  }
  const int64_t size = static_cast<int64_t>(a.outputs) * a.inputs * 9;
  conv3x3_sum_parts<T><<<static_cast<unsigned>((size + kThreads - 1) / kThreads), kThreads, 0, stream.handle>>>(sum);
}
}  // namespace cuda
}  // namespace rirn
