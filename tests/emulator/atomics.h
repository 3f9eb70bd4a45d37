// Atomic operations, relaxed as CUDA's are: they order nothing around them.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace emulator {

/// Replaces *address by change(*address) and returns what it was.
template <class T, class Change>
T replace(T* address, const Change& change) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "CUDA's atomics take 4 and 8 bytes");
  using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  Bits* const bits = reinterpret_cast<Bits*>(address);
  Bits before = __atomic_load_n(bits, __ATOMIC_RELAXED), after;
  T old;
  do {
    memcpy(&old, &before, sizeof(old));
    const T changed = change(old);
    memcpy(&after, &changed, sizeof(after));
  } while (!__atomic_compare_exchange_n(bits, &before, after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}

template <class T>
using Same = std::common_type_t<T>;  // of the address alone, so that `atomicAdd(&count, 1)` fits

}  // namespace emulator

template <class T>
T atomicAdd(T* address, emulator::Same<T> value) {
  return emulator::replace(address, [value](T old) { return T(old + value); });
}
template <class T>
T atomicMin(T* address, emulator::Same<T> value) {
  static_assert(std::is_integral_v<T>, "CUDA has none for floats");
  return emulator::replace(address, [value](T old) { return value < old ? value : old; });
}
template <class T>
T atomicMax(T* address, emulator::Same<T> value) {
  static_assert(std::is_integral_v<T>, "CUDA has none for floats");
  return emulator::replace(address, [value](T old) { return value > old ? value : old; });
}
template <class T>
T atomicOr(T* address, emulator::Same<T> value) {
  static_assert(std::is_integral_v<T>, "of bits");
  return emulator::replace(address, [value](T old) { return T(old | value); });
}
