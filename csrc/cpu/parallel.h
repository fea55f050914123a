// torch's parallel_for.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <cstdint>

namespace rirn {
// Calls f(first, last) for ranges that make up begin .. end - 1 on several threads, at least `grain` each, and waits for all.
template <class F>
void parallel_for(int64_t begin, int64_t end, int64_t grain, const F& f) {
#if defined(__SANITIZE_THREAD__)
  // ThreadSanitizer does not see how OpenMP's threads wait for each other, nor how they get what they call.
  static std::atomic<const F*> function;
  static std::atomic<int> done{0};
  function = &f;
  torch::stable::parallel_for(begin, end, grain, [](int64_t first, int64_t last) {
    (*function)(first, last);
    ++done;
  });
  done.load();
#else
  torch::stable::parallel_for(begin, end, grain, f);
#endif
}
}  // namespace rirn
