// One register of scalars, as wide as the instruction set that the file is compiled for, with the operators of a
// scalar: the formulas of csrc/math run on it unchanged. Lanes are independent, so the width changes no value. For
// files compiled once per instruction set only; the type lives in the namespace of that set.
#pragma once

#include "common/platform.h"

// Only what is used: GCC takes 0.4 s over the declarations of every instruction set.
#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__x86_64__)
#include <emmintrin.h>
#else
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
  typedef int32_t Truth __attribute__((vector_size(kRegisterBytes)));
  typedef uint32_t Bits __attribute__((vector_size(kRegisterBytes)));
};

template <>
struct LaneTypes<double> {
  typedef double Values __attribute__((vector_size(kRegisterBytes)));
  typedef int64_t Truth __attribute__((vector_size(kRegisterBytes)));
  typedef uint64_t Bits __attribute__((vector_size(kRegisterBytes)));
};

#if defined(__AVX512F__)
EMOGS_HD LaneTypes<float>::Values square_root(LaneTypes<float>::Values a) {
  return _mm512_maskz_sqrt_ps(-1, a);  // unlike _mm512_sqrt_ps, without GCC's warning of uninitialised values
}
EMOGS_HD LaneTypes<double>::Values square_root(LaneTypes<double>::Values a) {
  return _mm512_maskz_sqrt_pd(-1, a);
}
#elif defined(__AVX__)
EMOGS_HD LaneTypes<float>::Values square_root(LaneTypes<float>::Values a) {
  return _mm256_sqrt_ps(a);
}
EMOGS_HD LaneTypes<double>::Values square_root(LaneTypes<double>::Values a) {
  return _mm256_sqrt_pd(a);
}
#elif defined(__x86_64__)
EMOGS_HD LaneTypes<float>::Values square_root(LaneTypes<float>::Values a) {
  return _mm_sqrt_ps(a);
}
EMOGS_HD LaneTypes<double>::Values square_root(LaneTypes<double>::Values a) {
  return _mm_sqrt_pd(a);
}
#else
EMOGS_HD LaneTypes<float>::Values square_root(LaneTypes<float>::Values a) {
  return vsqrtq_f32(a);
}
EMOGS_HD LaneTypes<double>::Values square_root(LaneTypes<double>::Values a) {
  return vsqrtq_f64(a);
}
#endif

/// A truth value per lane. Its operators read like those of bool, but evaluate both sides.
template <class T>
struct LaneMask {
  using Truth = typename LaneTypes<T>::Truth;

  Truth truth;  // all ones where true

  friend EMOGS_HD_MEMBER LaneMask operator&&(LaneMask a, LaneMask b) { return {a.truth & b.truth}; }
  friend EMOGS_HD_MEMBER LaneMask operator||(LaneMask a, LaneMask b) { return {a.truth | b.truth}; }
  friend EMOGS_HD_MEMBER LaneMask operator!(LaneMask a) { return {~a.truth}; }

  friend EMOGS_HD_MEMBER bool any(LaneMask mask) { return mask.any_lane(); }

  friend EMOGS_HD_MEMBER LaneMask select(LaneMask mask, LaneMask a, LaneMask b) {
    return {mask.truth ? a.truth : b.truth};
  }

  /// How many lanes are true.
  friend EMOGS_HD_MEMBER int count(LaneMask mask) {
    return __builtin_popcount(mask.dwords()) * int(sizeof(int32_t)) / int(sizeof(T));
  }

  /// A bit for each lane, the first lowest.
  friend EMOGS_HD_MEMBER uint64_t bits(LaneMask mask) {
#if defined(__AVX512DQ__)
    return sizeof(T) == 4 ? mask.dwords() : _mm512_movepi64_mask((__m512i)mask.truth);
#elif defined(__AVX__)
    return sizeof(T) == 4 ? mask.dwords() : unsigned(_mm256_movemask_pd((__m256d)mask.truth));
#else
    const unsigned dwords = mask.dwords();
    return sizeof(T) == 4 ? dwords : (dwords & 1) | (dwords >> 1 & 2);
#endif
  }

  EMOGS_HD_MEMBER bool any_lane() const { return dwords() != 0; }

  /// A bit for each four bytes of the register.
  EMOGS_HD_MEMBER unsigned dwords() const {
#if defined(__AVX512DQ__)
    return _mm512_movepi32_mask((__m512i)truth);
#elif defined(__AVX__)
    return unsigned(_mm256_movemask_ps((__m256)truth));
#elif defined(__x86_64__)
    return unsigned(_mm_movemask_ps((__m128)truth));
#else
    const int32x4_t dwords = (int32x4_t)truth;
    return unsigned((dwords[0] & 1) | (dwords[1] & 2) | (dwords[2] & 4) | (dwords[3] & 8));
#endif
  }
};

template <class T>
struct Lanes {
  static constexpr int count = kRegisterBytes / int(sizeof(T));
  using Values = typename LaneTypes<T>::Values;
  using Bits = typename LaneTypes<T>::Bits;
  using Mask = LaneMask<T>;

  Values values;

  Lanes() = default;
  EMOGS_HD_MEMBER Lanes(Values v) : values(v) {}
  EMOGS_HD_MEMBER explicit Lanes(T value)
      : values(value - Values{}) {}  // the same in all lanes; x - 0 is x, even for -0

  /// first, first + 1, ...
  static EMOGS_HD_MEMBER Lanes sequence(T first) {
    Values steps;
    for (int lane = 0; lane < count; lane++) steps[lane] = T(lane);
    return {first + steps};
  }

  /// `from` and `to` must be aligned to a register.
  static EMOGS_HD_MEMBER Lanes load(const T* from) { return {*reinterpret_cast<const Values*>(from)}; }
  EMOGS_HD_MEMBER void store(T* to) const { *reinterpret_cast<Values*>(to) = values; }
  friend EMOGS_HD_MEMBER Lanes operator+(Lanes a, Lanes b) { return {a.values + b.values}; }
  friend EMOGS_HD_MEMBER Lanes operator-(Lanes a, Lanes b) { return {a.values - b.values}; }
  friend EMOGS_HD_MEMBER Lanes operator*(Lanes a, Lanes b) { return {a.values * b.values}; }
  friend EMOGS_HD_MEMBER Lanes operator/(Lanes a, Lanes b) { return {a.values / b.values}; }
  friend EMOGS_HD_MEMBER Lanes& operator+=(Lanes& a, Lanes b) { return a = a + b; }
  friend EMOGS_HD_MEMBER Lanes operator-(Lanes a) { return {-a.values}; }
  friend EMOGS_HD_MEMBER Mask operator<(Lanes a, Lanes b) { return {a.values < b.values}; }
  friend EMOGS_HD_MEMBER Mask operator<=(Lanes a, Lanes b) { return {a.values <= b.values}; }
  friend EMOGS_HD_MEMBER Mask operator>(Lanes a, Lanes b) { return {a.values > b.values}; }
  friend EMOGS_HD_MEMBER Mask operator>=(Lanes a, Lanes b) { return {a.values >= b.values}; }
  friend EMOGS_HD_MEMBER Mask operator==(Lanes a, Lanes b) { return {a.values == b.values}; }
  friend EMOGS_HD_MEMBER Mask operator!=(Lanes a, Lanes b) { return {a.values != b.values}; }

  friend EMOGS_HD_MEMBER Lanes select(Mask mask, Lanes a, Lanes b) { return {mask.truth ? a.values : b.values}; }
  friend EMOGS_HD_MEMBER Lanes minimum(Lanes a, Lanes b) { return {b.values < a.values ? b.values : a.values}; }
  friend EMOGS_HD_MEMBER Lanes maximum(Lanes a, Lanes b) { return {a.values < b.values ? b.values : a.values}; }

  friend EMOGS_HD_MEMBER Bits bits_of(Lanes a) { return (Bits)a.values; }
  friend EMOGS_HD_MEMBER Lanes from_bits(Lanes, Bits bits) { return {(Values)bits}; }
  friend EMOGS_HD_MEMBER Lanes fabs(Lanes a) { return {(Values)((Bits)a.values & ~(Bits)(-Values{}))}; }

  friend EMOGS_HD_MEMBER Lanes negative_magnitude(Lanes a) { return {(Values)((Bits)a.values | (Bits)(-Values{}))}; }

  friend EMOGS_HD_MEMBER Lanes sqrt(Lanes a) { return {square_root(a.values)}; }

  /// `function` of each lane, one after the other.
  template <class Function>
  friend EMOGS_HD_MEMBER Lanes map(Lanes a, Function function) {
    for (int lane = 0; lane < count; lane++) a.values[lane] = function(a.values[lane]);
    return a;
  }

  template <class Function>
  friend EMOGS_HD_MEMBER Lanes map(Lanes a, Lanes b, Function function) {
    for (int lane = 0; lane < count; lane++) a.values[lane] = function(a.values[lane], b.values[lane]);
    return a;
  }

  /// a 2^n for the n in the low bits of `biased`, which must be n plus 1.5 times 2^(mantissa bits).
  friend EMOGS_HD_MEMBER Lanes multiply_power_of_two(Lanes a, Lanes biased) {
    constexpr int mantissa = sizeof(T) == 4 ? 23 : 52;
    return {(Values)((Bits)a.values + ((Bits)biased.values << mantissa))};
  }

  static EMOGS_HD_MEMBER bool any(Mask mask) { return mask.any_lane(); }
};

using emogs::multiply_add;  // of scalars

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

/// Lane i of the result is lane index[i] of a.
EMOGS_HD Lanes<float> permute(Lanes<float> a, const int32_t* index) {
#if defined(__AVX512F__)
  return {_mm512_maskz_permutexvar_ps(-1, _mm512_loadu_si512(index), a.values)};  // as square_root: no warning
#elif defined(__AVX2__)
  return {_mm256_permutevar8x32_ps(a.values, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index)))};
#else
  Lanes<float> result;
  for (int lane = 0; lane < Lanes<float>::count; lane++) result.values[lane] = a.values[index[lane]];
  return result;
#endif
}

}  // namespace EMOGS_ISA

template <class T>
struct ScalarOf<EMOGS_ISA::Lanes<T>> {
  using Type = T;
};

}  // namespace emogs
