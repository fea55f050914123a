#include "working_memory.h"

#include <mutex>
#include <utility>

namespace rirn {
// Memory that no call uses just now, the latest last.
struct WorkingPlanes::Pool {
  static constexpr size_t kMost = (256 << 20) / sizeof(float);

  std::mutex mutex;
  std::vector<Memory> kept;

  static Pool& get() {
    static Pool pool;
    return pool;
  }

  // Whether there was memory of the shape of `wanted`, which it then has.
  bool take(Memory& wanted) {
    const std::lock_guard<std::mutex> lock(mutex);
    for (size_t i = kept.size(); i-- > 0;)
      if (kept[i].channels == wanted.channels && kept[i].tiles == wanted.tiles && kept[i].H == wanted.H) {
        wanted = std::move(kept[i]);
        kept.erase(kept.begin() + i);
        return true;
      }
    return false;
  }

  // Keeps the memory and gives back the oldest that is too much.
  void put(Memory memory) {
    const std::lock_guard<std::mutex> lock(mutex);
    kept.push_back(std::move(memory));
    size_t total = 0, first = kept.size();
    while (first > 0 && total + kept[first - 1].size <= kMost) total += kept[--first].size;
    kept.erase(kept.begin(), kept.begin() + first);
  }
};

WorkingPlanes::WorkingPlanes(std::vector<int> channels, int tiles, int H) : memory_{std::move(channels), tiles, H, 0, Arena()} {
  size_t size = 0;
  for (int c : memory_.channels) {
    planes_.push_back({nullptr, c, tiles, H + 4 * kTile});
    size += planes_.back().size();
  }
  if (!Pool::get().take(memory_)) {
    memory_.arena = Arena(size);
    memory_.size = size;
  }
  float* p = memory_.arena.get();
  for (Plane& plane : planes_) {
    plane.base = p;
    p += plane.size();
  }
}

WorkingPlanes::~WorkingPlanes() { Pool::get().put(std::move(memory_)); }
}  // namespace rirn
