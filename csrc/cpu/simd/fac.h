// Filter adaptive convolution and its gradient, a register of outputs at a time. (Part of a variant, see vec.h.)

constexpr int kFacReach = kFacSize / 2;

RIRN_INLINE int nearest(int i, int count) { return i < 0 ? 0 : i < count ? i : count - 1; }

template <class E>
RIRN_INLINE typename E::Stored* element(const Image& image, int c, int y, int x) {
  return (typename E::Stored*)image.data + c * image.c + y * image.h + x * image.w;
}

RIRN_INLINE void add_to_lane(Vec& v, int i, Vec first) { v[i] += first[0]; }
RIRN_INLINE void add_to_lane(double& v, int, double first) { v += first; }

// One row of the image; registers run along it or, if channels are adjacent in memory, along the channels.
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

  // Calls f(j, values) for the kFacSize places x - kFacReach + j of row y: `left` elements from there on, with the edge's pixels
  // beyond the border, or zeros (or no call).
  template <bool kReplicated, class F>
  RIRN_INLINE_MEMBER void around(const Image& image, int c, int y, int x, int left, const F& f) const {
    constexpr int kWindow = E::kCount + 2 * kFacReach;
    const int first = x - kFacReach;
    if (kChannelsInner) {
      for (int j = 0; j < kFacSize; ++j)
        if (kReplicated || (first + j >= 0 && first + j < job.W)) f(j, load(image, c, y, nearest(first + j, job.W), left));
      return;
    }
    const Stored* row = element<E>(image, c, y, 0);
    if (image.w == 1 && first >= 0 && first + kWindow <= job.W) {
      for (int j = 0; j < kFacSize; ++j) f(j, E::widen(row + first + j));
      return;
    }
    Stored window[kWindow] = {};
    for (int i = 0; i < kWindow && i < left + 2 * kFacReach; ++i)
      if (kReplicated || (first + i >= 0 && first + i < job.W)) window[i] = row[nearest(first + i, job.W) * image.w];
    for (int j = 0; j < kFacSize; ++j) f(j, E::widen(window + j));
  }

  // Those of the `left` elements from x on that lie in the image, zeros elsewhere.
  RIRN_INLINE_MEMBER V inside(const Image& image, int c, int y, int x, int left) const {
    if (kChannelsInner) return load(image, c, y, x, left);
    if (x >= 0 && x + E::kCount <= job.W) return load(image, c, y, x, left);
    Stored values[E::kCount] = {};
    const int begin = x < 0 ? -x : 0, rest = job.W - x, most = left < E::kCount ? left : E::kCount;
    const int end = rest < most ? rest : most;
    for (int i = begin; i < end; ++i) values[i] = *element<E>(image, c, y, x + i);
    return E::widen(values);
  }

  // The gradient of the padded features from (y, x) on, which may lie outside the image: a sum over the outputs that read them.
  V gathered(int c, int y, int x, int left) const {
    V sum{};
    for (int i = 0; i < kFacSize; ++i) {
      const int y_out = y + kFacReach - i;
      if (y_out < 0 || y_out >= job.H) continue;
      around<false>(job.grad, c, y_out, x, left, [&](int j, V grad) {
        const int tap = kFacSize * i + kFacSize - 1 - j;  // the output at x - kFacReach + j reads x with this one
        sum = fma(inside(tap_of(job.kernels, tap), c, y_out, x - kFacReach + j, left), grad, sum);
      });
    }
    return sum;
  }

  void forward() const {
    each_register([&](int c, int x, int left) {
      V sum{};
      for (int i = 0; i < kFacSize; ++i)
        around<true>(job.features, c, nearest(job.y + i - kFacReach, job.H), x, left, [&](int j, V seen) {
          sum = fma(load(tap_of(job.kernels, kFacSize * i + j), c, job.y, x, left), seen, sum);
        });
      save(job.out, c, job.y, x, left, sum);
    });
  }

  void kernels_gradient() const {
    each_register([&](int c, int x, int left) {
      const V grad = load(job.grad, c, job.y, x, left);
      for (int i = 0; i < kFacSize; ++i)
        around<true>(job.features, c, nearest(job.y + i - kFacReach, job.H), x, left, [&](int j, V seen) {
          save(tap_of(job.grad_kernels, kFacSize * i + j), c, job.y, x, left, grad * seen);
        });
    });
  }

  // Border pixels also stand for those beyond the border.
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
