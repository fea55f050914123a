// One 3x3 convolution over one row of Winograd tiles: transform the inputs, multiply at each of the 36 points (a small matrix
// product over the channels), transform back, finish with bias, activation, skip and gate. (Part of a variant, see vec.h.)

// Output channels whose sums a matrix product holds in registers: loading one or two input registers serves them all, and there
// must be enough sums to hide the latency of a multiply-add. Input channels from `from` on go through a layer in pairs of
// registers of tiles: the packed weights outgrow the caches, so each pass over them should serve two.
#if RIRN_LANES == 8
// 12 or 10 sums, two inputs and a weight in 16 registers. One register of tiles and 8 outputs would need a load for nearly every
// multiply-add.
constexpr int kOutputs = 6, kOtherOutputs = 5, kPairedFrom = 1, kRowRegisters = 2;
// A single left-over register of tiles takes two blocks of outputs at a time instead.
constexpr int kSingleBlocks = 2;
#else
constexpr int kOutputs = 10, kOtherOutputs = 8, kPairedFrom = kLanes == 16 ? 17 : INT32_MAX, kRowRegisters = 1;
constexpr int kSingleBlocks = 1;
#endif
constexpr int kMostOutputs = kOutputs > kOtherOutputs ? kOutputs : kOtherOutputs;

constexpr int rounded_up(int n, int step) { return (n + step - 1) / step * step; }

// The block that leaves the fewest sums unused.
static int output_block(int co) { return rounded_up(co, kOtherOutputs) < rounded_up(co, kOutputs) ? kOtherOutputs : kOutputs; }

static size_t layer_arena(int channels) { return (size_t)kPoints * ((channels + kMostOutputs) * 2 + 2) * kLanes; }

// sums[o][tile] = sum over c of weights[c][o] inputs[c][tile], NV registers of tiles and NB blocks, `block` floats apart, of CB
// output channels at a time; c counts product_depth() registers.
template <int NV, int CB, int NB>
RIRN_INLINE void multiply(const float* __restrict weights, size_t block, const float* __restrict inputs, float* __restrict sums,
                          int depth) {
  Vec acc[NB * CB][NV];
#pragma GCC unroll 12
  for (int o = 0; o < NB * CB; ++o)
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) acc[o][v] = Vec{};
  for (int c = 0; c < depth; ++c, weights += CB, inputs += NV * kLanes) {
    Vec x[NV];
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) x[v] = load(inputs + v * kLanes);
#pragma GCC unroll 12
    for (int o = 0; o < NB * CB; ++o)
#pragma GCC unroll 2
      for (int v = 0; v < NV; ++v) acc[o][v] = multiply_add(weights + o / CB * block + o % CB, x[v], acc[o][v]);
  }
#pragma GCC unroll 12
  for (int o = 0; o < NB * CB; ++o)
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) store(sums + (o * NV + v) * kLanes, acc[o][v]);
}

// The masks of kLanes tiles of a row.
RIRN_INLINE IntVec mask(const Columns& columns, int which, int t) {
  IntVec v;
  __builtin_memcpy(&v, columns.masks + which * columns.stride + t, sizeof v);
  return v;
}
RIRN_INLINE Vec keep(Vec v, IntVec mask) { return (Vec)((IntVec)v & mask); }

// The 6x6 patches of kLanes tiles of one channel, their columns transformed; rows[i] points to row i of the patches in the first
// of these tiles, phase 0. Where several images are side by side, the neighbours beyond an image's edges count as zeros.
template <bool SideBySide>
RIRN_INLINE void transform_columns(const float* const* rows, ptrdiff_t offset, int tiles, IntVec left, IntVec right, Vec* columns) {
  Vec d[kPatch];
#pragma GCC unroll 6
  for (int x = 0; x < kPatch; ++x) {  // column x is pixel kTile t - 1 + x: the outer two belong to the neighbouring tiles
    const ptrdiff_t at = offset + (x == 0 ? (kTile - 1) * tiles - 1 : x == kPatch - 1 ? 1 : (x - 1) * tiles);
#pragma GCC unroll 6
    for (int i = 0; i < kPatch; ++i) {
      d[i] = load_unaligned(rows[i] + at);
      if (SideBySide && x == 0) d[i] = keep(d[i], left);
      if (SideBySide && x == kPatch - 1) d[i] = keep(d[i], right);
    }
    input_transform(d, columns + x, kPatch);
  }
}

// The transformed patches of `channels` channels, as many as a product takes together or fewer. Point p is written to
// out + p * stride.
template <bool SideBySide>
RIRN_INLINE void transform_patches(const float* const* rows, ptrdiff_t offset, int tiles, int channels, IntVec left, IntVec right,
                                   float* out, size_t stride) {
  Vec columns[kTogether][kPoints], o[kPatch][kTogether];
  transform_columns<SideBySide>(rows, offset, tiles, left, right, columns[0]);
  if (kTogether > 1) {
    if (channels > 1) transform_columns<SideBySide>(rows, offset + kTile * tiles, tiles, left, right, columns[kTogether - 1]);
    else for (int p = 0; p < kPoints; ++p) columns[kTogether - 1][p] = Vec{};
  }
#pragma GCC unroll 6
  for (int i = 0; i < kPatch; ++i) {
#pragma GCC unroll 2
    for (int k = 0; k < kTogether; ++k) input_transform(columns[k] + i * kPatch, &o[0][k], kTogether);
#pragma GCC unroll 6
    for (int x = 0; x < kPatch; ++x) store(out + (i * kPatch + x) * stride, together(o[x]));
  }
}

// The same for tile t on of the channels of a plane from c on.
RIRN_INLINE void transform_patches(const float* const* rows, const Plane& in, const Columns& columns, int c, int channels, int t,
                                   float* out, size_t stride) {
  const ptrdiff_t offset = (ptrdiff_t)c * kTile * in.tiles + t;
  // Beyond a row narrower than the plane there may be remains of a wider one.
  const bool zero_beyond = columns.images == 1 && columns.stride + kLanes == in.tiles;
  if (zero_beyond) return transform_patches<false>(rows, offset, in.tiles, channels, IntVec{}, IntVec{}, out, stride);
  const IntVec left = mask(columns, kMaskLeft, t), right = mask(columns, kMaskRight, t);
  transform_patches<true>(rows, offset, in.tiles, channels, left, right, out, stride);
}

// Where kLanes tiles of a layer's result are.
struct Place {
  int y, t;
};

// Floats from a point of transformed inputs to the next.
static size_t input_stride(int channels, int registers) { return (size_t)(product_depth(channels) * registers + 1) * kLanes; }
static size_t transformed_floats(int channels, int registers) { return kPoints * input_stride(channels, registers); }

// Transforms the inputs of NV registers of tiles, the channels from `begin` to `end`.
template <int NV>
static void transform_inputs(const LayerJob& job, const Place* places, int begin, int end, float* inputs) {
  const size_t stride = input_stride(job.layer.ci, NV);
  const float* rows[NV][kPatch];
  for (int v = 0; v < NV; ++v)
    for (int i = 0; i < kPatch; ++i) rows[v][i] = job.in.row(places[v].y - 1 + i);
  for (int c = begin; c < end; c += kTogether)
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v)
      transform_patches(rows[v], job.in, job.columns, c, end - c, places[v].t, inputs + (c / kTogether * NV + v) * kLanes, stride);
}

// The outputs from `begin` to `end` of NV registers of tiles.
template <int NV, int CB, int NB>
static void make_outputs(const LayerJob& job, const Place* places, int begin, int end, const float* inputs, float* sums) {
  const ConvLayer& layer = job.layer;
  const int tiles = job.in.tiles, width = NV * kLanes, depth = product_depth(layer.ci);
  const size_t stride = input_stride(layer.ci, NV), sum_stride = (size_t)NB * CB * width + kLanes;
  float* to_rows[NV][kTile];
  const float *skip_rows[NV][kTile], *gate_rows[NV][kTile];
  for (int v = 0; v < NV; ++v)
    for (int i = 0; i < kTile; ++i) {
      const int y = places[v].y + i;
      to_rows[v][i] = job.to ? job.to->row(y) : nullptr;
      skip_rows[v][i] = job.skip ? job.skip->row(y) : nullptr;
      gate_rows[v][i] = job.gate ? job.gate->row(y) : nullptr;
    }
  const bool activated = layer.slope != 1, relu = layer.slope == 0;
  const size_t block = (size_t)CB * kPoints * depth;
  for (int o0 = begin; o0 < end; o0 += NB * CB) {
    const float* weights = layer.weights + (size_t)o0 * kPoints * depth;
    const bool last = NB > 1 && o0 + CB >= end;  // of an odd number of blocks
    for (int p = 0; p < kPoints; ++p) {
      const float *w = weights + (size_t)p * depth * CB, *x = inputs + p * stride;
      last ? multiply<NV, CB, 1>(w, block, x, sums + p * sum_stride, depth)
           : multiply<NV, CB, NB>(w, block, x, sums + p * sum_stride, depth);
    }
    for (int k = 0; k < NB * CB && o0 + k < end; ++k)
      for (int v = 0; v < NV; ++v) {
        const int o = o0 + k, t = places[v].t;
        const ptrdiff_t offset = (ptrdiff_t)o * kTile * tiles + t;
        const bool whole = job.columns.images == 1 && (t + kLanes) * kTile <= job.columns.W;
        const Vec bias = splat(layer.bias ? layer.bias[o] : 0.f), slope = splat(layer.slope), gate_slope = splat(job.gate_slope);
        Vec columns[kTile * kPatch], m[kPatch], y[kTile];
#pragma GCC unroll 6
        for (int x = 0; x < kPatch; ++x) {
#pragma GCC unroll 6
          for (int i = 0; i < kPatch; ++i) m[i] = load(sums + (i * kPatch + x) * sum_stride + k * width + v * kLanes);
          output_transform(m, columns + x, kPatch);
        }
#pragma GCC unroll 4
        for (int i = 0; i < kTile; ++i) {
          output_transform(columns + i * kPatch, y, 1);
#pragma GCC unroll 4
          for (int x = 0; x < kTile; ++x) y[x] = y[x] + bias;
          if (job.skip) {
#pragma GCC unroll 4
            for (int x = 0; x < kTile; ++x) y[x] = y[x] + load(skip_rows[v][i] + offset + x * tiles);
          }
          if (activated) {
            // Not max(v, slope v): that would turn an infinity into NaN and lose NaNs.
#pragma GCC unroll 4
            for (int x = 0; x < kTile; ++x) y[x] = y[x] < Vec{} ? (relu ? Vec{} : slope * y[x]) : y[x];
          }
          if (job.gate) {
#pragma GCC unroll 4
            for (int x = 0; x < kTile; ++x)
              y[x] = load(gate_rows[v][i] + offset + x * tiles) <= Vec{} ? (job.gate_slope == 0 ? Vec{} : gate_slope * y[x]) : y[x];
          }
          const int row = places[v].y + i;
          if (job.to) {
            const bool outside = row < 0 || row >= job.H;
#pragma GCC unroll 4
            for (int x = 0; x < kTile; ++x)
              store(to_rows[v][i] + offset + x * tiles, outside ? Vec{} : whole ? y[x] : keep(y[x], mask(job.columns, x, t)));
          } else if (row >= job.y_begin && row < job.y_end) {
            if (job.columns.images == 1) store_pixels(*job.image, 0, o, row, t, job.columns.W, y);
            else store_packed_pixels(*job.image, job.columns, o, row, t, y);
          }
        }
      }
  }
}

// Takes NV registers of tiles through the layer, or through the part of it that the job names.
template <int NV, int CB, int NB>
static void conv_tiles(const LayerJob& job, const Place* places) {
  const int ci = job.layer.ci, co = job.layer.co;
  if (!job.transformed) {
    float* sums = job.arena + transformed_floats(ci, NV);
    transform_inputs<NV>(job, places, 0, ci, job.arena);
    make_outputs<NV, CB, NB>(job, places, 0, co, job.arena, sums);
  } else if (job.makes_outputs) {
    make_outputs<NV, CB, NB>(job, places, job.begin, job.end < co ? job.end : co, job.transformed, job.arena);
  } else {
    transform_inputs<NV>(job, places, job.begin, job.end < ci ? job.end : ci, job.transformed);
  }
}

static void layer_registers(const LayerJob& job) {
  const int registers = job.columns.stride / kLanes, end = job.first + job.count;
  const bool other = output_block(job.layer.co) == kOtherOutputs;
  auto place = [&](int i) { return Place{job.y + i / registers * kTile, i % registers * kLanes}; };
  int i = job.first;
  if constexpr (kPairedFrom < INT32_MAX)
    if (job.layer.ci >= kPairedFrom)
      for (; i + 2 <= end; i += 2) {
        const Place pair[] = {place(i), place(i + 1)};
        other ? conv_tiles<2, kOtherOutputs, 1>(job, pair) : conv_tiles<2, kOutputs, 1>(job, pair);
      }
  for (; i < end; ++i) {
    const Place single = place(i);
    other ? conv_tiles<1, kOtherOutputs, kSingleBlocks>(job, &single) : conv_tiles<1, kOutputs, kSingleBlocks>(job, &single);
  }
}
