// Rows of images at half and twice the size. (Part of a variant, see vec.h.)

// The means of squares of 2x2 pixels of two rows, minus `shift`.
static void halve_row(const float* upper, const float* lower, float* out, int64_t count, float shift) {
  each_register<kLanes>(count, [&](int64_t x, int64_t left) RIRN_INLINE_LAMBDA {
    const int64_t rest = 2 * left - kLanes;
    const Vec first = load_first<Float32>(upper + 2 * x, (int)(2 * left)) + load_first<Float32>(lower + 2 * x, (int)(2 * left));
    Vec second{};
    if (rest > 0) second = load_first<Float32>(upper + 2 * x + kLanes, (int)rest) + load_first<Float32>(lower + 2 * x + kLanes, (int)rest);
    store_first<Float32>(out + x, (int)left, fma(splat(0.25f), even_lanes(first, second) + odd_lanes(first, second), splat(-shift)));
  });
}

// A row of twice the size, bilinear, times `scale` and added to another one: 3/4 of `near` and 1/4 of `far`, the next row on the other
// side. `mixed` has room for count + 2.
static void enlarge_row(const float* near, const float* far, const float* onto, float* out, float* mixed, int64_t count, float scale) {
  each_register<kLanes>(count, [&](int64_t x, int64_t left) RIRN_INLINE_LAMBDA {
    const Vec sum = fma(splat(0.75f), load_first<Float32>(near + x, (int)left), splat(0.25f) * load_first<Float32>(far + x, (int)left));
    store_first<Float32>(mixed + 1 + x, (int)left, splat(scale) * sum);
  });
  mixed[0] = mixed[1];
  mixed[count + 1] = mixed[count];
  each_register<kLanes>(count, [&](int64_t x, int64_t left) RIRN_INLINE_LAMBDA {
    const Vec most = splat(0.75f) * load_first<Float32>(mixed + 1 + x, (int)left);
    const Vec even = fma(splat(0.25f), load_first<Float32>(mixed + x, (int)left), most);
    const Vec odd = fma(splat(0.25f), load_first<Float32>(mixed + 2 + x, (int)left), most);
    const int64_t at = 2 * x, rest = 2 * left - kLanes;
    store_first<Float32>(out + at, (int)(2 * left), load_first<Float32>(onto + at, (int)(2 * left)) + interleave_low(even, odd));
    if (rest > 0) store_first<Float32>(out + at + kLanes, (int)rest, load_first<Float32>(onto + at + kLanes, (int)rest) + interleave_high(even, odd));
  });
}
