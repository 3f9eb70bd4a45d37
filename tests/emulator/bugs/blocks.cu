// Races between blocks and between threads, results that depend on an order, and launches that no GPU would take.
#include <numeric>

#include "bugs.h"

namespace {

constexpr int kThreads = 64, kBlocks = 6;

__global__ void total_kernel(const int* x, int* total, bool bug) {
  int sum = 0;
  for (int i = 0; i < kThreads; ++i) sum += x[blockIdx.x * kThreads + i];
  if (threadIdx.x != 0) return;
  if (bug)
    *total += sum;
  else
    atomicAdd(total, sum);
}

const Bug between_blocks("blocks add to one number without atomics", [](bool bug) {
  const auto x = counting<int>(kBlocks * kThreads);
  int total = 0;
  launch(total_kernel, kBlocks, kThreads, 0, x.data(), &total, bug);
  return total == std::accumulate(x.begin(), x.end(), 0);
});

__global__ void bins_kernel(const int* bins, int count, int* histogram, bool bug) {
  __shared__ int counts[16];
  if (threadIdx.x < 16) counts[threadIdx.x] = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < count; i += kThreads) {
    if (bug)
      counts[bins[i]] += 1;
    else
      atomicAdd(&counts[bins[i]], 1);
  }
  __syncthreads();
  if (threadIdx.x < 16) histogram[threadIdx.x] = counts[threadIdx.x];
}

const Bug between_threads("threads count in shared memory without atomics", [](bool bug) {
  std::vector<int> bins(160), histogram(16);
  for (int i = 0; i < 160; ++i) bins[i] = i % 16;
  launch(bins_kernel, 1, kThreads, 0, bins.data(), 160, histogram.data(), bug);
  return histogram == std::vector<int>(16, 10);
});

// A running total, as if blocks came one after the other.
__global__ void prefix_kernel(int* totals, bool bug) {
  if (threadIdx.x != 0) return;
  const int block = blockIdx.x;
  totals[block] = bug && block > 0 ? totals[block - 1] + 1 : block + 1;
}

const Bug block_order("a block reads what the one before it has written", [](bool bug) {
  std::vector<int> totals(kBlocks);
  launch(prefix_kernel, kBlocks, kThreads, 0, totals.data(), bug);
  return totals == counting<int>(kBlocks);
});

// 2^24 + 1 is 2^24: in index order all small numbers are lost, in others some are not.
__global__ void float_sum_kernel(float* sum, bool bug) {
  if (bug)
    atomicAdd(sum, threadIdx.x == 0 ? 16777216.0f : 1.0f);
  else if (threadIdx.x == 0)
    *sum = 16777216.0f;
}

const Bug float_atomics("a sum of floats in the order of arrival", [](bool bug) {
  float sum = 0;
  launch(float_sum_kernel, 1, kThreads, 0, &sum, bug);
  return sum == 16777216.0f;
});

// Slots in the order of arrival.
__global__ void slots_kernel(int* count, int* slots, bool bug) {
  const int slot = bug ? atomicAdd(count, 1) : int(threadIdx.x);
  slots[slot] = threadIdx.x + 1;
}

const Bug arrival("a list in the order of arrival", [](bool bug) {
  int count = 0;
  std::vector<int> slots(kThreads);
  launch(slots_kernel, 1, kThreads, 0, &count, slots.data(), bug);
  return slots == counting<int>(kThreads);
});

__global__ void nothing_kernel() {}

const Bug too_many_threads("more threads than a block can have", [](bool bug) {
  launch(nothing_kernel, 1, bug ? 1025 : 1024, 0);
  return true;
});
const Bug no_blocks("a grid without blocks", [](bool bug) {
  launch(nothing_kernel, bug ? 0 : 1, 32, 0);
  return true;
});
const Bug too_much_shared("more shared memory than a block can have", [](bool bug) {
  launch(nothing_kernel, 1, 32, bug ? 100 << 10 : 99 << 10);
  return true;
});

}  // namespace
