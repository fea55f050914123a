// conv3x3_mma, the convolution of conv3x3.cuh for fp16 and bf16: on tensor cores, sums in float. The kernels that fuse more reuse its
// parts, from a region of images in shared memory to the products and back. Free of torch.
//
// An image region is in shared memory pixel by pixel, its channels in slots of 8 (16 bytes). A product step takes 16 rows of K
// at once, two groups of 8 channels of one tap each: the groups of all taps form one row, so that 40 channels need 22.5 steps
// instead of 27.
#pragma once
#include "conv3x3_args.cuh"
#include "mma.cuh"

namespace rirn {
namespace cuda {
constexpr int kChunkChannels = 64, kChunkSteps = 36;  // of K that shared memory holds at once
constexpr int kMmaTileH = 8, kMmaTileW = 32, kMmaPitch = kMmaTileW + 2;
constexpr int kWarps = kThreads / 32;
static_assert(kMmaTileH == kWarps, "a warp takes a row of pixels");

inline __host__ __device__ int steps_of(int inputs) {
  const int whole = inputs / kChunkChannels, rest = groups_of(inputs % kChunkChannels);
  return whole * kChunkSteps + (9 * rest + 1) / 2;
}

// Where slot `group` of a pixel lies, in slots, so that eight neighbouring pixels fall on different banks.
struct OddSlots {
  int slots;  // of a pixel, odd
  __device__ __forceinline__ int at(int pixel, int group) const { return pixel * slots + group; }
};
template <int kSlots>
struct FixedSlots {
  __device__ __forceinline__ int at(int pixel, int group) const {
    static_assert(kSlots % 2 || kSlots == 4 || kSlots == 8, "the slots of eight pixels would share banks");
    if (kSlots == 4) group ^= pixel >> 1 & 3;
    if (kSlots == 8) group ^= pixel & 7;
    return pixel * kSlots + group;
  }
};

// A rectangle of an image in shared memory; what lies outside the image is zero.
struct Window {
  int64_t image;
  int y, x, height, width;  // y, x: of the first pixel in the image, may be negative
};

// Channels [first, first + 8 groups) of the concatenated images to shared memory; those past the last are zero.
template <int N, class T, class Slots>
__device__ __forceinline__ void fill_region(T* region, Slots slots, const Images<T>& in, const Window& window, int h, int w,
                                            int first, int groups) {
  const int pixels = window.height * window.width, last = first + 8 * groups;
  int offset = 0;
  for (int k = 0; k < in.count; ++k) {
    const Image<T>& image = in.v[k];
    const int from = max(first, offset), chunks = (min(last, offset + image.channels) - from) / N;
    const bool by_channel = N > 1 && image.wide >= N;
    for (int i = threadIdx.x; i < chunks * pixels; i += kThreads) {
      const int pixel = by_channel ? i / chunks : i % pixels, chunk = by_channel ? i % chunks : i / pixels;
      const int channel = from + chunk * N, y = window.y + pixel / window.width, x = window.x + pixel % window.width;
      Pack<T, N> pack = {};
      if (y >= 0 && y < h && x >= 0 && x < w) pack = load_channels<T, N>(image, window.image, channel - offset, y, x);
      const int c = channel - first;
      *reinterpret_cast<Pack<T, N>*>(region + slots.at(pixel, c / 8) * 8 + c % 8) = pack;
    }
    offset += image.channels;
  }
  const int from = max(first, offset) - first, rest = 8 * groups - from;
  for (int i = threadIdx.x; i < rest * pixels; i += kThreads) {
    const int c = from + i % rest;
    region[slots.at(i / rest, c / 8) * 8 + c % 8] = Scalar<T>::narrow(0.f);
  }
}
template <class T, class Slots>
__device__ __forceinline__ void fill_region(T* region, Slots slots, const Images<T>& in, const Window& window, int h, int w,
                                            int first, int groups) {
  if (in.chunk == 8) fill_region<8>(region, slots, in, window, h, w, first, groups);
  else if (in.chunk == 4) fill_region<4>(region, slots, in, window, h, w, first, groups);
  else fill_region<1>(region, slots, in, window, h, w, first, groups);
}

// Pixels of a tile in shared memory, and `margin` more on each side.
template <class T>
struct Region {
  T* data;
  int pitch, margin;
};

// Writes the tile of a region to `channels` of an image from `first` on.
template <class T, int N, class Slots>
__device__ __forceinline__ void store_region(const Region<T>& from, Slots slots, const Image<T>& out, const Place& place, int first,
                                             int channels, int tile_h, int tile_w, int h, int w) {
  const int chunks = channels / N, pixels = tile_h * tile_w;
  const bool by_channel = N > 1 && out.wide >= N;
  for (int i = threadIdx.x; i < chunks * pixels; i += kThreads) {
    const int pixel = by_channel ? i / chunks : i % pixels, c = (by_channel ? i % chunks : i / pixels) * N;
    const int y = pixel / tile_w, x = pixel % tile_w;
    if (place.x + x >= w || place.y + y >= h) continue;
    const int at = slots.at((y + from.margin) * from.pitch + x + from.margin, c / 8) * 8 + c % 8;
    store_channels<T, N>(out, place.image, first + c, place.y + y, place.x + x, *reinterpret_cast<const Pack<T, N>*>(from.data + at));
  }
}

// Per group of K: how many pixels on its tap lies, times 16, plus its slot. Past the last one: the first, whose weights are zero.
__device__ __forceinline__ void fill_taps(int* taps, int groups, int pitch) {
  const int count = 9 * groups;
  for (int i = threadIdx.x; i < count + count % 2; i += kThreads) {
    const int q = i < count ? i : 0, tap = q / groups;
    taps[i] = (tap / 3 * pitch + tap % 3) * 16 + q % groups;
  }
}

// sums[m][n] += what 16 pixels and 8 outputs have in common. `pixel`: this lane's of each 16, at the first tap.
template <class T, int kM, int kN, class Slots>
__device__ __forceinline__ void multiply(float (&sums)[kM][kN][4], const T* region, Slots slots, const int (&pixel)[kM],
                                         const int* taps, const uint4* weights, int steps) {
  constexpr int kPairs = (kN + 1) / 2;
  const int lane = threadIdx.x % 32;
  taps += lane / 16;
  weights += lane;
#pragma unroll 2
  for (int k = 0; k < steps; ++k) {
    uint4 b[kPairs];
#pragma unroll
    for (int n = 0; n < kPairs; ++n) b[n] = __ldg(weights + (k * kPairs + n) * 32);
    const int tap = taps[2 * k];
    uint32_t a[kM][4];
#pragma unroll
    for (int m = 0; m < kM; ++m) ldmatrix<4>(a[m], region + slots.at(pixel[m] + (tap >> 4), tap & 15) * 8);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      const uint4& pair = b[n / 2];
      const uint32_t column[2] = {n % 2 ? pair.z : pair.x, n % 2 ? pair.w : pair.y};
#pragma unroll
      for (int m = 0; m < kM; ++m) mma_m16n8k16<T>(sums[m][n], a[m], column);
    }
  }
}

// Weights in the order in which lanes of a warp want them: per block of 8 kN outputs, step of K, pair of 8 outputs and lane, four
// pairs of rows of K, two for each 8 outputs.
template <class T>
struct PackJob {
  Weights<T> weight;
  uint4* packed;
  int n;  // kN of the kernel that reads them
};
constexpr int kMostPackJobs = 60;  // as many as fit into the arguments of a kernel
template <class T>
struct PackArgs {
  PackJob<T> jobs[kMostPackJobs];
};

inline int output_blocks(int outputs, int n) { return (outputs + 8 * n - 1) / (8 * n); }
template <class T>
int64_t packed_size(const Weights<T>& weight, int n) {  // in uint4
  return static_cast<int64_t>(output_blocks(weight.outputs, n)) * steps_of(weight.inputs) * ((n + 1) / 2) * 32;
}

template <class T>
__global__ void __launch_bounds__(kThreads) conv3x3_pack(PackArgs<T> args) {
  const PackJob<T>& job = args.jobs[blockIdx.y];
  const int pairs = (job.n + 1) / 2, steps = steps_of(job.weight.inputs);
  const int64_t size = static_cast<int64_t>((job.weight.outputs + 8 * job.n - 1) / (8 * job.n)) * steps * pairs * 32;
  const int64_t threads = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < size; i += threads) {
    const int lane = i % 32, pair = i / 32 % pairs, step = i / 32 / pairs % steps;
    const int block = static_cast<int>(i / 32 / pairs / steps), chunk = step / kChunkSteps;
    const int groups = min(8, groups_of(job.weight.inputs - chunk * kChunkChannels));
    Pack<T, 8> pack;
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const int n = 2 * pair + k / 4, q = 2 * (step % kChunkSteps) + k / 2 % 2;
      const int out = (block * job.n + n) * 8 + lane / 4;
      const int in = chunk * kChunkChannels + q % groups * 8 + lane % 4 * 2 + k % 2, tap = q / groups;
      const bool there = n < job.n && out < job.weight.outputs && in < job.weight.inputs && tap < 9;
      pack.v[k] = there ? *job.weight.at(out, in, tap) : Scalar<T>::narrow(0.f);
    }
    reinterpret_cast<Pack<T, 8>*>(job.packed)[i] = pack;
  }
}

// Takes sums [pixel][outputs] of a block, in shared memory, through the epilogue to the result.
template <class T, int N>
__device__ __forceinline__ void store_tile(const float* sums, int pitch, const ConvArgs<T>& a, const Place& place, int first,
                                           int outputs) {
  const int chunks = outputs / N;
  const bool by_channel = N > 1 && a.out.v[0].wide >= N;
  for (int i = threadIdx.x; i < chunks * kMmaTileH * kMmaTileW; i += kThreads) {
    constexpr int kPixels = kMmaTileH * kMmaTileW;
    const int pixel = by_channel ? i / chunks : i % kPixels, chunk = by_channel ? i % chunks : i / kPixels;
    const int y = place.y + pixel / kMmaTileW, x = place.x + pixel % kMmaTileW, channel = first + chunk * N;
    if (y >= a.h || x >= a.w) continue;
    int out_channel = channel, skip_channel = channel;
    const Image<T>& out = find(a.out, out_channel);
    if (!out.data) continue;
    Pack<T, N> skip, gate, pack;
    if (a.skip.count) {
      const Image<T>& from = find(a.skip, skip_channel);
      skip = load_channels<T, N>(from, place.image, skip_channel, y, x);
    }
    if (a.gate.data) gate = load_channels<T, N>(a.gate, place.image, channel, y, x);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      float sum = sums[pixel * pitch + chunk * N + k];
      if (a.bias) sum += Scalar<T>::widen(a.bias[(channel + k) * a.bias_stride]);
      if (a.skip.count) sum += Scalar<T>::widen(skip.v[k]);
      sum = activate(sum, static_cast<Wide<T>>(a.slope));
      if (a.gate.data) sum = gated(sum, Scalar<T>::widen(gate.v[k]), static_cast<Wide<T>>(a.gate_slope));
      pack.v[k] = Scalar<T>::narrow(sum);
    }
    store_channels<T, N>(out, place.image, out_channel, y, x, pack);
  }
}

// Adds to `sums` the products of 8 kN outputs, the blockIdx.y-th so many, of a tile; a warp has those of a row of it.
template <class T, int kN>
__device__ __forceinline__ void convolve_tile(float (&sums)[2][kN][4], const ConvArgs<T>& a, const Place& place,
                                              unsigned char* shared) {
  const int inputs = a.weight.inputs, slots = min(groups_of(inputs), kChunkChannels / 8) | 1;
  T* region = reinterpret_cast<T*>(shared);
  int* taps = reinterpret_cast<int*>(shared + (kMmaTileH + 2) * kMmaPitch * slots * 16);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const uint4* weights = a.packed + static_cast<int64_t>(blockIdx.y) * steps_of(inputs) * ((kN + 1) / 2) * 32;
  const int pixel[2] = {warp * kMmaPitch + lane % 16, warp * kMmaPitch + 16 + lane % 16};
  for (int first = 0; first < inputs; first += kChunkChannels) {
    const int groups = min(8, groups_of(inputs - first)), steps = (9 * groups + 1) / 2;
    if (first) __syncthreads();  // the channels before have been read
    const Window window{place.image, place.y - 1, place.x - 1, kMmaTileH + 2, kMmaPitch};
    fill_region(region, OddSlots{slots}, a.in, window, a.h, a.w, first, groups);
    fill_taps(taps, groups, kMmaPitch);
    __syncthreads();
    multiply<T>(sums, region, OddSlots{slots}, pixel, taps, weights, steps);
    weights += steps * ((kN + 1) / 2) * 32;
  }
}

template <class T, int kN>
__device__ __forceinline__ void convolve_block(const ConvArgs<T>& a) {
  extern __shared__ __align__(32) unsigned char shared[];
  const Place place = place_of(blockIdx.x, a.h, a.w, kMmaTileH, kMmaTileW);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float sums[2][kN][4] = {};
  convolve_tile(sums, a, place, shared);
  __syncthreads();  // the sums take the place of the region
  float* staged = reinterpret_cast<float*>(shared);
  constexpr int kPitch = 8 * kN + 4;
#pragma unroll
  for (int m = 0; m < 2; ++m)
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int k = 0; k < 4; ++k)
        staged[(warp * kMmaTileW + m * 16 + k / 2 * 8 + lane / 4) * kPitch + n * 8 + lane % 4 * 2 + k % 2] = sums[m][n][k];
  __syncthreads();
  const int first = blockIdx.y * 8 * kN, outputs = min(8 * kN, a.weight.outputs - first);
  if (a.out.chunk == 8) store_tile<T, 8>(staged, kPitch, a, place, first, outputs);
  else if (a.out.chunk == 4) store_tile<T, 4>(staged, kPitch, a, place, first, outputs);
  else store_tile<T, 1>(staged, kPitch, a, place, first, outputs);
}

template <class T, int kN>
__global__ void __launch_bounds__(kThreads) conv3x3_mma(ConvArgs<T> a) {
  convolve_block<T, kN>(a);
}

// Two layers of one size at once, the z-th by blocks (x, y, z).
template <class T>
struct ConvPair {
  ConvArgs<T> v[2];
};
template <class T, int kN>
__global__ void __launch_bounds__(kThreads) conv3x3_mma_pair(ConvPair<T> pair) {
  convolve_block<T, kN>(pair.v[blockIdx.z]);
}

// Groups of 8 outputs that a block of conv3x3_mma makes.
inline int mma_width(int outputs) {
  const int groups = groups_of(outputs), blocks = (groups + 7) / 8, wanted = (groups + blocks - 1) / blocks;
  for (int n : {2, 3, 4, 5})
    if (wanted <= n) return n;
  return 8;
}

// Bytes of shared memory of convolve_tile.
inline size_t region_bytes(int inputs) {
  const int slots = std::min(groups_of(inputs), kChunkChannels / 8) | 1;
  return (kMmaTileH + 2) * kMmaPitch * slots * 16 + 2 * kChunkSteps * sizeof(int);
}
template <int kN>
size_t convolve_bytes(int inputs) {
  return std::max(region_bytes(inputs), kMmaTileH * kMmaTileW * (8 * kN + 4) * sizeof(float));
}
template <class T>
dim3 mma_grid(const ConvArgs<T>& a, int n, unsigned layers = 1) {
  return dim3(static_cast<unsigned>(tiles_of(a.images, a.h, a.w, kMmaTileH, kMmaTileW)), output_blocks(a.weight.outputs, n), layers);
}

template <class T, int kN>
void launch_mma(const ConvArgs<T>& a, const Stream& stream) {
  const size_t bytes = convolve_bytes<kN>(a.weight.inputs);
  allow_shared<conv3x3_mma<T, kN>>(bytes);
  conv3x3_mma<T, kN><<<mma_grid(a, kN), kThreads, bytes, stream.handle>>>(a);
}
template <class T, int kN>
void launch_mma(const ConvPair<T>& pair, const Stream& stream) {
  const size_t bytes = convolve_bytes<kN>(pair.v[0].weight.inputs);
  allow_shared<conv3x3_mma_pair<T, kN>>(bytes);
  conv3x3_mma_pair<T, kN><<<mma_grid(pair.v[0], kN, 2), kThreads, bytes, stream.handle>>>(pair);
}
// `args` is a ConvArgs or a ConvPair, with weights packed for mma_width of its outputs.
template <class T, class Args>
void launch_mma_of_width(int width, const Args& args, const Stream& stream) {
  switch (width) {
    case 2: return launch_mma<T, 2>(args, stream);
    case 3: return launch_mma<T, 3>(args, stream);
    case 4: return launch_mma<T, 4>(args, stream);
    case 5: return launch_mma<T, 5>(args, stream);
    default: return launch_mma<T, 8>(args, stream);
  }
}

template <class T>
void launch_pack(const PackArgs<T>& args, int jobs, const Stream& stream) {
  int64_t most = 0;
  for (int k = 0; k < jobs; ++k) most = std::max(most, packed_size(args.jobs[k].weight, args.jobs[k].n));
  int device = 0, multiprocessors = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  const int at_once = 8 * multiprocessors;  // blocks; more of them would only wait
  const dim3 grid(static_cast<unsigned>(std::min<int64_t>((most + kThreads - 1) / kThreads, std::max(1, at_once / jobs))), jobs);
  conv3x3_pack<T><<<grid, kThreads, 0, stream.handle>>>(args);
}
}  // namespace cuda
}  // namespace rirn
