// Which sanitizer this is compiled for, and its functions as far as the emulator calls them. The emulator's own sources
// are compiled without instrumentation: only kernels are checked.
#pragma once

#include <cstddef>

// cmake/emulate.cmake defines one of them as 1 for kernels and emulator alike.
#if !defined(EMULATOR_TSAN)
#define EMULATOR_TSAN 0
#endif
#if !defined(EMULATOR_ASAN)
#define EMULATOR_ASAN 0
#endif

#if EMULATOR_TSAN
extern "C" {
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void* __tsan_get_current_fiber();
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#endif

#if EMULATOR_ASAN
extern "C" {
void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t bytes);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t* bytes);
void __asan_unpoison_memory_region(const volatile void* begin, size_t bytes);
}
#endif

namespace emulator {

/// What happened in this thread before release(token) is ordered before what follows acquire(token) in another one.
inline void release([[maybe_unused]] char* token) {
#if EMULATOR_TSAN
  __tsan_release(token);
#endif
}
inline void acquire([[maybe_unused]] char* token) {
#if EMULATOR_TSAN
  __tsan_acquire(token);
#endif
}

}  // namespace emulator
