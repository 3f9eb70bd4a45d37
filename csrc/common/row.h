// A row of numbers as registers: read and written in any storage type, summed in an order that the instruction set does
// not change. What is left over at the end of a row is one register of which a part counts. For files compiled once per
// instruction set only.
#pragma once

#include "common/half.h"
#include "common/lanes.h"

namespace emogs {
namespace EMOGS_ISA {

// ---- Which lanes of a register count: all of them, or the first few.

struct Whole {};

template <class T>
EMOGS_HD typename LaneTypes<T>::Truth lane_numbers() {
  if constexpr (Lanes<T>::count == 16)
    return typename LaneTypes<T>::Truth{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  else if constexpr (Lanes<T>::count == 8)
    return typename LaneTypes<T>::Truth{0, 1, 2, 3, 4, 5, 6, 7};
  else if constexpr (Lanes<T>::count == 4)
    return typename LaneTypes<T>::Truth{0, 1, 2, 3};
  else
    return typename LaneTypes<T>::Truth{0, 1};
}

template <class T>
struct Part {
  int64_t count;
  typename Lanes<T>::Mask mask;

  EMOGS_HD_MEMBER explicit Part(int64_t first) : count(first), mask{lane_numbers<T>() < int(first)} {}
};

template <class T>
EMOGS_HD Lanes<T> counted(Lanes<T> value, Whole) {
  return value;
}
template <class T>
EMOGS_HD Lanes<T> counted(Lanes<T> value, Part<T> part) {
  return select(part.mask, value, Lanes<T>(T(0)));
}

// ---- Registers as they are stored.

using NarrowBits = uint16_t __attribute__((vector_size(kRegisterBytes / 2)));
using WideBits = LaneTypes<float>::Bits;

template <class Storage>
struct Stored {
  using Type = typename Lanes<Storage>::Values;
};
template <>
struct Stored<Half> {
  using Type = NarrowBits;
};
template <>
struct Stored<BFloat16> {
  using Type = NarrowBits;
};

EMOGS_HD Lanes<float> decode(const float*, Lanes<float>::Values stored) {
  return {stored};
}
EMOGS_HD Lanes<double> decode(const double*, Lanes<double>::Values stored) {
  return {stored};
}
EMOGS_HD Lanes<float> decode(const BFloat16*, NarrowBits stored) {
  return {float_from_bfloat16<Lanes<float>::Values>(__builtin_convertvector(stored, WideBits))};
}
EMOGS_HD Lanes<float> decode(const Half*, NarrowBits stored) {
#if defined(__AVX512F__)
  return {_mm512_maskz_cvtph_ps(0xffff, (__m256i)stored)};
#elif defined(__F16C__)
  return {_mm256_cvtph_ps((__m128i)stored)};
#else
  return {float_from_half<Lanes<float>::Values>(__builtin_convertvector(stored, WideBits))};
#endif
}

EMOGS_HD NarrowBits narrow(WideBits bits) {  // each below 65536
#if defined(__AVX2__) && !defined(__AVX512F__)
  const __m128i low = _mm256_castsi256_si128((__m256i)bits), high = _mm256_extracti128_si256((__m256i)bits, 1);
  return (NarrowBits)_mm_packus_epi32(low, high);
#else
  return __builtin_convertvector(bits, NarrowBits);
#endif
}

EMOGS_HD Lanes<float>::Values encode(Lanes<float> value, const float*) {
  return value.values;
}
EMOGS_HD Lanes<double>::Values encode(Lanes<double> value, const double*) {
  return value.values;
}
EMOGS_HD NarrowBits encode(Lanes<float> value, const BFloat16*) {
  return narrow(bfloat16_from_float<WideBits>(value.values));
}
EMOGS_HD NarrowBits encode(Lanes<float> value, const Half*) {
#if defined(__AVX512F__)
  return (NarrowBits)_mm512_maskz_cvtps_ph(0xffff, value.values, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__F16C__)
  return (NarrowBits)_mm256_cvtps_ph(value.values, _MM_FROUND_TO_NEAREST_INT);
#else
  return narrow(half_from_float<WideBits>(value.values));
#endif
}

// ---- From and to memory, at any address. What does not count is neither read nor written; it reads as zero.

template <class Storage>
EMOGS_HD auto load(const Storage* from, Whole) {
  typename Stored<Storage>::Type stored;
  memcpy(&stored, from, sizeof(stored));
  return decode(from, stored);
}

template <class Storage, class T>
EMOGS_HD auto load(const Storage* from, Part<T> part) {
  typename Stored<Storage>::Type stored;
#if defined(__AVX512F__)
  const unsigned mask = (1u << part.count) - 1;
  if constexpr (sizeof(Storage) == 2)
    stored = bits_as<decltype(stored)>(_mm256_maskz_loadu_epi16(mask, from));
  else if constexpr (sizeof(Storage) == 4)
    stored = _mm512_maskz_loadu_ps(mask, from);
  else
    stored = _mm512_maskz_loadu_pd(mask, from);
#else
  Storage first[Lanes<T>::count] = {};
  for (int64_t i = 0; i < part.count; ++i) first[i] = from[i];
  memcpy(&stored, first, sizeof(stored));
#endif
  return decode(from, stored);
}

template <class T, class Storage>
EMOGS_HD void store(Lanes<T> value, Storage* to, Whole) {
  const auto stored = encode(value, to);
  memcpy(to, &stored, sizeof(stored));
}

template <class T, class Storage>
EMOGS_HD void store(Lanes<T> value, Storage* to, Part<T> part) {
  const auto stored = encode(value, to);
#if defined(__AVX512F__)
  const unsigned mask = (1u << part.count) - 1;
  if constexpr (sizeof(Storage) == 2)
    _mm256_mask_storeu_epi16(to, mask, bits_as<__m256i>(stored));
  else if constexpr (sizeof(Storage) == 4)
    _mm512_mask_storeu_ps(to, mask, stored);
  else
    _mm512_mask_storeu_pd(to, mask, stored);
#else
  Storage all[Lanes<T>::count];
  memcpy(all, &stored, sizeof(stored));
  for (int64_t i = 0; i < part.count; ++i) to[i] = all[i];
#endif
}

// Results of more bytes than this are written past the caches: none of them would be left there for the next reader,
// and a line that is not read before it is written saves a third of the traffic.
constexpr int64_t kStreamBytes = 16 << 20;
constexpr int64_t kCacheLine = 64;  // bytes

/// Past the caches, for results too large to be found there later: `to` must be aligned to what is written.
template <class T, class Storage>
EMOGS_HD void stream(Lanes<T> value, Storage* to, Whole) {
  const auto stored = encode(value, to);
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
template <class T, class Storage>
EMOGS_HD void stream(Lanes<T> value, Storage* to, Part<T> part) {
  store(value, to, part);
}

/// Before other threads may read what was streamed.
EMOGS_HD void finish_streams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// ---- Rows.

/// body(c, lanes) for every register of a row: elements c and on, of which `lanes` (Whole or Part<T>) count.
template <class T, class Body>
EMOGS_HD void for_each_register(int64_t count, const Body& body) {
  int64_t c = 0;
  for (; c + Lanes<T>::count <= count; c += Lanes<T>::count) body(c, Whole());
  if (c < count) body(c, Part<T>(count - c));
}

/// to[j] = value(j, lanes) for every register of a row, whole cache lines past the caches; the ends of the row share
/// theirs with others. Follow with `finish_streams`.
template <class T, class Value>
EMOGS_HD void stream_row(int64_t count, T* to, const Value& value) {
  constexpr int64_t line = kCacheLine / int64_t(sizeof(T));
  const int64_t ahead = -int64_t(reinterpret_cast<uintptr_t>(to) / sizeof(T)) & (line - 1);
  const int64_t begin = ahead < count ? ahead : count, end = count - (count - begin) % line;
  const auto store_between = [&](int64_t from, int64_t until) {
    for_each_register<T>(until - from,
                         [&](int64_t j, auto lanes) { store(value(from + j, lanes), to + from + j, lanes); });
  };
  store_between(0, begin);
  for (int64_t j = begin; j < end; j += Lanes<T>::count) stream(value(j, Whole()), to + j, Whole());
  store_between(end, count);
}

template <class T>
constexpr int kRunningSums = 128 / sizeof(T);  // two of the widest registers

template <class T, int kTerms>
struct Terms {
  T values[kTerms];
};

/// Adds the upper half to the lower half until one number is left.
template <class Values>
EMOGS_HD auto sum_of_lanes(Values v) {
  constexpr int count = sizeof(v) / sizeof(v[0]);
  if constexpr (count == 16)
    return sum_of_lanes(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                        __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
  else if constexpr (count == 8)
    return sum_of_lanes(__builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7));
  else if constexpr (count == 4)
    return sum_of_lanes(__builtin_shufflevector(v, v, 0, 1) + __builtin_shufflevector(v, v, 2, 3));
  else
    return v[0] + v[1];
}

/// kTerms sums over a row: add(c, lanes, sums) adds the terms of elements c and on to a Terms<Lanes<T>, kTerms>.
/// Element c goes to running sum c modulo kRunningSums, and these are added by halves, whatever the width of a
/// register.
template <class T, int kTerms, class Add>
EMOGS_HD Terms<T, kTerms> row_sums(int64_t count, const Add& add) {
  constexpr int kLanes = Lanes<T>::count, kRegisters = kRunningSums<T> / kLanes;
  Terms<Lanes<T>, kTerms> running[kRegisters];
  for (int r = 0; r < kRegisters; ++r)
    for (int k = 0; k < kTerms; ++k) running[r].values[k] = Lanes<T>(T(0));
  int64_t c = 0;
  for (; c + kRunningSums<T> <= count; c += kRunningSums<T>) {
#pragma GCC unroll 16
    for (int r = 0; r < kRegisters; ++r) add(c + r * kLanes, Whole(), running[r]);
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRegisters; ++r) {
    if (c + kLanes <= count)
      add(c, Whole(), running[r]);
    else if (c < count)
      add(c, Part<T>(count - c), running[r]);
    c += kLanes;
  }
  Terms<T, kTerms> total;
  for (int k = 0; k < kTerms; ++k) {
    for (int half = kRegisters / 2; half > 0; half /= 2)
      for (int r = 0; r < half; ++r) running[r].values[k] = running[r].values[k] + running[r + half].values[k];
    total.values[k] = sum_of_lanes(running[0].values[k].values);
  }
  return total;
}

}  // namespace EMOGS_ISA
}  // namespace emogs
