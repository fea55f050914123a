// What the matrix products of a convolution multiply. Registers hold one value for each of kLanes tiles: a float32, or with
// RIRN_BF16_PRODUCTS the values of two channels rounded to bfloat16, whose products are added up in float32. (Part of a
// variant, see vec.h.)

#if RIRN_BF16_PRODUCTS
constexpr int kTogether = 2;

// sum + weight[0] x[0] + weight[1] x[1] in every lane; `weight` is a pair in the place of one float.
RIRN_INLINE Vec multiply_add(const float* weight, Vec x, Vec sum) {
  int32_t pair;
  __builtin_memcpy(&pair, weight, sizeof pair);
  return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)x);
}

// The pairs of two channels, rounded to nearest.
RIRN_INLINE Vec together(const Vec* x) {
  const __m512i lanes = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,  //
                                         23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return (Vec)_mm512_permutexvar_epi16(lanes, (__m512i)_mm512_cvtne2ps_pbh((__m512)x[1], (__m512)x[0]));
}
#else
constexpr int kTogether = 1;

RIRN_INLINE Vec multiply_add(const float* weight, Vec x, Vec sum) { return fma(splat(*weight), x, sum); }
RIRN_INLINE Vec together(const Vec* x) { return *x; }
#endif

// Registers along the channels of a product.
constexpr int product_depth(int channels) { return (channels + kTogether - 1) / kTogether; }
