// What the norm's CUDA kernels are made of: the groups of threads that share a token, their sums, and the items that
// each thread holds, as they are stored and as floats.
#pragma once

#include "common/half.h"
#include "math/norm.h"
#include "norm/norm.h"

namespace emogs {
namespace {

constexpr int kItems = 8;  // channels a thread

/// How a launch gives tokens, or chunks of them, to groups of threads.
struct Groups {
  int size;        // threads of a group: a power of two of at most 32 lanes, or the warps of a block
  uint32_t count;  // of what the groups take, one after the other, `stride` apart; below 2^31
  uint32_t stride;
};

/// A thread's group. Its size is known at run time only: of each the compiler would make the same code.
struct Group {
  int size, lane, turn = 0;

  __device__ explicit Group(int threads)
      : size(threads), lane(threads > 32 ? threadIdx.x : threadIdx.x & (threads - 1)) {}

  /// Of this group among those of all blocks.
  __device__ uint32_t index() const {
    return size > 32 ? blockIdx.x : blockIdx.x * (blockDim.x / size) + threadIdx.x / size;
  }

  /// The sum over the group's threads, to all of them, always in the same order. All lanes of a warp must come here
  /// together, also those whose group has nothing to do: with a mask known beforehand a shuffle is one instruction.
  __device__ float sum(float value) {
    value = sum_lanes(value);
    return size > 32 ? sum_warps(make_float2(value, 0)).x : value;
  }
  __device__ float2 sum(float2 value) {
    value = make_float2(sum_lanes(value.x), sum_lanes(value.y));
    return size > 32 ? sum_warps(value) : value;
  }

 private:
  __device__ float sum_lanes(float value) const {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, value, offset);
      if (offset < size) value += other;
    }
    return value;
  }
  /// One barrier a sum, by turns in two places: whoever writes to a place again has passed the barrier of the sum
  /// between.
  __device__ float2 sum_warps(float2 value) {
    __shared__ float2 sums[2][32];
    turn ^= 1;
    if (lane % 32 == 0) sums[turn][lane / 32] = value;
    __syncthreads();
    value = make_float2(0, 0);
#pragma unroll 4
    for (int warp = 0; warp < size / 32; ++warp) value.x += sums[turn][warp].x, value.y += sums[turn][warp].y;
    return value;
  }
};

/// Threads of the smallest group that holds a row.
inline int group_size(int64_t channels) {
  const int64_t needed = (channels + kItems - 1) / kItems;
  int size = 1;
  while (size < needed && size < 32) size *= 2;
  return needed <= 32 ? size : static_cast<int>((needed + 31) / 32 * 32);
}

/// body(c, i) for a thread's pieces: channels [c, c + kWidth) are its items [i, i + kWidth).
template <int kWidth, class Body>
__device__ __forceinline__ void for_each_piece(const Group& group, int64_t channels, const Body& body) {
#pragma unroll
  for (int i = 0; i < kItems; i += kWidth) {
    const int c = (i / kWidth * group.size + group.lane) * kWidth;
    if (c < static_cast<int>(channels)) body(c, i);
  }
}

struct alignas(16) Words {
  uint32_t words[4];
};

/// Consecutive items as they are stored, in words: the compiler would make registers of single halves, each of which
/// waits for the memory.
template <class Storage, int kCount>
struct Stored {
  static constexpr int kWords = kCount * sizeof(Storage) / 16;
  Words parts[kWords] = {};

  __device__ __forceinline__ void read(const Storage* from) {
#pragma unroll
    for (int i = 0; i < kWords; ++i) parts[i] = reinterpret_cast<const Words*>(from)[i];
  }
  __device__ __forceinline__ void write(Storage* to) const {
#pragma unroll
    for (int i = 0; i < kWords; ++i) reinterpret_cast<Words*>(to)[i] = parts[i];
  }
  __device__ __forceinline__ float operator[](int i) const {
    if constexpr (sizeof(Storage) == 4)
      return bits_as<float>(parts[i / 4].words[i % 4]);
    else
      return load_float(Storage{uint16_t(parts[i / 8].words[i / 2 % 4] >> (i % 2 * 16))});
  }
  __device__ __forceinline__ void set(const float* values) {
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      if constexpr (sizeof(Storage) == 4)
        parts[i / 4].words[i % 4] = bits_as<uint32_t>(values[i]);
      else if (i % 2 == 0)
        parts[i / 8].words[i / 2 % 4] = pack(values[i], values[i + 1], static_cast<Storage*>(nullptr));
  }
  __device__ __forceinline__ void fill(float value) {
    float values[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = value;
    set(values);
  }
};

/// A thread's items of one row as they are stored; zeros beyond the last channel.
template <class Storage, int kWidth>
struct StoredRow {
  Stored<Storage, kWidth> pieces[kItems / kWidth];

  __device__ __forceinline__ void read(const Group& group, const Storage* row, int64_t channels) {
    for_each_piece<kWidth>(group, channels, [&](int c, int i) { pieces[i / kWidth].read(row + c); });
  }
  __device__ __forceinline__ float operator[](int i) const { return pieces[i / kWidth][i % kWidth]; }
};

/// Stores values, or NaN for what is not valid, and returns what was stored.
template <int kWidth, class Storage>
__device__ __forceinline__ Stored<Storage, kWidth> write_piece(const float* values, bool valid, Storage* to) {
  Stored<Storage, kWidth> piece;
  piece.set(values);
  if (!valid) piece.fill(NAN);
  piece.write(to);
  return piece;
}

__device__ __forceinline__ const float* vector_of(const float* vectors, int64_t rows, int64_t b, int64_t r,
                                                  int64_t channels) {
  return vectors + (b * rows + (rows == 1 ? 0 : r)) * channels;
}

/// b * R + r of token b * T + t, which names the vectors' rows; negative where the region is out of range.
template <class T>
__device__ __forceinline__ int row_of(const EmotionNorm<T>& p, uint32_t token) {
  const uint32_t b = p.batch == 1 ? 0 : token / uint32_t(p.tokens);
  const int region = p.region ? p.region[p.region_rows == 1 ? token - b * uint32_t(p.tokens) : token] : 0;
  return uint32_t(region) < uint32_t(p.regions) ? int(b) * int(p.regions) + region : -1;
}

}  // namespace
}  // namespace emogs
