// A stack for every CUDA thread of a block, and the switch from one to another: the operating system's threads would be
// too many and too slow. The sanitizers are told of each switch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sanitizers.h"

namespace emulator {

constexpr size_t kStackBytes = EMULATOR_ASAN ? 512 << 10 : 128 << 10;  // a power of two: see current_thread()

/// Where a stack goes on when it is switched to.
struct Context {
  void* stack_pointer = nullptr;
  void* race_checker = nullptr;        // ThreadSanitizer's idea of a thread
  void* fake_stack = nullptr;          // AddressSanitizer's
  const void* stack_bottom = nullptr;  // lowest address
  size_t stack_bytes = 0;
};

/// Fills in what the sanitizers want to know of the stack that is running now. Call before switching away from it.
void describe_running_stack(Context& context);

/// Makes `context` call entry() on that stack when it is switched to. entry must not return.
void prepare(Context& context, char* stack, void (*entry)());

/// Stops here and goes on at `to`, until somebody switches back.
void switch_stacks(Context& from, Context& to);

/// The first thing on a new stack.
void arrive_on_new_stack();

/// Memory for `count` stacks; beyond the end of each is an unmapped page.
class Stacks {
 public:
  explicit Stacks(unsigned count);
  ~Stacks();
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;
  char* operator[](unsigned index) const { return first_ + index * kStackBytes; }
  void forget_poison() const;  // frames that were left by no return

 private:
  unsigned count_;
  char* mapped_;
  char* first_;
};

}  // namespace emulator
