// The loop of the ops of formulas.h. (Part of a variant, see vec.h.)

#include "../../formulas.h"

RIRN_INLINE double lane(Vec v, int i) { return v[i]; }
RIRN_INLINE double lane(double v, int) { return v; }

// Registers run along the pixels or, if channels are adjacent in memory, along the channels. Lanes beyond the last element
// read zeros, for which every gradient is zero, too: they add nothing to sums.
template <class E, class Op, bool kChannelsInner, bool kDense>
static void pointwise_as(const PointwiseJob& job) {
  typedef typename E::Value V;
  const int64_t rows = kChannelsInner ? job.pixels : job.channels, columns = kChannelsInner ? job.channels : job.pixels;
  for (int64_t row = 0; row < rows; ++row) {
    V totals[Op::kOutputs] = {};
    each_register<E::kCount>(columns, [&](int64_t column, int64_t left) RIRN_INLINE_LAMBDA {
      const int64_t pixel = kChannelsInner ? row : column, channel = kChannelsInner ? column : row;
      V in[Op::kInputs], out[Op::kOutputs];
      for (int i = 0; i < Op::kInputs; ++i)
        in[i] = read<E>(element<E>(job.inputs[i], pixel, channel), step<kChannelsInner, kDense>(job.inputs[i]), left);
      Op::apply(in, out);
      for (int i = 0; i < Op::kOutputs; ++i) {
        const Run& run = job.outputs[i];
        if (!run.data) continue;
        if (!(job.summed >> i & 1)) {
          write<E>(element<E>(run, pixel, channel), step<kChannelsInner, kDense>(run), left, out[i]);
        } else if (step<kChannelsInner, false>(run) == 0) {
          totals[i] += out[i];
        } else {
          double* sums = element<Float64>(run, pixel, channel);
          for (int k = 0; k < E::kCount && k < left; ++k) sums[k] += lane(out[i], k);
        }
      }
    });
    for (int i = 0; i < Op::kOutputs; ++i) {
      if (!(job.summed >> i & 1) || step<kChannelsInner, false>(job.outputs[i])) continue;
      double* sum = element<Float64>(job.outputs[i], kChannelsInner ? row : 0, kChannelsInner ? 0 : row);
      for (int k = 0; k < E::kCount; ++k) *sum += lane(totals[i], k);
    }
  }
}

template <class Op>
static void pointwise_of(const PointwiseJob& job) {
  bool dense = true;
  for (int i = 0; i < Op::kInputs; ++i) dense &= is_dense(job.inputs[i], job);
  for (int i = 0; i < Op::kOutputs; ++i) dense &= job.summed >> i & 1 || is_dense(job.outputs[i], job);
  with_element(job.element, [&](auto e) {
    with_layout(job, dense, [&](auto channels_inner, auto is_dense) { pointwise_as<decltype(e), Op, channels_inner.value, is_dense.value>(job); });
  });
}

static void pointwise(const PointwiseJob& job) {
#define RIRN_CASES(NAME, FORMULA)                                     \
  case Pointwise::NAME: return pointwise_of<FORMULA>(job); \
  case Pointwise::NAME##_backward: return pointwise_of<FORMULA##Backward>(job);
  switch (job.op) { RIRN_POINTWISE(RIRN_CASES) }
#undef RIRN_CASES
}
