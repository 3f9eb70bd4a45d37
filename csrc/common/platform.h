// What lets one formula compile for CPU (every instruction set) and CUDA: function qualifiers, fused multiply-add,
// min/max. Files compiled once per instruction set may include only this, C headers and csrc/math: a weak symbol from
// the C++ library would be merged across instruction sets and crash older machines. EMOGS_HD functions are static for
// that reason.
#pragma once

#include <math.h>
#include <stdint.h>

#if defined(__CUDACC__)
#define EMOGS_HD static __host__ __device__ __forceinline__
#define EMOGS_HD_MEMBER __host__ __device__ __forceinline__
#else
#define EMOGS_HD static inline __attribute__((always_inline))
#define EMOGS_HD_MEMBER inline __attribute__((always_inline))
#endif

// Everything is compiled without contraction, so a fused multiply-add happens exactly where it is written. SSE2 has
// none, and the library's would crawl: there it is two roundings (the one difference between instruction sets).
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__CUDA_ARCH__)
#define EMOGS_HARDWARE_FMA 1
#else
#define EMOGS_HARDWARE_FMA 0
#endif

namespace emogs {

template <int kValue>
struct Constant {
  EMOGS_HD_MEMBER constexpr operator int() const { return kValue; }
};

EMOGS_HD float multiply_add(float a, float b, float c) {
#if EMOGS_HARDWARE_FMA
  return fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

EMOGS_HD double multiply_add(double a, double b, double c) {
#if EMOGS_HARDWARE_FMA
  return fma(a, b, c);
#else
  return a * b + c;
#endif
}

template <class T>
EMOGS_HD T minimum(T a, T b) {
  return b < a ? b : a;
}

template <class T>
EMOGS_HD T maximum(T a, T b) {
  return a < b ? b : a;
}

// The rest of what formulas need of a scalar beside its operators: registers of scalars (lanes.h) have the same.

/// The type that V is, or is a register of.
template <class V>
struct ScalarOf {
  using Type = V;
};

template <class V>
constexpr bool kSingle = sizeof(typename ScalarOf<V>::Type) == sizeof(float);

/// What comparing two V gives: bool, or one truth value per lane.
template <class V>
using MaskOf = decltype(V() < V());

template <class T>
EMOGS_HD T select(bool mask, T a, T b) {
  return mask ? a : b;
}

EMOGS_HD bool any(bool mask) {
  return mask;
}

template <class T, class Function>
EMOGS_HD T map(T a, Function function) {
  return function(a);
}

template <class T, class Function>
EMOGS_HD T map(T a, T b, Function function) {
  return function(a, b);
}

EMOGS_HD uint32_t bits_of(float a) {
  uint32_t bits;
  __builtin_memcpy(&bits, &a, sizeof bits);
  return bits;
}

EMOGS_HD float from_bits(float, uint32_t bits) {
  float a;
  __builtin_memcpy(&a, &bits, sizeof a);
  return a;
}

EMOGS_HD float negative_magnitude(float a) {
  return -fabsf(a);
}

/// a 2^n for the n in the low bits of `biased`, which must be n plus 1.5 times 2^23.
EMOGS_HD float multiply_power_of_two(float a, float biased) {
  return from_bits(a, bits_of(a) + (bits_of(biased) << 23));
}

}  // namespace emogs
