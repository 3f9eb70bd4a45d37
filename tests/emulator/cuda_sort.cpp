// In place of csrc/common/cuda_sort.cu: the library's sort and scan as plain loops. What CUB leaves undefined is
// overwritten here, and scratch is used to its last byte.
#include "common/cuda_sort.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <vector>

namespace emogs {
namespace {

void use_scratch(void* scratch, int64_t given, int64_t needed) {
  if (given < needed || (!scratch && needed > 0)) throw std::runtime_error("cuda_sort: too little scratch");
  if (needed > 0) memset(scratch, 0xff, size_t(needed));
}

}  // namespace

int64_t sort_pairs_scratch(const Launch&, int64_t count, int) {
  return 4 * count + 1;
}

int sort_pairs(const Launch& launch, const SortBuffers& buffers, int64_t count, int bits, void* scratch,
               int64_t scratch_bytes) {
  use_scratch(scratch, scratch_bytes, sort_pairs_scratch(launch, count, bits));
  const uint32_t mask = bits < 32 ? (1u << bits) - 1 : ~0u;
  const std::vector<uint32_t> keys(buffers.keys[0], buffers.keys[0] + count);
  const std::vector<uint32_t> values(buffers.values[0], buffers.values[0] + count);
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return (keys[a] & mask) < (keys[b] & mask); });
  const int result = (bits + 7) / 8 % 2;  // as after that many passes of 8 bits
  for (int64_t i = 0; i < count; ++i) {
    buffers.keys[result][i] = keys[order[i]], buffers.values[result][i] = values[order[i]];
    buffers.keys[1 - result][i] = buffers.values[1 - result][i] = ~0u;
  }
  return result;
}

int64_t exclusive_sum_scratch(const Launch&, int64_t) {
  return 64;
}

void exclusive_sum(const Launch& launch, const uint32_t* terms, const uint32_t* order, int64_t count, uint32_t* sums,
                   void* scratch, int64_t scratch_bytes) {
  use_scratch(scratch, scratch_bytes, exclusive_sum_scratch(launch, count));
  uint64_t sum = 0;
  for (int64_t i = 0; i <= count; ++i) {
    sums[i] = uint32_t(std::min<uint64_t>(sum, std::numeric_limits<uint32_t>::max()));
    if (i < count) sum += terms[order[i]];
  }
}

}  // namespace emogs
