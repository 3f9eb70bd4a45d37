// The kernels for rows that fit into registers: a group of threads holds a token's channels, kItems each, read and
// written 16 bytes at a time. Several groups share a block, or one group is the block. A group walks over many tokens,
// so that what modulates them is read again only where sample or region change, and the next token is on its way from
// memory while one is computed. Channels must be a multiple of kWidth, rows and vectors aligned to 16 bytes;
// norm_loop.cuh has kernels for the others.
#pragma once

#include "norm/norm_items.cuh"

namespace emogs {
namespace {

/// Threads of a group at most, so that all that they hold fits into registers: rows of 8192 or of 4096 channels.
template <bool kResidual>
constexpr int kMostForward = kResidual ? 512 : 1024;
constexpr int kMostBackward = 512;

/// Channels of a piece, which are consecutive: 16 bytes of the narrower of the two storage types.
template <class T>
constexpr int kWidth = sizeof(typename NormTypes<T>::Token) + sizeof(typename NormTypes<T>::Stream) == 8 ? 4 : 8;

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
