// irm_update on CUDA: x0 = relu(joint([hidden, inner])), x1 = x0 + res1b(relu(res1a(x0))), x2 = x1 + res2b(relu(res2a(x1))),
// result = out(x2). Free of torch.
//
// fp16 and bf16 with c of 16, 20 or 32 take three launches: the weights are packed, one kernel makes x1 and another the result. A
// block of either takes a tile of kTileH x kTileW pixels through three layers without leaving shared memory; the layers before the
// last are computed with a rim around the tile, of 2 and 1 pixels. Everything else runs layer by layer (conv3x3_chain.cuh).
//
// By count, with E(L, T, r) = L + 2 r (ceil(L / T) - 1) for pixels along an axis of L in tiles of T with a rim of r (up to what the
// last tile lacks), A(r) = E(H, kTileH, r) E(W, kTileW, r), and layers of m = 2 * 9 * 2c * 2c FLOPs per pixel:
//   FLOPs = m (2 (A(2) + A(1)) + 1.5 H W)                 against 5.5 m H W of the layers one by one
//   bytes = 2 (2c A(3) + 2c H W + 2c A(3) + c H W)        read and written, rims counted, without the weights
// For c = 16 and 20 at 320x180 that is 1.21 times the FLOPs (1.24 for c = 32 at 640x360) and 9.4 c H W elements, where an eager module
// reads and writes 51 c H W. Two layers per launch would take 1.10 times the FLOPs, but move 19 c H W and need one more launch; all
// six in one would take 1.55 times, and shared memory cannot hold such a tile with rims of 6 and 5.
#pragma once
#include <type_traits>

#include "conv3x3_chain.cuh"

namespace rirn {
namespace cuda {
// Sizes for c = 4 kGroups, 2c being kGroups slots of 8 channels: c is 16, 20 or 32.
template <int kGroups>
struct IrmTile {
  static constexpr int kH = 16, kW = kGroups == 8 ? 24 : 32;  // as large as shared memory allows
  static constexpr int kOut = (kGroups + 1) / 2;              // groups of 8 results
  static constexpr int kSteps = (9 * kGroups + 1) / 2;
  static constexpr int kTaps = 2 * kSteps;
  static constexpr int kFirst = (kH + 6) * (kW + 6) * kGroups * 8, kSecond = (kH + 4) * (kW + 4) * kGroups * 8;  // elements
  static constexpr int kBytes = (kFirst + kSecond) * 2 + 3 * kTaps * 4;
};

template <class T>
struct IrmArgs {
  Images<T> in, out;
  const uint4* packed[3];
  const T* bias[3];
  int64_t bias_stride[3];
  int64_t images;
  int h, w;
};

// One layer over the tile and `rim` pixels around it. With `add` the result is added to what stands in `to`.
template <class T, int kGroups, int kN>
__device__ __forceinline__ void irm_layer(const Region<T>& from, const Region<T>& to, int rim, const int* taps, const uint4* weights,
                                          const T* bias, int64_t bias_stride, int outputs, bool relu, bool add, const Place& place,
                                          int h, int w) {
  using Tile = IrmTile<kGroups>;
  constexpr FixedSlots<kGroups> slots{};
  constexpr int kM = 2;
  const int width = Tile::kW + 2 * rim, pixels = width * (Tile::kH + 2 * rim);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int first = warp * kM * 16; first < pixels; first += kWarps * kM * 16) {
    int source[kM];
    bool inside = false;
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      const int p = min(first + m * 16 + lane % 16, pixels - 1), y = p / width - rim, x = p % width - rim;
      source[m] = (y - 1 + from.margin) * from.pitch + x - 1 + from.margin;
      inside |= place.y + y >= 0 && place.y + y < h && place.x + x >= 0 && place.x + x < w;
    }
    float sums[kM][kN][4] = {};
    if (__any_sync(0xffffffffu, inside)) multiply<T>(sums, from.data, slots, source, taps, weights, Tile::kSteps);
#pragma unroll
    for (int half = 0; half < 2 * kM; ++half) {
      const int p = first + half * 8 + lane / 4, y = p / width - rim, x = p % width - rim;
      if (p >= pixels) continue;
      const bool there = place.y + y >= 0 && place.y + y < h && place.x + x >= 0 && place.x + x < w;
      const int target = (y + to.margin) * to.pitch + x + to.margin;
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        Pack<T, 2>* place_of_pair = reinterpret_cast<Pack<T, 2>*>(to.data + slots.at(target, n) * 8 + lane % 4 * 2);
        Pack<T, 2> pair = {};  // what lies outside the image pads the next layer
        if (there) {
          if (add) pair = *place_of_pair;
#pragma unroll
          for (int k = 0; k < 2; ++k) {
            const int channel = n * 8 + lane % 4 * 2 + k;
            float sum = sums[half / 2][n][half % 2 * 2 + k];
            if (channel < outputs) sum += Scalar<T>::widen(bias[channel * bias_stride]);
            if (add) sum += Scalar<T>::widen(pair.v[k]);
            if (relu) sum = activate(sum, 0.f);
            pair.v[k] = Scalar<T>::narrow(sum);
          }
        }
        *place_of_pair = pair;
      }
    }
  }
  __syncthreads();
}

// Three layers: front makes x1 from hidden and inner, back the result from x1. Shared memory allows one or two blocks per
// multiprocessor, so using fewer registers gains nothing.
template <class T, int kGroups, bool kFront>
__global__ void __launch_bounds__(kThreads, 1) irm_three_layers(IrmArgs<T> a) {
  using Tile = IrmTile<kGroups>;
  constexpr FixedSlots<kGroups> slots{};
  constexpr int kH = Tile::kH, kW = Tile::kW, kInner = 8 * kGroups;
  extern __shared__ __align__(32) unsigned char shared[];
  T* first = reinterpret_cast<T*>(shared);
  T* second = first + Tile::kFirst;
  int* taps = reinterpret_cast<int*>(second + Tile::kSecond);
  const Place place = place_of(blockIdx.x, a.h, a.w, kH, kW);
  const Region<T> source{first, kW + 6, 3}, middle{second, kW + 4, 2};
  fill_region(first, slots, a.in, {place.image, place.y - 3, place.x - 3, kH + 6, kW + 6}, a.h, a.w, 0, kGroups);
  fill_taps(taps, kGroups, kW + 6);
  fill_taps(taps + Tile::kTaps, kGroups, kW + 4);
  fill_taps(taps + 2 * Tile::kTaps, kGroups, kW + 2);
  __syncthreads();
  const auto layer = [&](auto kN, int l, const Region<T>& from, const Region<T>& to, int rim, int table, int outputs, bool relu, bool add) {
    irm_layer<T, kGroups, decltype(kN)::value>(from, to, rim, taps + table * Tile::kTaps, a.packed[l], a.bias[l], a.bias_stride[l],
                                               outputs, relu, add, place, a.h, a.w);
  };
  constexpr std::integral_constant<int, kGroups> kWide{};
  if (kFront) {
    const Region<T> inside{first, kW + 2, 1};
    layer(kWide, 0, source, middle, 2, 0, kInner, true, false);  // x0
    layer(kWide, 1, middle, inside, 1, 1, kInner, true, false);
    layer(kWide, 2, inside, middle, 0, 2, kInner, false, true);  // x1
    store_region<T, 8>(middle, slots, a.out.v[0], place, 0, kInner, kH, kW, a.h, a.w);
  } else {
    const Region<T> tile{second, kW, 0};
    layer(kWide, 0, source, middle, 2, 0, kInner, true, false);
    layer(kWide, 1, middle, source, 1, 1, kInner, false, true);  // x2
    layer(std::integral_constant<int, Tile::kOut>{}, 2, source, tile, 0, 0, kInner / 2, false, false);
    if (a.out.chunk == 8) store_region<T, 8>(tile, slots, a.out.v[0], place, 0, kInner / 2, kH, kW, a.h, a.w);
    else store_region<T, 4>(tile, slots, a.out.v[0], place, 0, kInner / 2, kH, kW, a.h, a.w);
  }
}

template <class T, int kGroups>
size_t irm_fused(const Chain<T>& chain, const Image<T>& out, const Workspace& workspace, const Stream& stream) {
  using Tile = IrmTile<kGroups>;
  const int inner = 8 * kGroups;
  Arena arena(workspace);
  Packing packing(arena, workspace, stream);
  uint4* packed[kMostLayers];
  for (int l = 0; l < chain.count; ++l)
    packed[l] = packing.take(chain.layers[l].weight, l == chain.count - 1 ? Tile::kOut : kGroups);
  T* x1 = arena.take<T>(size_between(inner, chain.images, chain.h, chain.w));
  if (!workspace.memory) return arena.used();

  packing.launch();
  const Images<T> halfway = only(between(x1, inner, chain.h, chain.w));
  IrmArgs<T> front{chain.inputs, halfway}, back{halfway, only(out)};
  for (int l = 0; l < chain.count; ++l) {
    IrmArgs<T>& args = l < 3 ? front : back;
    args.packed[l % 3] = packed[l];
    args.bias[l % 3] = chain.layers[l].bias;
    args.bias_stride[l % 3] = chain.layers[l].bias_stride;
    args.images = chain.images;
    args.h = chain.h;
    args.w = chain.w;
  }
  const dim3 grid(static_cast<unsigned>(tiles_of(chain.images, chain.h, chain.w, Tile::kH, Tile::kW)));
  allow_shared<irm_three_layers<T, kGroups, true>>(Tile::kBytes);
  irm_three_layers<T, kGroups, true><<<grid, kThreads, Tile::kBytes, stream.handle>>>(front);
  allow_shared<irm_three_layers<T, kGroups, false>>(Tile::kBytes);
  irm_three_layers<T, kGroups, false><<<grid, kThreads, Tile::kBytes, stream.handle>>>(back);
  return arena.used();
}

// The six layers as a chain, `chain`, to `out`. `shared_limit`: bytes of shared memory that a block may request. Returns
// the bytes of workspace that it needs, and without one does nothing else.
template <class T>
size_t irm_forward(const Chain<T>& chain, const Image<T>& out, int shared_limit, const Workspace& workspace, const Stream& stream) {
  if constexpr (kOnTensorCores<T>) {
    const int c = chain.inputs.v[0].channels;
    if (c == 16 && IrmTile<4>::kBytes <= shared_limit) return irm_fused<T, 4>(chain, out, workspace, stream);
    if (c == 20 && IrmTile<5>::kBytes <= shared_limit) return irm_fused<T, 5>(chain, out, workspace, stream);
    if (c == 32 && IrmTile<8>::kBytes <= shared_limit) return irm_fused<T, 8>(chain, out, workspace, stream);
  }
  return chain_forward(chain, out, workspace, stream);
}
}  // namespace cuda
}  // namespace rirn
