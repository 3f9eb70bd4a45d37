// A row of numbers as registers: read and written in any storage type, summed in an order that the instruction set does
// not change. Loop bodies are written once, for a register (Lanes<T>) and for what is left over (T). For files compiled
// once per instruction set only.
#pragma once

#include "common/half.h"
#include "common/lanes.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace emogs {
namespace EMOGS_ISA {

using NarrowBits = uint16_t __attribute__((vector_size(kRegisterBytes / 2)));
using WideBits = LaneTypes<float>::Bits;

// ---- One register, from and to any address. The last argument of `load` says of which type.

template <class T>
EMOGS_HD Lanes<T> load(const T* from, Lanes<T>) {
  typename Lanes<T>::Values values;
  memcpy(&values, from, sizeof(values));
  return {values};
}

EMOGS_HD WideBits widen(const void* from) {
  NarrowBits narrow;
  memcpy(&narrow, from, sizeof(narrow));
  return __builtin_convertvector(narrow, WideBits);
}

EMOGS_HD Lanes<float> load(const BFloat16* from, Lanes<float>) {
  return {float_from_bfloat16<Lanes<float>::Values>(widen(from))};
}

EMOGS_HD Lanes<float> load(const Half* from, Lanes<float>) {
#if defined(__AVX512F__)
  return {_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))};
#elif defined(__F16C__)
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)))};
#else
  return {float_from_half<Lanes<float>::Values>(widen(from))};
#endif
}

EMOGS_HD Lanes<float>::Values stored_as(Lanes<float> value, const float*) {
  return value.values;
}
EMOGS_HD Lanes<double>::Values stored_as(Lanes<double> value, const double*) {
  return value.values;
}
EMOGS_HD NarrowBits narrow(WideBits bits) {  // each below 65536
#if defined(__AVX2__) && !defined(__AVX512F__)
  const __m128i low = _mm256_castsi256_si128((__m256i)bits), high = _mm256_extracti128_si256((__m256i)bits, 1);
  return (NarrowBits)_mm_packus_epi32(low, high);
#else
  return __builtin_convertvector(bits, NarrowBits);
#endif
}
EMOGS_HD NarrowBits stored_as(Lanes<float> value, const BFloat16*) {
  return narrow(bfloat16_from_float<WideBits>(value.values));
}
EMOGS_HD NarrowBits stored_as(Lanes<float> value, const Half*) {
#if defined(__AVX512F__)
  return (NarrowBits)_mm512_maskz_cvtps_ph(0xffff, value.values, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__F16C__)
  return (NarrowBits)_mm256_cvtps_ph(value.values, _MM_FROUND_TO_NEAREST_INT);
#else
  return narrow(half_from_float<WideBits>(value.values));
#endif
}

template <class T, class Storage>
EMOGS_HD void store(Lanes<T> value, Storage* to) {
  const auto stored = stored_as(value, to);
  memcpy(to, &stored, sizeof(stored));
}

/// Past the caches, for results too large to be found there later: `to` must be aligned to what is written.
template <class T, class Storage>
EMOGS_HD void stream(Lanes<T> value, Storage* to) {
  const auto stored = stored_as(value, to);
#if defined(__SSE2__)
  if constexpr (sizeof(stored) == 8)
    _mm_stream_si64(reinterpret_cast<long long*>(to), bits_as<long long>(stored));
  else if constexpr (sizeof(stored) == 16)
    _mm_stream_si128(reinterpret_cast<__m128i*>(to), bits_as<__m128i>(stored));
#if defined(__AVX__)
  else if constexpr (sizeof(stored) == 32)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to), bits_as<__m256i>(stored));
#endif
#if defined(__AVX512F__)
  else
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), bits_as<__m512i>(stored));
#endif
#else
  memcpy(to, &stored, sizeof(stored));
#endif
}

/// Before other threads may read what was streamed.
EMOGS_HD void finish_streams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// ---- The same for one number.

template <class T, class Storage>
EMOGS_HD T load(const Storage* from, T) {
  return load_float(*from);
}
template <class Storage>
EMOGS_HD void store(float value, Storage* to) {
  store_float(value, to);
}
EMOGS_HD void store(double value, double* to) {
  *to = value;
}
template <class T, class Storage>
EMOGS_HD void stream(T value, Storage* to) {
  store(value, to);
}

// ---- A row.

/// body(c, V()) for the elements [c, c + lanes of V) of a row; V is Lanes<T> or, for the last few, T.
template <class T, class Body>
EMOGS_HD void for_each_lanes(int64_t count, const Body& body) {
  int64_t c = 0;
  for (; c + Lanes<T>::count <= count; c += Lanes<T>::count) body(c, Lanes<T>());
  for (; c < count; ++c) body(c, T());
}

template <class T>
constexpr int kRunningSums = 128 / sizeof(T);  // as many as two of the widest registers hold

template <class V, int kTerms>
struct Terms {
  V values[kTerms];
};

/// Sums over a row of kTerms terms each: term(c, V()) is a Terms<V, kTerms>. Element c goes to running sum
/// c modulo kRunningSums, and these are added by halves, whatever the width of a register.
template <class T, int kTerms, class Term>
EMOGS_HD Terms<T, kTerms> row_sums(int64_t count, const Term& term) {
  constexpr int kSums = kRunningSums<T>, kLanes = Lanes<T>::count, kRegisters = kSums / kLanes;
  alignas(kRegisterBytes) T sums[kTerms][kSums];
  int64_t begin = 0;
  {
    Lanes<T> running[kTerms][kRegisters];
    for (int k = 0; k < kTerms; ++k)
      for (int r = 0; r < kRegisters; ++r) running[k][r] = Lanes<T>(T(0));
    for (; begin + kSums <= count; begin += kSums) {
#pragma GCC unroll 8
      for (int r = 0; r < kRegisters; ++r) {
        const Terms<Lanes<T>, kTerms> values = term(begin + r * kLanes, Lanes<T>());
#pragma GCC unroll 4
        for (int k = 0; k < kTerms; ++k) running[k][r] = running[k][r] + values.values[k];
      }
    }
    for (int k = 0; k < kTerms; ++k)
      for (int r = 0; r < kRegisters; ++r) running[k][r].store(sums[k] + r * kLanes);
  }
  for_each_lanes<T>(count - begin, [&](int64_t i, auto lanes) {
    using V = decltype(lanes);
    const Terms<V, kTerms> values = term(begin + i, V());
    for (int k = 0; k < kTerms; ++k) store(load(sums[k] + i, V()) + values.values[k], sums[k] + i);
  });
  Terms<T, kTerms> total;
  for (int k = 0; k < kTerms; ++k) {
    for (int half = kSums / 2; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) sums[k][i] += sums[k][i + half];
    total.values[k] = sums[k][0];
  }
  return total;
}

}  // namespace EMOGS_ISA
}  // namespace emogs
