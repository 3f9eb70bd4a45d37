#include "fiber.h"

#include <pthread.h>
#include <sys/mman.h>

#include <new>

// void emulator_switch(void** save_stack_pointer, void* load_stack_pointer): pushes the registers that a call
// preserves, exchanges the stack pointers, pops them from the other stack and returns there.
extern "C" void emulator_switch(void** save, void* load);
#if defined(__x86_64__)
constexpr int kSavedWords = 6;
constexpr int kReturnWord = 6;
asm(R"(
.pushsection .text
.globl emulator_switch
.hidden emulator_switch
.type emulator_switch,@function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_switch, .-emulator_switch
.popsection
)");
#elif defined(__aarch64__)
constexpr int kSavedWords = 20;
constexpr int kReturnWord = 11;  // x30
asm(R"(
.pushsection .text
.globl emulator_switch
.hidden emulator_switch
.type emulator_switch,@function
emulator_switch:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size emulator_switch, .-emulator_switch
.popsection
)");
#else
#error "the emulator knows how to switch stacks on x86-64 and aarch64 only"
#endif

namespace emulator {

constexpr size_t kTopBytes = 64;      // above the first frame: current_thread()'s pointer
constexpr size_t kGuardBytes = 4096;  // an overflow is a segmentation fault, not a neighbour's corrupted frame

void describe_running_stack([[maybe_unused]] Context& context) {
#if EMULATOR_TSAN
  context.race_checker = __tsan_get_current_fiber();
#endif
#if EMULATOR_ASAN
  pthread_attr_t attributes;
  void* bottom = nullptr;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &bottom, &context.stack_bytes);
  pthread_attr_destroy(&attributes);
  context.stack_bottom = bottom;
#endif
}

void prepare(Context& context, char* stack, void (*entry)()) {
  void** top = reinterpret_cast<void**>(stack + kStackBytes - kTopBytes);
  *--top = nullptr;  // where entry would return to; also aligns the stack as a call leaves it
#if defined(__x86_64__)
  *--top = reinterpret_cast<void*>(entry);
  top -= kSavedWords;
  for (int word = 0; word < kSavedWords; ++word) top[word] = nullptr;
#else
  --top;
  top -= kSavedWords;
  for (int word = 0; word < kSavedWords; ++word) top[word] = nullptr;
  top[kReturnWord] = reinterpret_cast<void*>(entry);
#endif
  context.stack_pointer = top;
  context.stack_bottom = stack;
  context.stack_bytes = kStackBytes;
  context.fake_stack = nullptr;
}

void switch_stacks(Context& from, Context& to) {
#if EMULATOR_ASAN
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack_bottom, to.stack_bytes);
#endif
#if EMULATOR_TSAN
  __tsan_switch_to_fiber(to.race_checker, 1);  // 1: a switch orders nothing
#endif
  emulator_switch(&from.stack_pointer, to.stack_pointer);
#if EMULATOR_ASAN
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void arrive_on_new_stack() {
#if EMULATOR_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

Stacks::Stacks(unsigned count) : count_(count) {
  const size_t bytes = (count + size_t(1)) * kStackBytes;  // one more, to align
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  mapped_ = static_cast<char*>(mapped);
  first_ = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(mapped_) + kStackBytes - 1) & ~(kStackBytes - 1));
  for (unsigned i = 0; i < count; ++i) mprotect((*this)[i], kGuardBytes, PROT_NONE);
}

Stacks::~Stacks() {
  forget_poison();
  munmap(mapped_, (count_ + size_t(1)) * kStackBytes);
}

void Stacks::forget_poison() const {
#if EMULATOR_ASAN
  for (unsigned i = 0; i < count_; ++i)
    __asan_unpoison_memory_region((*this)[i] + kGuardBytes, kStackBytes - kGuardBytes);
#endif
}

}  // namespace emulator
