// What 3x3 convolutions read and write, on tensor cores or not: images, several as if concatenated, weights, the place of a
// block's tile, activations. Free of torch.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "common.cuh"

namespace rirn {
namespace cuda {
constexpr int kMostImages = 8;  // that are concatenated

// [N, C, H, W] as a layer sees it. Shuffled: channel 4c + 2i + j of pixel (y, x) is channel c of
// (2y + i, 2x + j), the pixel_unshuffle of what lies in memory.
template <class T>
struct Image {
  T* data;  // null: nothing is stored here
  int64_t n, c, h, w;
  int channels;  // that the layer sees
  bool shuffled;
  int wide;  // channels in one access: 8 or 4 if they are adjacent and aligned, else 1

  __device__ __forceinline__ int64_t at(int64_t index, int channel, int64_t y, int64_t x) const {
    if (shuffled) {
      y = 2 * y + (channel >> 1 & 1);
      x = 2 * x + (channel & 1);
      channel >>= 2;
    }
    return index * n + channel * c + y * h + x * w;
  }
};

template <class T>
Image<T> image_of(const View<T>& t, bool shuffled) {
  const int channels = static_cast<int>(t.size(1)) * (shuffled ? 4 : 1);
  Image<T> image{t.data, t.stride(0), t.stride(1), t.stride(2), t.stride(3), channels, shuffled, 1};
  if (shuffled || t.stride(1) != 1) return image;
  for (int wide : {4, 8}) {
    bool fits = reinterpret_cast<uintptr_t>(t.data) % (wide * sizeof(T)) == 0;
    for (int d : {0, 2, 3}) fits &= t.size(d) <= 1 || t.stride(d) % wide == 0;
    if (fits) image.wide = wide;
  }
  return image;
}

template <class T>
struct Images {
  Image<T> v[kMostImages];
  int count;
  int chunk;  // 8, 4 or 1: divides the channels of each
};
inline int chunk_of(int channels) { return channels % 8 == 0 ? 8 : channels % 4 == 0 ? 4 : 1; }
template <class T>
Images<T> only(const Image<T>& image) {
  return {{image}, 1, chunk_of(image.channels)};
}
template <class T>
void append(Images<T>& images, const Image<T>& image) {
  images.chunk = images.count ? std::min(images.chunk, chunk_of(image.channels)) : chunk_of(image.channels);
  images.v[images.count++] = image;
}

template <class T, int N>
__device__ __forceinline__ Pack<T, N> load_channels(const Image<T>& from, int64_t n, int channel, int64_t y, int64_t x) {
  if (N > 1 && from.wide >= N) return *reinterpret_cast<const Pack<T, N>*>(from.data + from.at(n, channel, y, x));
  Pack<T, N> pack;
#pragma unroll
  for (int k = 0; k < N; ++k) pack.v[k] = from.data[from.at(n, channel + k, y, x)];
  return pack;
}

template <class T, int N>
__device__ __forceinline__ void store_channels(const Image<T>& to, int64_t n, int channel, int64_t y, int64_t x,
                                               const Pack<T, N>& pack) {
  if (N > 1 && to.wide >= N) {
    *reinterpret_cast<Pack<T, N>*>(to.data + to.at(n, channel, y, x)) = pack;
    return;
  }
#pragma unroll
  for (int k = 0; k < N; ++k) to.data[to.at(n, channel + k, y, x)] = pack.v[k];
}

// The image that holds a channel of the concatenation, and the channel's place in it.
template <class T>
__device__ __forceinline__ const Image<T>& find(const Images<T>& images, int& channel) {
  int k = 0;
  for (; k + 1 < images.count && channel >= images.v[k].channels; ++k) channel -= images.v[k].channels;
  return images.v[k];
}

// Weights [out, in, 3, 3] by strides; in a backward pass with the roles of out and in swapped and the taps reversed.
template <class T>
struct Weights {
  const T* data;
  int64_t o, i, y, x;
  int outputs, inputs;

  __host__ __device__ __forceinline__ const T* at(int out, int in, int tap) const {
    return data + out * o + in * i + tap / 3 * y + tap % 3 * x;
  }
  Weights rotated() const { return {data + 2 * y + 2 * x, i, o, -y, -x, inputs, outputs}; }
};

template <class T>
struct ConvArgs {
  Images<T> in, out;
  Images<T> skip;  // count 0: none; is added in front of the activation
  Image<T> gate;   // data null: none; result of an activation that the result of this, a gradient, passes back, see `gated`
  const T* bias;  // null: none
  int64_t bias_stride;
  double slope, gate_slope;
  Weights<T> weight;   // of conv3x3_ffma
  const uint4* packed;  // of conv3x3_mma
  int64_t images;
  int h, w;
};

struct Place {  // of a block's tile
  int64_t image;
  int y, x;
};
__device__ __forceinline__ Place place_of(int64_t block, int h, int w, int tile_h, int tile_w) {
  const int across = (w + tile_w - 1) / tile_w, down = (h + tile_h - 1) / tile_h;
  return {block / across / down, static_cast<int>(block / across % down) * tile_h, static_cast<int>(block % across) * tile_w};
}
inline int64_t tiles_of(int64_t images, int h, int w, int tile_h, int tile_w) {
  return images * ((h + tile_h - 1) / tile_h) * ((w + tile_w - 1) / tile_w);
}

// x times the slope below zero; a slope of 0 turns an infinity into 0.
template <class W>
__device__ __forceinline__ W scaled(W x, W slope) {
  return slope == 0 ? W(0) : x * slope;
}
// The part of a gradient that passes an activation whose result is `gate`, as in torch; NaN gradients propagate.
template <class W>
__device__ __forceinline__ W gated(W grad, W gate, W slope) {
  return (slope == 0 ? gate <= 0 : !(gate > 0)) ? scaled(grad, slope) : grad;
}
template <class W>
__device__ __forceinline__ W activate(W x, W slope) {
  return x < 0 ? scaled(x, slope) : x;  // lets NaN through
}

// Of 8.
inline __host__ __device__ int groups_of(int channels) { return (channels + 7) / 8; }

constexpr int kSharedUnasked = 48 * 1024;  // bytes of shared memory that a block may have on every device
constexpr int kMostDevices = 64;           // whose answers are remembered

// Gives a kernel without static shared memory as much of it per block as the current device allows, at the first launch there
// that needs it: if each launch asked for its own bytes, one host thread could lower what another has just requested.
// Throws std::runtime_error if the device has less than `bytes`.
template <auto kKernel>
void allow_shared(size_t bytes) {
  if (bytes <= kSharedUnasked) return;
  static std::atomic<int> allowed[kMostDevices];  // bytes; 0: not asked yet
  int device = 0, limit = 0;
  cudaError_t error = cudaGetDevice(&device);
  std::atomic<int> forgotten{0};
  std::atomic<int>& most = error == cudaSuccess && device < kMostDevices ? allowed[device] : forgotten;
  if (error == cudaSuccess && !most) {
    const void* function = reinterpret_cast<const void*>(kKernel);
    error = cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    if (error == cudaSuccess) error = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, limit);
    if (error == cudaSuccess) most = limit;
  }
  if (error == cudaSuccess && bytes > static_cast<size_t>(most)) error = cudaErrorInvalidValue;
  if (error == cudaSuccess) return;
  cudaGetLastError();  // or the next op would report it
  throw std::runtime_error("a 3x3 convolution needs " + std::to_string(bytes) +
                           " bytes of shared memory for a block, which the CUDA device refuses (" + cudaGetErrorString(error) +
                           "); use backend=\"reference\"");
}
}  // namespace cuda
}  // namespace rirn
