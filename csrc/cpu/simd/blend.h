// atb_blend and its gradient over a block of pixels and channels. (Part of a variant, see vec.h.)

constexpr int kBlock = 256;  // pixels whose shared gates are kept at a time

// The gates of a block of pixels that all channels share.
template <class E>
static void block_gates(const Run& logit, int64_t pixel, int count, float* gates) {
  for (int i = 0; i < count; i += kLanes)
    store(gates + i, sigmoid(read<E>(element<E>(logit, pixel + i, 0), logit.pixel, count - i)));
}

// One of the two frames that are blended, over one block.
template <class E, bool kChannelsInner>
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
    return sigmoid(read<E>(element<E>(logit, pixel, channel), kChannelsInner ? logit.channel : logit.pixel, left));
  }
  RIRN_INLINE_MEMBER Vec value(int64_t pixel, int64_t channel, int64_t left) const {
    return read<E>(element<E>(f, pixel, channel), kChannelsInner ? f.channel : f.pixel, left);
  }
};

template <class E, bool kChannelsInner>
static void blend_as(const BlendJob& job) {
  Side<E, kChannelsInner> prev, cur;
  prev.f = job.f_prev;
  prev.logit = job.logit_prev;
  prev.shared = job.logit_prev.channel == 0;
  cur.f = job.f_cur;
  cur.logit = job.logit_cur;
  cur.shared = job.logit_cur.channel == 0;
  const Vec weight = splat(job.max_weight);
  for (int64_t first = 0; first < job.pixels; first += kBlock) {
    const int count = job.pixels - first < kBlock ? (int)(job.pixels - first) : kBlock;
    prev.start(first, count);
    cur.start(first, count);
    const int64_t outer_count = kChannelsInner ? count : job.channels, inner_count = kChannelsInner ? job.channels : count;
    for (int64_t outer = 0; outer < outer_count; ++outer)
      for (int64_t inner = 0; inner < inner_count; inner += kLanes) {
        const int64_t pixel = first + (kChannelsInner ? outer : inner), channel = kChannelsInner ? inner : outer;
        const int64_t left = inner_count - inner;
        const Vec a = prev.gate(pixel, channel, outer, inner, left) * prev.value(pixel, channel, left);
        const Vec b = weight * cur.gate(pixel, channel, outer, inner, left) * cur.value(pixel, channel, left);
        write<E>(element<E>(job.out, pixel, channel), kChannelsInner ? job.out.channel : job.out.pixel, left, a + b);
      }
  }
}

// A side with its gradients. Where the logit is shared its gradient is a sum over the channels, made by one thread in order.
template <class E, bool kChannelsInner>
struct GradientSide : Side<E, kChannelsInner> {
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
      write<E>(element<E>(grad_f, pixel, channel), kChannelsInner ? grad_f.channel : grad_f.pixel, left, weighted);
    if (!grad_logit.data) return;
    Vec slope = weighted * (splat(1) - gate) * this->value(pixel, channel, left);
    if (!this->shared) {
      write<E>(element<E>(grad_logit, pixel, channel), kChannelsInner ? grad_logit.channel : grad_logit.pixel, left, slope);
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

// An expanded logit is one value for all channels too, but its gradients are not summed.
RIRN_INLINE bool is_shared(const Run& logit, const Run& grad_logit) {
  return logit.channel == 0 && (!grad_logit.data || grad_logit.channel == 0);
}

template <class E, bool kChannelsInner>
static void blend_backward_as(const BlendBackwardJob& job) {
  GradientSide<E, kChannelsInner> prev, cur;
  prev.f = job.f_prev;
  prev.logit = job.logit_prev;
  prev.shared = is_shared(job.logit_prev, job.grad_logit_prev);
  prev.grad_f = job.grad_f_prev;
  prev.grad_logit = job.grad_logit_prev;
  prev.scale = splat(1);
  cur.f = job.f_cur;
  cur.logit = job.logit_cur;
  cur.shared = is_shared(job.logit_cur, job.grad_logit_cur);
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
      for (int64_t inner = 0; inner < inner_count; inner += kLanes) {
        const int64_t pixel = first + (kChannelsInner ? outer : inner), channel = kChannelsInner ? inner : outer;
        const int64_t left = inner_count - inner;
        const Vec grad = read<E>(element<E>(job.grad, pixel, channel), kChannelsInner ? job.grad.channel : job.grad.pixel, left);
        if (want_prev) prev.add(grad, pixel, channel, outer, inner, left);
        if (want_cur) cur.add(grad, pixel, channel, outer, inner, left);
      }
    if (want_prev) prev.finish(first, count);
    if (want_cur) cur.finish(first, count);
  }
}

static void blend(const BlendJob& job) {
  with_single_or_half(job.element, [&](auto e) {
    typedef decltype(e) E;
    job.channels_inner ? blend_as<E, true>(job) : blend_as<E, false>(job);
  });
}

static void blend_backward(const BlendBackwardJob& job) {
  with_single_or_half(job.element, [&](auto e) {
    typedef decltype(e) E;
    job.channels_inner ? blend_backward_as<E, true>(job) : blend_backward_as<E, false>(job);
  });
}
