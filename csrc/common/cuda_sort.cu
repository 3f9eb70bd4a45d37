// See cuda_sort.h. CUB asked for the bytes it needs and then given them.
#define CCCL_DISABLE_FP16_SUPPORT  // integers are sorted: without these headers a sixth of the compile time
#define CCCL_DISABLE_BF16_SUPPORT
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

#include "common/cuda_launch.h"
#include "common/cuda_sort.h"

namespace emogs {
namespace {

/// CUB's own arguments of a sort, with null scratch to ask for its size.
cudaError_t call_sort(const Launch& launch, void* scratch, size_t& bytes, cub::DoubleBuffer<uint32_t>& keys,
                      cub::DoubleBuffer<uint32_t>& values, int64_t count, int bits) {
  return cub::DeviceRadixSort::SortPairs(scratch, bytes, keys, values, uint32_t(count), 0, bits, stream_of(launch));
}

/// Term i of the sum; past the last it is zero, so that an exclusive sum of one more ends with the total.
struct Term {
  const uint32_t *terms, *order;
  uint32_t count;

  __device__ uint32_t operator()(uint32_t i) const { return i < count ? terms[order[i]] : 0; }
};

/// Associative like the sum itself, since no term is negative.
struct SaturatingSum {
  __device__ uint32_t operator()(uint32_t a, uint32_t b) const {
    const uint32_t sum = a + b;
    return sum < a ? ~uint32_t(0) : sum;
  }
};

cudaError_t call_sum(const Launch& launch, void* scratch, size_t& bytes, Term term, uint32_t* sums) {
  const auto terms = thrust::make_transform_iterator(thrust::make_counting_iterator(uint32_t(0)), term);
  return cub::DeviceScan::ExclusiveScan(scratch, bytes, terms, sums, SaturatingSum{}, uint32_t(0), term.count + 1,
                                        stream_of(launch));
}

}  // namespace

int64_t sort_pairs_scratch(const Launch& launch, int64_t count, int bits) {
  cub::DoubleBuffer<uint32_t> keys, values;
  size_t bytes = 0;
  check_cuda(call_sort(launch, nullptr, bytes, keys, values, count, bits), "sort_pairs_scratch");
  return int64_t(bytes);
}

int sort_pairs(const Launch& launch, const SortBuffers& buffers, int64_t count, int bits, void* scratch,
               int64_t scratch_bytes) {
  cub::DoubleBuffer<uint32_t> keys(buffers.keys[0], buffers.keys[1]), values(buffers.values[0], buffers.values[1]);
  size_t bytes = size_t(scratch_bytes);
  check_cuda(call_sort(launch, scratch, bytes, keys, values, count, bits), "sort_pairs");
  return keys.selector;
}

int64_t exclusive_sum_scratch(const Launch& launch, int64_t count) {
  size_t bytes = 0;
  check_cuda(call_sum(launch, nullptr, bytes, {nullptr, nullptr, uint32_t(count)}, nullptr), "exclusive_sum_scratch");
  return int64_t(bytes);
}

void exclusive_sum(const Launch& launch, const uint32_t* terms, const uint32_t* order, int64_t count, uint32_t* sums,
                   void* scratch, int64_t scratch_bytes) {
  size_t bytes = size_t(scratch_bytes);
  check_cuda(call_sum(launch, scratch, bytes, {terms, order, uint32_t(count)}, sums), "exclusive_sum");
}

}  // namespace emogs
