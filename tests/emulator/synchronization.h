// Block barriers and warp operations: each notes its line, brings its value to where the others wait, and takes the
// result away. What happens there is in scheduler.cpp and warp.cpp.
#pragma once

#include <cstring>
#include <type_traits>

#include "block.h"

#define EMULATOR_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(EMULATOR_PLACE) {
  emulator::meet_block(emulator::Meeting::kBarrier, false, {file, line});
}
inline int __syncthreads_count(int predicate, EMULATOR_PLACE) {
  return int(emulator::meet_block(emulator::Meeting::kBarrierCount, predicate != 0, {file, line}));
}
inline int __syncthreads_and(int predicate, EMULATOR_PLACE) {
  return int(emulator::meet_block(emulator::Meeting::kBarrierAnd, predicate != 0, {file, line}));
}
inline int __syncthreads_or(int predicate, EMULATOR_PLACE) {
  return int(emulator::meet_block(emulator::Meeting::kBarrierOr, predicate != 0, {file, line}));
}

inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATOR_PLACE) {
  emulator::meet_warp(emulator::Meeting::kSyncWarp, mask, 0, 0, {file, line});
}
inline unsigned __ballot_sync(unsigned mask, int predicate, EMULATOR_PLACE) {
  return unsigned(emulator::meet_warp(emulator::Meeting::kBallot, mask, predicate != 0, 0, {file, line}));
}
inline int __any_sync(unsigned mask, int predicate, EMULATOR_PLACE) {
  return int(emulator::meet_warp(emulator::Meeting::kAny, mask, predicate != 0, 0, {file, line}));
}
inline int __all_sync(unsigned mask, int predicate, EMULATOR_PLACE) {
  return int(emulator::meet_warp(emulator::Meeting::kAll, mask, predicate != 0, 0, {file, line}));
}

namespace emulator {

template <class T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8 && std::is_arithmetic_v<T>, "CUDA exchanges numbers of 4 and 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(value));
  return bits;
}

template <class T>
T shuffle(unsigned mask, T value, int source, Place place) {
  const uint64_t bits = meet_warp(Meeting::kShuffle, mask, to_bits(value), source, place);
  memcpy(&value, &bits, sizeof(value));
  return value;
}

}  // namespace emulator

template <class T>
unsigned __match_any_sync(unsigned mask, T value, EMULATOR_PLACE) {
  return unsigned(emulator::meet_warp(emulator::Meeting::kMatch, mask, emulator::to_bits(value), 0, {file, line}));
}

// Sources are lanes of the caller's segment of `width` lanes; a lane without a source there keeps its own value.

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMULATOR_PLACE) {
  const int lane = int(emulator::current_thread()->lane), segment = lane & ~(width - 1);
  return emulator::shuffle(mask, value, segment + (source & (width - 1)), {file, line});
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EMULATOR_PLACE) {
  const int lane = int(emulator::current_thread()->lane), end = (lane & ~(width - 1)) + width;
  return emulator::shuffle(mask, value, (lane ^ bits) < end ? lane ^ bits : lane, {file, line});
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32, EMULATOR_PLACE) {
  const int lane = int(emulator::current_thread()->lane), end = (lane & ~(width - 1)) + width;
  const int source = lane + int(distance);
  return emulator::shuffle(mask, value, source < end ? source : lane, {file, line});
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32, EMULATOR_PLACE) {
  const int lane = int(emulator::current_thread()->lane), segment = lane & ~(width - 1);
  const int source = lane - int(distance);
  return emulator::shuffle(mask, value, source >= segment ? source : lane, {file, line});
}

#undef EMULATOR_PLACE
