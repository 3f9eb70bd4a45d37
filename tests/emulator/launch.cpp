// Runs a grid: blocks are dealt out to threads of the operating system, made for the launch, whose thread-local memory
// is the blocks' static shared memory.
#include "launch.h"

#include <atomic>
#include <map>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "random.h"
#include "record.h"
#include "settings.h"
#include "shared_memory.h"

namespace emulator {
namespace {

/// A block and the stacks of its threads, kept from launch to launch.
struct Slot {
  Stacks stacks;
  Block block;

  explicit Slot(unsigned threads) : stacks(threads), capacity(threads) {
#if EMULATOR_TSAN
    fibers.resize(threads);
    for (void*& fiber : fibers) fiber = __tsan_create_fiber(0);
#endif
  }
  ~Slot() {
#if EMULATOR_TSAN
    for (void* fiber : fibers) __tsan_destroy_fiber(fiber);
#endif
  }
  const unsigned capacity;
  std::vector<void*> fibers;
};

/// An error has left threads waiting, which have had no chance to say that they are done: this says it for them, or the
/// caller's stack, from which they read their arguments, would race with them.
void release_waiting([[maybe_unused]] Slot& slot) {
#if EMULATOR_TSAN
  void* const here = __tsan_get_current_fiber();
  for (void* fiber : slot.fibers) {
    __tsan_switch_to_fiber(fiber, 1);
    release(&slot.block.end_token);
    __tsan_switch_to_fiber(here, 1);
  }
#endif
}

// ThreadSanitizer sees no race between blocks that were run by the same fibers, so neighbours take different ones.
constexpr int kSlots = EMULATOR_TSAN ? 4 : 1;

class SlotPool {
 public:
  std::unique_ptr<Slot> take(unsigned threads) {
    std::unique_ptr<Slot> slot;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!free_.empty()) slot = std::move(free_.back()), free_.pop_back();
    }
    if (slot && slot->capacity < threads) slot.reset();
    return slot ? std::move(slot) : std::make_unique<Slot>(std::max(threads, 256u));
  }
  void give_back(std::unique_ptr<Slot> slot) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(std::move(slot));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Slot>> free_;
};

SlotPool& slot_pool() {
  static SlotPool pool;
  return pool;
}

/// One launch: which block comes when, and the first error.
class Grid {
 public:
  Grid(const cudaLaunchConfig_t& config, const Kernel& kernel, uint64_t seed)
      : config_(config), kernel_(kernel), seed_(seed) {
    const dim3 g = config.gridDim;
    blocks_ = uint64_t(g.x) * g.y * g.z;
    if (seed_ == 0) return;
    Random dice(seed);
    start_ = dice.below(blocks_);
    do stride_ = 1 + dice.below(blocks_);
    while (std::gcd(stride_, blocks_) != 1);
  }

  uint64_t blocks() const { return blocks_; }
  const std::string& error() const { return error_; }

  /// Runs the next block on this thread of the operating system. Returns false when there is none left.
  bool run_next(Slot& slot) {
    const uint64_t turn = next_.fetch_add(1, std::memory_order_relaxed);
    if (turn >= blocks_) return false;
    try {
      run_block(slot, (start_ + turn % blocks_ * stride_) % blocks_);
    } catch (const std::runtime_error& error) {
      release_waiting(slot);
      next_ = blocks_;
      const std::lock_guard<std::mutex> lock(mutex_);
      if (error_.empty()) error_ = error.what();
      return false;
    }
    return true;
  }

 private:
  void run_block(Slot& slot, uint64_t index) {
    Block& block = slot.block;
    const dim3 g = config_.gridDim, b = config_.blockDim;
    block.grid = g, block.size = b, block.kernel = kernel_;
    block.index = {unsigned(index % g.x), unsigned(index / g.x % g.y), unsigned(index / g.x / g.y)};
    block.threads.resize(size_t(b.x) * b.y * b.z);
#if EMULATOR_TSAN
    for (unsigned i = 0; i < block.threads.size(); ++i) block.threads[i].context.race_checker = slot.fibers[i];
#endif
    const DynamicShared dynamic_shared(config_.dynamicSmemBytes);
    dynamic_shared.poison();
    StaticShared().poison();
    block.dynamic_shared = dynamic_shared.get();
    start_threads(block, slot.stacks);
    release(&block.start_token);
    run_threads(block, seed_ ? Random(seed_ ^ (index << 20)).next() | 1 : 0);
    if (dynamic_shared.overrun())
      throw std::runtime_error("dynamic shared memory is written to beyond its end, in " + describe(block.threads[0]));
  }

  const cudaLaunchConfig_t& config_;
  const Kernel kernel_;
  const uint64_t seed_;
  uint64_t blocks_, start_ = 0, stride_ = 1;
  std::atomic<uint64_t> next_{0};
  std::mutex mutex_;
  std::string error_;
};

/// ThreadSanitizer: a thread of the operating system for every block, one after the other. Its static shared memory is
/// then its own, and neither that nor the thread orders blocks that nothing else does.
void run_blocks_apart(Grid& grid, unsigned threads) {
  std::unique_ptr<Slot> slots[kSlots];
  for (auto& slot : slots) slot = slot_pool().take(threads);
  bool more = true;
  for (uint64_t turn = 0; more; ++turn) std::thread([&] { more = grid.run_next(*slots[turn % kSlots]); }).join();
  for (auto& slot : slots) {
    acquire(&slot->block.end_token);
    if (grid.error().empty())
      slot_pool().give_back(std::move(slot));
    else
      slot.release();  // an error has left threads waiting: that they are gone is something nobody has told anybody
  }
}

void run_blocks(Grid& grid, unsigned threads, unsigned workers) {
  std::vector<std::thread> team;
  for (unsigned worker = 0; worker < std::min<uint64_t>(workers, grid.blocks()); ++worker)
    team.emplace_back([&] {
      std::unique_ptr<Slot> slot = slot_pool().take(threads);
      while (grid.run_next(*slot)) {
      }
      if (grid.error().empty()) slot_pool().give_back(std::move(slot));
    });
  for (std::thread& worker : team) worker.join();
}

// The limits of the smallest GPU that the kernels are compiled for (compute capability 8.6, 8.9 or 12.0).
constexpr unsigned kMaxThreads = 1024;
constexpr int kDefaultSharedBytes = 48 << 10, kMaxSharedBytes = 99 << 10;

std::mutex limits_mutex;
std::map<const void*, int> dynamic_shared_limits;  // of the kernels that have asked for more

int dynamic_shared_limit(const void* kernel) {
  const std::lock_guard<std::mutex> lock(limits_mutex);
  const auto found = dynamic_shared_limits.find(kernel);
  return found == dynamic_shared_limits.end() ? kDefaultSharedBytes : std::max(found->second, kDefaultSharedBytes);
}

bool is_valid(const cudaLaunchConfig_t& config) {
  const dim3 g = config.gridDim, b = config.blockDim;
  const bool grid = g.x > 0 && g.y > 0 && g.z > 0 && g.x <= 0x7fffffffu && g.y <= 0xffffu && g.z <= 0xffffu;
  const bool block = b.x > 0 && b.y > 0 && b.z > 0 && b.x <= 1024 && b.y <= 1024 && b.z <= 64;
  return grid && block && size_t(b.x) * b.y * b.z <= kMaxThreads;
}

}  // namespace

cudaError_t set_dynamic_shared_limit(const void* kernel, int bytes) {
  if (bytes < 0 || bytes > kMaxSharedBytes) return set_error(cudaErrorInvalidValue);
  const std::lock_guard<std::mutex> lock(limits_mutex);
  dynamic_shared_limits[kernel] = bytes;
  return cudaSuccess;
}

cudaError_t launch(const cudaLaunchConfig_t& config, const void* address, const Kernel& kernel) {
  if (!is_valid(config)) return set_error(cudaErrorInvalidConfiguration);
  if (config.dynamicSmemBytes > size_t(dynamic_shared_limit(address))) return set_error(cudaErrorInvalidValue);
  record_launch(address);
  try {
    const Settings settings = read_settings();
    Grid grid(config, kernel, settings.seed);
    const unsigned threads = config.blockDim.x * config.blockDim.y * config.blockDim.z;
    if (EMULATOR_TSAN)
      run_blocks_apart(grid, threads);
    else
      run_blocks(grid, threads, settings.threads);
    return grid.error().empty() ? cudaSuccess : set_error(cudaErrorLaunchFailure, grid.error());
  } catch (const std::runtime_error& error) {
    return set_error(cudaErrorInvalidValue, error.what());
  }
}

}  // namespace emulator
