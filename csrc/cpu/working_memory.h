// Working memory of the CPU kernels, kept from call to call: fresh pages would cost more than the work done in them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "simd.h"

namespace rirn {
// Requests huge pages where that pays: planes are read by rows that are far apart.
void want_huge_pages(void* memory, size_t bytes);

// Zero from the start and aligned for any register.
class Arena {
 public:
  Arena() = default;
  explicit Arena(size_t floats) : memory_(std::calloc(floats * sizeof(float) + kAlignment, 1), std::free) {
    if (!memory_) throw std::bad_alloc();
    want_huge_pages(memory_.get(), floats * sizeof(float));
  }
  float* get() const {
    const uintptr_t p = reinterpret_cast<uintptr_t>(memory_.get());
    return reinterpret_cast<float*>((p + kAlignment - 1) / kAlignment * kAlignment);
  }

 private:
  static constexpr size_t kAlignment = 64;
  std::unique_ptr<void, void (*)(void*)> memory_{nullptr, std::free};
};

// What a thread keeps for itself, each with its own memory.
enum class Scratch { job, weight_sums, transformed };
constexpr int kScratches = 3;

// The calling thread's scratch memory of that kind, with stale contents; valid until the thread asks for it again.
inline float* thread_scratch(Scratch kind, size_t floats) {
  struct Kept {
    Arena arena;
    size_t size = 0;
  };
  static thread_local Kept all[kScratches];
  Kept& kept = all[static_cast<int>(kind)];
  if (kept.size < floats) {
    kept = Kept();
    kept.arena = Arena(floats);
    kept.size = floats;
  }
  return kept.arena.get();
}

// Whole images of working rows, with a border of zeros that the tiles of any layer may touch: everything starts as zero, and
// whatever writes to a plane leaves the area outside the images unchanged or zero. Hence the memory of one call can serve the
// next of the same shape; a model alternates between a few shapes.
class WorkingPlanes {
 public:
  // For one call.
  WorkingPlanes(std::vector<int> channels, int tiles, int H);
  // To be held from a forward pass to its backward pass; null if the total held would exceed `most` bytes.
  static std::shared_ptr<WorkingPlanes> held(std::vector<int> channels, int tiles, int H, size_t most);
  ~WorkingPlanes();
  WorkingPlanes(const WorkingPlanes&) = delete;
  WorkingPlanes& operator=(const WorkingPlanes&) = delete;

  const std::vector<Plane>& planes() const { return planes_; }
  size_t size() const { return memory_.size; }  // floats, one plane after the other

 private:
  struct Memory {
    std::vector<int> channels;
    int tiles, H;
    size_t size;
    Arena arena;
  };
  struct Pool;

  WorkingPlanes(Pool& pool, Memory memory);

  Pool& pool_;
  Memory memory_;
  std::vector<Plane> planes_;
};

// Planes one after the other from `base` on, which is aligned as an Arena is.
std::vector<Plane> planes_at(float* base, const std::vector<int>& channels, int tiles, int H);
size_t planes_size(const std::vector<int>& channels, int tiles, int H);  // floats
}  // namespace rirn
