// Filter adaptive convolution and its gradient, a register of outputs at a time. (Part of a variant, see vec.h.)

constexpr int kFacReach = kFacSize / 2;

RIRN_INLINE int nearest(int i, int count) { return i < 0 ? 0 : i < count ? i : count - 1; }

template <class E>
RIRN_INLINE typename E::Stored* element(const Image& image, int c, int y, int x) {
  return (typename E::Stored*)image.data + c * image.c + y * image.h + x * image.w;
}

RIRN_INLINE void add_to_lane(Vec& v, int i, Vec first) { v[i] += first[0]; }
RIRN_INLINE void add_to_lane(double& v, int, double first) { v += first; }

// One row of the image; registers lie along it or, if channels are the neighbours in memory, along the channels.
template <class E, bool kChannelsInner>
struct FacRow {
  typedef typename E::Stored Stored;
  typedef typename E::Value V;

  const FacJob& job;

  // Calls f(c, x, left) for every register of the row: from (c, x) on, `left` elements to the end.
  template <class F>
  RIRN_INLINE_MEMBER void each_register(const F& f) const {
    if (kChannelsInner) {
      for (int x = 0; x < job.W; ++x)
        for (int c = 0; c < job.features.channels; c += E::kCount) f(c, x, job.features.channels - c);
    } else {
      for (int x = 0; x < job.W; x += E::kCount) f(job.channel, x, job.W - x);
    }
  }

  static RIRN_INLINE_MEMBER V load(const Image& image, int c, int y, int x, int left) {
    return read<E>(element<E>(image, c, y, x), kChannelsInner ? image.c : image.w, left);
  }
  static RIRN_INLINE_MEMBER void save(const Image& image, int c, int y, int x, int left, V v) {
    write<E>(element<E>(image, c, y, x), kChannelsInner ? image.c : image.w, left, v);
  }

  // The weights of one tap: channel kFacTaps * c + tap of the kernels.
  static RIRN_INLINE_MEMBER Image tap_of(const Image& kernels, int tap) {
    Image taps = kernels;
    taps.data = element<E>(kernels, tap, 0, 0);
    taps.c *= kFacTaps;
    return taps;
  }

  // The features from (y, x) on, which may lie outside the image: edges are replicated.
  RIRN_INLINE_MEMBER V replicated(int c, int y, int x, int left) const {
    const Image& f = job.features;
    y = nearest(y, job.H);
    if (kChannelsInner) return load(f, c, y, nearest(x, job.W), left);
    if (x >= 0 && x + E::kCount <= job.W) return load(f, c, y, x, E::kCount);
    Stored values[E::kCount] = {};
    for (int i = 0; i < E::kCount && i < left; ++i) values[i] = *element<E>(f, c, y, nearest(x + i, job.W));
    return E::widen(values);
  }

  // What lies in the image of the `left` elements from x on, zeros elsewhere.
  RIRN_INLINE_MEMBER V inside(const Image& image, int c, int y, int x, int left) const {
    if (kChannelsInner) return load(image, c, y, x, left);
    if (x >= 0 && x + E::kCount <= job.W) return load(image, c, y, x, left);
    Stored values[E::kCount] = {};
    for (int i = 0; i < E::kCount && i < left; ++i)
      if (x + i >= 0 && x + i < job.W) values[i] = *element<E>(image, c, y, x + i);
    return E::widen(values);
  }

  // The gradient of the padded features from (y, x) on, which may lie outside the image: a sum over the outputs that read them.
  V gathered(int c, int y, int x, int left) const {
    V sum{};
    for (int i = 0; i < kFacSize; ++i) {
      const int y_out = y + kFacReach - i;
      if (y_out < 0 || y_out >= job.H) continue;
      for (int j = 0; j < kFacSize; ++j) {
        const int x_out = x + kFacReach - j;
        if (kChannelsInner && (x_out < 0 || x_out >= job.W)) continue;
        sum = fma(inside(tap_of(job.kernels, kFacSize * i + j), c, y_out, x_out, left),
                  inside(job.grad, c, y_out, x_out, left), sum);
      }
    }
    return sum;
  }

  void forward() const {
    each_register([&](int c, int x, int left) {
      V sum{};
      for (int i = 0; i < kFacSize; ++i)
        for (int j = 0; j < kFacSize; ++j)
          sum = fma(load(tap_of(job.kernels, kFacSize * i + j), c, job.y, x, left),
                    replicated(c, job.y + i - kFacReach, x + j - kFacReach, left), sum);
      save(job.out, c, job.y, x, left, sum);
    });
  }

  void kernels_gradient() const {
    each_register([&](int c, int x, int left) {
      const V grad = load(job.grad, c, job.y, x, left);
      for (int i = 0; i < kFacSize; ++i)
        for (int j = 0; j < kFacSize; ++j)
          save(tap_of(job.grad_kernels, kFacSize * i + j), c, job.y, x, left,
               grad * replicated(c, job.y + i - kFacReach, x + j - kFacReach, left));
    });
  }

  // Pixels of the border stand for those beyond it, too.
  void features_gradient() const {
    const int first_y = job.y == 0 ? -kFacReach : job.y, last_y = job.y == job.H - 1 ? job.y + kFacReach : job.y;
    each_register([&](int c, int x, int left) {
      const int last = left < E::kCount ? left - 1 : E::kCount - 1;
      const bool starts = x == 0, ends = kChannelsInner ? x == job.W - 1 : x + last == job.W - 1;
      V sum{};
      for (int y = first_y; y <= last_y; ++y) {
        sum += gathered(c, y, x, left);
        for (int k = 1; k <= kFacReach; ++k) {
          if (kChannelsInner) {
            if (starts) sum += gathered(c, y, -k, left);
            if (ends) sum += gathered(c, y, x + k, left);
          } else {
            if (starts) add_to_lane(sum, 0, gathered(c, y, -k, 1));
            if (ends) add_to_lane(sum, last, gathered(c, y, x + last + k, 1));
          }
        }
      }
      save(job.grad_features, c, job.y, x, left, sum);
    });
  }
};

template <class E, bool kChannelsInner>
static void fac_as(const FacJob& job) {
  FacRow<E, kChannelsInner>{job}.forward();
}

template <class E, bool kChannelsInner>
static void fac_backward_as(const FacJob& job) {
  const FacRow<E, kChannelsInner> row{job};
  if (job.grad_features.data) row.features_gradient();
  if (job.grad_kernels.data) row.kernels_gradient();
}

static void fac(const FacJob& job) {
  with_element(job.element, [&](auto e) {
    typedef decltype(e) E;
    job.channels_inner ? fac_as<E, true>(job) : fac_as<E, false>(job);
  });
}

static void fac_backward(const FacJob& job) {
  with_element(job.element, [&](auto e) {
    typedef decltype(e) E;
    job.channels_inner ? fac_backward_as<E, true>(job) : fac_backward_as<E, false>(job);
  });
}
