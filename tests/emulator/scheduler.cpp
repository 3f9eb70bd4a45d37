// Runs the threads of one block, one at a time: each until it waits for others or exits. A GPU promises no order, so
// any order of warps, and of lanes between two warp operations, must give the same result: in index order bugs repeat,
// in a random one they show.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "block.h"
#include "random.h"

namespace emulator {
namespace {

thread_local const Block* running = nullptr;

void run_current_thread() {
  arrive_on_new_stack();
  Thread& thread = *current_thread();
  acquire(&thread.block->start_token);
  thread.block->kernel.call(thread.block->kernel.closure);
  release(&thread.block->end_token);
  thread.state = State::kExited;
  switch_stacks(thread.context, thread.block->scheduler);
}

class Scheduler {
 public:
  Scheduler(Block& block, uint64_t seed) : block_(block), random_(seed != 0), dice_(seed) {}

  void run() {
    describe_running_stack(block_.scheduler);
    do run_to_barrier();
    while (pass_barrier());
  }

 private:
  Warp warp(unsigned index) const {
    const unsigned first = index * kWarpSize;
    return {&block_.threads[first], std::min<unsigned>(kWarpSize, block_.threads.size() - first)};
  }

  // Until no thread can go on without the others of the block.
  void run_to_barrier() {
    std::vector<unsigned> warps((block_.threads.size() + kWarpSize - 1) / kWarpSize);
    for (unsigned i = 0; i < warps.size(); ++i) warps[i] = i;
    if (!random_) {
      for (unsigned index : warps)
        while (step(warp(index))) {
        }
      return;
    }
    const bool one_by_one = dice_.below(2) == 0;  // warps far ahead of others, or all of them abreast
    while (!warps.empty()) {
      unsigned& chosen = warps[dice_.below(warps.size())];
      bool more = true;
      do more = step(warp(chosen));
      while (more && one_by_one);
      if (more) continue;
      chosen = warps.back();
      warps.pop_back();
    }
  }

  // Runs the lanes that can go on to their next warp operation. Returns whether any can go on from there.
  bool step(const Warp& warp) {
    uint8_t order[kWarpSize];
    for (unsigned i = 0; i < warp.count; ++i) order[i] = i;
    if (random_)
      for (unsigned i = warp.count; i > 1; --i) std::swap(order[i - 1], order[dice_.below(i)]);
    for (unsigned i = 0; i < warp.count; ++i) {
      Thread& lane = warp.lanes[order[i]];
      if (lane.state != State::kReady) continue;
      switch_stacks(block_.scheduler, lane.context);
      if (!block_.failure.empty()) throw std::runtime_error(block_.failure);
    }
    finish_warp_operations(warp);
    for (unsigned i = 0; i < warp.count; ++i)
      if (warp.lanes[i].state == State::kReady) return true;
    return false;
  }

  // Lets the threads pass the barrier at which all of them must be. Returns false where all have exited instead.
  bool pass_barrier() {
    const Thread *at_barrier = nullptr, *exited = nullptr;
    uint64_t votes = 0;
    for (const Thread& thread : block_.threads) {
      if (thread.state == State::kAtWarpOperation) throw std::runtime_error(deadlock(thread));
      if (thread.state == State::kExited) {
        exited = &thread;
        continue;
      }
      votes += thread.value;
      if (!at_barrier) at_barrier = &thread;
      if (thread.meeting != at_barrier->meeting || thread.place.line != at_barrier->place.line ||
          thread.place.file != at_barrier->place.file)
        throw std::runtime_error("threads wait at different barriers: " + describe(*at_barrier) + ", " +
                                 describe(thread));
    }
    if (!at_barrier) return false;
    if (exited)
      throw std::runtime_error("a thread exits before a barrier at which others wait: " + describe(*exited) + ", " +
                               describe(*at_barrier));
    const Meeting meeting = at_barrier->meeting;
    const uint64_t result = meeting == Meeting::kBarrierCount ? votes
                            : meeting == Meeting::kBarrierAnd ? votes == block_.threads.size()
                                                              : votes != 0;
    for (Thread& thread : block_.threads) thread.result = result, thread.state = State::kReady;
    ++block_.barriers;
    return true;
  }

  std::string deadlock(const Thread& thread) const {
    const Thread* const lanes = &thread - thread.lane;
    std::string message = "deadlock: " + describe(thread) + " waits for ";
    for (unsigned i = 0; i < kWarpSize && thread.lane < kWarpSize; ++i)
      if ((thread.mask >> i & 1) && &lanes[i] <= &block_.threads.back() && lanes[i].state == State::kAtBarrier)
        return message + describe(lanes[i]);
    return message + "other lanes of its warp";
  }

  Block& block_;
  const bool random_;
  Random dice_;
};

}  // namespace

uint64_t meet_block(Meeting meeting, bool predicate, Place place) {
  Thread& thread = *current_thread();
  Block& block = *thread.block;
  thread.meeting = meeting, thread.place = place, thread.value = predicate;
  thread.state = State::kAtBarrier;
  // Tokens alternate: a thread that comes to the next barrier must not seem to be ordered before this one.
  char* const token = &block.barrier_tokens[block.barriers & 1];
  release(token);
  switch_stacks(thread.context, block.scheduler);
  acquire(token);
  return thread.result;
}

void fail(const std::string& what) {
  Thread& thread = *current_thread();
  thread.block->failure = what + ": " + describe(thread);
  switch_stacks(thread.context, thread.block->scheduler);
  __builtin_unreachable();  // the launch is over, and this stack will be given to another thread
}

std::string describe(const Thread& thread) {
  const uint3 t = thread.index, b = thread.block->index;
  std::string text = "thread (" + std::to_string(t.x) + ", " + std::to_string(t.y) + ", " + std::to_string(t.z) +
                     ") of block (" + std::to_string(b.x) + ", " + std::to_string(b.y) + ", " + std::to_string(b.z) +
                     ")";
  if (!thread.place.file) return text;
  const char* const slash = strrchr(thread.place.file, '/');
  const std::string place =
      std::string(slash ? slash + 1 : thread.place.file) + ":" + std::to_string(thread.place.line);
  switch (thread.state) {
    case State::kAtBarrier:
      return text + " at the barrier of " + place;
    case State::kAtWarpOperation:
      return text + " at the warp operation of " + place;
    default:
      return text + " after " + place;
  }
}

void start_threads(Block& block, const Stacks& stacks) {
  stacks.forget_poison();
  block.failure.clear();
  block.barriers = 0;
  for (unsigned i = 0; i < block.threads.size(); ++i) {
    Thread& thread = block.threads[i];
    thread.block = &block;
    thread.index = {i % block.size.x, i / block.size.x % block.size.y, i / (block.size.x * block.size.y)};
    thread.lane = i % kWarpSize;
    thread.state = State::kReady;
    thread.place = {};
    thread.sync_warps = 0;
    prepare(thread.context, stacks[i], run_current_thread);
    *thread_slot(stacks[i]) = &thread;
  }
}

void run_threads(Block& block, uint64_t seed) {
  running = &block;  // after shared memory was poisoned, and this with it
  Scheduler(block, seed).run();
  running = nullptr;
}

const Block* running_block() {
  return running;
}

}  // namespace emulator
