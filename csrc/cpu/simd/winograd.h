// The one-dimensional transforms of Winograd's F(4, 3): four outputs of a three-tap filter from six inputs, with six
// products instead of twelve. Applied to rows and then to columns they give F(4x4, 3x3): 36 products instead of 144.
// The points are 0, +-a, +-b, infinity with a = sqrt(1/2), b = sqrt(2): as cheap as the usual 0, +-1, +-2 and half their error.
// Outputs are written `s` apart. (Part of a variant, see vec.h.)

constexpr float kA = 0.70710678118654752f, kB = 1.41421356237309505f;

// o = B^T d: six inputs to the transform domain.
RIRN_INLINE void input_transform(const Vec* d, Vec* o, int s) {
  const Vec half = splat(.5f), two = splat(2), k = splat(2.5f), a = splat(kA), b = splat(kB);
  const Vec even_a = fnma(two, d[2], d[4]), odd_a = fnma(two, d[1], d[3]);
  const Vec even_b = fnma(half, d[2], d[4]), odd_b = fnma(half, d[1], d[3]);
  o[0] = fnma(k, d[2], d[0] + d[4]);
  o[s] = fma(a, odd_a, even_a);
  o[2 * s] = fnma(a, odd_a, even_a);
  o[3 * s] = fma(b, odd_b, even_b);
  o[4 * s] = fnma(b, odd_b, even_b);
  o[5 * s] = fnma(k, d[3], d[1] + d[5]);
}

// y = A^T m: six products to four outputs.
RIRN_INLINE void output_transform(const Vec* m, Vec* y, int s) {
  const Vec sum_a = m[1] + m[2], diff_a = m[1] - m[2], sum_b = m[3] + m[4], diff_b = m[3] - m[4];
  y[0] = m[0] + sum_a + sum_b;
  y[s] = fma(splat(kA), diff_a, splat(kB) * diff_b);
  y[2 * s] = fma(splat(.5f), sum_a, splat(2) * sum_b);
  y[3 * s] = fma(splat(kA / 2), diff_a, fma(splat(2 * kB), diff_b, m[5]));
}

// o = A g: gradients of four outputs to gradients of six products (the transpose of output_transform).
RIRN_INLINE void gradient_transform(const Vec* g, Vec* o, int s) {
  const Vec even_a = fma(splat(.5f), g[2], g[0]), odd_a = fma(splat(.5f), g[3], g[1]);
  const Vec even_b = fma(splat(2), g[2], g[0]), odd_b = fma(splat(2), g[3], g[1]);
  o[0] = g[0];
  o[s] = fma(splat(kA), odd_a, even_a);
  o[2 * s] = fnma(splat(kA), odd_a, even_a);
  o[3 * s] = fma(splat(kB), odd_b, even_b);
  o[4 * s] = fnma(splat(kB), odd_b, even_b);
  o[5 * s] = g[3];
}
