// Weights packed for the tensor cores for all calls of a thread between open_packed and close_packed, during which none may change:
// each is packed once. See rirn/ops/packed.py.
#pragma once
#include <memory>

#include "binding.h"
#include "conv3x3_chain.cuh"

namespace rirn {
namespace cuda {
class PackedWeights : public KeptWeights {
 public:
  // For the calls that follow: memory like `like`, held together with `weights`, so that no one else can get their addresses.
  void prepare(const Tensor& like, const Tensors& weights) {
    like_ = {like};
    weights_ = &weights;
    holds_them_ = false;
  }
  // Packs everything again.
  void pack_again() {
    if (like_.empty()) return;
    const DeviceGuard guard(like_[0].get_device_index());
    KeptWeights::pack_again(current_stream(like_[0]));
  }
  // What pack_again reads and writes.
  const Tensors& held() const { return held_; }

 private:
  void* allocate(size_t bytes) override {
    if (!holds_them_) held_.insert(held_.end(), weights_->begin(), weights_->end());
    holds_them_ = true;
    held_.push_back(torch::stable::new_empty(like_[0], {(int64_t)bytes}, ScalarType::Byte));
    return held_.back().data_ptr();
  }

  Tensors like_, held_;  // one, or none before the first call
  const Tensors* weights_ = nullptr;  // of the call
  bool holds_them_ = false;
};

// Of this thread, the innermost last.
inline std::vector<std::unique_ptr<PackedWeights>>& packed_weights() {
  static thread_local std::vector<std::unique_ptr<PackedWeights>> open;
  return open;
}

inline KeptWeights* kept_weights(const Tensor& like, const Tensors& weights) {
  if (packed_weights().empty()) return nullptr;
  packed_weights().back()->prepare(like, weights);
  return packed_weights().back().get();
}
}  // namespace cuda
}  // namespace rirn
