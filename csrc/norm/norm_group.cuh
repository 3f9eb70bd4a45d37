// The kernels for rows that fit into registers: a group of threads holds a token's channels, kItems each, read and
// written 16 bytes at a time. Several groups share a block, or one group is the block. A group walks over many tokens,
// so that what modulates them is read again only where sample or region change, and the next token is on its way from
// memory while one is computed. Channels must be a multiple of kWidth, rows and vectors aligned to 16 bytes;
// norm_loop.cuh has kernels for the others.
#pragma once

#include "common/half.h"
#include "math/norm.h"
#include "norm/norm.h"

namespace emogs {
namespace {

constexpr int kItems = 8;  // channels a thread
/// Threads of a group at most, so that all that they hold fits into registers: rows of 8192 or of 4096 channels.
template <bool kResidual>
constexpr int kMostForward = kResidual ? 512 : 1024;
constexpr int kMostBackward = 512;

/// Channels of a piece, which are consecutive: 16 bytes of the narrower of the two storage types.
template <class T>
constexpr int kWidth = sizeof(typename NormTypes<T>::Token) + sizeof(typename NormTypes<T>::Stream) == 8 ? 4 : 8;

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

template <int kWidth>
__device__ __forceinline__ NormStatistics<float> group_statistics(Group& group, const float* h, int64_t channels,
                                                                  bool rms, float eps) {
  float mean = 0;
  if (!rms) {
#pragma unroll
    for (int i = 0; i < kItems; ++i) mean += h[i];  // zero beyond the last channel
    mean = group.sum(mean) / static_cast<float>(channels);
  }
  float2 sums = {0, 0};  // of deviations and of their squares
  for_each_piece<kWidth>(group, channels, [&](int, int first) {
#pragma unroll
    for (int i = first; i < first + kWidth; ++i) {
      const float deviation = h[i] - mean;
      sums.x += deviation;
      sums.y = multiply_add(deviation, deviation, sums.y);
    }
  });
  sums = group.sum(sums);
  return norm_statistics(mean, rms ? 0.0f : sums.x, sums.y, channels, eps);
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

/// What modulates the tokens of one row, this thread's channels.
template <class T>
struct Modulation {
  int row = -1;
  float factor[kItems] = {}, offset[kItems] = {}, branch[kItems] = {};

  template <bool kGate>
  __device__ __forceinline__ void read(const EmotionNorm<T>& p, const Group& group, int new_row) {
    row = new_row;
    const Vector scale = vector(p, p.scale, p.scale_rows), weight = {p.weight};
    for_each_piece<kWidth<T>>(group, p.channels, [&](int c, int first) {
      const Piece scales = scale.read(c, 0.0f), weights = weight.read(c, 1.0f);
#pragma unroll
      for (int i = 0; i < kWidth<T>; ++i) factor[first + i] = norm_factor(weights[i], scales[i]);
    });
    if constexpr (kGate) {
      const Vector gate = vector(p, p.gate, p.gate_rows);
      for_each_piece<kWidth<T>>(group, p.channels, [&](int c, int first) {
        const Piece gates = gate.read(c, 0.0f);
#pragma unroll
        for (int i = 0; i < kWidth<T>; ++i) branch[first + i] = norm_branch(gates[i]);
      });
    }
  }

  /// After `read`.
  __device__ __forceinline__ void read_offset(const EmotionNormForward<T>& p, const Group& group) {
    const Vector scale = vector(p, p.scale, p.scale_rows), shift = vector(p, p.shift, p.shift_rows), bias = {p.bias};
    for_each_piece<kWidth<T>>(group, p.channels, [&](int c, int first) {
      const Piece scales = scale.read(c, 0.0f), shifts = shift.read(c, 0.0f), biases = bias.read(c, 0.0f);
#pragma unroll
      for (int i = 0; i < kWidth<T>; ++i) offset[first + i] = norm_offset(biases[i], scales[i], shifts[i]);
    });
  }

 private:
  using Piece = Stored<float, kWidth<T>>;
  struct Vector {
    const float* values;  // or null

    __device__ __forceinline__ Piece read(int c, float missing) const {
      Piece piece;
      if (values)
        piece.read(values + c);
      else
        piece.fill(missing);
      return piece;
    }
  };

  __device__ __forceinline__ Vector vector(const EmotionNorm<T>& p, const float* vectors, int64_t rows) const {
    if (!vectors) return {nullptr};
    return {vector_of(vectors, rows, row / int(p.regions), row % int(p.regions), p.channels)};
  }
};

template <class T, bool kResidual>
struct ForwardRow {
  StoredRow<typename EmotionNorm<T>::Token, kWidth<T>> x;
  StoredRow<typename EmotionNorm<T>::Stream, kWidth<T>> residual;
  int row = -1;

  __device__ __forceinline__ void read(const EmotionNormForward<T>& p, const Group& group, uint32_t token) {
    x.read(group, p.x + token * p.channels, p.channels);
    if constexpr (kResidual) residual.read(group, p.residual + token * p.channels, p.channels);
    row = row_of(p, token);
  }
};

/// What is normalized; residual_out is written.
template <class T, bool kResidual>
__device__ __forceinline__ void hidden_row(const EmotionNormForward<T>& p, const Group& group,
                                           const ForwardRow<T, kResidual>& row, uint32_t token, bool active,
                                           const Modulation<T>& modulation, float* h) {
  constexpr int width = kWidth<T>;
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    h[i] = row.x[i];
    if constexpr (kResidual) h[i] = norm_residual(h[i], row.residual[i], modulation.branch[i]);
  }
  if constexpr (kResidual)
    for_each_piece<width>(group, p.channels, [&](int c, int first) {
      if (!active) return;
      const auto stored = write_piece<width>(h + first, row.row >= 0, p.residual_out + token * p.channels + c);
#pragma unroll
      for (int i = 0; i < width; ++i) h[first + i] = stored[i];
    });
}

/// One token: its row, read before, is used up; then the one at `next` is on its way.
template <class T, bool kResidual>
__device__ __forceinline__ void forward_row(const EmotionNormForward<T>& p, const Groups& groups, Group& group,
                                            ForwardRow<T, kResidual>& row, uint32_t token, uint32_t next,
                                            Modulation<T>& modulation) {
  constexpr int width = kWidth<T>;
  const bool active = token < groups.count, valid = row.row >= 0;
  if (valid && row.row != modulation.row) {
    modulation.template read<kResidual>(p, group, row.row);
    modulation.read_offset(p, group);
  }
  float h[kItems];
  hidden_row(p, group, row, token, active, modulation, h);
  if (next < groups.count) row.read(p, group, next);
  const NormStatistics<float> statistics =
      group_statistics<width>(group, h, p.channels, p.rms, static_cast<float>(p.eps));
  for_each_piece<width>(group, p.channels, [&](int c, int first) {
    if (!active) return;
#pragma unroll
    for (int i = first; i < first + width; ++i)
      h[i] = norm_modulate(norm_normalize(h[i], statistics), modulation.factor[i], modulation.offset[i]);
    write_piece<width>(h + first, valid, p.y + token * p.channels + c);
  });
}

// 32 bytes or more a thread are on their way from memory at any time: with a thousand threads that is what an H200
// needs to be kept busy (bandwidth times latency, 4.3 TB/s x 0.7 us over 132 multiprocessors: 23 KB each).
template <class T, bool kResidual>
__global__ void __launch_bounds__(kMostForward<kResidual>)
    emotion_norm_forward_group_kernel(EmotionNormForward<T> p, Groups groups) {
  constexpr int kAhead = kResidual || sizeof(typename EmotionNorm<T>::Token) == 4 ? 1 : 2;  // tokens
  Group group(groups.size);
  Modulation<T> modulation;
  ForwardRow<T, kResidual> rows[kAhead];
  uint32_t token = group.index();
#pragma unroll
  for (int i = 0; i < kAhead; ++i)
    if (token + i * groups.stride < groups.count) rows[i].read(p, group, token + i * groups.stride);
  const uint32_t in_warp = threadIdx.x % 32 / group.size;  // the lanes of a warp stay together
#pragma unroll 1
  while (token - in_warp < groups.count) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i, token += groups.stride)
      if (token - in_warp < groups.count)
        forward_row(p, groups, group, rows[i], token, token + kAhead * groups.stride, modulation);
  }
}

/// The sums of one thread's channels, over the tokens since the row last changed.
template <class T, bool kGate>
struct Accumulators {
  float grad[kItems] = {}, product[kItems] = {}, gate[kItems] = {};

  /// Adds them to the chunk's own, which no other thread touches, and clears them. Of a single region there is one sum
  /// a chunk, which is stored.
  __device__ __forceinline__ void flush(const EmotionNormBackward<T>& p, const Group& group, float* partial,
                                        int region) {
    const int64_t plane = p.regions * p.channels;
    for_each_piece<kWidth<T>>(group, p.channels, [&](int c, int first) {
#pragma unroll
      for (int i = first; i < first + kWidth<T>; ++i) {
        float* sum = partial + region * p.channels + c + i - first;
        if (p.regions > 1) {
          grad[i] += sum[0], product[i] += sum[plane];
          if constexpr (kGate) gate[i] += p.gate ? sum[2 * plane] : 0.0f;
        }
        sum[0] = grad[i], sum[plane] = product[i];
        if (kGate && p.gate) sum[2 * plane] = gate[i];
        grad[i] = product[i] = gate[i] = 0;
      }
    });
  }
};

template <class T>
struct BackwardRow {
  StoredRow<typename EmotionNorm<T>::Stream, kWidth<T>> hidden;
  StoredRow<typename EmotionNorm<T>::Token, kWidth<T>> grad_y;
  int row = -1;

  __device__ __forceinline__ void read(const EmotionNormBackward<T>& p, const Group& group, uint32_t token) {
    hidden.read(group, p.hidden + token * p.channels, p.channels);
    grad_y.read(group, p.grad_y + token * p.channels, p.channels);
    row = row_of(p, token);
  }
};

/// The means over a row of grad_n and of grad_n * n, which its gradient subtracts; n becomes normalized.
template <class T>
__device__ __forceinline__ float2 gradient_means(const EmotionNormBackward<T>& p, Group& group,
                                                 const NormStatistics<float>& statistics, const float* factor,
                                                 const float* g, float* n) {
  float2 means = {0, 0};
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    n[i] = norm_normalize(n[i], statistics);
    const float grad_n = g[i] * factor[i];  // zero beyond the last channel
    means.x += grad_n;
    means.y = multiply_add(grad_n, n[i], means.y);
  }
  means = group.sum(means);
  const float count = static_cast<float>(p.channels);
  return {p.rms ? 0.0f : means.x / count, means.y / count};
}

/// Writes the gradients of one token and adds to the sums.
template <class T, bool kGate>
__device__ __forceinline__ void backward_row(const EmotionNormBackward<T>& p, Group& group, float* n, const float* g,
                                             uint32_t token, bool active, bool valid, const Modulation<T>& modulation,
                                             Accumulators<T, kGate>& sums) {
  constexpr int width = kWidth<T>;
  const int64_t at = token * p.channels;
  // Read before the sums over the group, which take as long as the memory does.
  StoredRow<typename EmotionNorm<T>::Stream, width> grad_residual_out;
  StoredRow<typename EmotionNorm<T>::Token, width> x;
  if (p.grad_residual_out && active) grad_residual_out.read(group, p.grad_residual_out + at, p.channels);
  if (kGate && p.gate && active) x.read(group, p.x + at, p.channels);
  const NormStatistics<float> statistics =
      group_statistics<width>(group, n, p.channels, p.rms, static_cast<float>(p.eps));
  const float2 means = gradient_means(p, group, statistics, modulation.factor, g, n);
  if (!active) return;
  for_each_piece<width>(group, p.channels, [&](int c, int first) {
    float grad[width];
#pragma unroll
    for (int k = 0; k < width; ++k) {
      const int i = first + k;
      grad[k] = norm_normalize_backward(g[i], modulation.factor[i], n[i], means.x, means.y, statistics);
      if (p.grad_residual_out) grad[k] += grad_residual_out[i];
      if (!valid) continue;
      sums.grad[i] += g[i];
      sums.product[i] = multiply_add(g[i], n[i], sums.product[i]);
      if constexpr (kGate) sums.gate[i] = multiply_add(grad[k], x[i], sums.gate[i]);
    }
    write_piece<width>(grad, valid, p.grad_hidden + at + c);
    if (!kGate || !p.grad_x) return;
#pragma unroll
    for (int k = 0; k < width; ++k) grad[k] *= p.gate ? modulation.branch[first + k] : 1.0f;
    write_piece<width>(grad, valid, p.grad_x + at + c);
  });
}

// A group a chunk of tokens: its sums stay in registers while the region is the same. kGate: there is a gate, or grad_x
// differs from grad_hidden for another reason, its type.
template <class T, bool kGate>
__global__ void __launch_bounds__(kMostBackward)
    emotion_norm_backward_group_kernel(EmotionNormBackward<T> p, Groups groups) {
  Group group(groups.size);
  const uint32_t chunk = group.index(), length = uint32_t((p.tokens + p.chunks - 1) / p.chunks);
  const uint32_t b = chunk / uint32_t(p.chunks), first = b * uint32_t(p.tokens);
  const uint32_t begin = first + chunk % uint32_t(p.chunks) * length;
  const uint32_t end = chunk < groups.count ? minimum(begin + length, first + uint32_t(p.tokens)) : 0;
  const int64_t sums = (p.gate ? 3 : 2) * p.regions * p.channels;
  float* partial = p.partial + chunk * sums;
  if (p.regions > 1 && chunk < groups.count)
    for_each_piece<kWidth<T>>(group, p.channels, [&](int c, int) {
      for (int64_t row = 0; row < sums; row += p.channels)
        for (int i = 0; i < kWidth<T>; ++i) partial[row + c + i] = 0;
    });
  Modulation<T> modulation;
  Accumulators<T, kGate> accumulators;
  BackwardRow<T> row;
  if (begin < end) row.read(p, group, begin);
  // As many turns for each group: the lanes of a warp stay together.
#pragma unroll 1
  for (uint32_t token = begin; token - begin < length; ++token) {
    const bool active = token < end, valid = active && row.row >= 0;
    if (valid && row.row != modulation.row) {
      if (modulation.row >= 0) accumulators.flush(p, group, partial, modulation.row % int(p.regions));
      modulation.template read<kGate>(p, group, row.row);
    }
    float n[kItems], g[kItems];
#pragma unroll
    for (int i = 0; i < kItems; ++i) n[i] = row.hidden[i], g[i] = row.grad_y[i];
    if (token + 1 < end) row.read(p, group, token + 1);
    backward_row(p, group, n, g, token, active, valid, modulation, accumulators);
  }
  if (chunk < groups.count)
    accumulators.flush(p, group, partial, modulation.row < 0 ? 0 : modulation.row % int(p.regions));
}

}  // namespace
}  // namespace emogs
