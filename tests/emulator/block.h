// The state of one block while it runs, and the two places where its threads wait for each other.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fiber.h"
#include "vector_types.h"

namespace emulator {

constexpr unsigned kWarpSize = 32;

enum class State : uint8_t { kReady, kAtBarrier, kAtWarpOperation, kExited };

enum class Meeting : uint8_t {
  kBarrier,
  kBarrierCount,
  kBarrierAnd,
  kBarrierOr,
  kSyncWarp,
  kShuffle,
  kBallot,
  kAny,
  kAll,
  kMatch
};

/// A line of a kernel.
struct Place {
  const char* file = nullptr;
  int line = 0;
};

struct Block;

/// A CUDA thread.
struct Thread {
  uint3 index{};  // threadIdx
  unsigned lane = 0;
  Block* block = nullptr;
  State state = State::kReady;
  Context context;

  // What it waits for, and what comes of it.
  Meeting meeting{};
  Place place{};
  uint32_t mask = 0;   // of a warp operation
  uint64_t value = 0;  // what it brings: a barrier's predicate, the bits of a shuffle
  int source = 0;      // the lane whose value a shuffle wants
  uint64_t result = 0;

  // Tells ThreadSanitizer what a __syncwarp orders. Tokens alternate: a lane that has run ahead to the next __syncwarp
  // must not be taken for one that was as far at this one.
  char warp_tokens[2] = {};
  unsigned sync_warps = 0;        // so far
  uint32_t partners = 0;          // the lanes that met at the last one,
  uint32_t partner_parities = 0;  // and which of their tokens it was
};

/// A kernel with its arguments.
struct Kernel {
  void (*call)(const void* closure);
  const void* closure;
};

struct Block {
  dim3 grid, size;  // gridDim, blockDim
  uint3 index{};    // blockIdx
  Kernel kernel{};
  char* dynamic_shared = nullptr;
  std::vector<Thread> threads;
  Context scheduler;
  std::string failure;  // of a thread: what it did

  char start_token = 0, end_token = 0;  // what ThreadSanitizer takes for the order of launch, block and what follows
  char barrier_tokens[2] = {};
  unsigned barriers = 0;
};

/// The CUDA thread that runs on this stack: its address is kept at the stack's top.
inline Thread** thread_slot(const void* on_stack) {
  return reinterpret_cast<Thread**>((reinterpret_cast<uintptr_t>(on_stack) | (kStackBytes - 1)) + 1) - 1;
}
inline __attribute__((always_inline)) Thread* current_thread() {
  return *thread_slot(__builtin_frame_address(0));
}

/// Waits at the block's barrier; returns what the barrier computes of all predicates.
uint64_t meet_block(Meeting meeting, bool predicate, Place place);

/// Waits for the lanes of `mask`; returns this lane's result.
uint64_t meet_warp(Meeting meeting, uint32_t mask, uint64_t value, int source, Place place);

/// The block that this thread of the operating system is running, or null.
const Block* running_block();

/// Ends the launch with an error: the thread that calls this did what it must not.
[[noreturn]] void fail(const std::string& what);

/// "thread (3, 0, 0) at the barrier of blend_cuda.cu:120".
std::string describe(const Thread& thread);

/// The lanes of a warp: its threads, of which the block's last warp may have fewer than 32.
struct Warp {
  Thread* lanes;
  unsigned count;
};

/// Finishes every operation of the warp whose lanes have all come. Throws std::runtime_error if they do not fit
/// together.
void finish_warp_operations(const Warp& warp);

/// Starts every thread on a fresh stack; kExited is where it ends.
void start_threads(Block& block, const Stacks& stacks);

/// Runs all threads to their ends. seed 0: in order of their index; else in a random order.
/// Throws std::runtime_error on deadlock and whatever else a GPU would not tell.
void run_threads(Block& block, uint64_t seed);

}  // namespace emulator
