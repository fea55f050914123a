// The loop of the ops of formulas.h. (Part of a variant, see vec.h.)

#include "../../formulas.h"

RIRN_INLINE double lane(Vec v, int i) { return v[i]; }
RIRN_INLINE double lane(double v, int) { return v; }

// Registers lie along the pixels or, if channels are the neighbours in memory, along the channels. Lanes beyond the last element
// read zeros, from which every gradient is zero, too: they add nothing to sums.
template <class E, class Op>
static void pointwise_as(const PointwiseJob& job) {
  typedef typename E::Value V;
  const bool turned = job.channels_inner;
  const int64_t rows = turned ? job.pixels : job.channels, columns = turned ? job.channels : job.pixels;
  const auto step = [&](const Run& run) { return turned ? run.channel : run.pixel; };
  for (int64_t row = 0; row < rows; ++row) {
    V totals[Op::kOutputs] = {};
    for (int64_t column = 0; column < columns; column += E::kCount) {
      const int64_t pixel = turned ? row : column, channel = turned ? column : row, left = columns - column;
      V in[Op::kInputs], out[Op::kOutputs];
      for (int i = 0; i < Op::kInputs; ++i)
        in[i] = read<E>(element<E>(job.inputs[i], pixel, channel), step(job.inputs[i]), left);
      Op::apply(in, out);
      for (int i = 0; i < Op::kOutputs; ++i) {
        const Run& run = job.outputs[i];
        if (!run.data) continue;
        if (!(job.summed >> i & 1)) {
          write<E>(element<E>(run, pixel, channel), step(run), left, out[i]);
        } else if (step(run) == 0) {
          totals[i] += out[i];
        } else {
          double* sums = element<Float64>(run, pixel, channel);
          for (int k = 0; k < E::kCount && k < left; ++k) sums[k] += lane(out[i], k);
        }
      }
    }
    for (int i = 0; i < Op::kOutputs; ++i) {
      if (!(job.summed >> i & 1) || step(job.outputs[i])) continue;
      double* sum = element<Float64>(job.outputs[i], turned ? row : 0, turned ? 0 : row);
      for (int k = 0; k < E::kCount; ++k) *sum += lane(totals[i], k);
    }
  }
}

template <class E>
static void pointwise_of(const PointwiseJob& job) {
  switch (job.op) {
    case Pointwise::gru_reset: return pointwise_as<E, GruReset>(job);
    case Pointwise::gru_reset_backward: return pointwise_as<E, GruResetBackward>(job);
    case Pointwise::gru_update: return pointwise_as<E, GruUpdate>(job);
    case Pointwise::gru_update_backward: return pointwise_as<E, GruUpdateBackward>(job);
    case Pointwise::lstm_update: return pointwise_as<E, LstmUpdate>(job);
    case Pointwise::lstm_update_backward: return pointwise_as<E, LstmUpdateBackward>(job);
    case Pointwise::dtb_blend: return pointwise_as<E, DtbBlend>(job);
    case Pointwise::dtb_blend_backward: return pointwise_as<E, DtbBlendBackward>(job);
  }
}

static void pointwise(const PointwiseJob& job) {
  with_element(job.element, [&](auto e) { pointwise_of<decltype(e)>(job); });
}
