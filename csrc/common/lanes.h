// One register of scalars, as wide as the instruction set that the file is compiled for, with the operators of a
// scalar: the formulas of csrc/math run on it unchanged. Lanes are independent, so the width changes no value. For
// files compiled once per instruction set only; the type lives in the namespace of that set.
#pragma once

#include "common/platform.h"

#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace emogs {
namespace EMOGS_ISA {

#if defined(__AVX512F__)
constexpr int kRegisterBytes = 64;
#elif defined(__AVX__)
constexpr int kRegisterBytes = 32;
#else
constexpr int kRegisterBytes = 16;
#endif

template <class T>
struct LaneTypes;

template <>
struct LaneTypes<float> {
  typedef float Values __attribute__((vector_size(kRegisterBytes)));
  typedef int32_t Mask __attribute__((vector_size(kRegisterBytes)));  // all ones where true
  typedef uint32_t Bits __attribute__((vector_size(kRegisterBytes)));
};

template <>
struct LaneTypes<double> {
  typedef double Values __attribute__((vector_size(kRegisterBytes)));
  typedef int64_t Mask __attribute__((vector_size(kRegisterBytes)));
  typedef uint64_t Bits __attribute__((vector_size(kRegisterBytes)));
};

template <class T>
struct Lanes {
  static constexpr int count = kRegisterBytes / int(sizeof(T));
  using Values = typename LaneTypes<T>::Values;
  using Mask = typename LaneTypes<T>::Mask;
  using Bits = typename LaneTypes<T>::Bits;

  Values values;

  Lanes() = default;
  EMOGS_HD_MEMBER Lanes(Values v) : values(v) {}
  EMOGS_HD_MEMBER explicit Lanes(T value)
      : values(value - Values{}) {}  // the same in all lanes; x - 0 is x, even for -0

  /// `from` must be aligned to a register.
  static EMOGS_HD_MEMBER Lanes load(const T* from) { return {*reinterpret_cast<const Values*>(from)}; }
  EMOGS_HD_MEMBER void store(T* to) const { *reinterpret_cast<Values*>(to) = values; }

  friend EMOGS_HD_MEMBER Lanes operator+(Lanes a, Lanes b) { return {a.values + b.values}; }
  friend EMOGS_HD_MEMBER Lanes operator-(Lanes a, Lanes b) { return {a.values - b.values}; }
  friend EMOGS_HD_MEMBER Lanes operator*(Lanes a, Lanes b) { return {a.values * b.values}; }
  friend EMOGS_HD_MEMBER Lanes operator/(Lanes a, Lanes b) { return {a.values / b.values}; }
  friend EMOGS_HD_MEMBER Lanes operator-(Lanes a) { return {-a.values}; }
  friend EMOGS_HD_MEMBER Mask operator<(Lanes a, Lanes b) { return a.values < b.values; }
  friend EMOGS_HD_MEMBER Mask operator<=(Lanes a, Lanes b) { return a.values <= b.values; }
  friend EMOGS_HD_MEMBER Mask operator>=(Lanes a, Lanes b) { return a.values >= b.values; }

  friend EMOGS_HD_MEMBER Lanes select(Mask mask, Lanes a, Lanes b) { return {mask ? a.values : b.values}; }
  friend EMOGS_HD_MEMBER Lanes minimum(Lanes a, Lanes b) { return {b.values < a.values ? b.values : a.values}; }

  /// a 2^n for the n in the low bits of `biased`, which must be n plus 1.5 times 2^(mantissa bits).
  friend EMOGS_HD_MEMBER Lanes multiply_power_of_two(Lanes a, Lanes biased) {
    constexpr int mantissa = sizeof(T) == 4 ? 23 : 52;
    return {(Values)((Bits)a.values + ((Bits)biased.values << mantissa))};
  }

  static EMOGS_HD_MEMBER bool any(Mask mask) {
#if defined(__AVX512DQ__)
    return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif defined(__AVX__)
    return _mm256_movemask_ps((__m256)mask) != 0;
#else
    bool found = false;
    for (int lane = 0; lane < count; lane++) found = found || mask[lane];
    return found;
#endif
  }
};

#if defined(__AVX512F__)
EMOGS_HD Lanes<float> multiply_add(Lanes<float> a, Lanes<float> b, Lanes<float> c) {
  return {_mm512_fmadd_ps(a.values, b.values, c.values)};
}
EMOGS_HD Lanes<double> multiply_add(Lanes<double> a, Lanes<double> b, Lanes<double> c) {
  return {_mm512_fmadd_pd(a.values, b.values, c.values)};
}
#elif defined(__AVX__) && defined(__FMA__)
EMOGS_HD Lanes<float> multiply_add(Lanes<float> a, Lanes<float> b, Lanes<float> c) {
  return {_mm256_fmadd_ps(a.values, b.values, c.values)};
}
EMOGS_HD Lanes<double> multiply_add(Lanes<double> a, Lanes<double> b, Lanes<double> c) {
  return {_mm256_fmadd_pd(a.values, b.values, c.values)};
}
#elif defined(__ARM_NEON)
EMOGS_HD Lanes<float> multiply_add(Lanes<float> a, Lanes<float> b, Lanes<float> c) {
  return {vfmaq_f32(c.values, a.values, b.values)};
}
EMOGS_HD Lanes<double> multiply_add(Lanes<double> a, Lanes<double> b, Lanes<double> c) {
  return {vfmaq_f64(c.values, a.values, b.values)};
}
#else
template <class T>
EMOGS_HD Lanes<T> multiply_add(Lanes<T> a, Lanes<T> b, Lanes<T> c) {
  return a * b + c;
}
#endif

}  // namespace EMOGS_ISA
}  // namespace emogs
