// The library's sort and scan on the device. They stand alone in cuda_sort.cu, because CUB takes seconds to compile for
// each architecture; tests/emulator has definitions of its own. Everything runs on the stream of `launch`, whose device
// must be current, and allocates nothing.
#pragma once

#include <cstdint>

#include "common/launch.h"

namespace emogs {

/// Pairs of keys and values in the first buffers; passes of the sort move them to and fro between first and second.
struct SortBuffers {
  uint32_t* keys[2];
  uint32_t* values[2];
};

/// Bytes of scratch that sorting `count` pairs needs. At most 2^31 - 1.
int64_t sort_pairs_scratch(const Launch& launch, int64_t count, int bits);

/// Sorts by the lowest `bits` bits of the keys; equal keys keep their order. Returns which buffers hold the result, 0
/// or 1; that depends on `count` and `bits` alone.
int sort_pairs(const Launch& launch, const SortBuffers& buffers, int64_t count, int bits, void* scratch,
               int64_t scratch_bytes);

/// Bytes of scratch that sums over `count` numbers need. At most 2^31 - 2.
int64_t exclusive_sum_scratch(const Launch& launch, int64_t count);

/// sums[i] = the sum of terms[order[j]] over j < i, for i in [0, count]: the last is the total. Sums that 32 bits do
/// not hold are 2^32 - 1.
void exclusive_sum(const Launch& launch, const uint32_t* terms, const uint32_t* order, int64_t count, uint32_t* sums,
                   void* scratch, int64_t scratch_bytes);

}  // namespace emogs
