// The pointwise ops: one formula each, for a register of floats, a float or a double. The CPU's SIMD variants and CUDA include
// this inside a namespace (hence no include guard) that has `sigmoid`, `hyperbolic_tangent` and the macros RIRN_INLINE and
// RIRN_INLINE_MEMBER, for functions and members that must be inlined.

// Name and formula of each; the formula of its gradients is called <formula>Backward.
#undef RIRN_POINTWISE
#define RIRN_POINTWISE(OP)    \
  OP(gru_update, GruUpdate)   \
  OP(lstm_update, LstmUpdate) \
  OP(dtb_blend, DtbBlend)

#ifndef RIRN_NAMES_ONLY
struct GruUpdate {
  static constexpr int kInputs = 3, kOutputs = 1;
  template <class V>
  static RIRN_INLINE_MEMBER void apply(const V* in, V* out) {
    const V hidden = in[0], logit_z = in[1], logit_n = in[2];
    const V z = sigmoid(logit_z);
    out[0] = (1.f - z) * hidden + z * hyperbolic_tangent(logit_n);
  }
};

struct GruUpdateBackward {
  static constexpr int kInputs = 4, kOutputs = 3;
  template <class V>
  static RIRN_INLINE_MEMBER void apply(const V* in, V* out) {
    const V grad = in[0], hidden = in[1], logit_z = in[2], logit_n = in[3];
    const V z = sigmoid(logit_z), candidate = hyperbolic_tangent(logit_n);
    out[0] = grad * (1.f - z);
    out[1] = grad * (candidate - hidden) * z * (1.f - z);
    out[2] = grad * z * (1.f - candidate * candidate);
  }
};

struct LstmUpdate {
  static constexpr int kInputs = 5, kOutputs = 2;
  template <class V>
  static RIRN_INLINE_MEMBER void apply(const V* in, V* out) {
    const V i = sigmoid(in[0]), f = sigmoid(in[1]), o = sigmoid(in[2]), g = hyperbolic_tangent(in[3]), cell = in[4];
    const V new_cell = f * cell + i * g;
    out[0] = o * hyperbolic_tangent(new_cell);
    out[1] = new_cell;
  }
};

struct LstmUpdateBackward {
  static constexpr int kInputs = 7, kOutputs = 5;
  template <class V>
  static RIRN_INLINE_MEMBER void apply(const V* in, V* out) {
    const V grad_hidden = in[0], grad_cell = in[1], cell = in[6];
    const V i = sigmoid(in[2]), f = sigmoid(in[3]), o = sigmoid(in[4]), g = hyperbolic_tangent(in[5]);
    const V seen = hyperbolic_tangent(f * cell + i * g);
    const V grad_new = grad_cell + grad_hidden * o * (1.f - seen * seen);
    out[0] = grad_new * g * i * (1.f - i);
    out[1] = grad_new * cell * f * (1.f - f);
    out[2] = grad_hidden * seen * o * (1.f - o);
    out[3] = grad_new * i * (1.f - g * g);
    out[4] = grad_new * f;
  }
};

// Both comparisons are false for NaN, which thus stays NaN.
template <class V>
RIRN_INLINE V clamp_to_unit(V x) {
  const V zero{}, one = 1.f - zero;
  x = x < zero ? zero : x;
  return x > one ? one : x;
}

struct DtbBlend {
  static constexpr int kInputs = 4, kOutputs = 1;
  template <class V>
  static RIRN_INLINE_MEMBER void apply(const V* in, V* out) {
    const V f_prev = in[0], f_cur = in[1], t = hyperbolic_tangent(in[2]), beta = in[3];
    const V weight = clamp_to_unit((t < V{} ? -t : t) + beta);
    out[0] = weight * f_cur + (1.f - weight) * f_prev;
  }
};

// Gradients at the kinks as in the reference: |t| is flat at 0, and the clamp passes gradients up to and including its ends.
struct DtbBlendBackward {
  static constexpr int kInputs = 5, kOutputs = 4;
  template <class V>
  static RIRN_INLINE_MEMBER void apply(const V* in, V* out) {
    const V grad = in[0], f_prev = in[1], f_cur = in[2], t = hyperbolic_tangent(in[3]), beta = in[4];
    const V zero{}, one = 1.f - zero;
    const V sum = (t < zero ? -t : t) + beta, weight = clamp_to_unit(sum);
    const V slope = sum < zero ? zero : sum > one ? zero : grad * (f_cur - f_prev);
    const V downhill = slope * (1.f - t * t);
    out[0] = grad * (1.f - weight);
    out[1] = grad * weight;
    out[2] = t > zero ? downhill : t < zero ? -downhill : downhill * t;
    out[3] = slope;
  }
};
#endif
