#include "output_memory.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cstdlib>
#include <list>
#include <mutex>
#include <new>
#include <unordered_map>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "../strides.h"

namespace rirn {
namespace {
constexpr size_t kSmallest = size_t(1) << 20;  // below this, the system's allocator keeps memory itself
constexpr size_t kMostKept = size_t(512) << 20;
constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t(2) << 20;

// Blocks of memory; freed ones are kept for the next request of about the same size, the most recent ones longest.
class Pool {
 public:
  void* take(size_t size) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      auto best = kept_.end();
      for (auto it = kept_.begin(); it != kept_.end(); ++it)
        if (it->size >= size && it->size - size <= size / 4 && (best == kept_.end() || it->size < best->size)) best = it;
      if (best != kept_.end()) {
        const Block block = *best;
        kept_.erase(best);
        kept_size_ -= block.size;
        sizes_[block.data] = block.size;
        return block.data;
      }
    }
    void* data = allocate(size);
    const std::lock_guard<std::mutex> lock(mutex_);
    sizes_[data] = size;
    return data;
  }

  void give_back(void* data) {
    std::list<Block> dropped;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto found = sizes_.find(data);
      kept_.push_front({data, found->second});
      kept_size_ += found->second;
      sizes_.erase(found);
      while (kept_size_ > kMostKept) {
        kept_size_ -= kept_.back().size;
        dropped.splice(dropped.end(), kept_, std::prev(kept_.end()));
      }
    }
    for (const Block& block : dropped) std::free(block.data);
  }

  size_t release() {
    std::list<Block> dropped;
    size_t size = 0;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      dropped.swap(kept_);
      std::swap(size, kept_size_);
    }
    for (const Block& block : dropped) std::free(block.data);
    return size;
  }

 private:
  struct Block {
    void* data;
    size_t size;
  };

  static void* allocate(size_t size) {
    const size_t rounded = (size + kHugePage - 1) / kHugePage * kHugePage;
    void* data = std::aligned_alloc(kHugePage, rounded);
    if (!data) throw std::bad_alloc();
#if defined(__linux__)
    madvise(data, rounded, MADV_HUGEPAGE);  // a hint: without huge pages the first use only takes longer
#endif
    return data;
  }

  std::mutex mutex_;
  std::list<Block> kept_;  // the latest first
  size_t kept_size_ = 0;
  std::unordered_map<void*, size_t> sizes_;  // of blocks in use
};

void* small_block(size_t size) {
  void* data = std::aligned_alloc(kAlignment, (size / kAlignment + 1) * kAlignment);
  if (!data) throw std::bad_alloc();
  return data;
}

// Never destroyed: tensors may outlive all static objects.
Pool& pool() {
  static Pool& it = *new Pool;
  return it;
}

int64_t release_kept_results() { return static_cast<int64_t>(pool().release()); }
}  // namespace

Tensor empty_output(const Tensor& like, const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides) {
  size_t size = like.element_size();
  for (int64_t s : sizes) size *= s;
  void* data = size < kSmallest ? small_block(size) : pool().take(size);
  void (*release)(void*) = size < kSmallest ? std::free : [](void* p) { pool().give_back(p); };
  return torch::stable::from_blob(data, sizes, strides, like.device(), like.scalar_type(), release);
}

Tensor empty_output_like(const Tensor& like) {
  if (like.dim() != 4 || !is_dense(like)) return torch::stable::empty_like(like);
  const auto sizes = like.sizes(), strides = like.strides();
  return empty_output(like, {sizes.begin(), sizes.end()}, {strides.begin(), strides.end()});
}
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CompositeExplicitAutograd, m) {
  m.impl("release_kept_results", TORCH_BOX(&rirn::release_kept_results));
}
