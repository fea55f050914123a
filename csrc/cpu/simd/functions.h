// Sigmoid and hyperbolic tangent. (Part of a variant, see vec.h.)

// e^x as 2^exponent (1 + fraction), for x of moderate size.
struct Exponential {
  Vec fraction;
  IntVec exponent;
};

RIRN_INLINE Exponential split_exponential(Vec x) {
  const Vec magic = splat(0x1.8p23f);  // adding it rounds to an integer, found in the low bits
  const Vec biased = fma(x, splat(1.44269504088896341f), magic), n = biased - magic;
  Vec r = fnma(n, splat(0.693359375f), x);  // ln 2 in two parts, the first exact when multiplied by n
  r = fnma(n, splat(-2.12194440e-4f), r);
  Vec p = splat(1.9875691500e-4f);
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  return {fma(p, r * r, r), (IntVec)biased - (IntVec)magic};
}

#if RIRN_LANES == 16
// A division would take as long as the rest of a gate: 14 bits of the reciprocal and a step of Newton's method suffice.
RIRN_INLINE Vec reciprocal(Vec x) {
  const Vec estimate = _mm512_maskz_rcp14_ps(0xffff, x);
  return fma(estimate, fnma(x, estimate, splat(1)), estimate);
}
#else
RIRN_INLINE Vec reciprocal(Vec x) { return splat(1) / x; }
#endif

// To about two units in the last place; NaN stays NaN.
RIRN_INLINE Vec sigmoid(Vec x) {
  const Vec limit = splat(87);  // e^87 is finite and e^-87 a normal number; below -87 the sigmoid stays 2e-38
  x = x > limit ? limit : x;
  x = x < -limit ? -limit : x;
  const Exponential e = split_exponential(-x);
  const Vec power = (Vec)((e.exponent + 127) << 23);
  return reciprocal(fma(e.fraction, power, power + splat(1)));
}
RIRN_INLINE double sigmoid(double x) { return 1 / (1 + __builtin_exp(-x)); }

// (e^2y - 1) / (e^2y + 1) with y = |x|. The numerator has no cancellation, so tanh x is as exact near 0 as elsewhere.
RIRN_INLINE Vec hyperbolic_tangent(Vec x) {
  const IntVec sign = (IntVec)x & INT32_MIN;
  const Vec magnitude = (Vec)((IntVec)x ^ sign), limit = splat(10);  // tanh 10 is 1 in float
  const Vec y = magnitude > limit ? limit : magnitude;
  const Exponential e = split_exponential(y + y);
  const Vec power = (Vec)((e.exponent + 127) << 23);
  const Vec numerator = fma(e.fraction, power, power - splat(1));
  return (Vec)((IntVec)(numerator / (numerator + splat(2))) | sign);
}
RIRN_INLINE double hyperbolic_tangent(double x) { return __builtin_tanh(x); }
