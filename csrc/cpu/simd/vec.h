// One register of floats for the instruction set being compiled. Arithmetic is that of the compilers' vector types; only
// what they cannot say (fused multiply-add, float16) is written with intrinsics.
//
// Part of a variant: included by simd_<isa>.cpp inside namespace rirn::<isa>, after the target pragma and with kLanes defined.
// Nothing in a variant may use an inline function or template from outside, not even from the standard library: the linker
// keeps one copy of those for the whole library, and that copy must not contain instructions the processor may lack.

typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef int32_t IntVec __attribute__((vector_size(4 * kLanes)));
typedef uint32_t UIntVec __attribute__((vector_size(4 * kLanes)));
typedef uint16_t HalfVec __attribute__((vector_size(2 * kLanes)));

#define RIRN_INLINE_MEMBER inline __attribute__((always_inline))
#define RIRN_INLINE static RIRN_INLINE_MEMBER
#define RIRN_INLINE_LAMBDA __attribute__((always_inline))

RIRN_INLINE Vec load(const float* p) {  // p is aligned to the size of a Vec
  return *(const Vec*)p;
}
RIRN_INLINE Vec load_unaligned(const float* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
RIRN_INLINE void store(float* p, Vec v) { *(Vec*)p = v; }
RIRN_INLINE void store_unaligned(float* p, Vec v) { __builtin_memcpy(p, &v, sizeof v); }
RIRN_INLINE Vec splat(float x) { return x - Vec{}; }

// a b + c and c - a b, rounded once if the instruction set can.
#if RIRN_LANES == 16
RIRN_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
RIRN_INLINE Vec fnma(Vec a, Vec b, Vec c) { return _mm512_fnmadd_ps(a, b, c); }
#elif RIRN_LANES == 8
RIRN_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
RIRN_INLINE Vec fnma(Vec a, Vec b, Vec c) { return _mm256_fnmadd_ps(a, b, c); }
#else
RIRN_INLINE Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
RIRN_INLINE Vec fnma(Vec a, Vec b, Vec c) { return c - a * b; }
#endif
RIRN_INLINE double fma(double a, double b, double c) { return a * b + c; }

RIRN_INLINE Vec iota() {
  Vec v;
  for (int i = 0; i < kLanes; ++i) v[i] = (float)i;
  return v;
}

// The first n lanes of v, zero in the others.
RIRN_INLINE Vec keep_first(Vec v, int n) { return (Vec)((IntVec)v & (IntVec)(iota() < splat((float)n))); }

// Interleaves a and b: a0 b0 a1 b1 ..; its inverse takes the even and the odd lanes of the pair.
#if RIRN_LANES == 16
RIRN_INLINE Vec interleave_low(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
RIRN_INLINE Vec interleave_high(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
RIRN_INLINE Vec even_lanes(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}
RIRN_INLINE Vec odd_lanes(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}
#elif RIRN_LANES == 8
RIRN_INLINE Vec interleave_low(Vec a, Vec b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
RIRN_INLINE Vec interleave_high(Vec a, Vec b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
RIRN_INLINE Vec even_lanes(Vec a, Vec b) { return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14); }
RIRN_INLINE Vec odd_lanes(Vec a, Vec b) { return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15); }
#else
RIRN_INLINE Vec interleave_low(Vec a, Vec b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
RIRN_INLINE Vec interleave_high(Vec a, Vec b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
RIRN_INLINE Vec even_lanes(Vec a, Vec b) { return __builtin_shufflevector(a, b, 0, 2, 4, 6); }
RIRN_INLINE Vec odd_lanes(Vec a, Vec b) { return __builtin_shufflevector(a, b, 1, 3, 5, 7); }
#endif

// Row i, lane j of the square v becomes row j, lane i: log2(kLanes) perfect shuffles.
RIRN_INLINE void transpose(Vec* v) {
#pragma GCC unroll 4
  for (int step = 1; step < kLanes; step *= 2) {
    Vec next[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes / 2; ++i) {
      next[2 * i] = interleave_low(v[i], v[i + kLanes / 2]);
      next[2 * i + 1] = interleave_high(v[i], v[i + kLanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) v[i] = next[i];
  }
}

// ---- element types: how to read kCount values as they are stored into a Value, and how to round one back ----
struct Float32 {
  typedef float Stored;
  typedef Vec Value;
  static constexpr int kCount = kLanes;
  static RIRN_INLINE_MEMBER Vec widen(const float* p) { return load_unaligned(p); }
  static RIRN_INLINE_MEMBER void narrow(float* p, Vec v) { store_unaligned(p, v); }
};

struct BFloat16 {
  typedef uint16_t Stored;
  typedef Vec Value;
  static constexpr int kCount = kLanes;
  static RIRN_INLINE_MEMBER Vec widen(const uint16_t* p) {
    HalfVec bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    return (Vec)(__builtin_convertvector(bits, UIntVec) << 16);
  }
  static RIRN_INLINE_MEMBER void narrow(uint16_t* p, Vec v) {  // to nearest, ties to even
    const UIntVec bits = (UIntVec)v;
    const UIntVec rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const UIntVec nan = (UIntVec)(v != v);
    const HalfVec out = __builtin_convertvector((rounded & ~nan) | (0x7fc0 & nan), HalfVec);
    __builtin_memcpy(p, &out, sizeof out);
  }
};

struct Float16 {
  typedef uint16_t Stored;
  typedef Vec Value;
  static constexpr int kCount = kLanes;
#if RIRN_LANES == 16
  static RIRN_INLINE_MEMBER Vec widen(const uint16_t* p) { return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256((const __m256i*)p)); }
  static RIRN_INLINE_MEMBER void narrow(uint16_t* p, Vec v) {
    _mm256_storeu_si256((__m256i*)p, _mm512_maskz_cvtps_ph(0xffff, v, _MM_FROUND_TO_NEAREST_INT));
  }
#elif RIRN_LANES == 8
  static RIRN_INLINE_MEMBER Vec widen(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
  static RIRN_INLINE_MEMBER void narrow(uint16_t* p, Vec v) {
    _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
#else
  static RIRN_INLINE_MEMBER Vec widen(const uint16_t* p) {
    HalfVec bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    const UIntVec wide = __builtin_convertvector(bits, UIntVec), sign = (wide & 0x8000) << 16;
    // Exponent and mantissa in place, then a product that rebiases the exponent and normalises subnormals.
    const Vec scaled = (Vec)((wide & 0x7fff) << 13) * 0x1p112f;
    const UIntVec special = (UIntVec)((wide & 0x7c00) == 0x7c00);  // infinity and NaN keep all exponent bits
    return (Vec)((UIntVec)scaled | (special & 0x7f800000) | sign);
  }
  static RIRN_INLINE_MEMBER void narrow(uint16_t* p, Vec v) {
    const UIntVec bits = (UIntVec)v, sign = bits & 0x80000000u;
    const Vec magnitude = (Vec)(bits ^ sign);
    // Adding a power of two whose last place is half's last place at this size rounds to nearest even, subnormals included.
    const UIntVec exponent = (UIntVec)magnitude & 0x7f800000;
    const UIntVec floor = splat_bits(0x38800000);  // 2^-14, the smallest normal half
    const UIntVec normal = (UIntVec)(exponent > floor);
    const Vec anchor = (Vec)(((exponent & normal) | (floor & ~normal)) + (13u << 23));
    const Vec rounded = (magnitude + anchor) - anchor;
    const UIntVec scaled = (UIntVec)(rounded * 0x1p-112f) >> 13;
    const UIntVec overflow = (UIntVec)(magnitude >= splat(65520.f)), nan = (UIntVec)(v != v);
    const UIntVec finite = (scaled & ~overflow) | (0x7c00 & overflow);
    const HalfVec out = __builtin_convertvector((finite & ~nan) | (0x7e00 & nan) | (sign >> 16), HalfVec);
    __builtin_memcpy(p, &out, sizeof out);
  }
  static RIRN_INLINE_MEMBER UIntVec splat_bits(uint32_t x) { return x - UIntVec{}; }
#endif
};

// float64 goes element by element: it is for checks, not for speed.
struct Float64 {
  typedef double Stored;
  typedef double Value;
  static constexpr int kCount = 1;
  static RIRN_INLINE_MEMBER double widen(const double* p) { return *p; }
  static RIRN_INLINE_MEMBER void narrow(double* p, double v) { *p = v; }
};

// Calls f with the element type of that name.
template <class F>
RIRN_INLINE void with_single_or_half(Element element, const F& f) {
  switch (element) {
    case Element::bfloat16: return f(BFloat16());
    case Element::float16: return f(Float16());
    default: return f(Float32());
  }
}
template <class F>
RIRN_INLINE void with_element(Element element, const F& f) {
  if (element == Element::float64) f(Float64());
  else with_single_or_half(element, f);
}

// The first n values, zeros beyond.
template <class E>
RIRN_INLINE typename E::Value load_first(const typename E::Stored* p, int n) {
  if (n >= E::kCount) return E::widen(p);
  typename E::Stored values[E::kCount] = {};
  for (int i = 0; i < n; ++i) values[i] = p[i];
  return E::widen(values);
}

template <class E>
RIRN_INLINE void store_first(typename E::Stored* p, int n, typename E::Value v) {
  if (n >= E::kCount) return E::narrow(p, v);
  typename E::Stored values[E::kCount];
  E::narrow(values, v);
  for (int i = 0; i < n; ++i) p[i] = values[i];
}

// The same for elements that are `stride` apart.
template <class E>
RIRN_INLINE typename E::Value gather_first(const typename E::Stored* p, int64_t stride, int n) {
  typename E::Stored values[E::kCount] = {};
  for (int i = 0; i < E::kCount && i < n; ++i) values[i] = p[i * stride];
  return E::widen(values);
}

template <class E>
RIRN_INLINE void scatter_first(typename E::Stored* p, int64_t stride, int n, typename E::Value v) {
  typename E::Stored values[E::kCount];
  E::narrow(values, v);
  for (int i = 0; i < E::kCount && i < n; ++i) p[i * stride] = values[i];
}

// The same for any stride, as many as fit of the `left` that are left.
template <class E>
RIRN_INLINE typename E::Value read(const typename E::Stored* p, int64_t stride, int64_t left) {
  const int n = left < E::kCount ? (int)left : E::kCount;
  return stride == 1 ? load_first<E>(p, n) : gather_first<E>(p, stride, n);
}

template <class E>
RIRN_INLINE void write(typename E::Stored* p, int64_t stride, int64_t left, typename E::Value v) {
  const int n = left < E::kCount ? (int)left : E::kCount;
  if (stride == 1) store_first<E>(p, n, v);
  else scatter_first<E>(p, stride, n, v);
}

template <class E>
RIRN_INLINE typename E::Stored* element(const Run& run, int64_t pixel, int64_t channel) {
  return (typename E::Stored*)run.data + pixel * run.pixel + channel * run.channel;
}

// ---- the layouts that loops over runs are compiled for ----

// Calls f(first, count) for registers of kValues values along `count` neighbours. The count is a constant for whole registers,
// so f needs one load there and no check of how many elements are left.
template <int kValues, class F>
RIRN_INLINE void each_register(int64_t count, const F& f) {
  int64_t first = 0;
  for (; first + kValues <= count; first += kValues) f(first, (int64_t)kValues);
  if (first < count) f(first, count - first);
}

// Step from one value of a register to the next: adjacent in memory if kDense.
template <bool kChannelsInner, bool kDense>
RIRN_INLINE int64_t step(const Run& run) {
  return kDense ? 1 : kChannelsInner ? run.channel : run.pixel;
}
template <class Job>
RIRN_INLINE bool is_dense(const Run& run, const Job& job) {
  return !run.data || (job.channels_inner ? run.channel : run.pixel) == 1;
}

template <bool kValue>
struct Constant {
  static constexpr bool value = kValue;
};

// Calls f(whether channels are adjacent, dense) with both known at compile time.
template <class Job, class F>
RIRN_INLINE void with_layout(const Job& job, bool dense, const F& f) {
  if (job.channels_inner) dense ? f(Constant<true>(), Constant<true>()) : f(Constant<true>(), Constant<false>());
  else dense ? f(Constant<false>(), Constant<true>()) : f(Constant<false>(), Constant<false>());
}
