// Adaptive temporal blending from its inputs to its result, for inference: u = joint([f_cur, f_prev]), a logit for each frame from its
// half of u, conv2(leaky_relu(conv1(u))), and decay sigmoid(logit_prev) f_prev + max_weight sigmoid(logit_cur) f_cur. Only fp16
// and bf16. Free of torch.
//
// Three launches besides the one that packs the weights: the joint convolution, which reads both inputs and writes the halves
// apart; the first convolutions of both branches; their second ones, gates and blend. By count, with images of c channels:
//   read and written  2 + 2, 2 + 2, 4 + 1 = 13 images    against 25 with the library's convolutions and atb_blend, in 9 launches
// The last kernel keeps the logits in registers, where they are not rounded.
#pragma once
#include <type_traits>

#include "conv3x3_chain.cuh"

namespace rirn {
namespace cuda {
enum AtbLayer { kJoint, kPrev1, kPrev2, kCur1, kCur2, kAtbLayers };

template <class T>
struct AtbUpdate {
  Image<T> f_cur, f_prev, out;
  Weights<T> weights[kAtbLayers];  // [2c, 2c, 3, 3], then [c, c, 3, 3] each
  const T* biases[kAtbLayers];
  int64_t bias_strides[kAtbLayers];
  double slope, decay, max_weight;
  int64_t images;
  int h, w;
};

template <class T>
struct AtbGateArgs {
  ConvPair<T> logits;  // of f_prev and of f_cur: these stand as `skip`, and the op's result as `out` of the first
  float decay, max_weight;
};

// Groups of 8 outputs that a block makes of both logits: their sums are in registers together, and with
// four the compiler has to spill.
inline int gate_width(int outputs) {
  const int groups = groups_of(outputs), blocks = (groups + 2) / 3;
  return std::max(2, (groups + blocks - 1) / blocks);
}

// Two blocks per multiprocessor: one computes while the other loads.
template <class T, int kN>
__global__ void __launch_bounds__(kThreads, 2) atb_gates(AtbGateArgs<T> a) {
  extern __shared__ __align__(32) unsigned char shared[];
  const ConvArgs<T>& conv = a.logits.v[0];
  const Place place = place_of(blockIdx.x, conv.h, conv.w, kMmaTileH, kMmaTileW);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float sums[2][2][kN][4] = {};
#pragma unroll
  for (int branch = 0; branch < 2; ++branch) {
    if (branch) __syncthreads();  // the region of the branch before has been read
    convolve_tile(sums[branch], a.logits.v[branch], place, shared);
  }
  __syncthreads();  // the features take the place of the region
  constexpr OddSlots slots{kN | 1};
  constexpr int kPixels = kMmaTileH * kMmaTileW;
  T* f_prev = reinterpret_cast<T*>(shared);
  T* f_cur = f_prev + kPixels * (kN | 1) * 8;
  const int first = blockIdx.y * 8 * kN, outputs = min(8 * kN, conv.weight.outputs - first);
  const Window window{place.image, place.y, place.x, kMmaTileH, kMmaTileW};
  fill_region(f_prev, slots, a.logits.v[0].skip, window, conv.h, conv.w, first, kN);
  fill_region(f_cur, slots, a.logits.v[1].skip, window, conv.h, conv.w, first, kN);
  __syncthreads();
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    float biases[2][2];  // of f_prev and f_cur, two channels
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const ConvArgs<T>& from = a.logits.v[k / 2];
      const int channel = n * 8 + lane % 4 * 2 + k % 2;
      biases[k / 2][k % 2] = channel < outputs ? Scalar<T>::widen(from.bias[(first + channel) * from.bias_stride]) : 0.f;
    }
#pragma unroll
    for (int half = 0; half < 4; ++half) {
      const int pixel = warp * kMmaTileW + half * 8 + lane / 4, at = slots.at(pixel, n) * 8 + lane % 4 * 2;
      const Pack<T, 2> prev = *reinterpret_cast<const Pack<T, 2>*>(f_prev + at);
      Pack<T, 2>* cur = reinterpret_cast<Pack<T, 2>*>(f_cur + at);  // the result takes its place
      Pack<T, 2> result;
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const float gate_prev = a.decay * sigmoid(sums[0][half / 2][n][half % 2 * 2 + k] + biases[0][k]);
        const float gate_cur = a.max_weight * sigmoid(sums[1][half / 2][n][half % 2 * 2 + k] + biases[1][k]);
        result.v[k] = Scalar<T>::narrow(gate_prev * Scalar<T>::widen(prev.v[k]) + gate_cur * Scalar<T>::widen(cur->v[k]));
      }
      *cur = result;
    }
  }
  __syncthreads();
  const Region<T> tile{f_cur, kMmaTileW, 0};
  const auto store = [&](auto kChunk) {
    store_region<T, decltype(kChunk)::value>(tile, slots, conv.out.v[0], place, first, outputs, kMmaTileH, kMmaTileW, conv.h, conv.w);
  };
  if (conv.out.chunk == 8) store(std::integral_constant<int, 8>{});
  else if (conv.out.chunk == 4) store(std::integral_constant<int, 4>{});
  else store(std::integral_constant<int, 1>{});
}

template <class T, int kN>
void launch_gates(const AtbGateArgs<T>& a, const Stream& stream) {
  const ConvArgs<T>& conv = a.logits.v[0];
  const size_t features = 2 * kMmaTileH * kMmaTileW * (kN | 1) * 16, bytes = std::max(region_bytes(conv.weight.inputs), features);
  allow_shared<atb_gates<T, kN>>(bytes);
  atb_gates<T, kN><<<mma_grid(conv, kN), kThreads, bytes, stream.handle>>>(a);
}

// Returns the bytes of workspace that it needs; without a workspace it does nothing else.
template <class T>
size_t atb_update(const AtbUpdate<T>& job, const Workspace& workspace, const Stream& stream) {
  const int c = job.out.channels, width = mma_width(c), last_width = gate_width(c);
  const int widths[kAtbLayers] = {mma_width(2 * c), width, last_width, width, last_width};
  Arena arena(workspace);
  Packing packing(arena, workspace, stream);
  uint4* packed[kAtbLayers];
  for (int l = 0; l < kAtbLayers; ++l) packed[l] = packing.take(job.weights[l], widths[l]);
  Images<T> halves[2], inside[2];  // of the joint result, and between the convolutions of a branch
  for (Images<T>* images : {halves, inside})
    for (int branch = 0; branch < 2; ++branch)
      images[branch] = only(between(arena.take<T>(size_between(c, job.images, job.h, job.w)), c, job.h, job.w));
  if (!workspace.memory) return arena.used();

  packing.launch();
  const auto layer = [&](int l, const Images<T>& in, const Images<T>& out, double slope) {
    ConvArgs<T> a{};
    a.in = in;
    a.out = out;
    a.bias = job.biases[l];
    a.bias_stride = job.bias_strides[l];
    a.slope = slope;
    a.weight = job.weights[l];
    a.packed = packed[l];
    a.images = job.images;
    a.h = job.h;
    a.w = job.w;
    return a;
  };
  Images<T> inputs = only(job.f_cur), joint = halves[0];
  append(inputs, job.f_prev);
  append(joint, halves[1].v[0]);
  launch_conv3x3(layer(kJoint, inputs, joint, 1), stream);
  const ConvPair<T> first{layer(kPrev1, halves[0], inside[0], job.slope), layer(kCur1, halves[1], inside[1], job.slope)};
  launch_mma_of_width<T>(width, first, stream);
  AtbGateArgs<T> gates{{layer(kPrev2, inside[0], only(job.out), 1), layer(kCur2, inside[1], only(job.out), 1)},
                       static_cast<float>(job.decay), static_cast<float>(job.max_weight)};
  gates.logits.v[0].skip = only(job.f_prev);
  gates.logits.v[1].skip = only(job.f_cur);
  if (last_width == 2) launch_gates<T, 2>(gates, stream);
  else launch_gates<T, 3>(gates, stream);
  return arena.used();
}
}  // namespace cuda
}  // namespace rirn
