// The kernels for rows that fit into registers: kGroup threads hold a token's channels, kItems each, in pieces of 16
// bytes; several groups share a block, or one group is the block. Groups walk over many tokens (a persistent grid), so
// that what modulates them is read again only where sample or region change. Channels must be a multiple of kWidth and
// rows aligned to 16 bytes; norm_cuda.cu has kernels for the others.
#pragma once

#include "common/half.h"
#include "math/norm.h"
#include "norm/norm.h"

namespace emogs {
namespace {

constexpr int kItems = 8;  // channels a thread; the largest group below holds 8192

template <class T>
constexpr int kWidth = sizeof(typename NormTypes<T>::Token) + sizeof(typename NormTypes<T>::Stream) == 8 ? 4 : 8;

/// Threads of a block of groups of that size.
constexpr int block_of(int group) {
  return group < 128 ? 128 : group;
}

template <int kGroup>
struct Group {
  static constexpr int kWarps = kGroup > 32 ? kGroup / 32 : 1;
  static constexpr int kPerBlock = block_of(kGroup) / kGroup;

  int lane = threadIdx.x % kGroup;
  unsigned mask = kGroup < 32 ? ((1u << (kGroup % 32)) - 1u) << (threadIdx.x % 32 / kGroup * kGroup) : 0xffffffffu;
  int64_t index = int64_t(blockIdx.x) * kPerBlock + threadIdx.x / kGroup;  // of this group among all

  /// Two sums over the group's threads, to all of them, always in the same order.
  __device__ void sum(float& first, float& second) const {
#pragma unroll
    for (int offset = (kGroup < 32 ? kGroup : 32) / 2; offset > 0; offset /= 2) {
      first += __shfl_xor_sync(mask, first, offset);
      second += __shfl_xor_sync(mask, second, offset);
    }
    if constexpr (kWarps > 1) {
      __shared__ float sums[2][kWarps];
      __syncthreads();  // the previous sums have been read
      if (lane % 32 == 0) sums[0][lane / 32] = first, sums[1][lane / 32] = second;
      __syncthreads();
      first = second = 0;
#pragma unroll
      for (int warp = 0; warp < kWarps; ++warp) first += sums[0][warp], second += sums[1][warp];
    }
  }
};

/// body(c, i) for this thread's pieces: channels [c, c + kWidth) are its items [i, i + kWidth).
template <int kGroup, int kWidth, class Body>
__device__ __forceinline__ void for_each_piece(int lane, int64_t channels, const Body& body) {
#pragma unroll
  for (int i = 0; i < kItems; i += kWidth) {
    const int64_t c = int64_t(i / kWidth * kGroup + lane) * kWidth;
    if (c < channels) body(c, i);
  }
}

template <int kCount, class Storage>
__device__ __forceinline__ void load_piece(const Storage* from, float* to) {
  struct alignas(16) Piece {
    Storage values[kCount];
  };
  const Piece piece = *reinterpret_cast<const Piece*>(from);
#pragma unroll
  for (int i = 0; i < kCount; ++i) to[i] = load_float(piece.values[i]);
}

template <int kCount, class Storage>
__device__ __forceinline__ void store_piece(const float* from, Storage* to) {
  struct alignas(16) Piece {
    Storage values[kCount];
  } piece;
#pragma unroll
  for (int i = 0; i < kCount; ++i) store_float(from[i], &piece.values[i]);
  *reinterpret_cast<Piece*>(to) = piece;
}

template <int kGroup, int kWidth>
__device__ NormStatistics<float> group_statistics(const Group<kGroup>& group, const float* h, int64_t channels,
                                                  bool rms, float eps) {
  float mean = 0, unused = 0, deviations = 0, squares = 0;
  if (!rms) {
#pragma unroll
    for (int i = 0; i < kItems; ++i) mean += h[i];  // zero beyond the last channel
    group.sum(mean, unused);
    mean /= static_cast<float>(channels);
  }
  for_each_piece<kGroup, kWidth>(group.lane, channels, [&](int64_t, int first) {
#pragma unroll
    for (int i = first; i < first + kWidth; ++i) {
      const float deviation = h[i] - mean;
      deviations += deviation;
      squares = multiply_add(deviation, deviation, squares);
    }
  });
  group.sum(deviations, squares);
  return norm_statistics(mean, rms ? 0.0f : deviations, squares, channels, eps);
}

__device__ __forceinline__ const float* vector_of(const float* vectors, int64_t rows, int64_t b, int64_t r,
                                                  int64_t channels) {
  return vectors + (b * rows + (rows == 1 ? 0 : r)) * channels;
}

/// What modulates the tokens of one sample and region, this thread's channels.
template <class T, int kGroup>
struct Modulation {
  int64_t b = -1, region = -1;
  float factor[kItems], offset[kItems], branch[kItems];

  __device__ void read(const EmotionNorm<T>& p, const float* shifts, int lane, int64_t new_b, int64_t new_region) {
    if (b == new_b && region == new_region) return;
    b = new_b, region = new_region;
    const float* scale = vector_of(p.scale, p.scale_rows, b, region, p.channels);
    const float* shift = shifts ? vector_of(shifts, p.shift_rows, b, region, p.channels) : nullptr;
    const float* gate = p.gate ? vector_of(p.gate, p.gate_rows, b, region, p.channels) : nullptr;
    for_each_piece<kGroup, kWidth<T>>(lane, p.channels, [&](int64_t c, int first) {
#pragma unroll
      for (int i = 0; i < kWidth<T>; ++i) {
        factor[first + i] = norm_factor(p.weight ? p.weight[c + i] : 1.0f, scale[c + i]);
        if (shift) offset[first + i] = norm_offset(p.bias ? p.bias[c + i] : 0.0f, scale[c + i], shift[c + i]);
        branch[first + i] = gate ? norm_branch(gate[c + i]) : 1.0f;
      }
    });
  }
};

template <class T>
__device__ int64_t region_of(const EmotionNorm<T>& p, int64_t b, int64_t t) {
  return p.region ? p.region[(p.region_rows == 1 ? 0 : b) * p.tokens + t] : 0;
}

template <class T, int kGroup>
__global__ void __launch_bounds__(block_of(kGroup)) emotion_norm_forward_group_kernel(EmotionNormForward<T> p) {
  constexpr int width = kWidth<T>;
  const Group<kGroup> group;
  Modulation<T, kGroup> modulation;
  for (int64_t token = group.index; token < p.batch * p.tokens; token += int64_t(gridDim.x) * group.kPerBlock) {
    const int64_t at = token * p.channels, b = token / p.tokens, region = region_of(p, b, token - b * p.tokens);
    const bool valid = region >= 0 && region < p.regions;
    float h[kItems] = {};
    if (valid) modulation.read(p, p.shift, group.lane, b, region);
    for_each_piece<kGroup, width>(group.lane, p.channels, [&](int64_t c, int i) {
      load_piece<width>(p.x + at + c, h + i);
      if (!p.residual) return;
      float residual[width];
      load_piece<width>(p.residual + at + c, residual);
      typename EmotionNorm<T>::Stream rounded;
#pragma unroll
      for (int k = 0; k < width; ++k) {
        const float sum = valid ? norm_residual(h[i + k], residual[k], modulation.branch[i + k]) : NAN;
        store_float(sum, &rounded);
        h[i + k] = load_float(rounded);
      }
      store_piece<width>(h + i, p.residual_out + at + c);
    });
    const NormStatistics<float> row =
        group_statistics<kGroup, width>(group, h, p.channels, p.rms, static_cast<float>(p.eps));
    for_each_piece<kGroup, width>(group.lane, p.channels, [&](int64_t c, int i) {
      float y[width];
#pragma unroll
      for (int k = 0; k < width; ++k)
        y[k] = valid ? norm_modulate(norm_normalize(h[i + k], row), modulation.factor[i + k], modulation.offset[i + k])
                     : NAN;
      store_piece<width>(y, p.y + at + c);
    });
  }
}

/// The sums of one thread's channels, over the tokens since the region last changed.
template <class T, int kGroup>
struct Accumulators {
  float grad[kItems] = {}, product[kItems] = {}, gate[kItems] = {};

  /// Adds them to the chunk's own, which no other thread touches, and clears them.
  __device__ void flush(const EmotionNormBackward<T>& p, int lane, float* partial, int64_t region) {
    if (region < 0) return;
    const int64_t plane = p.regions * p.channels;
    for_each_piece<kGroup, kWidth<T>>(lane, p.channels, [&](int64_t c, int first) {
#pragma unroll
      for (int i = 0; i < kWidth<T>; ++i) {
        float* sum = partial + region * p.channels + c + i;
        sum[0] += grad[first + i], sum[plane] += product[first + i];
        if (p.gate) sum[2 * plane] += gate[first + i];
        grad[first + i] = product[first + i] = gate[first + i] = 0;
      }
    });
  }
};

template <class T, int kGroup>
__device__ void backward_row(const EmotionNormBackward<T>& p, const Group<kGroup>& group, int64_t at, bool valid,
                             const Modulation<T, kGroup>& modulation, Accumulators<T, kGroup>& sums) {
  constexpr int width = kWidth<T>;
  const float count = static_cast<float>(p.channels);
  float h[kItems] = {}, g[kItems] = {};
  for_each_piece<kGroup, width>(group.lane, p.channels, [&](int64_t c, int i) {
    load_piece<width>(p.hidden + at + c, h + i);
    load_piece<width>(p.grad_y + at + c, g + i);
  });
  const NormStatistics<float> row =
      group_statistics<kGroup, width>(group, h, p.channels, p.rms, static_cast<float>(p.eps));
  float mean_gradient = 0, mean_product = 0;
  for_each_piece<kGroup, width>(group.lane, p.channels, [&](int64_t, int first) {
#pragma unroll
    for (int i = first; i < first + width; ++i) {
      h[i] = norm_normalize(h[i], row);
      const float grad_n = g[i] * modulation.factor[i];
      mean_gradient += grad_n;
      mean_product = multiply_add(grad_n, h[i], mean_product);
    }
  });
  group.sum(mean_gradient, mean_product);
  mean_gradient = p.rms ? 0.0f : mean_gradient / count, mean_product /= count;
  for_each_piece<kGroup, width>(group.lane, p.channels, [&](int64_t c, int first) {
    float grad[width], other[width];
#pragma unroll
    for (int k = 0; k < width; ++k) {
      const int i = first + k;
      grad[k] =
          valid ? norm_normalize_backward(g[i], modulation.factor[i], h[i], mean_gradient, mean_product, row) : NAN;
      sums.grad[i] += valid ? g[i] : 0;
      sums.product[i] = valid ? multiply_add(g[i], h[i], sums.product[i]) : sums.product[i];
    }
    if (p.grad_residual_out) {
      load_piece<width>(p.grad_residual_out + at + c, other);
#pragma unroll
      for (int k = 0; k < width; ++k) grad[k] += other[k];
    }
    store_piece<width>(grad, p.grad_hidden + at + c);
    if (p.gate) {
      load_piece<width>(p.x + at + c, other);
#pragma unroll
      for (int k = 0; k < width; ++k)
        sums.gate[first + k] = valid ? multiply_add(grad[k], other[k], sums.gate[first + k]) : sums.gate[first + k];
    }
    if (!p.grad_x) return;
#pragma unroll
    for (int k = 0; k < width; ++k) grad[k] *= p.gate ? modulation.branch[first + k] : 1.0f;
    store_piece<width>(grad, p.grad_x + at + c);
  });
}

// A group a chunk of tokens: its sums stay in registers while the region is the same.
template <class T, int kGroup>
__global__ void __launch_bounds__(block_of(kGroup)) emotion_norm_backward_group_kernel(EmotionNormBackward<T> p) {
  const Group<kGroup> group;
  if (group.index >= p.batch * p.chunks) return;  // whole groups; a block of one group has none too many
  const int64_t chunk = group.index, b = chunk / p.chunks, sums = (p.gate ? 3 : 2) * p.regions * p.channels;
  const int64_t length = (p.tokens + p.chunks - 1) / p.chunks, begin = chunk % p.chunks * length;
  const int64_t end = minimum(begin + length, p.tokens);
  float* partial = p.partial + chunk * sums;
  for_each_piece<kGroup, kWidth<T>>(group.lane, p.channels, [&](int64_t c, int) {
    for (int64_t row = 0; row < sums; row += p.channels)
      for (int i = 0; i < kWidth<T>; ++i) partial[row + c + i] = 0;
  });
  Modulation<T, kGroup> modulation;
  Accumulators<T, kGroup> accumulators;
  for (int64_t t = begin; t < end; ++t) {
    const int64_t region = region_of(p, b, t);
    const bool valid = region >= 0 && region < p.regions;
    if (valid && region != modulation.region) {
      accumulators.flush(p, group.lane, partial, modulation.region);
      modulation.read(p, nullptr, group.lane, b, region);
    }
    backward_row(p, group, (b * p.tokens + t) * p.channels, valid, modulation, accumulators);
  }
  accumulators.flush(p, group.lane, partial, modulation.region);
}

}  // namespace
}  // namespace emogs
