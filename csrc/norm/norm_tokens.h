// What both ways of normalizing on the CPU share: how tokens are cut among workers, what modulates them, and which
// results go past the caches. For files compiled once per instruction set only.
#pragma once

#include "common/row.h"
#include "common/threads.h"
#include "math/norm.h"
#include "norm/norm.h"

namespace emogs {
namespace EMOGS_ISA {

// Another thread is worth waking for this many elements.
constexpr int64_t kGrain = 1 << 14;
// Workers begin at multiples of this many tokens, so that their first registers are aligned where the tensors are.
constexpr int64_t kAlignedTokens = 64;

template <class T>
EMOGS_HD int worker_count(const EmotionNorm<T>& p) {
  return threads_for(p.threads, p.batch * p.tokens * p.channels, kGrain);
}

/// The first of `count` tokens that the worker takes; `worker == workers` gives the end of the last.
EMOGS_HD int64_t worker_begin(int64_t count, int worker, int workers) {
  if (worker == workers) return count;
  const int64_t begin = count * worker / workers;
  return count < kAlignedTokens * workers ? begin : begin / kAlignedTokens * kAlignedTokens;
}

template <class T, class Storage>
EMOGS_HD bool is_large(const EmotionNorm<T>& p, const Storage*) {
  return p.batch * p.tokens * p.channels * int64_t(sizeof(Storage)) > kStreamBytes;
}

/// Whether registers may be streamed from `to` on.
template <class Storage>
EMOGS_HD bool is_aligned(const Storage* to) {
  return reinterpret_cast<uintptr_t>(to) % (sizeof(Storage) == 2 ? 32 : 64) == 0;
}

template <class T, class Storage, class Which>
EMOGS_HD void put(Lanes<T> value, Storage* to, Which lanes, bool streamed) {
  if (streamed)
    stream(value, to, lanes);
  else
    store(value, to, lanes);
}

/// Row of a modulation vector for sample b and region r.
template <class V>
EMOGS_HD V* vector_row(V* vectors, int64_t rows, int64_t b, int64_t r, int64_t channels) {
  return vectors + (b * rows + (rows == 1 ? 0 : r)) * channels;
}

/// The caller's, which may lie out of [0, R).
template <class T>
EMOGS_HD int64_t region_of(const EmotionNorm<T>& p, int64_t b, int64_t t) {
  return p.region ? p.region[(p.region_rows == 1 ? 0 : b * p.tokens) + t] : 0;
}

/// What modulates the tokens of one sample and region, [C] each.
template <class T>
struct Folded {
  using Vector = typename EmotionNorm<T>::Vector;
  Vector *factor, *offset, *branch;

  EMOGS_HD_MEMBER Folded(const EmotionNorm<T>& p, int64_t b, int64_t region) {
    const int64_t plane = p.batch * p.regions * p.channels;
    factor = p.folded + (b * p.regions + region) * p.channels;
    offset = factor + plane;
    branch = offset + plane;
  }
};

}  // namespace EMOGS_ISA
}  // namespace emogs
