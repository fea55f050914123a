// Takes weights to the transform domain, U = G w G^T, and their gradients back from it, dw = G^T dU G. In double: the rounding
// of the weights would otherwise affect every output. (Part of a variant, see vec.h.)

constexpr int kDoubles = kLanes / 2;
typedef double Doubles __attribute__((vector_size(8 * kDoubles)));
typedef float Singles __attribute__((vector_size(4 * kDoubles)));

RIRN_INLINE Doubles load_doubles(const float* p) {
  Singles v;
  __builtin_memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, Doubles);
}
RIRN_INLINE void store_doubles(float* p, Doubles v, int n) {
  const Singles rounded = __builtin_convertvector(v, Singles);
  if (n >= kDoubles) __builtin_memcpy(p, &rounded, sizeof rounded);
  else __builtin_memcpy(p, &rounded, n * sizeof(float));
}

constexpr double kSqrtHalf = 0.70710678118654752, kSqrtTwo = 1.41421356237309505;

// o = G w: three taps to six points, the inputs `from` apart and the outputs `to`.
RIRN_INLINE void kernel_transform(const Doubles* w, int from, Doubles* o, int to) {
  const Doubles w0 = w[0], w1 = w[from], w2 = w[2 * from];
  const Doubles even_a = (w0 + .5 * w2) * (-2. / 3), odd_a = w1 * (-2. / 3 * kSqrtHalf);
  const Doubles even_b = (w0 + 2. * w2) * (1. / 6), odd_b = w1 * (kSqrtTwo / 6);
  o[0] = w0;
  o[to] = even_a + odd_a;
  o[2 * to] = even_a - odd_a;
  o[3 * to] = even_b + odd_b;
  o[4 * to] = even_b - odd_b;
  o[5 * to] = w2;
}

// o = G^T u, the other way.
RIRN_INLINE void kernel_gradient(const Doubles* u, int from, Doubles* o, int to) {
  const Doubles u1 = u[from], u2 = u[2 * from], u3 = u[3 * from], u4 = u[4 * from];
  const Doubles sum_a = (u1 + u2) * (-2. / 3), sum_b = (u3 + u4) * (1. / 6);
  o[0] = u[0] + sum_a + sum_b;
  o[to] = (u2 - u1) * (2. / 3 * kSqrtHalf) + (u3 - u4) * (kSqrtTwo / 6);
  o[2 * to] = .5 * sum_a + 2. * sum_b + u[5 * from];
}

constexpr int kTaps = 9;

// Values of a point in a block of outputs, and the floats that hold them, whole registers.
static int block_values(int co, int ci) { return product_depth(ci) * kTogether * output_block(co); }
static int pack_columns(int co, int ci) { return (block_values(co, ci) + kLanes - 1) / kLanes * kLanes; }

static size_t pack_arena(int co, int ci) { return (size_t)(kTaps + kPoints) * pack_columns(co, ci); }

// The block of outputs from o0 on: [point][product_depth()][block], of pairs of channels where products take them together.
static void pack_block(const PackJob& job, int o0) {
  const int block = output_block(job.co), count = block_values(job.co, job.ci), columns = pack_columns(job.co, job.ci);
  float* taps = job.arena;
  for (int o = 0; o < block; ++o)
    for (int c = 0; c < product_depth(job.ci) * kTogether; ++c) {
      const bool given = o0 + o < job.co && c < job.ci;
      const float* w = job.weights + (o0 + o) * job.output + c * job.input;
      for (int k = 0; k < kTaps; ++k)
        taps[k * columns + (c / kTogether * block + o) * kTogether + c % kTogether] =
            given ? w[job.rotated ? kTaps - 1 - k : k] : 0.f;
    }
  float* packed = job.packed + (size_t)o0 * kPoints * product_depth(job.ci);
#if RIRN_BF16_PRODUCTS
  float* points = taps + kTaps * columns;  // in float32 first
#else
  float* points = packed;
#endif
  for (int q = 0; q < count; q += kDoubles) {
    Doubles w[kTaps], rows[kPatch * 3], u[kPatch];
#pragma GCC unroll 9
    for (int k = 0; k < kTaps; ++k) w[k] = load_doubles(taps + k * columns + q);
#pragma GCC unroll 3
    for (int x = 0; x < 3; ++x) kernel_transform(w + x, 3, rows + x, 3);
#pragma GCC unroll 6
    for (int i = 0; i < kPatch; ++i) {
      kernel_transform(rows + i * 3, 1, u, 1);
#pragma GCC unroll 6
      for (int j = 0; j < kPatch; ++j) store_doubles(points + (size_t)(i * kPatch + j) * count + q, u[j], count - q);
    }
  }
#if RIRN_BF16_PRODUCTS
  for (int q = 0; q < kPoints * count; q += kLanes)
    store_first<BFloat16>((uint16_t*)packed + q, kPoints * count - q, load_first<Float32>(points + q, kPoints * count - q));
#endif
}

#if !RIRN_BF16_PRODUCTS
// The kernels of output o.
static void unpack_output(const UnpackJob& job, int o) {
  const int cp = padded_inputs(job.ci);
  const size_t points = point_sums(job.ci, job.co);
  for (int c0 = 0; c0 < job.ci; c0 += kDoubles) {
    Doubles u[kPoints], rows[3 * kPatch], w[kTaps];
    const float* sums = job.sums + (size_t)o * cp + c0;
    for (int p = 0; p < kPoints; ++p) u[p] = load_doubles(sums + p * points);
    for (int s = 1; s < job.parts; ++s)
      for (int p = 0; p < kPoints; ++p) u[p] += load_doubles(sums + s * job.stride + p * points);
#pragma GCC unroll 6
    for (int j = 0; j < kPatch; ++j) kernel_gradient(u + j, kPatch, rows + j, kPatch);
#pragma GCC unroll 3
    for (int q = 0; q < 3; ++q) kernel_gradient(rows + q * kPatch, 1, w + q * 3, 1);
    float taps[kTaps][kDoubles];
#pragma GCC unroll 9
    for (int k = 0; k < kTaps; ++k) store_doubles(taps[k], w[k], kDoubles);
    float* out = job.weights + ((size_t)o * job.ci + c0) * kTaps;
    for (int i = 0; i < kDoubles && c0 + i < job.ci; ++i)
      for (int k = 0; k < kTaps; ++k) out[i * kTaps + k] = taps[k][i];
  }
}
#endif
