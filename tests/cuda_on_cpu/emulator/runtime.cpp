// The scheduler of the emulator: fibers, barriers, warp operations, launches. Never compiled with -fsanitize: under a sanitizer
// (EMULATE_ASAN, EMULATE_TSAN) it tells it of the fibers, and under ThreadSanitizer only what CUDA orders is ordered:
//   * a barrier orders all threads of a block, a warp operation the lanes it names, the end of a launch all that follows;
//   * each block runs on an OS thread of its own, and nothing orders two blocks.
// What is wrong with a kernel ends the launch with an exception that says what and where.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "control.h"
#include "cuda_on_cpu.h"
#ifdef EMULATE_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef EMULATE_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim

#ifndef __x86_64__
#error "the emulator switches between fibers in x86-64 assembly"
#endif

// Saves the registers that a call preserves and goes on where `to` stopped.
extern "C" void cuda_on_cpu_switch(void** save, void* to);
asm(R"(.text
.type cuda_on_cpu_switch,@function
cuda_on_cpu_switch:
 pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
 movq %rsp,(%rdi); movq %rsi,%rsp
 popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
 ret
)");

namespace cuda_on_cpu {
namespace {
constexpr size_t kStack = 256 << 10;
size_t shared_limit = 227 << 10;             // of a block on sm_90 and sm_100
bool is_capturing = false;
int device = 0;
int requests = 0;  // for more shared memory
constexpr size_t kSharedDefault = 48 << 10;  // more must be asked for with cudaFuncSetAttribute

enum class State { kReady, kAtBarrier, kAtWarpOperation, kDone };

struct Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  Position position{};
  unsigned index = 0;
  State state = State::kReady;
  Site site{"", 0};
  unsigned mask = 0;
  int predicate = 0;
  unsigned char payload[kPayload];
  std::vector<AsyncCopy> copies;
#ifdef EMULATE_TSAN
  void* sanitizer = nullptr;
  // What the others of a warp operation acquire. Two, by turns: a lane may be at its next operation before all have gone on from
  // the last, and must not be ordered with that.
  char tags[2];
  unsigned turn = 0;
  unsigned turns = 0;     // of all lanes at the operation that has just ended, one bit each
  unsigned warp_turn = 0;  // of the tags of its warp
#endif
#ifdef EMULATE_ASAN
  void* fake_stack = nullptr;
#endif
};

struct Warp {
  unsigned char given[32 * kPayload];  // by the lanes of the last operation, each in its place
#ifdef EMULATE_TSAN
  char tags[2];  // of the operations of all lanes, which need no tags of single ones: 32 acquisitions instead of 32 x 32
#endif
};

struct Block {
  const Launch* launch = nullptr;
  void (*entry)(void*) = nullptr;
  void* argument = nullptr;
  uint3 index{};
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  Fiber* running = nullptr;
  void* scheduler = nullptr;  // its stack pointer while a fiber runs
  Votes votes{};
  std::string error;
  std::unique_ptr<char[]> shared;
  std::vector<void*> poisoned;
#ifdef EMULATE_TSAN
  char begin;    // tag
  char tags[2];  // of the barrier, by turns as those of a fiber
  unsigned turn = 0;
  void* scheduler_sanitizer = nullptr;
#endif
#ifdef EMULATE_ASAN
  void* scheduler_fake_stack = nullptr;
  const void* scheduler_bottom = nullptr;
  size_t scheduler_size = 0;
#endif
};
thread_local Block* block = nullptr;

void release([[maybe_unused]] void* tag) {
#ifdef EMULATE_TSAN
  __tsan_release(tag);
#endif
}
void acquire([[maybe_unused]] void* tag) {
#ifdef EMULATE_TSAN
  __tsan_acquire(tag);
#endif
}
char end_of_launch;  // tag

#ifdef EMULATE_TSAN
// A fiber costs ThreadSanitizer a megabyte and a millisecond. Those of a launch serve the next one, which is ordered after it; two
// threads of one launch never share a fiber, whose accesses would then seem to be in order.
constexpr size_t kMostIdle = 4 * 256;
std::vector<void*> idle, used;  // used: by blocks of this launch that have ended
#endif

void back_to_scheduler() {
  Fiber* me = block->running;
#ifdef EMULATE_TSAN
  __tsan_switch_to_fiber(block->scheduler_sanitizer, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef EMULATE_ASAN
  __sanitizer_start_switch_fiber(me->state == State::kDone ? nullptr : &me->fake_stack, block->scheduler_bottom,
                                 block->scheduler_size);
#endif
  cuda_on_cpu_switch(&me->stack_pointer, block->scheduler);
#ifdef EMULATE_ASAN
  __sanitizer_finish_switch_fiber(me->fake_stack, &block->scheduler_bottom, &block->scheduler_size);
#endif
}

void fiber_main() {
#ifdef EMULATE_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &block->scheduler_bottom, &block->scheduler_size);
#endif
#ifdef EMULATE_TSAN
  acquire(&block->begin);
#endif
  block->entry(block->argument);
  release(&end_of_launch);
  block->running->state = State::kDone;
  back_to_scheduler();
  std::abort();  // nobody goes on with a fiber that is done
}

void go_on(Fiber& fiber) {
  block->running = &fiber;
#ifdef EMULATE_TSAN
  __tsan_switch_to_fiber(fiber.sanitizer, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef EMULATE_ASAN
  __sanitizer_start_switch_fiber(&block->scheduler_fake_stack, fiber.stack, kStack);
#endif
  cuda_on_cpu_switch(&block->scheduler, fiber.stack_pointer);
#ifdef EMULATE_ASAN
  __sanitizer_finish_switch_fiber(block->scheduler_fake_stack, nullptr, nullptr);
#endif
  block->running = nullptr;
}

std::string place(const Site& site) {
  std::string file = site.file;
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(site.line);
}

bool same(const Site& a, const Site& b) { return a.line == b.line && std::strcmp(a.file, b.file) == 0; }

[[noreturn]] void report(const std::string& why) {
  std::ostringstream text;
  text << "cuda_on_cpu: " << block->launch->kernel << ": " << why << "; block (" << block->index.x << ", " << block->index.y
       << ", " << block->index.z << ")";
  int shown = 0;
  for (const Fiber& fiber : block->fibers) {
    if (fiber.state != State::kAtBarrier && fiber.state != State::kAtWarpOperation) continue;
    if (++shown > 4) break;
    text << "; thread " << fiber.index << " waits at " << place(fiber.site);
  }
  throw std::runtime_error(text.str());
}

struct Order {
  enum { kForward, kReverse, kRandom } kind = kForward;
  std::mt19937 random;
  void apply(std::vector<unsigned>& turns) {
    if (kind == kReverse) std::reverse(turns.begin(), turns.end());
    if (kind == kRandom) std::shuffle(turns.begin(), turns.end(), random);
  }
};
Order order;
std::vector<Record> launches;
std::map<std::pair<const void*, int>, size_t> shared_limits;  // by function and device
cudaError_t last_error = cudaSuccess;

void start(Fiber& fiber) {
#ifdef EMULATE_ASAN
  __asan_unpoison_memory_region(fiber.stack, kStack);
#endif
  // As if fiber_main had been called: above its return address the stack is a multiple of 16.
  void** top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(fiber.stack + kStack) & ~uintptr_t(15));
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&fiber_main);
  for (int k = 0; k < 6; ++k) *--top = nullptr;
  fiber.stack_pointer = top;
#ifdef EMULATE_TSAN
  if (idle.empty()) {
    fiber.sanitizer = __tsan_create_fiber(0);
  } else {
    fiber.sanitizer = idle.back();
    idle.pop_back();
  }
#endif
}

// Not memcpy, which ThreadSanitizer intercepts: it would take the scheduler's work for an access of the kernel.
void copy_bytes(unsigned char* to, const void* from, size_t bytes) {
  volatile unsigned char* p = to;
  for (size_t i = 0; i < bytes; ++i) p[i] = static_cast<const unsigned char*>(from)[i];
}

// Lets the warp operations of threads [begin, end), whole warps, go on of which all lanes have arrived. Returns whether there were
// any.
bool release_warps(unsigned begin, unsigned end) {
  bool any = false;
  auto& fibers = block->fibers;
  for (unsigned first = begin; first < end; first += 32) {
    const unsigned lanes = std::min(32u, end - first);
    for (unsigned i = first; i < first + lanes; ++i) {
      const Fiber& caller = fibers[i];
      if (caller.state != State::kAtWarpOperation) continue;
      bool complete = true;
      for (unsigned lane = 0; lane < 32; ++lane) {
        if (!(caller.mask >> lane & 1)) continue;
        if (lane >= lanes) report("a warp operation at " + place(caller.site) + " names lanes that the block does not have");
        const Fiber& other = fibers[first + lane];
        if (other.state == State::kDone) report("a warp operation at " + place(caller.site) + " names a lane that has returned");
        if (other.state != State::kAtWarpOperation) {
          complete = false;
        } else if (other.mask != caller.mask || !same(other.site, caller.site)) {
          if (other.mask >> (i - first) & 1) report("lanes of one mask met at different warp operations, one at " + place(other.site));
          complete = false;
        }
      }
      if (!complete) continue;
      for (unsigned lane = 0; lane < lanes; ++lane)
        if (caller.mask >> lane & 1)
          copy_bytes(block->warps[first / 32].given + lane * kPayload, fibers[first + lane].payload, kPayload);
      const unsigned mask = caller.mask;
#ifdef EMULATE_TSAN
      unsigned turns = 0;
      for (unsigned lane = 0; lane < lanes; ++lane) turns |= fibers[first + lane].turn << lane;
      for (unsigned lane = 0; lane < lanes; ++lane)
        if (mask >> lane & 1) fibers[first + lane].turns = turns;
#endif
      for (unsigned lane = 0; lane < lanes; ++lane)
        if (mask >> lane & 1) fibers[first + lane].state = State::kReady;
      any = true;
    }
  }
  return any;
}

// Nobody can go on but through the barrier: it opens when all threads that have not returned are there.
void release_barrier() {
  const Fiber* first = nullptr;
  Votes votes{0, 1, 0};
  for (const Fiber& fiber : block->fibers) {
    if (fiber.state == State::kAtWarpOperation) report("deadlock: some threads wait in a warp operation for lanes that do not come");
    if (fiber.state != State::kAtBarrier) continue;
    if (!first) first = &fiber;
    if (!same(fiber.site, first->site))
      report("threads of a block met at different barriers, at " + place(first->site) + " and " + place(fiber.site));
    votes.any |= fiber.predicate != 0;
    votes.all &= fiber.predicate != 0;
    votes.count += fiber.predicate != 0;
  }
  block->votes = votes;
#ifdef EMULATE_TSAN
  block->turn ^= 1;
#endif
  for (Fiber& fiber : block->fibers)
    if (fiber.state == State::kAtBarrier) fiber.state = State::kReady;
}

// Lets threads [begin, end), whole warps, take turns until they all wait at a barrier or have returned. Returns how many have.
unsigned take_turns(unsigned begin, unsigned end) {
  std::vector<unsigned> turns;
  unsigned returned = 0;
  do {
    turns.clear();
    for (unsigned i = begin; i < end; ++i)
      if (block->fibers[i].state == State::kReady) turns.push_back(i);
    order.apply(turns);
    for (unsigned i : turns) {
      go_on(block->fibers[i]);
      if (!block->error.empty()) report(block->error);
      returned += block->fibers[i].state == State::kDone;
    }
  } while (release_warps(begin, end));
  return returned;
}

void run_block(unsigned linear) {
  const dim3 grid = block->launch->grid, dim = block->launch->block;
  block->index = {linear % grid.x, linear / grid.x % grid.y, linear / grid.x / grid.y};
  std::memset(block->shared.get(), 0xff, block->launch->shared + 1024);
  block->poisoned.clear();
#ifdef EMULATE_TSAN
  release(&block->begin);
#endif
  unsigned left = block->fibers.size();
  for (unsigned i = 0; i < left; ++i) {
    Fiber& fiber = block->fibers[i];
    fiber.index = i;
    fiber.state = State::kReady;
    fiber.copies.clear();
    fiber.position = {{i % dim.x, i / dim.x % dim.y, i / dim.x / dim.y}, block->index, dim, grid, i % 32};
    start(fiber);
  }
  // At random all warps go on side by side, an operation at a time. Forwards and in reverse one goes as far as it can before the
  // next one starts: else none could overtake another between its operations, and write what that has still to read.
  const unsigned threads = left, together = order.kind == Order::kRandom ? threads : 32;
  std::vector<unsigned> groups;
  for (unsigned begin = 0; begin < threads; begin += together) groups.push_back(begin);
  order.apply(groups);
  while (left) {
    for (unsigned begin : groups) left -= take_turns(begin, std::min(begin + together, threads));
    if (left) release_barrier();
  }
  acquire(&end_of_launch);  // what follows frees what the fibers read
#ifdef EMULATE_TSAN
  for (Fiber& fiber : block->fibers) {
    if (used.size() < kMostIdle) used.push_back(fiber.sanitizer);
    else __tsan_destroy_fiber(fiber.sanitizer);
  }
#endif
}

void check_shape(const Launch& launch) {
  const auto refuse = [&](const std::string& why) {
    throw std::runtime_error(std::string("cuda_on_cpu: ") + launch.kernel + ": bad launch: " + why);
  };
  const dim3 grid = launch.grid, dim = launch.block;
  const uint64_t threads = uint64_t(dim.x) * dim.y * dim.z;
  if (!threads || threads > 1024 || dim.z > 64) refuse("blocks of " + std::to_string(threads) + " threads");
  if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) refuse("a grid beyond the limits");
  const auto found = shared_limits.find({launch.function, device});
  const size_t limit = found == shared_limits.end() ? kSharedDefault : found->second;
  if (launch.shared > limit)
    refuse(std::to_string(launch.shared) + " bytes of dynamic shared memory, where cudaFuncSetAttribute allows " +
           std::to_string(limit));
}

std::unique_ptr<Block> make_block(const Launch& launch, void (*entry)(void*), void* argument, char* stacks) {
  auto made = std::make_unique<Block>();
  const unsigned threads = launch.block.x * launch.block.y * launch.block.z;
  made->launch = &launch;
  made->entry = entry;
  made->argument = argument;
  made->fibers.resize(threads);
  for (unsigned i = 0; i < threads; ++i) made->fibers[i].stack = stacks + i * kStack;
  made->warps.resize((threads + 31) / 32);
  made->shared.reset(new char[launch.shared + 1024]);
#ifdef EMULATE_TSAN
  made->scheduler_sanitizer = __tsan_get_current_fiber();
#endif
  return made;
}
}  // namespace

const Position& here() { return block->running->position; }
std::vector<AsyncCopy>& pending_copies() { return block->running->copies; }

Votes wait_for_block(int predicate, Site site) {
  Fiber* me = block->running;
  me->state = State::kAtBarrier;
  me->site = site;
  me->predicate = predicate;
#ifdef EMULATE_TSAN
  char* tag = &block->tags[block->turn];
  release(tag);
  back_to_scheduler();
  acquire(tag);
#else
  back_to_scheduler();
#endif
  return block->votes;
}

const unsigned char* wait_for_warp(unsigned mask, const void* mine, size_t bytes, Site site) {
  Fiber* me = block->running;
  if (!(mask >> (me->index % 32) & 1)) stop("a lane calls a warp operation whose mask leaves it out", site);
  me->state = State::kAtWarpOperation;
  me->site = site;
  me->mask = mask;
  copy_bytes(me->payload, mine, bytes);
#ifdef EMULATE_TSAN
  if (mask == kFull) {
    char* tag = &block->warps[me->index / 32].tags[me->warp_turn ^= 1];
    release(tag);
    back_to_scheduler();
    acquire(tag);
  } else {
    me->turn ^= 1;
    release(&me->tags[me->turn]);
    back_to_scheduler();
    for (unsigned lane = 0; lane < 32; ++lane)
      if (mask >> lane & 1) acquire(&me[int(lane) - int(me->index % 32)].tags[me->turns >> lane & 1]);
  }
#else
  back_to_scheduler();
#endif
  return block->warps[me->index / 32].given;
}

void stop(const char* why, Site site) {
  block->error = std::string(why) + " at " + place(site);
  back_to_scheduler();
  std::abort();  // the scheduler has given up on this block
}

bool seeded(int bug) {
  static const char* const set = std::getenv("RIRN_SEEDED_BUG");
  static const int on = set ? std::atoi(set) : 0;
  return bug == on;
}

void* dynamic_shared(size_t alignment) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(block->shared.get());
  alignment = std::max<size_t>(alignment, 128);
  return reinterpret_cast<void*>((address + alignment - 1) / alignment * alignment);
}

void poison_shared(void* variable, size_t bytes) {
  auto& done = block->poisoned;
  if (std::find(done.begin(), done.end(), variable) != done.end()) return;
  done.push_back(variable);
  volatile unsigned char* p = static_cast<unsigned char*>(variable);  // see copy_bytes
  for (size_t i = 0; i < bytes; ++i) p[i] = 0xff;
}

void run(const Launch& launch, void (*entry)(void*), void* argument) {
  check_shape(launch);
  launches.push_back({launch.kernel,
                      {launch.grid.x, launch.grid.y, launch.grid.z},
                      {launch.block.x, launch.block.y, launch.block.z},
                      launch.shared});
  const unsigned threads = launch.block.x * launch.block.y * launch.block.z;
  std::vector<unsigned> turns(size_t(launch.grid.x) * launch.grid.y * launch.grid.z);
  for (size_t i = 0; i < turns.size(); ++i) turns[i] = i;
  order.apply(turns);
#ifdef EMULATE_TSAN
  for (auto* fibers : {&idle, &used}) fibers->reserve(kMostIdle);  // here, for a worker that made room would seem to race with others
  unsigned turn = 0;
  std::exception_ptr error;
  std::vector<std::thread> workers;
  std::vector<std::unique_ptr<char[]>> stacks(turns.size());  // no two fibers share one: that would look like a race
  for (unsigned k = 0; k < turns.size(); ++k)
    workers.emplace_back([&, k] {
      // A bare system call: ThreadSanitizer knows of no order that it makes.
      for (unsigned now; (now = __atomic_load_n(&turn, __ATOMIC_RELAXED)) != k;)
        syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, now, nullptr, nullptr, 0);
      if (!error) try {
          stacks[k].reset(new char[threads * kStack]);
          const auto made = make_block(launch, entry, argument, stacks[k].get());
          block = made.get();
          run_block(turns[k]);
        } catch (...) {
          error = std::current_exception();
        }
      __atomic_store_n(&turn, k + 1, __ATOMIC_RELAXED);
      syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
    });
  for (auto& worker : workers) worker.join();
  acquire(&end_of_launch);
  idle.insert(idle.end(), used.begin(), used.end());
  used.clear();
  if (error) std::rethrow_exception(error);
#else
  static thread_local std::unique_ptr<char[]> stacks;
  static thread_local unsigned room = 0;
  if (room < threads) {
    stacks.reset(new char[threads * kStack]);
    room = threads;
  }
  const auto made = make_block(launch, entry, argument, stacks.get());
  block = made.get();
  for (unsigned linear : turns) run_block(linear);
#endif
}

void set_order(const std::string& name) {
  if (name == "fwd") {
    order.kind = Order::kForward;
  } else if (name == "rev") {
    order.kind = Order::kReverse;
  } else if (name.rfind("rand:", 0) == 0) {
    order.kind = Order::kRandom;
    order.random.seed(std::stoul(name.substr(5)));
  } else {
    throw std::invalid_argument("the order must be fwd, rev or rand:SEED; got " + name);
  }
}
void set_shared_limit(size_t bytes) { shared_limit = bytes; }
void set_capturing(bool capturing) { is_capturing = capturing; }
void set_device(int number) { device = number; }
int take_requests() { return std::exchange(requests, 0); }
std::vector<Record> take_launches() { return std::exchange(launches, {}); }
}  // namespace cuda_on_cpu

// ---- the part of the CUDA runtime that the launchers call ----

extern "C" {
cudaError_t cudaGetLastError(void) { return std::exchange(cuda_on_cpu::last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError(void) { return cuda_on_cpu::last_error; }
const char* cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : "an error of the emulator"; }
cudaError_t cudaGetDevice(int* device) {
  *device = cuda_on_cpu::device;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = 1; return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = cuda_on_cpu::shared_limit; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor: *value = 9; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; return cudaSuccess;
    default: return cudaErrorInvalidValue;
  }
}
cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || size_t(value) > cuda_on_cpu::shared_limit) return cuda_on_cpu::last_error = cudaErrorInvalidValue;
  ++cuda_on_cpu::requests;
  cuda_on_cpu::shared_limits[{function, cuda_on_cpu::device}] = value;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cuda_on_cpu::is_capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t) {
  std::memset(p, value, bytes);
  return cudaSuccess;
}
}
