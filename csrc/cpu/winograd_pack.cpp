#include "winograd_pack.h"

#include <torch/csrc/stable/ops.h>

#include <cstring>
#include <list>
#include <mutex>

#include "dense.h"
#include "parallel.h"
#include "working_memory.h"

namespace rirn {
namespace {
int blocks(const SimdKernels& simd, int co) { return (co + simd.output_block(co) - 1) / simd.output_block(co); }

// Floats of `co` outputs of `ci` inputs.
size_t packed_size(const SimdKernels& simd, int co, int ci) {
  const int depth = (ci + simd.channels_together - 1) / simd.channels_together;
  return (size_t)blocks(simd, co) * simd.output_block(co) * kPoints * depth;
}

// What packed weights were made from.
struct Source {
  const SimdKernels* simd;
  bool rotated;
  int co, ci;
  const float* values;  // [co][ci][3][3]

  size_t size() const { return (size_t)co * ci * 9; }
  bool operator==(const Source& s) const {
    return simd == s.simd && rotated == s.rotated && co == s.co && ci == s.ci &&
           !std::memcmp(values, s.values, size() * sizeof(float));
  }
};

// Packed weights with a copy of their source.
class Entry {
 public:
  explicit Entry(const Source& source)
      : source_(source), packed_size_(source.rotated ? packed_size(*source.simd, source.ci, source.co)
                                    : packed_size(*source.simd, source.co, source.ci)),
        memory_(size()) {
    float* values = memory_.get() + packed_size_;
    std::memcpy(values, source.values, source.size() * sizeof(float));
    source_.values = values;
    pack();
  }

  const Source& source() const { return source_; }
  const float* packed() const { return memory_.get(); }
  size_t size() const { return packed_size_ + source_.size(); }

 private:
  void pack() const {
    const int co = source_.rotated ? source_.ci : source_.co, ci = source_.rotated ? source_.co : source_.ci;
    const int64_t kernel = 9, row = (int64_t)source_.ci * 9;
    const PackJob job{source_.values, source_.rotated ? kernel : row, source_.rotated ? row : kernel, source_.rotated, co, ci,
                      memory_.get(), nullptr};
    parallel_for(0, blocks(*source_.simd, co), 2, [&](int64_t begin, int64_t end) {
      PackJob mine = job;
      mine.arena = thread_scratch(Scratch::job, source_.simd->pack_arena(co, ci));
      for (int64_t b = begin; b < end; ++b) source_.simd->pack_block(mine, (int)b * source_.simd->output_block(co));
    });
  }

  Source source_;
  size_t packed_size_;
  Arena memory_;
};

// The most recently used entries, the latest first.
class Cache {
 public:
  static Cache& get() {
    static Cache cache;
    return cache;
  }

  std::shared_ptr<const Entry> find(const Source& source) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto it = entries_.begin(); it != entries_.end(); ++it)
      if ((*it)->source() == source) {
        entries_.splice(entries_.begin(), entries_, it);
        return *it;
      }
    return nullptr;
  }

  void keep(std::shared_ptr<const Entry> entry) {
    const std::lock_guard<std::mutex> lock(mutex_);
    size_ += entry->size();
    entries_.push_front(std::move(entry));
    while ((size_ > kMostKept || entries_.size() > kMostEntries) && entries_.size() > 1) {
      size_ -= entries_.back()->size();
      entries_.pop_back();
    }
  }

 private:
  static constexpr size_t kMostKept = (128 << 20) / sizeof(float), kMostEntries = 1024;

  std::mutex mutex_;
  std::list<std::shared_ptr<const Entry>> entries_;
  size_t size_ = 0;
};
}  // namespace

std::shared_ptr<const float> pack_weights(const SimdKernels& simd, const Tensor& weight, bool rotated) {
  std::vector<float> converted;
  Tensor dense = weight;
  Source source{&simd, rotated, (int)weight.size(0), (int)weight.size(1), nullptr};
  if (weight.scalar_type() == ScalarType::Float) {
    dense = torch::stable::contiguous(weight);
    source.values = static_cast<const float*>(dense.const_data_ptr());
  } else {
    converted = read_dense<float>(weight);
    source.values = converted.data();
  }
  std::shared_ptr<const Entry> entry = Cache::get().find(source);
  if (!entry) {
    entry = std::make_shared<const Entry>(source);  // not under the lock: packing has its own threads
    Cache::get().keep(entry);
  }
  return {entry, entry->packed()};
}

std::vector<float> unpack_weight_gradient(const SimdKernels& simd, const float* sums, int parts, size_t stride, int co, int ci) {
  std::vector<float> out((size_t)co * ci * 9);
  const UnpackJob job{sums, parts, stride, co, ci, out.data()};
  parallel_for(0, co, 8, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) simd.unpack_output(job, (int)o);
  });
  return out;
}
}  // namespace rirn
