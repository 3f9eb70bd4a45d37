// A stable radix sort of the splats of an image by depth, in parts that threads can take: every pass counts digits part
// by part, then every part moves its splats to where the counts of all parts say. Only digits in which depths differ
// are sorted by. For files compiled once per instruction set only.
#pragma once

#include "tiles/spans.h"

namespace emogs {
namespace EMOGS_ISA {

template <class T>
struct Keyed {
  typename DepthBits<T>::Type key;
  int32_t id;
};

constexpr int kDigitBits = 11;  // the counts of a part fit the first cache, and a head's depths two digits
constexpr int kDigits = 1 << kDigitBits;

/// What a part puts in: `count` splats with keys in [low, high].
template <class T>
struct SortPart {
  int64_t count;
  typename DepthBits<T>::Type low, high;
};

/// The sort of one image. Before the first pass, part s has its splats in buffers[0] from s * capacity / parts on.
template <class T>
struct DepthSort {
  int64_t parts, capacity;
  Keyed<T>* buffers[2];  // [capacity]
  SortPart<T>* inputs;   // [parts]
  int32_t* counts;       // [parts, kDigits]
};

/// What all parts together put in.
template <class T>
SortPart<T> sort_total(const DepthSort<T>& sort) {
  SortPart<T> total = {0, ~typename DepthBits<T>::Type(0), 0};
  for (int64_t part = 0; part < sort.parts; part++) {
    const SortPart<T>& input = sort.inputs[part];
    total = {total.count + input.count, minimum(total.low, input.low), maximum(total.high, input.high)};
  }
  return total;
}

/// How many passes bring an image into order; at least one, which also closes the gaps between parts.
template <class T>
int sort_passes(const SortPart<T>& total) {
  if (total.count == 0 || total.high == total.low) return 1;
  const int bits = 64 - __builtin_clzll(total.high - total.low);
  return (bits + kDigitBits - 1) / kDigitBits;
}

template <class T>
struct Digit {
  typename DepthBits<T>::Type low;
  int shift;

  EMOGS_HD_MEMBER int of(typename DepthBits<T>::Type key) const { return int((key - low) >> shift & (kDigits - 1)); }
};

template <class T>
struct SortSlice {
  const Keyed<T>*begin, *end;
};

/// What one part has to move in a pass.
template <class T>
SortSlice<T> sort_slice(const DepthSort<T>& sort, const SortPart<T>& total, int64_t part, int pass) {
  const Keyed<T>* from = sort.buffers[pass & 1];
  const int64_t first = part * sort.capacity / sort.parts;
  if (pass == 0) return {from + first, from + first + sort.inputs[part].count};
  return {from + part * total.count / sort.parts, from + (part + 1) * total.count / sort.parts};
}

template <class T>
void count_digits(const DepthSort<T>& sort, int64_t part, int pass) {
  const SortPart<T> total = sort_total(sort);
  const Digit<T> digit = {total.low, pass * kDigitBits};
  int32_t* counts = sort.counts + part * kDigits;
  for (int d = 0; d < kDigits; d++) counts[d] = 0;
  const SortSlice<T> slice = sort_slice(sort, total, part, pass);
  for (const Keyed<T>* at = slice.begin; at < slice.end; at++) counts[digit.of(at->key)]++;
}

/// After `count_digits` of all parts: moves those of one; the last pass leaves the order of ids alone.
template <class T>
void move_digits(const DepthSort<T>& sort, int64_t part, int pass, int32_t* order) {
  const SortPart<T> total = sort_total(sort);
  const Digit<T> digit = {total.low, pass * kDigitBits};
  int32_t all[kDigits] = {}, next[kDigits] = {};
  for (int64_t s = 0; s < sort.parts; s++) {
    const int32_t* counts = sort.counts + s * kDigits;
    for (int d = 0; d < kDigits; d++) all[d] += counts[d];
    if (s < part)
      for (int d = 0; d < kDigits; d++) next[d] += counts[d];
  }
  int32_t sum = 0;
  for (int d = 0; d < kDigits; d++) {
    next[d] += sum;
    sum += all[d];
  }
  const SortSlice<T> slice = sort_slice(sort, total, part, pass);
  Keyed<T>* to = sort.buffers[~pass & 1];
  if (order)
    for (const Keyed<T>* at = slice.begin; at < slice.end; at++) order[next[digit.of(at->key)]++] = at->id;
  else
    for (const Keyed<T>* at = slice.begin; at < slice.end; at++) to[next[digit.of(at->key)]++] = *at;
}

}  // namespace EMOGS_ISA
}  // namespace emogs
