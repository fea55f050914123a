// atb_blend and its gradient over a block of pixels and channels. (Part of a variant, see vec.h.)

constexpr int kBlock = 256;  // pixels whose shared gates are kept at a time

// The gates of a block of pixels that all channels share.
template <class E>
static void block_gates(const Run& logit, int64_t pixel, int count, float* gates) {
  for (int i = 0; i < count; i += kLanes)
    store(gates + i, sigmoid(read<E>(element<E>(logit, pixel + i, 0), logit.pixel, count - i)));
}

// Whether all channels share one logit. An expanded logit is also one value for all channels, but its gradients are not summed.
template <class Job>
RIRN_INLINE bool is_shared(const Run& logit, const Job& job) {
  return job.channels > 1 && logit.channel == 0;
}
RIRN_INLINE bool is_shared(const Run& logit, const Run& grad_logit, const BlendBackwardJob& job) {
  return is_shared(logit, job) && (!grad_logit.data || grad_logit.channel == 0);
}

// One of the two frames that are blended, over one block.
template <class E, bool kChannelsInner, bool kDense>
struct Side {
  Run f, logit;
  bool shared;  // one logit for all channels
  alignas(64) float gates[kBlock];

  RIRN_INLINE_MEMBER void start(int64_t pixel, int count) {
    if (shared) block_gates<E>(logit, pixel, count, gates);
  }
  // For registers along the channels of pixel `outer` of the block, or along its pixels from `inner` on.
  RIRN_INLINE_MEMBER Vec gate(int64_t pixel, int64_t channel, int64_t outer, int64_t inner, int64_t left) const {
    if (shared) return kChannelsInner ? splat(gates[outer]) : load(gates + inner);
    return sigmoid(read<E>(element<E>(logit, pixel, channel), step<kChannelsInner, kDense>(logit), left));
  }
  RIRN_INLINE_MEMBER Vec value(int64_t pixel, int64_t channel, int64_t left) const {
    return read<E>(element<E>(f, pixel, channel), step<kChannelsInner, kDense>(f), left);
  }
};

template <class E, bool kChannelsInner, bool kDense>
static void blend_as(const BlendJob& job) {
  Side<E, kChannelsInner, kDense> prev, cur;
  prev.f = job.f_prev;
  prev.logit = job.logit_prev;
  prev.shared = is_shared(job.logit_prev, job);
  cur.f = job.f_cur;
  cur.logit = job.logit_cur;
  cur.shared = is_shared(job.logit_cur, job);
  const Vec weight = splat(job.max_weight);
  for (int64_t first = 0; first < job.pixels; first += kBlock) {
    const int count = job.pixels - first < kBlock ? (int)(job.pixels - first) : kBlock;
    prev.start(first, count);
    cur.start(first, count);
    const int64_t outer_count = kChannelsInner ? count : job.channels, inner_count = kChannelsInner ? job.channels : count;
    for (int64_t outer = 0; outer < outer_count; ++outer)
      each_register<kLanes>(inner_count, [&](int64_t inner, int64_t left) RIRN_INLINE_LAMBDA {
        const int64_t pixel = first + (kChannelsInner ? outer : inner), channel = kChannelsInner ? inner : outer;
        const Vec a = prev.gate(pixel, channel, outer, inner, left) * prev.value(pixel, channel, left);
        const Vec b = weight * cur.gate(pixel, channel, outer, inner, left) * cur.value(pixel, channel, left);
        write<E>(element<E>(job.out, pixel, channel), step<kChannelsInner, kDense>(job.out), left, a + b);
      });
  }
}

// A side with its gradients. If the logit is shared, its gradient is a sum over the channels, computed by one thread in order.
template <class E, bool kChannelsInner, bool kDense>
struct GradientSide : Side<E, kChannelsInner, kDense> {
  Run grad_f, grad_logit;
  Vec scale;
  alignas(64) float sums[kBlock];

  RIRN_INLINE_MEMBER void begin(int64_t pixel, int count) {
    this->start(pixel, count);
    __builtin_memset(sums, 0, sizeof sums);
  }
  RIRN_INLINE_MEMBER void add(Vec grad, int64_t pixel, int64_t channel, int64_t outer, int64_t inner, int64_t left) {
    const Vec gate = this->gate(pixel, channel, outer, inner, left), weighted = grad * scale * gate;
    if (grad_f.data)
      write<E>(element<E>(grad_f, pixel, channel), step<kChannelsInner, kDense>(grad_f), left, weighted);
    if (!grad_logit.data) return;
    Vec slope = weighted * (splat(1) - gate) * this->value(pixel, channel, left);
    if (!this->shared) {
      write<E>(element<E>(grad_logit, pixel, channel), step<kChannelsInner, kDense>(grad_logit), left, slope);
    } else if (kChannelsInner) {
      if (left < kLanes) slope = keep_first(slope, (int)left);
      float sum = 0;
      for (int i = 0; i < kLanes; ++i) sum += slope[i];
      sums[outer] += sum;
    } else {
      store(sums + inner, load(sums + inner) + slope);
    }
  }
  RIRN_INLINE_MEMBER void finish(int64_t pixel, int count) {
    if (!this->shared || !grad_logit.data) return;
    for (int i = 0; i < count; i += kLanes)
      write<E>(element<E>(grad_logit, pixel + i, 0), grad_logit.pixel, count - i, load(sums + i));
  }
};

template <class E, bool kChannelsInner, bool kDense>
static void blend_backward_as(const BlendBackwardJob& job) {
  GradientSide<E, kChannelsInner, kDense> prev, cur;
  prev.f = job.f_prev;
  prev.logit = job.logit_prev;
  prev.shared = is_shared(job.logit_prev, job.grad_logit_prev, job);
  prev.grad_f = job.grad_f_prev;
  prev.grad_logit = job.grad_logit_prev;
  prev.scale = splat(1);
  cur.f = job.f_cur;
  cur.logit = job.logit_cur;
  cur.shared = is_shared(job.logit_cur, job.grad_logit_cur, job);
  cur.grad_f = job.grad_f_cur;
  cur.grad_logit = job.grad_logit_cur;
  cur.scale = splat(job.max_weight);
  const bool want_prev = prev.grad_f.data || prev.grad_logit.data, want_cur = cur.grad_f.data || cur.grad_logit.data;
  for (int64_t first = 0; first < job.pixels; first += kBlock) {
    const int count = job.pixels - first < kBlock ? (int)(job.pixels - first) : kBlock;
    if (want_prev) prev.begin(first, count);
    if (want_cur) cur.begin(first, count);
    const int64_t outer_count = kChannelsInner ? count : job.channels, inner_count = kChannelsInner ? job.channels : count;
    for (int64_t outer = 0; outer < outer_count; ++outer)
      each_register<kLanes>(inner_count, [&](int64_t inner, int64_t left) RIRN_INLINE_LAMBDA {
        const int64_t pixel = first + (kChannelsInner ? outer : inner), channel = kChannelsInner ? inner : outer;
        const Vec grad = read<E>(element<E>(job.grad, pixel, channel), step<kChannelsInner, kDense>(job.grad), left);
        if (want_prev) prev.add(grad, pixel, channel, outer, inner, left);
        if (want_cur) cur.add(grad, pixel, channel, outer, inner, left);
      });
    if (want_prev) prev.finish(first, count);
    if (want_cur) cur.finish(first, count);
  }
}

static void blend(const BlendJob& job) {
  const bool dense = is_dense(job.f_prev, job) && is_dense(job.f_cur, job) && is_dense(job.out, job) &&
                     (is_shared(job.logit_prev, job) || is_dense(job.logit_prev, job)) &&
                     (is_shared(job.logit_cur, job) || is_dense(job.logit_cur, job));
  with_single_or_half(job.element, [&](auto e) {
    with_layout(job, dense, [&](auto channels_inner, auto is_dense) { blend_as<decltype(e), channels_inner.value, is_dense.value>(job); });
  });
}

static void blend_backward(const BlendBackwardJob& job) {
  const auto side_is_dense = [&](const Run& f, const Run& logit, const Run& grad_f, const Run& grad_logit) {
    return is_dense(f, job) && is_dense(grad_f, job) &&
           (is_shared(logit, grad_logit, job) || (is_dense(logit, job) && is_dense(grad_logit, job)));
  };
  const bool dense = is_dense(job.grad, job) && side_is_dense(job.f_prev, job.logit_prev, job.grad_f_prev, job.grad_logit_prev) &&
                     side_is_dense(job.f_cur, job.logit_cur, job.grad_f_cur, job.grad_logit_cur);
  with_single_or_half(job.element, [&](auto e) {
    with_layout(job, dense, [&](auto channels_inner, auto is_dense) { blend_backward_as<decltype(e), channels_inner.value, is_dense.value>(job); });
  });
}
