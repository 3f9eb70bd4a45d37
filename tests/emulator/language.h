// CUDA's words and built-in variables as C++.
#pragma once

#include "block.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

// A block runs on one thread of the operating system from its first to its last instruction, so what is static there is
// shared in the block. Thread-local memory has no red zones: AddressSanitizer's builds run one block at a time instead.
#if EMULATOR_ASAN
#define __shared__ static
#else
#define __shared__ static thread_local
#endif
#define EMOGS_DYNAMIC_SHARED(T, name) \
  T* const name = reinterpret_cast<T*>(::emulator::current_thread()->block->dynamic_shared)

// Objects rather than macros: launch configurations have members of the same names.
#define EMULATOR_NUMBER(of_thread)                                                \
  struct {                                                                        \
    operator unsigned() const { return ::emulator::current_thread()->of_thread; } \
  }
#define EMULATOR_BUILT_IN(name, of_thread) \
  constexpr struct {                       \
    EMULATOR_NUMBER(of_thread.x) x;        \
    EMULATOR_NUMBER(of_thread.y) y;        \
    EMULATOR_NUMBER(of_thread.z) z;        \
  } name {                                 \
  }

EMULATOR_BUILT_IN(threadIdx, index);
EMULATOR_BUILT_IN(blockIdx, block->index);
EMULATOR_BUILT_IN(blockDim, block->size);
EMULATOR_BUILT_IN(gridDim, block->grid);
constexpr int warpSize = ::emulator::kWarpSize;

#undef EMULATOR_BUILT_IN
#undef EMULATOR_NUMBER
