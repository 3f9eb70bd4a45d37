// Bugs within a warp.
#include "bugs.h"

namespace {

constexpr int kThreads = 64;

// Turns each warp's numbers round through shared memory.
__global__ void exchange_kernel(const int* x, int* y, bool bug) {
  __shared__ int values[kThreads];
  const int lane = threadIdx.x % 32, first = threadIdx.x - lane;
  values[threadIdx.x] = x[threadIdx.x];
  if (!bug) __syncwarp();
  y[threadIdx.x] = values[first + 31 - lane];
}

bool warps_are_reversed(const std::vector<int>& y) {
  for (int i = 0; i < kThreads; ++i)
    if (y[i] != i / 32 * 32 + 31 - i % 32 + 1) return false;
  return true;
}

const Bug sync_warp("missing __syncwarp", [](bool bug) {
  const auto x = counting<int>(kThreads);
  std::vector<int> y(kThreads);
  launch(exchange_kernel, 1, kThreads, 0, x.data(), y.data(), bug);
  return warps_are_reversed(y);
});

// A shuffle makes the lanes meet, but what they wrote before need not be visible after it.
__global__ void shuffle_is_no_fence_kernel(const int* x, int* y, bool bug) {
  __shared__ int values[kThreads];
  const int lane = threadIdx.x % 32, first = threadIdx.x - lane;
  values[threadIdx.x] = x[threadIdx.x];
  const int zero = __shfl_sync(0xffffffffu, 0, 0);
  if (!bug) __syncwarp();
  y[threadIdx.x] = values[first + 31 - lane] + zero;
}

const Bug no_fence("a shuffle taken for a memory fence", [](bool bug) {
  const auto x = counting<int>(kThreads);
  std::vector<int> y(kThreads);
  launch(shuffle_is_no_fence_kernel, 1, kThreads, 0, x.data(), y.data(), bug);
  return warps_are_reversed(y);
});

// The first `half` lanes read from their neighbours.
__global__ void neighbour_kernel(int* y, unsigned mask, int half, bool divergent) {
  const int lane = threadIdx.x;
  int value = lane;
  if (!divergent || lane < half) value = __shfl_sync(mask, lane, lane + 1);
  if (lane < half) y[lane] = value;
}

bool neighbours_are_right(unsigned mask, bool divergent) {
  std::vector<int> y(16);
  launch(neighbour_kernel, 1, 32, 0, y.data(), mask, 16, divergent);
  return y == counting<int>(16);
}

const Bug outside_the_mask("a shuffle reads a lane outside its mask", [](bool bug) {
  return bug ? neighbours_are_right(0xffffu, true) : neighbours_are_right(~0u, false);
});
const Bug full_mask("a full mask in a branch that half the warp takes",
                    [](bool bug) { return neighbours_are_right(~0u, bug); });

// Lanes without an item leave early.
__global__ void exited_kernel(int* y, int count, bool bug) {
  const int lane = threadIdx.x;
  const unsigned mask = __ballot_sync(0xffffffffu, lane < count);
  if (lane >= count) return;
  const int last = __shfl_sync(mask, lane, bug ? 31 : count - 1);
  y[lane] = last;
}

const Bug exited("a shuffle reads a lane that has exited", [](bool bug) {
  std::vector<int> y(20);
  launch(exited_kernel, 1, 32, 0, y.data(), 20, bug);
  return y == std::vector<int>(20, 19);
});

__global__ void masks_kernel(unsigned* y, unsigned mask, unsigned mask_of_lane_7) {
  y[threadIdx.x] = __ballot_sync(threadIdx.x == 7 ? mask_of_lane_7 : mask, threadIdx.x % 2);
}

bool ballots_are_right(unsigned mask, unsigned mask_of_lane_7) {
  std::vector<unsigned> y(32);
  launch(masks_kernel, 1, 32, 0, y.data(), mask, mask_of_lane_7);
  return y == std::vector<unsigned>(32, 0xaaaaaaaau);
}

const Bug masks("lanes with different masks", [](bool bug) { return ballots_are_right(~0u, bug ? 0x7fffffffu : ~0u); });
const Bug own_bit("a lane outside the mask that it gives", [](bool bug) {
  const unsigned mask = bug ? ~(1u << 7) : ~0u;
  return ballots_are_right(mask, mask);
});

__global__ void operations_kernel(int* y, bool bug) {
  y[threadIdx.x] = bug && threadIdx.x % 2 ? __any_sync(0xffffffffu, 1) : __all_sync(0xffffffffu, 1);
}

const Bug operations("lanes at different operations", [](bool bug) {
  std::vector<int> y(32);
  launch(operations_kernel, 1, 32, 0, y.data(), bug);
  return y == std::vector<int>(32, 1);
});

}  // namespace
