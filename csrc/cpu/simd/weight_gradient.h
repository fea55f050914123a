// The gradient of a convolution's weights in the transform domain, dU = sum over tiles of (A dY A^T) (B^T D B): one matrix
// product over the tiles at each of the 36 points. (Part of a variant, see vec.h.)

constexpr int kOutputRows = 4;                // output channels that a product holds in registers,
constexpr int kInputRegisters = 3;            // times registers of input channels
constexpr int kChunk = 48;                    // tiles whose transforms are kept at a time

static int padded_inputs(int ci) { return (ci + kLanes - 1) / kLanes * kLanes; }
static int padded_outputs(int co) { return (co + kOutputRows - 1) / kOutputRows * kOutputRows; }

// Floats of a point's sums. Points are not multiples of a page apart, which would map all of them to one cache set.
static size_t point_sums(int ci, int co) { return (size_t)padded_inputs(ci) * padded_outputs(co) + 64 / sizeof(float); }

static size_t weight_arena(int ci, int co) {
  return (size_t)kPoints * kChunk * (padded_inputs(ci) + padded_outputs(co)) + (size_t)kPoints * kLanes * kLanes;
}

// sums[o][c] += sum over tiles of grads[o][tile] inputs[tile][c], or = at first; NR registers of c.
template <int NR>
RIRN_INLINE void accumulate(const float* __restrict grads, const float* __restrict inputs, int cp, float* __restrict sums,
                            int used, bool first) {
  Vec acc[kOutputRows][NR];
#pragma GCC unroll 4
  for (int o = 0; o < kOutputRows; ++o)
#pragma GCC unroll 3
    for (int r = 0; r < NR; ++r) acc[o][r] = first ? Vec{} : load(sums + (size_t)o * cp + r * kLanes);
  for (int t = 0; t < used; ++t) {
    Vec x[NR];
#pragma GCC unroll 3
    for (int r = 0; r < NR; ++r) x[r] = load(inputs + (size_t)t * cp + r * kLanes);
#pragma GCC unroll 4
    for (int o = 0; o < kOutputRows; ++o) {
      const Vec g = splat(grads[o * kChunk + t]);
#pragma GCC unroll 3
      for (int r = 0; r < NR; ++r) acc[o][r] = fma(g, x[r], acc[o][r]);
    }
  }
#pragma GCC unroll 4
  for (int o = 0; o < kOutputRows; ++o)
#pragma GCC unroll 3
    for (int r = 0; r < NR; ++r) store(sums + (size_t)o * cp + r * kLanes, acc[o][r]);
}

// Transformed inputs of kLanes tiles with the channels along the lanes: inputs[point][tile][channel].
static void transposed_patches(const float* const* rows, const Plane& in, int ci, const Columns& columns, int t, float* square,
                               float* inputs, int cp) {
  for (int c0 = 0; c0 < ci; c0 += kLanes) {
    const int count = ci - c0 < kLanes ? ci - c0 : kLanes;
    for (int c = 0; c < count; ++c) transform_patches(rows, in, columns, c0 + c, 1, t, square + c * kLanes, kLanes * kLanes);
    for (int p = 0; p < kPoints; ++p) {
      Vec v[kLanes];
#pragma GCC unroll 16
      for (int c = 0; c < kLanes; ++c) v[c] = c < count ? load(square + (p * kLanes + c) * kLanes) : Vec{};
      transpose(v);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) store(inputs + ((size_t)p * kChunk + i) * cp + c0, v[i]);
    }
  }
}

// Transformed gradients of kLanes tiles: grads[point][channel][tile], nothing in the channels of the padding; their plain sums go to the bias.
static void transformed_gradients(const float* const* rows, const Plane& grad, int co, int t, float* grads, int op, float* bias) {
  for (int o = 0; o < co; ++o) {
    const ptrdiff_t offset = (ptrdiff_t)o * kTile * grad.tiles + t;
    Vec columns[kPatch * kTile], g[kTile], u[kPatch], sum = Vec{};
#pragma GCC unroll 4
    for (int x = 0; x < kTile; ++x) {
#pragma GCC unroll 4
      for (int i = 0; i < kTile; ++i) {
        g[i] = load(rows[i] + offset + x * grad.tiles);
        sum += g[i];
      }
      gradient_transform(g, columns + x, kTile);
    }
#pragma GCC unroll 6
    for (int i = 0; i < kPatch; ++i) {
      gradient_transform(columns + i * kTile, u, 1);
#pragma GCC unroll 6
      for (int x = 0; x < kPatch; ++x) store_unaligned(grads + ((size_t)(i * kPatch + x) * op + o) * kChunk, u[x]);
    }
    float total = 0;
    for (int i = 0; i < kLanes; ++i) total += sum[i];
    bias[o] += total;
  }
}

static void weight_gradient(const WeightJob& job) {
  const int cp = padded_inputs(job.ci), op = padded_outputs(job.co);
  const int tiles = job.columns.tiles(), registers = job.columns.stride / kLanes;
  float* inputs = job.arena;
  float* grads = inputs + (size_t)kPoints * kChunk * cp;
  float* square = grads + (size_t)kPoints * kChunk * op;
  const size_t points = point_sums(job.ci, job.co);
  int pending = 0;
  bool first = job.first;
  auto flush = [&]() {
    for (int p = 0; p < kPoints; ++p)
      for (int o = 0; o < op; o += kOutputRows) {
        const float* g = grads + ((size_t)p * op + o) * kChunk;
        const float* x = inputs + (size_t)p * kChunk * cp;
        float* sums = job.weights + p * points + (size_t)o * cp;
        int c = 0;
        for (; c + kInputRegisters * kLanes <= cp; c += kInputRegisters * kLanes)
          accumulate<kInputRegisters>(g, x + c, cp, sums + c, pending, first);
        if (cp - c == 2 * kLanes) accumulate<2>(g, x + c, cp, sums + c, pending, first);
        if (cp - c == kLanes) accumulate<1>(g, x + c, cp, sums + c, pending, first);
      }
    pending = 0;
    first = false;
  };
  for (int y = job.y_begin; y < job.y_end; y += kTile) {
    const float *in_rows[kPatch], *grad_rows[kTile];
    for (int i = 0; i < kPatch; ++i) in_rows[i] = job.in.row(y - 1 + i);
    for (int i = 0; i < kTile; ++i) grad_rows[i] = job.grad.row(y + i);
    for (int r = 0; r < registers; ++r) {
      transposed_patches(in_rows, job.in, job.ci, job.columns, r * kLanes, square, inputs + (size_t)pending * cp, cp);
      transformed_gradients(grad_rows, job.grad, job.co, r * kLanes, grads + pending, op, job.bias);
      // The lanes beyond the images hold zeros, which the next register overwrites.
      pending += tiles - r * kLanes < kLanes ? tiles - r * kLanes : kLanes;
      if (pending + kLanes > kChunk) flush();
    }
  }
  if (pending) flush();
}
