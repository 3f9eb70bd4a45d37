// Bugs with memory: beyond its end, before it is written, at the wrong address.
#include "bugs.h"

namespace {

constexpr int kThreads = 64;

__global__ void static_overrun_kernel(float* y, bool bug) {
  __shared__ float values[kThreads];
  values[threadIdx.x] = 1;
  __syncthreads();
  if (bug) values[threadIdx.x + 1] = 1;
  __syncthreads();
  y[threadIdx.x] = values[threadIdx.x];
}

const Bug static_overrun("write beyond a static shared array", [](bool bug) {
  std::vector<float> y(kThreads);
  launch(static_overrun_kernel, 1, kThreads, 0, y.data(), bug);
  return y == std::vector<float>(kThreads, 1);
});

__device__ __noinline__ void set(float* values, int i) {
  values[i] = 1;
}

__global__ void pointer_overrun_kernel(float* y, bool bug) {
  __shared__ float values[kThreads];
  set(values, threadIdx.x);
  __syncthreads();
  if (bug && threadIdx.x == 0) set(values, kThreads);
  __syncthreads();
  y[threadIdx.x] = values[threadIdx.x];
}

const Bug pointer_overrun("write beyond a static shared array, by a pointer", [](bool bug) {
  std::vector<float> y(kThreads);
  launch(pointer_overrun_kernel, 1, kThreads, 0, y.data(), bug);
  return y == std::vector<float>(kThreads, 1);
});

__global__ void dynamic_kernel(float* y, int writes, int reads) {
  EMOGS_DYNAMIC_SHARED(float, values);
  for (int i = threadIdx.x; i < writes; i += kThreads) values[i] = 1;
  __syncthreads();
  for (int i = threadIdx.x; i < reads; i += kThreads) y[i] = values[i];
}

bool dynamic_is_right(int writes, int reads) {
  std::vector<float> y(size_t(reads), 1.0f);
  launch(dynamic_kernel, 1, kThreads, 100 * sizeof(float), y.data(), writes, reads);
  return y == std::vector<float>(size_t(reads), 1.0f);
}

const Bug dynamic_write("write beyond dynamic shared memory",
                        [](bool bug) { return dynamic_is_right(bug ? 101 : 100, 100); });
const Bug dynamic_read("read beyond dynamic shared memory",
                       [](bool bug) { return dynamic_is_right(100, bug ? 101 : 100); });
const Bug dynamic_unset("dynamic shared memory read before it is written",
                        [](bool bug) { return dynamic_is_right(bug ? 99 : 100, 100); });

__global__ void histogram_kernel(const int* bins, int count, int* histogram, bool bug) {
  __shared__ int counts[16];
  if (!bug && threadIdx.x < 16) counts[threadIdx.x] = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < count; i += kThreads) atomicAdd(&counts[bins[i]], 1);
  __syncthreads();
  if (threadIdx.x < 16) histogram[threadIdx.x] = counts[threadIdx.x];
}

const Bug static_unset("static shared memory read before it is written", [](bool bug) {
  std::vector<int> bins(160), histogram(16);
  for (int i = 0; i < 160; ++i) bins[i] = i % 16;
  launch(histogram_kernel, 1, kThreads, 0, bins.data(), 160, histogram.data(), bug);
  return histogram == std::vector<int>(16, 10);
});

__global__ void copy_kernel(const float* x, float* y, int reads, int writes) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  float value = 0;
  if (i < reads) value = x[i];
  if (i < writes) y[i] = value;
}

bool copy_is_right(int reads, int writes) {
  const auto x = counting<float>(100);
  std::vector<float> y(100);
  launch(copy_kernel, 2, kThreads, 0, x.data(), y.data(), reads, writes);
  return x == y;
}

const Bug global_write("write beyond a tensor", [](bool bug) { return copy_is_right(100, bug ? 101 : 100); });
const Bug global_read("read beyond a tensor", [](bool bug) { return copy_is_right(bug ? 101 : 100, 100); });

__global__ void vector_kernel(const float* x, float4* y) {
  y[threadIdx.x] = reinterpret_cast<const float4*>(x)[threadIdx.x];
}

bool vectors_are_right(const float* x, size_t offset) {
  std::vector<float4> y(4);
  launch(vector_kernel, 1, 4, 0, x, y.data());
  return y[3].w == float(offset + 16);
}

const Bug unaligned("load of 16 bytes from an address that is no multiple", [](bool bug) {
  alignas(16) static float x[20];
  for (int i = 0; i < 20; ++i) x[i] = float(i + 1);
  return vectors_are_right(x + bug, bug);
});
const Bug null_pointer("null pointer", [](bool bug) {
  alignas(16) static float x[20];
  for (int i = 0; i < 20; ++i) x[i] = float(i + 1);
  return vectors_are_right(bug ? nullptr : x, 0);
});

// What follows gives one result on a GPU and another, or none, on a CPU.
__global__ void shift_kernel(unsigned* y, int bits) {
  y[threadIdx.x] = (1u << (bits + int(threadIdx.x))) - 1u;
}

const Bug shift("shift by 32 bits", [](bool bug) {
  std::vector<unsigned> y(8);
  launch(shift_kernel, 1, 8, 0, y.data(), bug ? 25 : 24);
  return y[0] == (bug ? 0x1ffffffu : 0xffffffu);
});

__global__ void divide_kernel(const int* x, int* y, int divisor) {
  y[threadIdx.x] = x[threadIdx.x] / divisor;
}

const Bug division("division of an integer by zero", [](bool bug) {
  const auto x = counting<int>(8);
  std::vector<int> y(8);
  launch(divide_kernel, 1, 8, 0, x.data(), y.data(), bug ? 0 : 1);
  return x == y;
});

__global__ void convert_kernel(const float* x, int* y) {
  y[threadIdx.x] = static_cast<int>(x[threadIdx.x]);
}

const Bug conversion("a float too large for the integer it becomes", [](bool bug) {
  std::vector<float> x(8, bug ? 3e9f : 3e8f);
  std::vector<int> y(8);
  launch(convert_kernel, 1, 8, 0, x.data(), y.data());
  return y[0] != 0;
});

}  // namespace
