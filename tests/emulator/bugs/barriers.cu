// Bugs with block barriers.
#include <numeric>

#include "bugs.h"

namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32, kBatches = 3;

__device__ float warp_sum(float value) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
  return value;
}

// The last warp adds what the others have found.
__global__ void sum_kernel(const float* x, float* sum, bool bug) {
  __shared__ float parts[kWarps];
  const float part = warp_sum(x[threadIdx.x]);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = part;
  if (!bug) __syncthreads();
  if (threadIdx.x == 0) *sum = std::accumulate(parts, parts + kWarps, 0.0f);
}

const Bug before_sum("missing barrier before a reduction's last step", [](bool bug) {
  const auto x = counting<float>(kThreads);
  float sum = 0;
  launch(sum_kernel, 1, kThreads, 0, x.data(), &sum, bug);
  return sum == kThreads * (kThreads + 1) / 2;
});

// Each thread adds all of x, which comes to shared memory in batches.
__global__ void batches_kernel(const float* x, float* sums, bool no_barrier_after_load, bool no_barrier_before_load) {
  __shared__ float batch[kThreads];
  float sum = 0;
  for (int b = 0; b < kBatches; ++b) {
    if (!no_barrier_before_load) __syncthreads();
    batch[threadIdx.x] = x[b * kThreads + threadIdx.x];
    if (!no_barrier_after_load) __syncthreads();
    for (int i = 0; i < kThreads; ++i) sum += batch[i];
  }
  sums[threadIdx.x] = sum;
}

bool batches_are_right(bool no_barrier_after_load, bool no_barrier_before_load) {
  const auto x = counting<float>(kBatches * kThreads);
  std::vector<float> sums(kThreads);
  launch(batches_kernel, 1, kThreads, 0, x.data(), sums.data(), no_barrier_after_load, no_barrier_before_load);
  return sums == std::vector<float>(kThreads, std::accumulate(x.begin(), x.end(), 0.0f));
}

const Bug after_load("missing barrier after a load", [](bool bug) { return batches_are_right(bug, false); });
const Bug before_load("missing barrier before a buffer is used again",
                      [](bool bug) { return batches_are_right(false, bug); });

// Reverses `count` numbers.
__global__ void reverse_kernel(const float* x, float* y, int count, bool bug) {
  EMOGS_DYNAMIC_SHARED(float, values);
  const int i = threadIdx.x;
  if (bug && i >= count) return;
  if (i < count) values[i] = x[i];
  __syncthreads();
  if (i < count) y[i] = values[count - 1 - i];
}

const Bug early_exit("exit before a barrier", [](bool bug) {
  const auto x = counting<float>(100);
  std::vector<float> y(x.size());
  launch(reverse_kernel, 1, kThreads, 100 * sizeof(float), x.data(), y.data(), 100, bug);
  return std::equal(x.begin(), x.end(), y.rbegin());
});

__global__ void branches_kernel(float* y, bool bug) {
  __shared__ float values[kThreads];
  values[threadIdx.x] = float(threadIdx.x);
  if (bug && threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  y[threadIdx.x] = values[kThreads - 1 - threadIdx.x];
}

const Bug divergent("threads at different barriers", [](bool bug) {
  std::vector<float> y(kThreads);
  launch(branches_kernel, 1, kThreads, 0, y.data(), bug);
  return y[0] == kThreads - 1 && y[kThreads - 1] == 0;
});

// Threads stop when their sum has reached a limit; the block may stop only when all have.
__global__ void until_done_kernel(const float* x, float* sums, bool bug) {
  __shared__ float batch[kThreads];
  float sum = 0;
  for (int b = 0; b < kBatches; ++b) {
    const bool done = sum > float(100 * threadIdx.x);
    if (bug ? __all_sync(0xffffffffu, done) : __syncthreads_and(done)) break;
    batch[threadIdx.x] = x[b * kThreads + threadIdx.x];
    __syncthreads();
    if (!done)
      for (int i = 0; i < kThreads; ++i) sum += batch[i];
  }
  sums[threadIdx.x] = sum;
}

const Bug leaves_loop("a warp leaves a loop that has barriers", [](bool bug) {
  const auto x = counting<float>(kBatches * kThreads);
  std::vector<float> sums(kThreads);
  launch(until_done_kernel, 1, kThreads, 0, x.data(), sums.data(), bug);
  return sums[0] == kThreads * (kThreads + 1) / 2;
});

__global__ void mixed_kernel(int* y, bool bug) {
  int votes = 0;
  if (bug && threadIdx.x % 32 == 0)
    __syncthreads();
  else
    votes = __popc(__ballot_sync(0xffffffffu, 1));
  y[threadIdx.x] = votes;
}

const Bug lane_at_barrier("a lane waits at a barrier, its warp for the lane", [](bool bug) {
  std::vector<int> y(kThreads);
  launch(mixed_kernel, 1, kThreads, 0, y.data(), bug);
  return y == std::vector<int>(kThreads, 32);
});

}  // namespace
