// float16 and bfloat16 as the CPU stores them, and their exact conversion from and to float32. Plain integer and float
// arithmetic without branches, on scalars and on vectors of any width alike, so that it vectorises on every instruction
// set; values too small for a normal float16 convert also where denormals are flushed to zero.
#pragma once

#include <string.h>

#include "common/platform.h"

namespace emogs {

struct Half {
  uint16_t bits;  // sign, 5 bits of exponent, 10 of mantissa
};
struct BFloat16 {
  uint16_t bits;  // the upper half of a float32
};

/// An array of T or, in half the memory, of float16; both null where there is none.
template <class T>
struct MaybeHalf {
  const T* full;
  const Half* half;

  EMOGS_HD_MEMBER explicit operator bool() const { return full || half; }
};

/// What numbers stored as T are computed in.
template <class T>
struct ArithmeticOf {
  using Type = float;
};
template <>
struct ArithmeticOf<double> {
  using Type = double;
};

template <class To, class From>
EMOGS_HD To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "the same bits under another name");
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

// Below, Bits is uint32_t or a vector of them and Float the float or vector of that size.

/// `half` holds float16 in its lower 16 bits, the upper ones zero.
template <class Float, class Bits>
EMOGS_HD Float float_from_half(Bits half) {
  const Bits magnitude = (half & 0x7fffu) << 13, exponent = magnitude & 0x0f800000u;
  // Moved from bias 15 to bias 127. Infinity and NaN move twice as far.
  const Bits normal = magnitude + (exponent == 0x0f800000u ? Bits{} + 0x70000000u : Bits{} + 0x38000000u);
  // Too small for an implied leading 1: 2^-14 is put in front, then subtracted. Exact.
  const Float small = bits_as<Float>(magnitude + 0x38800000u) - bits_as<Float>(Bits{} + 0x38800000u);
  return bits_as<Float>((exponent == 0u ? bits_as<Bits>(small) : normal) | (half & 0x8000u) << 16);
}

/// float16 in the lower 16 bits, rounded to nearest, ties to even; infinity from 65520 on.
template <class Bits, class Float>
EMOGS_HD Bits half_from_float(Float value) {
  const Bits bits = bits_as<Bits>(value), magnitude = bits & 0x7fffffffu;
  // From bias 127 to bias 15; half a step, or just less if the last kept bit is even, carries where it must.
  const Bits normal = (magnitude + (((magnitude >> 13) & 1u) + 0x0fffu - 0x38000000u)) >> 13;
  // Below 2^-14 steps are 2^-24: the last place of numbers from 1/2 on, to which the addition rounds.
  const Float half = bits_as<Float>(Bits{} + 0x3f000000u);
  const Bits small = bits_as<Bits>(bits_as<Float>(magnitude) + half) - 0x3f000000u;
  const Bits infinite = magnitude > 0x7f800000u ? Bits{} + 0x7e00u : Bits{} + 0x7c00u;  // or NaN
  const Bits finite = magnitude < 0x38800000u ? small : normal;
  return (magnitude < 0x477ff000u ? finite : infinite) | ((bits >> 16) & 0x8000u);
}

/// `half` holds bfloat16 in its lower 16 bits.
template <class Float, class Bits>
EMOGS_HD Float float_from_bfloat16(Bits half) {
  return bits_as<Float>(half << 16);
}

/// bfloat16 in the lower 16 bits, rounded to nearest, ties to even.
template <class Bits, class Float>
EMOGS_HD Bits bfloat16_from_float(Float value) {
  const Bits bits = bits_as<Bits>(value);
  const Bits rounded = (bits + (((bits >> 16) & 1u) + 0x7fffu)) >> 16;
  return (bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : rounded;  // NaN stays NaN
}

// The same for one number of any storage type; T is float, double where the number is one.
EMOGS_HD float load_float(float value) {
  return value;
}
EMOGS_HD double load_float(double value) {
  return value;
}
EMOGS_HD float load_float(Half value) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
#else
  return float_from_half<float>(uint32_t(value.bits));
#endif
}
EMOGS_HD float load_float(BFloat16 value) {
  return float_from_bfloat16<float>(uint32_t(value.bits));
}

EMOGS_HD void store_float(float value, float* to) {
  *to = value;
}
EMOGS_HD void store_float(double value, double* to) {
  *to = value;
}
EMOGS_HD void store_float(float value, Half* to) {
#if defined(__CUDA_ARCH__)
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to->bits) : "f"(value));
#else
  to->bits = uint16_t(half_from_float<uint32_t>(value));
#endif
}
EMOGS_HD void store_float(float value, BFloat16* to) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to->bits) : "f"(value));
#else
  to->bits = uint16_t(bfloat16_from_float<uint32_t>(value));
#endif
}

/// Two numbers in one word, the first in its lower half.
EMOGS_HD uint32_t pack(float first, float second, Half*) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
  return word;
#else
  Half halves[2];
  store_float(first, halves), store_float(second, halves + 1);
  return halves[0].bits | uint32_t(halves[1].bits) << 16;
#endif
}
EMOGS_HD uint32_t pack(float first, float second, BFloat16*) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
  return word;
#else
  BFloat16 halves[2];
  store_float(first, halves), store_float(second, halves + 1);
  return halves[0].bits | uint32_t(halves[1].bits) << 16;
#endif
}

}  // namespace emogs
