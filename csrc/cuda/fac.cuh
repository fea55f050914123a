// Filter adaptive convolution and its gradients: out[n, c, y, x] = sum_ij kernels[n, 25c + 5i + j, y, x] * features[n, c, y + i - 2,
// x + j - 2], edges replicated. The filters are nearly all of the memory; no sum needs atomics. If rows consist of packs of 16 bytes
// (NCHW, a width that fills packs), each value of the filters is read once, in packs, and the features under a block of threads come
// from shared memory. In channels_last the filters of a block of results are consecutive: they and their gradients go through
// shared memory in packs, and a thread makes one element of the result, as it does, without packs, everywhere else. Free of torch.
#pragma once
#include <type_traits>

#include "common.cuh"

namespace rirn {
namespace cuda {
constexpr int kFacSize = 5, kFacReach = kFacSize / 2, kFacTaps = kFacSize * kFacSize;

template <class T>
struct FacArgs {
  View<const T> features, kernels;
  View<T> out;
};
template <class T>
struct FacBackwardArgs {
  View<const T> grad, features, kernels;
  View<T> grad_features, grad_kernels;  // without data: not wanted
};

// One channel of one image, of the kernels with its kFacTaps taps.
template <class T>
struct FacPlane {
  T* data;
  int64_t tap, h, w;
  __device__ __forceinline__ T* at(int y, int x) const { return data + y * h + x * w; }
  __device__ __forceinline__ T* at(int t, int y, int x) const { return data + t * tap + y * h + x * w; }
};

template <class T>
struct FacTensor {
  T* data;
  int64_t n, c, h, w;
  __device__ __forceinline__ FacPlane<T> plane(int64_t in, int64_t ic) const { return {data + in * n + ic * c, c, h, w}; }
};

template <class T>
struct FacJob {
  int64_t channels, planes;
  int height, width;
  FacTensor<const T> features, kernels, grad;
  FacTensor<T> out, grad_features, grad_kernels;
  // For threads that take an element each: the sizes from the slowest dimension to the fastest in memory, and which these are.
  int64_t sizes[4];
  int order[4];
};

__device__ __forceinline__ int nearest(int i, int count) { return i < 0 ? 0 : i < count ? i : count - 1; }

// The part of a plane that a block of threads makes: packs of N pixels, kColumns packs wide and kRows high.
template <int N>
struct FacTile {
  static constexpr int kColumns = 8, kRows = kThreads / kColumns, kWidth = kColumns * N;
};

// The plane and the pixels of it that this thread makes, from (y, x) on, and where its tile begins.
struct FacPlace {
  int64_t n, c;
  int y, x, tile_y, tile_x;
};

template <class T, int N>
__device__ __forceinline__ FacPlace fac_place(const FacJob<T>& job) {
  using Tile = FacTile<N>;
  const unsigned across = (job.width + Tile::kWidth - 1) / Tile::kWidth, down = (job.height + Tile::kRows - 1) / Tile::kRows;
  const unsigned tile = blockIdx.x, plane = tile / across / down;
  FacPlace place;
  place.n = plane / job.channels;
  place.c = plane % job.channels;
  place.tile_y = tile / across % down * Tile::kRows;
  place.tile_x = tile % across * Tile::kWidth;
  place.y = place.tile_y + threadIdx.x / Tile::kColumns;
  place.x = place.tile_x + threadIdx.x % Tile::kColumns * N;
  return place;
}

// The features under a tile, with those that the filters reach around it.
template <class T, int N>
struct FacHalo {
  using Tile = FacTile<N>;
  static constexpr int kHeight = Tile::kRows + 2 * kFacReach, kWidth = Tile::kWidth + 2 * kFacReach;
  static constexpr int kPitch = (kWidth * sizeof(T) + 15) / 16 * 16 / sizeof(T);  // rows start at a pack
  static constexpr int kPart = N < 4 ? N : 4;                                     // divides the part of a row that a pack's filters see

  alignas(16) T rows[kHeight][kPitch];

  __device__ __forceinline__ void fill(const FacJob<T>& job, const FacPlace& place) {
    const FacPlane<const T> features = job.features.plane(place.n, place.c);
    for (int i = threadIdx.x; i < kHeight * kWidth; i += kThreads) {
      const int row = i / kWidth, column = i % kWidth;
      rows[row][column] = *features.at(nearest(place.tile_y + row - kFacReach, job.height),
                                       nearest(place.tile_x + column - kFacReach, job.width));
    }
    __syncthreads();
  }

  // Row i of what the filters of this thread's pack see.
  __device__ __forceinline__ void read(int i, T (&seen)[N + 2 * kFacReach]) const {
    const T* from = &rows[threadIdx.x / Tile::kColumns + i][threadIdx.x % Tile::kColumns * N];
#pragma unroll
    for (int k = 0; k < N + 2 * kFacReach; k += kPart) {
      const Pack<T, kPart> part = *reinterpret_cast<const Pack<T, kPart>*>(from + k);
#pragma unroll
      for (int p = 0; p < kPart; ++p) seen[k + p] = part.v[p];
    }
  }
};

template <class T, int N>
__device__ __forceinline__ Pack<T, N> load_pack(const T* p) {
  return *reinterpret_cast<const Pack<T, N>*>(p);
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads) fac_rows(FacJob<T> job) {
  using S = Scalar<T>;
  __shared__ FacHalo<T, N> halo;
  const FacPlace at = fac_place<T, N>(job);
  halo.fill(job, at);
  if (at.y >= job.height || at.x >= job.width) return;
  Wide<T> sums[N] = {};
  const T* kernels = job.kernels.plane(at.n, kFacTaps * at.c).at(at.y, at.x);
#pragma unroll 1
  for (int i = 0; i < kFacSize; ++i) {
    T seen[N + 2 * kFacReach];
    halo.read(i, seen);
#pragma unroll
    for (int j = 0; j < kFacSize; ++j, kernels += job.kernels.c) {
      const Pack<T, N> weights = load_pack<T, N>(kernels);
#pragma unroll
      for (int k = 0; k < N; ++k) sums[k] += S::widen(weights.v[k]) * S::widen(seen[k + j]);
    }
  }
  Pack<T, N> out;
#pragma unroll
  for (int k = 0; k < N; ++k) out.v[k] = S::narrow(sums[k]);
  *reinterpret_cast<Pack<T, N>*>(job.out.plane(at.n, at.c).at(at.y, at.x)) = out;
}

// Rows (or columns) of the padded image whose gradients belong to this one: those beyond the border belong to the border.
__device__ __forceinline__ int first_padded(int i) { return i == 0 ? -kFacReach : i; }
__device__ __forceinline__ int last_padded(int i, int count) { return i == count - 1 ? i + kFacReach : i; }

// The contribution of the output at (y, x) to the gradient of the feature that its filter sees with a tap.
template <class T>
__device__ __forceinline__ Wide<T> fac_product(const FacPlane<const T>& kernels, const FacPlane<const T>& grad, int tap, int y,
                                               int x) {
  return Scalar<T>::widen(*kernels.at(tap, y, x)) * Scalar<T>::widen(*grad.at(y, x));
}

// The gradient of a pack of features: a thread multiplies the outputs of its pack by their filters, which also contributes to
// kFacReach pixels on either side; those contributions go to the neighbours.
template <class T, int N>
__device__ __forceinline__ void fac_features_gradient_rows(const FacJob<T>& job, const FacPlace& at) {
  using S = Scalar<T>;
  using Tile = FacTile<N>;
  const int column = threadIdx.x % Tile::kColumns;
  const int H = job.height, W = job.width, x = at.x;
  const bool inside = at.y < H && x < W;
  const FacPlane<const T> kernels = job.kernels.plane(at.n, kFacTaps * at.c), grad = job.grad.plane(at.n, at.c);
  Wide<T> sums[N + 2 * kFacReach] = {};  // of the pixels from x - kFacReach on
  // Calls f(tap, y_out) for the outputs in this column that see the row, with the first tap of the row of their filters.
  const auto each_output = [&](const auto& f) {
    for (int y = first_padded(at.y); inside && y <= last_padded(at.y, H); ++y)
#pragma unroll 1
      for (int i = 0; i < kFacSize; ++i) {
        const int y_out = y + kFacReach - i;
        if (y_out >= 0 && y_out < H) f(kFacSize * i, y_out);
      }
  };
  each_output([&](int tap, int y_out) {
    const Pack<T, N> above = load_pack<T, N>(grad.at(y_out, x));
    const T* weights = kernels.at(tap, y_out, x);
#pragma unroll
    for (int j = 0; j < kFacSize; ++j, weights += kernels.tap) {
      const Pack<T, N> weight = load_pack<T, N>(weights);
#pragma unroll
      for (int k = 0; k < N; ++k) sums[k + j] += S::widen(weight.v[k]) * S::widen(above.v[k]);
    }
  });
  // The outputs of the next tiles see pixels of this one.
  if (column == 0 && x > 0)
    each_output([&](int tap, int y_out) {
      sums[kFacReach] += fac_product(kernels, grad, tap + 3, y_out, x - 1) + fac_product(kernels, grad, tap + 4, y_out, x - 2);
      sums[kFacReach + 1] += fac_product(kernels, grad, tap + 4, y_out, x - 1);
    });
  if (column == Tile::kColumns - 1 && x + N < W)
    each_output([&](int tap, int y_out) {
      sums[N + 1] += fac_product(kernels, grad, tap + 1, y_out, x + N) + fac_product(kernels, grad, tap, y_out, x + N + 1);
      sums[N] += fac_product(kernels, grad, tap, y_out, x + N);
    });
  // Beyond the border of the image.
  if (x == 0) sums[kFacReach] += sums[0] + sums[1];
  if (x + N == W) sums[N + 1] += sums[N + 2] + sums[N + 3];
#pragma unroll
  for (int k = 0; k < kFacReach; ++k) {
    const Wide<T> from_left = __shfl_up_sync(0xffffffffu, sums[N + kFacReach + k], 1, Tile::kColumns);
    const Wide<T> from_right = __shfl_down_sync(0xffffffffu, sums[k], 1, Tile::kColumns);
    if (column > 0) sums[kFacReach + k] += from_left;
    if (column < Tile::kColumns - 1) sums[N + k] += from_right;
  }
  if (!inside) return;
  Pack<T, N> out;
#pragma unroll
  for (int k = 0; k < N; ++k) out.v[k] = S::narrow(sums[kFacReach + k]);
  *reinterpret_cast<Pack<T, N>*>(job.grad_features.plane(at.n, at.c).at(at.y, x)) = out;
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads, 4) fac_backward_rows(FacJob<T> job) {
  using S = Scalar<T>;
  __shared__ FacHalo<T, N> halo;
  const FacPlace at = fac_place<T, N>(job);
  if (job.grad_kernels.data) {
    halo.fill(job, at);
    if (at.y < job.height && at.x < job.width) {
      const Pack<T, N> grad = load_pack<T, N>(job.grad.plane(at.n, at.c).at(at.y, at.x));
      T* to = job.grad_kernels.plane(at.n, kFacTaps * at.c).at(at.y, at.x);
#pragma unroll 1
      for (int i = 0; i < kFacSize; ++i) {
        T seen[N + 2 * kFacReach];
        halo.read(i, seen);
#pragma unroll
        for (int j = 0; j < kFacSize; ++j, to += job.grad_kernels.c) {
          Pack<T, N> out;
#pragma unroll
          for (int k = 0; k < N; ++k) out.v[k] = S::narrow(S::widen(grad.v[k]) * S::widen(seen[k + j]));
          *reinterpret_cast<Pack<T, N>*>(to) = out;
        }
      }
    }
  }
  if (job.grad_features.data) fac_features_gradient_rows<T, N>(job, at);
}

// ---- any strides: a thread for every element ----

template <class T>
__device__ __forceinline__ bool fac_element(const FacJob<T>& job, FacPlace& at) {
  int64_t rest = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
#pragma unroll
  for (int k = 3; k >= 0; --k) {
    const int64_t i = rest % job.sizes[k];
    rest /= job.sizes[k];
    if (job.order[k] == 0) at.n = i;
    if (job.order[k] == 1) at.c = i;
    if (job.order[k] == 2) at.y = static_cast<int>(i);
    if (job.order[k] == 3) at.x = static_cast<int>(i);
  }
  return rest == 0;
}

// The element at a place; `filter(tap)` is its filter.
template <class T, class Filter>
__device__ __forceinline__ void fac_make_element(const FacJob<T>& job, const FacPlace& at, const Filter& filter) {
  using S = Scalar<T>;
  const FacPlane<const T> features = job.features.plane(at.n, at.c);
  Wide<T> sum = 0;
#pragma unroll 1
  for (int i = 0; i < kFacSize; ++i) {
    const int y = nearest(at.y + i - kFacReach, job.height);
#pragma unroll
    for (int j = 0; j < kFacSize; ++j)
      sum += S::widen(filter(kFacSize * i + j)) * S::widen(*features.at(y, nearest(at.x + j - kFacReach, job.width)));
  }
  *job.out.plane(at.n, at.c).at(at.y, at.x) = S::narrow(sum);
}

template <class T>
__global__ void __launch_bounds__(kThreads) fac_strided(FacJob<T> job) {
  FacPlace at;
  if (!fac_element(job, at)) return;
  const FacPlane<const T> kernels = job.kernels.plane(at.n, kFacTaps * at.c);
  fac_make_element(job, at, [&](int tap) { return *kernels.at(tap, at.y, at.x); });
}

// Threads of a block such that shared memory holds their filters.
template <class T>
constexpr int kFacStaged = sizeof(T) == 8 ? kThreads / 2 : kThreads;

// The filters of a block's elements between global and shared memory, where they follow one another in the order of the elements:
// calls f(first, count) for packs, and for single ones past the last whole pack.
template <class T, class F>
__device__ __forceinline__ void fac_each_pack(const FacJob<T>& job, const F& f) {
  constexpr int kRun = kFacStaged<T> * kFacTaps;
  const int64_t start = static_cast<int64_t>(blockIdx.x) * kRun, left = job.planes * job.height * job.width * kFacTaps - start;
  const int count = static_cast<int>(left < kRun ? left : kRun), packed = count / kPack<T> * kPack<T>;
  for (int i = threadIdx.x * kPack<T>; i < packed; i += kFacStaged<T> * kPack<T>) f(start, i, std::integral_constant<int, kPack<T>>{});
  for (int i = packed + threadIdx.x; i < count; i += kFacStaged<T>) f(start, i, std::integral_constant<int, 1>{});
}

template <class T>
__global__ void __launch_bounds__(kFacStaged<T>) fac_channels_last(FacJob<T> job) {
  alignas(16) __shared__ T filters[kFacStaged<T> * kFacTaps];
  fac_each_pack(job, [&](int64_t start, int i, auto n) {
    using Packed = Pack<T, decltype(n)::value>;
    *reinterpret_cast<Packed*>(filters + i) = *reinterpret_cast<const Packed*>(job.kernels.data + start + i);
  });
  __syncthreads();
  FacPlace at;
  if (fac_element(job, at)) fac_make_element(job, at, [&](int tap) { return filters[threadIdx.x * kFacTaps + tap]; });
}

// The gradient of the filter of one element, to `store(tap, value)`.
template <class T, class Store>
__device__ __forceinline__ void fac_filter_gradient(const FacJob<T>& job, const FacPlace& at, const Store& store) {
  using S = Scalar<T>;
  const FacPlane<const T> features = job.features.plane(at.n, at.c);
  const Wide<T> above = S::widen(*job.grad.plane(at.n, at.c).at(at.y, at.x));
#pragma unroll 1
  for (int i = 0; i < kFacSize; ++i) {
    const int y = nearest(at.y + i - kFacReach, job.height);
#pragma unroll
    for (int j = 0; j < kFacSize; ++j)
      store(kFacSize * i + j, S::narrow(above * S::widen(*features.at(y, nearest(at.x + j - kFacReach, job.width)))));
  }
}

template <class T>
__device__ __forceinline__ void fac_feature_gradient(const FacJob<T>& job, const FacPlace& at) {
  using S = Scalar<T>;
  const int H = job.height, W = job.width;
  const FacPlane<const T> grad = job.grad.plane(at.n, at.c);
  const FacPlane<const T> kernels = job.kernels.plane(at.n, kFacTaps * at.c);
  Wide<T> sum = 0;
  for (int y = first_padded(at.y); y <= last_padded(at.y, H); ++y)
    for (int x = first_padded(at.x); x <= last_padded(at.x, W); ++x)
#pragma unroll 1
      for (int i = 0; i < kFacSize; ++i) {
        const int y_out = y + kFacReach - i;
        if (y_out < 0 || y_out >= H) continue;
#pragma unroll
        for (int j = 0; j < kFacSize; ++j) {
          const int x_out = x + kFacReach - j;
          if (x_out >= 0 && x_out < W) sum += fac_product(kernels, grad, kFacSize * i + j, y_out, x_out);
        }
      }
  *job.grad_features.plane(at.n, at.c).at(at.y, at.x) = S::narrow(sum);
}

template <class T>
__global__ void __launch_bounds__(kThreads) fac_backward_strided(FacJob<T> job) {
  FacPlace at;
  if (!fac_element(job, at)) return;
  if (job.grad_kernels.data) {
    const FacPlane<T> out = job.grad_kernels.plane(at.n, kFacTaps * at.c);
    fac_filter_gradient(job, at, [&](int tap, T value) { *out.at(tap, at.y, at.x) = value; });
  }
  if (job.grad_features.data) fac_feature_gradient(job, at);
}

template <class T>
__global__ void __launch_bounds__(kFacStaged<T>) fac_backward_channels_last(FacJob<T> job) {
  alignas(16) __shared__ T filters[kFacStaged<T> * kFacTaps];
  FacPlace at;
  const bool there = fac_element(job, at);
  if (there) fac_filter_gradient(job, at, [&](int tap, T value) { filters[threadIdx.x * kFacTaps + tap] = value; });
  __syncthreads();
  fac_each_pack(job, [&](int64_t start, int i, auto n) {
    using Packed = Pack<T, decltype(n)::value>;
    *reinterpret_cast<Packed*>(job.grad_kernels.data + start + i) = *reinterpret_cast<const Packed*>(filters + i);
  });
  if (there && job.grad_features.data) fac_feature_gradient(job, at);
}

// ---- choice of the kernel ----

template <class T>
FacTensor<T> fac_tensor(const View<T>& t) {
  return {t.data, t.strides[0], t.strides[1], t.strides[2], t.strides[3]};
}

// `like` has the sizes of the features and the layout that threads of single elements follow.
template <class T, class E>
FacJob<T> fac_job(const View<E>& like) {
  FacJob<T> job = {};
  job.channels = like.size(1);
  job.planes = like.size(0) * like.size(1);
  job.height = static_cast<int>(like.size(2));
  job.width = static_cast<int>(like.size(3));
  const std::array<int, 4> order = memory_order(like);
  for (int k = 0; k < 4; ++k) {
    job.order[k] = order[k];
    job.sizes[k] = like.size(order[k]);
  }
  return job;
}

// Whether a tensor's rows can be read and written in packs.
template <class E>
bool has_rows_of_packs(const View<E>& t) {
  constexpr int pack = kPack<E>;
  if (!t.data) return true;
  const auto whole = [&](int d) { return t.size(d) == 1 || t.stride(d) % pack == 0; };
  return t.stride(3) == 1 && t.size(3) % pack == 0 && whole(0) && whole(1) && whole(2) && is_aligned(t);
}

// Whether the filters are consecutive in packs, in the order of the elements of `of` in memory.
template <class E, class F>
bool has_filters_in_order(const View<E>& kernels, const View<F>& of) {
  const auto channels_last = [](const auto& t) {
    int64_t stride = 1;
    for (int d : {1, 3, 2, 0}) {
      if (t.size(d) > 1 && t.stride(d) != stride) return false;
      stride *= t.size(d);
    }
    return true;
  };
  return is_aligned(kernels) && channels_last(kernels) && channels_last(of);
}

template <int N, class T>
unsigned fac_tiles(const FacJob<T>& job) {
  using Tile = FacTile<N>;
  const int64_t across = (job.width + Tile::kWidth - 1) / Tile::kWidth, down = (job.height + Tile::kRows - 1) / Tile::kRows;
  return static_cast<unsigned>(job.planes * across * down);
}

template <class T>
unsigned fac_blocks(const FacJob<T>& job, int threads) {
  return static_cast<unsigned>((job.planes * job.height * job.width + threads - 1) / threads);
}

template <class T>
void launch_fac(const FacArgs<T>& a, const Stream& stream) {
  FacJob<T> job = fac_job<T>(a.out);
  job.features = fac_tensor(a.features);
  job.kernels = fac_tensor(a.kernels);
  job.out = fac_tensor(a.out);
  if (has_rows_of_packs(a.kernels) && has_rows_of_packs(a.out))
    fac_rows<T, kPack<T>><<<fac_tiles<kPack<T>>(job), kThreads, 0, stream.handle>>>(job);
  else if (has_filters_in_order(a.kernels, a.out))
    fac_channels_last<T><<<fac_blocks(job, kFacStaged<T>), kFacStaged<T>, 0, stream.handle>>>(job);
  else
    fac_strided<T><<<fac_blocks(job, kThreads), kThreads, 0, stream.handle>>>(job);
}

template <class T>
void launch_fac_backward(const FacBackwardArgs<T>& a, const Stream& stream) {
  FacJob<T> job = a.grad_features.data ? fac_job<T>(a.grad_features) : fac_job<T>(a.features);
  job.grad = fac_tensor(a.grad);
  job.features = fac_tensor(a.features);
  job.kernels = fac_tensor(a.kernels);
  job.grad_features = fac_tensor(a.grad_features);
  job.grad_kernels = fac_tensor(a.grad_kernels);
  const bool in_order = a.grad_kernels.data && (a.grad_features.data ? has_filters_in_order(a.grad_kernels, a.grad_features)
                                                                     : has_filters_in_order(a.grad_kernels, a.features));
  if (has_rows_of_packs(a.kernels) && has_rows_of_packs(a.grad) && has_rows_of_packs(a.grad_features) &&
      has_rows_of_packs(a.grad_kernels))
    fac_backward_rows<T, kPack<T>><<<fac_tiles<kPack<T>>(job), kThreads, 0, stream.handle>>>(job);
  else if (in_order)
    fac_backward_channels_last<T><<<fac_blocks(job, kFacStaged<T>), kFacStaged<T>, 0, stream.handle>>>(job);
  else
    fac_backward_strided<T><<<fac_blocks(job, kThreads), kThreads, 0, stream.handle>>>(job);
}
}  // namespace cuda
}  // namespace rirn
