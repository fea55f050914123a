// The loop of all pointwise ops, for tensors of any strides: one thread reads 16 bytes of every tensor (8 if channels are summed
// in half or double precision) where the layout allows it, one element otherwise, and every element of every tensor is touched
// once. Sums over the channels of a pixel and over everything (gradients of shared inputs) are added up in a fixed order, without
// atomics, so that equal inputs give equal bits. Free of torch.
//
// An op is a formula of formulas.h with these facts (`Elementwise` has the defaults):
//   kShareable  bit i: input i may be one for all channels, all pixels or everything and is then loaded once per pack
//   kSummable   bit i: output i may be summed over the channels
//   kTotal      the output that is one sum over everything, or -1
//   kReads[i]   bit j: output i depends on input j; what no wanted output depends on is not read
#pragma once
#include <algorithm>
#include <initializer_list>

#include "common.cuh"

#define RIRN_INLINE_MEMBER __device__ __forceinline__
#define RIRN_INLINE RIRN_INLINE_MEMBER

namespace rirn {
namespace cuda {
RIRN_INLINE float hyperbolic_tangent(float x) { return tanhf(x); }
RIRN_INLINE double hyperbolic_tangent(double x) { return tanh(x); }

#include "../formulas.h"

constexpr int kMaxTensors = 8;  // inputs or outputs of an op

struct Elementwise {
  static constexpr unsigned kShareable = 0, kSummable = 0;
  static constexpr int kTotal = -1;
  static constexpr unsigned kReads[kMaxTensors] = {~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u};
};

// Tensors [N, C, H, W], [N, 1, H, W] for logits, or [1, 1, 1, 1]: dimensions of 1 are shared in an input and summed in an output.
template <class T, class Op>
struct PointwiseArgs {
  int64_t sizes[4];
  View<const T> inputs[Op::kInputs];
  View<T> outputs[Op::kOutputs];  // without data: not wanted
  double* workspace;              // workspace_of() numbers, if output kTotal is wanted
};

// The most numbers of workspace that the sum over `elements` elements takes.
inline int64_t workspace_of(int64_t elements) { return elements / (kThreads / 2) + 1; }

// What the kernels get. Dimensions go from the slowest to the fastest in memory; `rank` of the four are used, the last ones.
template <class T, class Op>
struct PointwiseJob {
  const T* in[Op::kInputs];
  T* out[Op::kOutputs];
  int rank;
  int64_t sizes[4], elements;  // of the loop over all elements, or over the pixels where channels are summed
  int64_t in_strides[Op::kInputs][4], out_strides[Op::kOutputs][4];
  unsigned shared;  // bit i: input i has one value for a whole pack
  double* totals;   // a sum for each block, or null
  // Sums over the channels only.
  T* sums[Op::kOutputs];
  int slices;  // threads that share a pixel
  int64_t channels, in_channel[Op::kInputs], out_channel[Op::kOutputs];
  int64_t in_step[Op::kInputs], out_step[Op::kOutputs];  // from one pack of channels of a thread to its next
};

template <class Op>
struct Offsets {
  int64_t in[Op::kInputs], out[Op::kOutputs];
};

template <class T, class Op>
RIRN_INLINE Offsets<Op> offsets_of(const PointwiseJob<T, Op>& job, int64_t element) {
  Offsets<Op> at = {};
#pragma unroll
  for (int d = 3; d >= 0; --d) {
    if (d + job.rank < 4) break;
    int64_t i = element;
    if (d + job.rank > 4) {
      element /= job.sizes[d];
      i -= element * job.sizes[d];
    }
#pragma unroll
    for (int t = 0; t < Op::kInputs; ++t) at.in[t] += i * job.in_strides[t][d];
#pragma unroll
    for (int t = 0; t < Op::kOutputs; ++t) at.out[t] += i * job.out_strides[t][d];
  }
  return at;
}

template <class T, int N>
RIRN_INLINE Pack<T, N> load(const T* p, bool shared) {
  Pack<T, N> pack = {};
  if (!p) return pack;
  if (N == 1 || !shared) return *reinterpret_cast<const Pack<T, N>*>(p);
  const T value = *p;
#pragma unroll
  for (int k = 0; k < N; ++k) pack.v[k] = value;
  return pack;
}

// N elements. Calls seen(k, made) with the unrounded outputs of each.
template <int N, class T, class Op, class F>
RIRN_INLINE void pointwise_pack(const Op& op, const PointwiseJob<T, Op>& job, const Offsets<Op>& at, const F& seen) {
  using S = Scalar<T>;
  Pack<T, N> in[Op::kInputs], out[Op::kOutputs];
#pragma unroll
  for (int t = 0; t < Op::kInputs; ++t)
    in[t] = load<T, N>(job.in[t] ? job.in[t] + at.in[t] : nullptr, (Op::kShareable & job.shared) >> t & 1);
#pragma unroll
  for (int k = 0; k < N; ++k) {
    Wide<T> read[Op::kInputs], made[Op::kOutputs];
#pragma unroll
    for (int t = 0; t < Op::kInputs; ++t) read[t] = S::widen(in[t].v[k]);
    op.apply(read, made);
#pragma unroll
    for (int t = 0; t < Op::kOutputs; ++t) out[t].v[k] = S::narrow(made[t]);
    seen(k, made);
  }
#pragma unroll
  for (int t = 0; t < Op::kOutputs; ++t)
    if (job.out[t]) *reinterpret_cast<Pack<T, N>*>(job.out[t] + at.out[t]) = out[t];
}

// The sum over the block of one number of each thread, in thread 0.
RIRN_INLINE double block_sum(double x) {
  __shared__ double warps[kThreads / 32];
#pragma unroll
  for (int offset = 16; offset; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
  __syncthreads();
  double sum = 0;
  for (int w = 0; w < kThreads / 32; ++w) sum += warps[w];
  return sum;
}

template <class T, class Op>
RIRN_INLINE void store_total(const PointwiseJob<T, Op>& job, double total) {
  if (!job.totals) return;  // the same for all threads
  total = block_sum(total);
  if (threadIdx.x == 0) job.totals[blockIdx.x] = total;
}

// Threads take N elements each and then, one by one, those that do not fill a pack.
template <class T, int N, class Op>
__global__ void __launch_bounds__(kThreads) pointwise(Op op, PointwiseJob<T, Op> job) {
  const int64_t i = (int64_t)blockIdx.x * kThreads + threadIdx.x, packs = job.elements / N, rest = packs * N + (i - packs);
  double total = 0;
  const auto add = [&](int, const Wide<T>* made) {
    if constexpr (Op::kTotal >= 0) total += made[Op::kTotal];
  };
  if (i < packs) pointwise_pack<N>(op, job, offsets_of(job, i * N), add);
  else if (N > 1 && rest < job.elements) pointwise_pack<1>(op, job, offsets_of(job, rest), add);
  if constexpr (Op::kTotal >= 0) store_total(job, total);
}

constexpr int bits_below(unsigned mask, int end) {
  int count = 0;
  for (int i = 0; i < end; ++i) count += mask >> i & 1;
  return count;
}

// `slices` threads share a pixel, or N neighbouring ones: packs run along the pixels or, if channels are adjacent in memory,
// along the channels. Their sums are added up in shared memory.
template <class T, int N, bool kAlongChannels, class Op>
__global__ void __launch_bounds__(kThreads, sizeof(T) > 4 ? 2 : kAlongChannels ? 3 : 4) pointwise_channel_sums(Op op, PointwiseJob<T, Op> job) {
  constexpr int kPixels = kAlongChannels ? 1 : N, kChannels = kAlongChannels ? N : 1;
  constexpr int kSums = bits_below(Op::kSummable, Op::kOutputs);
  __shared__ Wide<T> parts[kSums][kThreads * kPixels];

  const int threads = kThreads / job.slices, tid = threadIdx.x;  // per slice
  const int mine = kAlongChannels ? tid / job.slices : tid % threads, slice = kAlongChannels ? tid % job.slices : tid / threads;
  const int64_t first = (int64_t)blockIdx.x * threads * kPixels, pixel = first + mine * kPixels;
  Wide<T> sums[Op::kOutputs][kPixels] = {};
  double total = 0;
  if (pixel < job.elements) {
    Offsets<Op> at = offsets_of(job, pixel);
#pragma unroll
    for (int t = 0; t < Op::kInputs; ++t) at.in[t] += slice * kChannels * job.in_channel[t];
#pragma unroll
    for (int t = 0; t < Op::kOutputs; ++t) at.out[t] += slice * kChannels * job.out_channel[t];
    // Not unrolled, and the steps not multiplied here: there are no registers left for either.
#pragma unroll 1
    for (int64_t c = slice * kChannels; c < job.channels; c += job.slices * kChannels) {
      pointwise_pack<N>(op, job, at, [&](int k, const Wide<T>* made) {
#pragma unroll
        for (int t = 0; t < Op::kOutputs; ++t)
          if (Op::kSummable >> t & 1) sums[t][kAlongChannels ? 0 : k] += made[t];
        if constexpr (Op::kTotal >= 0) total += made[Op::kTotal];
      });
#pragma unroll
      for (int t = 0; t < Op::kInputs; ++t) at.in[t] += job.in_step[t];
#pragma unroll
      for (int t = 0; t < Op::kOutputs; ++t) at.out[t] += job.out_step[t];
    }
  }
  const int count = threads * kPixels;  // pixels of this block
#pragma unroll
  for (int t = 0; t < Op::kOutputs; ++t)
#pragma unroll
    for (int k = 0; k < kPixels; ++k)
      if (Op::kSummable >> t & 1) parts[bits_below(Op::kSummable, t)][slice * count + mine * kPixels + k] = sums[t][k];
  __syncthreads();
  for (int p = tid; p < count && first + p < job.elements; p += kThreads) {
    const Offsets<Op> at = offsets_of(job, first + p);
#pragma unroll
    for (int t = 0; t < Op::kOutputs; ++t) {
      if (!(Op::kSummable >> t & 1) || !job.sums[t]) continue;
      Wide<T> sum = 0;
      for (int s = 0; s < job.slices; ++s) sum += parts[bits_below(Op::kSummable, t)][s * count + p];
      job.sums[t][at.out[t]] = Scalar<T>::narrow(sum);
    }
  }
  if constexpr (Op::kTotal >= 0) store_total(job, total);
}

template <class T>
__global__ void __launch_bounds__(kThreads) sum_totals(const double* totals, int64_t count, T* out) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += totals[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *out = Scalar<T>::narrow(static_cast<Wide<T>>(sum));
}

// ---- choice of the kernel ----

// A loop over some of the dimensions of [N, C, H, W], neighbours merged where all tensors allow.
struct LoopNest {
  int rank = 0;
  int dims[4];  // the fastest of the dimensions merged into this one
  int64_t sizes[4];
};

// `strides` has those of `count` tensors; the loop goes from the slowest to the fastest dimension of the first.
inline LoopNest loop_nest(const int64_t (&sizes)[4], std::initializer_list<int> dims, const int64_t (*strides)[4], int count) {
  int order[4], n = 0;
  for (int d : dims)
    if (sizes[d] > 1) order[n++] = d;
  std::stable_sort(order, order + n, [&](int a, int b) { return strides[0][a] > strides[0][b]; });
  LoopNest nest;
  for (int k = 0; k < n; ++k) {
    const int d = order[k];
    bool merges = nest.rank > 0;
    for (int t = 0; merges && t < count; ++t) merges = strides[t][nest.dims[nest.rank - 1]] == strides[t][d] * sizes[d];
    if (merges) {
      nest.dims[nest.rank - 1] = d;
      nest.sizes[nest.rank - 1] *= sizes[d];
    } else {
      nest.dims[nest.rank] = d;
      nest.sizes[nest.rank++] = sizes[d];
    }
  }
  if (!nest.rank) {
    nest.dims[0] = 3;
    nest.sizes[nest.rank++] = 1;
  }
  return nest;
}

// Number of threads that share a pixel whose channels are `units` packs in a row: many for wide accesses, at most a quarter idle.
inline int slices_along_channels(int64_t units) {
  int slices = 32;
  while (slices > 1 && 4 * units < 3 * ((units + slices - 1) / slices * slices)) slices /= 2;
  return slices;
}

inline int slices_along_pixels(int64_t channels) {
  int slices = 1;
  while (slices < 8 && slices < channels) slices *= 2;
  return slices;
}

// The tensors of one call. Strides are 0 along dimensions of size 1.
template <class T, class Op>
struct PointwiseTensors {
  static constexpr int kCount = Op::kOutputs + Op::kInputs;
  const void* data[kCount] = {};  // outputs, then inputs; null: neither read nor written
  int64_t strides[kCount][4];
  bool summed[kCount] = {};

  explicit PointwiseTensors(const PointwiseArgs<T, Op>& args) {
    unsigned reads = 0;
    for (int t = 0; t < Op::kOutputs; ++t) {
      const View<T>& view = args.outputs[t];
      set(t, view, args.sizes);
      if (!view.data) continue;
      reads |= Op::kReads[t];
      summed[t] = t == Op::kTotal || ((Op::kSummable >> t & 1) && view.sizes[1] < args.sizes[1]);
    }
    for (int t = 0; t < Op::kInputs; ++t) {
      set(Op::kOutputs + t, args.inputs[t], args.sizes);
      if (!(reads >> t & 1)) data[Op::kOutputs + t] = nullptr;
    }
  }
  template <class E>
  void set(int t, const View<E>& view, const int64_t (&sizes)[4]) {
    data[t] = view.data;
    for (int d = 0; d < 4; ++d) strides[t][d] = view.sizes[d] == 1 && sizes[d] != 1 ? 0 : view.strides[d];
  }
  // Whether tensor t, if it is touched element by element, can be so in packs along `dim`: its stride is 1 there, and a multiple
  // of the pack along `others`.
  bool packs(int t, int dim, int64_t pack, const int* others, int count) const {
    if (!data[t] || summed[t]) return true;
    const int input = t - Op::kOutputs;
    if (input >= 0 && (Op::kShareable >> input & 1) && strides[t][dim] == 0) return true;
    if (strides[t][dim] != 1 || reinterpret_cast<uintptr_t>(data[t]) % kAccess) return false;
    return std::all_of(others, others + count, [&](int d) { return d == dim || strides[t][d] % pack == 0; });
  }
};

template <class T, class Op>
void launch_pointwise(const Op& op, const PointwiseArgs<T, Op>& args, const Stream& stream) {
  // Sums need registers: with more than 16 bytes of them in flight they would spill, or halve the threads.
  constexpr int kSumPack = sizeof(T) > 4 ? 1 : 4, kChannel = 1;
  using Tensors = PointwiseTensors<T, Op>;
  const int64_t(&sizes)[4] = args.sizes;
  const int64_t channels = sizes[kChannel], pixels = sizes[0] * sizes[2] * sizes[3];
  const Tensors tensors(args);
  if (!channels || !pixels || std::none_of(tensors.data, tensors.data + Op::kOutputs, [](const void* p) { return p; })) return;

  // The loop follows the layout of an output of full size if there is one, else of an input.
  bool sums = false;
  int64_t strides[Tensors::kCount][4];
  int count = 0;
  for (int pass = 0; pass < 2; ++pass)
    for (int t = 0; t < Tensors::kCount; ++t) {
      if (!tensors.data[t] || t == Op::kTotal || tensors.summed[t] != (pass == 1)) continue;
      std::copy_n(tensors.strides[t], 4, strides[count++]);
      sums |= tensors.summed[t];
    }
  const LoopNest nest = sums ? loop_nest(sizes, {0, 2, 3}, strides, count) : loop_nest(sizes, {0, 1, 2, 3}, strides, count);
  const bool along_channels = sums && channels > 1 && strides[0][kChannel] == 1;
  const int inner = along_channels ? kChannel : nest.dims[nest.rank - 1];
  const int64_t row = along_channels ? channels : nest.sizes[nest.rank - 1], pack = sums ? kSumPack : kPack<T>;
  bool packed = row % pack == 0 || (!sums && nest.rank == 1);
  int looped[5], n_looped = nest.rank;
  std::copy_n(nest.dims, nest.rank, looped);
  if (sums) looped[n_looped++] = kChannel;
  for (int t = 0; t < Tensors::kCount; ++t) packed = packed && tensors.packs(t, inner, pack, looped, n_looped);

  PointwiseJob<T, Op> job = {};
  job.rank = nest.rank;
  job.channels = channels;
  job.elements = sums ? pixels : pixels * channels;
  std::copy_n(nest.sizes, nest.rank, job.sizes + 4 - nest.rank);
  for (int t = 0; t < Op::kOutputs; ++t) {
    for (int k = 0; k < nest.rank; ++k) job.out_strides[t][4 - nest.rank + k] = tensors.strides[t][nest.dims[k]];
    job.out_channel[t] = tensors.strides[t][kChannel];
    if (t == Op::kTotal) job.totals = args.outputs[t].data ? args.workspace : nullptr;
    else (tensors.summed[t] ? job.sums : job.out)[t] = args.outputs[t].data;
  }
  for (int t = 0; t < Op::kInputs; ++t) {
    const int64_t(&from)[4] = tensors.strides[Op::kOutputs + t];
    for (int k = 0; k < nest.rank; ++k) job.in_strides[t][4 - nest.rank + k] = from[nest.dims[k]];
    job.in_channel[t] = from[kChannel];
    job.in[t] = static_cast<const T*>(tensors.data[Op::kOutputs + t]);
    if (from[inner] == 0) job.shared |= 1u << t;
  }

  int64_t blocks = 0;
  if (!sums) {
    const int64_t threads = packed ? job.elements / pack + job.elements % pack : job.elements;
    blocks = (threads + kThreads - 1) / kThreads;
    if (packed) pointwise<T, kPack<T>, Op><<<static_cast<unsigned>(blocks), kThreads, 0, stream.handle>>>(op, job);
    else pointwise<T, 1, Op><<<static_cast<unsigned>(blocks), kThreads, 0, stream.handle>>>(op, job);
  } else if constexpr (Op::kSummable != 0) {
    const int64_t wide = packed ? pack : 1;
    job.slices = along_channels ? slices_along_channels(channels / wide) : slices_along_pixels(channels);
    const int64_t step = job.slices * (along_channels ? wide : 1);
    for (int t = 0; t < Op::kInputs; ++t) job.in_step[t] = step * job.in_channel[t];
    for (int t = 0; t < Op::kOutputs; ++t) job.out_step[t] = step * job.out_channel[t];
    const int64_t in_block = kThreads / job.slices * (along_channels ? 1 : wide);
    blocks = (pixels + in_block - 1) / in_block;
    const unsigned grid = static_cast<unsigned>(blocks);
    if (along_channels && packed) pointwise_channel_sums<T, kSumPack, true, Op><<<grid, kThreads, 0, stream.handle>>>(op, job);
    else if (along_channels) pointwise_channel_sums<T, 1, true, Op><<<grid, kThreads, 0, stream.handle>>>(op, job);
    else if (packed) pointwise_channel_sums<T, kSumPack, false, Op><<<grid, kThreads, 0, stream.handle>>>(op, job);
    else pointwise_channel_sums<T, 1, false, Op><<<grid, kThreads, 0, stream.handle>>>(op, job);
  }
  if constexpr (Op::kTotal >= 0) {
    if (job.totals) sum_totals<T><<<1, kThreads, 0, stream.handle>>>(job.totals, blocks, args.outputs[Op::kTotal].data);
  }
}
}  // namespace cuda
}  // namespace rirn
