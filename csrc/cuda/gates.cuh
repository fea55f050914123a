// gru_reset, gru_update, lstm_update and their gradients, for pointwise.cuh. Free of torch.
#pragma once
#include "pointwise.cuh"

namespace rirn {
namespace cuda {
struct GruResetOp : GruReset, Elementwise {};
struct GruResetGradient : GruResetBackward, Elementwise {
  static constexpr unsigned kReads[] = {0b111, 0b011};
};

struct GruUpdateOp : GruUpdate, Elementwise {};
struct GruUpdateGradient : GruUpdateBackward, Elementwise {
  static constexpr unsigned kReads[] = {0b0101, 0b1111, 0b1101};
};

struct LstmUpdateOp : LstmUpdate, Elementwise {};
struct LstmUpdateGradient : LstmUpdateBackward, Elementwise {
  static constexpr unsigned kReads[] = {0b1111111, 0b1111111, 0b1111101, 0b1111111, 0b1111111};
};
}  // namespace cuda
}  // namespace rirn
