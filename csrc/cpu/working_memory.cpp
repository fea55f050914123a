#include "working_memory.h"

#include <mutex>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace rirn {
void want_huge_pages(void* memory, size_t bytes) {
#if defined(__linux__)
  constexpr uintptr_t kHugePage = uintptr_t(2) << 20;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(memory) + bytes) / kHugePage * kHugePage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // only a hint
#else
  (void)memory, (void)bytes;
#endif
}

// Memory of planes: how much is in use, and what no call is using now, the most recent last.
struct WorkingPlanes::Pool {
  std::mutex mutex;
  size_t most;  // floats, in use and not
  size_t used = 0;
  std::vector<Memory> free;

  explicit Pool(size_t most) : most(most) {}

  // Never destroyed: tensors may outlive all static objects.
  static Pool& of_calls() {
    static Pool& pool = *new Pool((256 << 20) / sizeof(float));
    return pool;
  }
  static Pool& held() {
    static Pool& pool = *new Pool(0);
    return pool;
  }

  // Memory of the shape of `wanted`, zero where nothing has been written.
  Memory take(Memory wanted) {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      used += wanted.size;
      for (size_t i = free.size(); i-- > 0;)
        if (free[i].channels == wanted.channels && free[i].tiles == wanted.tiles && free[i].H == wanted.H) {
          wanted = std::move(free[i]);
          free.erase(free.begin() + i);
          return wanted;
        }
      drop_oldest();
    }
    wanted.arena = Arena(wanted.size);
    return wanted;
  }

  void put(Memory memory) {
    const std::lock_guard<std::mutex> lock(mutex);
    used -= memory.size;
    free.push_back(std::move(memory));
    drop_oldest();
  }

  void drop_oldest() {
    size_t total = used, first = free.size();
    while (first > 0 && total + free[first - 1].size <= most) total += free[--first].size;
    free.erase(free.begin(), free.begin() + first);
  }
};

size_t planes_size(const std::vector<int>& channels, int tiles, int H) {
  size_t size = 0;
  for (const Plane& plane : planes_at(nullptr, channels, tiles, H)) size += plane.size();
  return size;
}

std::vector<Plane> planes_at(float* base, const std::vector<int>& channels, int tiles, int H) {
  std::vector<Plane> planes;
  for (int c : channels) {
    planes.push_back({base, c, tiles, H + 4 * kTile});
    if (base) base += planes.back().size();
  }
  return planes;
}

WorkingPlanes::WorkingPlanes(std::vector<int> channels, int tiles, int H)
    : WorkingPlanes(Pool::of_calls(), {channels, tiles, H, planes_size(channels, tiles, H), Arena()}) {}

std::shared_ptr<WorkingPlanes> WorkingPlanes::held(std::vector<int> channels, int tiles, int H, size_t most) {
  Pool& pool = Pool::held();
  const size_t size = planes_size(channels, tiles, H);
  {
    const std::lock_guard<std::mutex> lock(pool.mutex);
    pool.most = most / sizeof(float);
    pool.drop_oldest();
    if (pool.used + size > pool.most) return nullptr;
  }
  return std::shared_ptr<WorkingPlanes>(new WorkingPlanes(pool, {std::move(channels), tiles, H, size, Arena()}));
}

WorkingPlanes::WorkingPlanes(Pool& pool, Memory memory)
    : pool_(pool), memory_(pool.take(std::move(memory))),
      planes_(planes_at(memory_.arena.get(), memory_.channels, memory_.tiles, memory_.H)) {}

WorkingPlanes::~WorkingPlanes() { pool_.put(std::move(memory_)); }
}  // namespace rirn
