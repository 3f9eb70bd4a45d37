// Emotion-conditioned normalization on CUDA: the launchers, and kernels for rows that do not fit into registers or are
// not aligned (norm_group.cuh has those for all others). Here a block takes a token forward, and a chunk of tokens, one
// after the other, backward; thread i owns channels i, i + kThreads, ... No atomics: the same bits in every run.
#include <type_traits>

#include "common/cuda_launch.h"
#include "common/half.h"
#include "math/norm.h"
#include "norm/norm.h"
#include "norm/norm_group.cuh"

namespace emogs {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
static_assert(kThreads % 32 == 0 && kWarps <= 32, "block_sum reduces the warps' sums in one warp");

struct Sums {
  float first, second;
};

// Of all threads, to all threads, in a fixed order.
__device__ Sums block_sum(Sums value) {
  __shared__ Sums warps[kWarps];
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    value.first += __shfl_xor_sync(0xffffffffu, value.first, offset);
    value.second += __shfl_xor_sync(0xffffffffu, value.second, offset);
  }
  __syncthreads();  // the previous call's sums have been read
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  Sums total = {0, 0};
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) {
    total.first += warps[warp].first;
    total.second += warps[warp].second;
  }
  return total;
}

// A thread reads only those h[c] that it may itself have written: its own channels.
template <class Storage>
__device__ NormStatistics<float> block_statistics(const Storage* h, int64_t channels, bool rms, float eps) {
  float mean = 0;
  if (!rms) {
    Sums sums = {0, 0};
    for (int64_t c = threadIdx.x; c < channels; c += kThreads) sums.first += load_float(h[c]);
    mean = block_sum(sums).first / static_cast<float>(channels);
  }
  Sums sums = {0, 0};
  for (int64_t c = threadIdx.x; c < channels; c += kThreads) {
    const float deviation = load_float(h[c]) - mean;
    sums.first += deviation;
    sums.second += deviation * deviation;
  }
  sums = block_sum(sums);
  return norm_statistics(mean, rms ? 0.0f : sums.first, sums.second, channels, eps);
}

template <class T, class Storage>
__device__ void normalize_row(const EmotionNormForward<T>& p, const Storage* h, int64_t b, int64_t region,
                              typename EmotionNorm<T>::Token* y) {
  const NormStatistics<float> row = block_statistics(h, p.channels, p.rms, static_cast<float>(p.eps));
  const float* scale = vector_of(p.scale, p.scale_rows, b, region, p.channels);
  const float* shift = vector_of(p.shift, p.shift_rows, b, region, p.channels);
  for (int64_t c = threadIdx.x; c < p.channels; c += kThreads) {
    const float factor = norm_factor(p.weight ? p.weight[c] : 1.0f, scale[c]);
    const float offset = norm_offset(p.bias ? p.bias[c] : 0.0f, scale[c], shift[c]);
    store_float(norm_modulate(norm_normalize(load_float(h[c]), row), factor, offset), y + c);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) emotion_norm_forward_kernel(EmotionNormForward<T> p) {
  const int64_t token = blockIdx.x, b = token / p.tokens, at = token * p.channels;
  const int64_t region = region_of(p, b, token % p.tokens);
  const bool valid = region >= 0 && region < p.regions;
  if (!valid) {
    for (int64_t c = threadIdx.x; c < p.channels; c += kThreads) {
      store_float(NAN, p.y + at + c);
      if (p.residual) store_float(NAN, p.residual_out + at + c);
    }
    return;  // the whole block: the token is the block's
  }
  if (!p.residual) return normalize_row(p, p.x + at, b, region, p.y + at);
  const float* gate = p.gate ? vector_of(p.gate, p.gate_rows, b, region, p.channels) : nullptr;
  for (int64_t c = threadIdx.x; c < p.channels; c += kThreads)
    store_float(
        norm_residual(load_float(p.x[at + c]), load_float(p.residual[at + c]), gate ? norm_branch(gate[c]) : 1.0f),
        p.residual_out + at + c);
  normalize_row(p, p.residual_out + at, b, region, p.y + at);
}

template <class T>
__device__ void backward_token(const EmotionNormBackward<T>& p, int64_t token, int64_t region, float* partial) {
  const int64_t b = token / p.tokens, channels = p.channels, plane = p.regions * channels;
  const auto* h = p.hidden + token * channels;
  const auto* grad_y = p.grad_y + token * channels;
  const float* scale = vector_of(p.scale, p.scale_rows, b, region, channels);
  const float* gate = p.gate ? vector_of(p.gate, p.gate_rows, b, region, channels) : nullptr;
  const NormStatistics<float> row = block_statistics(h, channels, p.rms, static_cast<float>(p.eps));

  Sums sums = {0, 0};
  for (int64_t c = threadIdx.x; c < channels; c += kThreads) {
    const float grad_n = load_float(grad_y[c]) * norm_factor(p.weight ? p.weight[c] : 1.0f, scale[c]);
    sums.first += grad_n;
    sums.second += grad_n * norm_normalize(load_float(h[c]), row);
  }
  sums = block_sum(sums);
  const float mean_gradient = p.rms ? 0.0f : sums.first / static_cast<float>(channels);
  const float mean_product = sums.second / static_cast<float>(channels);

  for (int64_t c = threadIdx.x; c < channels; c += kThreads) {
    const int64_t i = token * channels + c;
    const float g = load_float(grad_y[c]), n = norm_normalize(load_float(h[c]), row);
    const float factor = norm_factor(p.weight ? p.weight[c] : 1.0f, scale[c]);
    float grad_h = norm_normalize_backward(g, factor, n, mean_gradient, mean_product, row);
    if (p.grad_residual_out) grad_h += load_float(p.grad_residual_out[i]);
    store_float(grad_h, p.grad_hidden + i);
    if (p.grad_x) store_float(gate ? norm_branch(gate[c]) * grad_h : grad_h, p.grad_x + i);
    float* sum = partial + region * channels + c;
    sum[0] += g;
    sum[plane] += g * n;
    if (gate) sum[2 * plane] += grad_h * load_float(p.x[i]);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) emotion_norm_backward_kernel(EmotionNormBackward<T> p) {
  const int64_t chunk = blockIdx.x, channels = p.channels;
  const int64_t rows = (p.gate ? 3 : 2) * p.regions;
  float* partial = p.partial + chunk * rows * channels;
  // Cleared and added to by channel, so that a thread meets only what it has written itself.
  for (int64_t c = threadIdx.x; c < channels; c += kThreads)
    for (int64_t row = 0; row < rows; ++row) partial[row * channels + c] = 0;
  const int64_t length = (p.tokens + p.chunks - 1) / p.chunks;
  const int64_t begin = chunk % p.chunks * length, end = minimum(begin + length, p.tokens);
  for (int64_t t = begin; t < end; ++t) {
    const int64_t token = chunk / p.chunks * p.tokens + t;
    const int64_t region = region_of(p, chunk / p.chunks, t);
    if (region >= 0 && region < p.regions) {
      backward_token(p, token, region, partial);
    } else {
      for (int64_t c = threadIdx.x; c < channels; c += kThreads) {
        store_float(NAN, p.grad_hidden + token * channels + c);
        if (p.grad_x) store_float(NAN, p.grad_x + token * channels + c);
      }
    }
  }
}

// Adds the chunks of 32 channels of one region, sum by sum, into the first: 8 threads take every 8th chunk of a
// channel, then the 8 are added in order.
constexpr int kSumRows = 8;

template <class T>
__global__ void __launch_bounds__(32 * kSumRows) emotion_norm_sum_chunks_kernel(EmotionNormBackward<T> p) {
  __shared__ float sums[kSumRows][33];
  const int64_t terms = p.gate ? 3 : 2, per_chunk = terms * p.regions * p.channels;
  const int64_t tiles = (p.channels + 31) / 32, c = blockIdx.x % tiles * 32 + threadIdx.x;
  const int64_t row = blockIdx.x / tiles;  // of B * terms * R
  float* first =
      p.partial + row / (terms * p.regions) * p.chunks * per_chunk + row % (terms * p.regions) * p.channels + c;
  float sum = 0;
  if (c < p.channels)
    for (int64_t chunk = threadIdx.y; chunk < p.chunks; chunk += kSumRows) sum += first[chunk * per_chunk];
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || c >= p.channels) return;
  for (int other = 1; other < kSumRows; ++other) sum += sums[other][threadIdx.x];
  *first = sum;
}

// A thread a channel: forms the vectors' gradients (math/norm.h) from the sums in the first chunks.
template <class T>
__global__ void __launch_bounds__(kThreads) emotion_norm_finish_kernel(EmotionNormBackward<T> p) {
  const int64_t c = int64_t(blockIdx.x) * kThreads + threadIdx.x, channels = p.channels;
  if (c >= channels) return;
  const int64_t plane = p.regions * channels, terms = p.gate ? 3 : 2;
  float grad_weight = 0, grad_bias = 0;
  auto add = [&](float* vectors, int64_t rows, int64_t b, int64_t r, float value) {
    float* to = vectors + (b * rows + (rows == 1 ? 0 : r)) * channels + c;
    *to = r == 0 || rows > 1 ? value : *to + value;
  };
  for (int64_t b = 0; b < p.batch; ++b)
    for (int64_t r = 0; r < p.regions; ++r) {
      float sums[3] = {0, 0, 0};
      for (int64_t k = 0; k < terms; ++k) sums[k] = p.partial[(b * p.chunks * terms + k) * plane + r * channels + c];
      const float factor = norm_factor(1.0f, vector_of(p.scale, p.scale_rows, b, r, channels)[c]);
      const float scaled = p.weight ? sums[1] * p.weight[c] : sums[1];
      add(p.grad_scale, p.scale_rows, b, r, p.bias ? scaled + sums[0] * p.bias[c] : scaled);
      add(p.grad_shift, p.shift_rows, b, r, sums[0]);
      if (p.gate) add(p.grad_gate, p.gate_rows, b, r, sums[2]);
      grad_weight += sums[1] * factor;
      grad_bias += sums[0] * factor;
    }
  if (p.grad_weight) p.grad_weight[c] = grad_weight;
  if (p.grad_bias) p.grad_bias[c] = grad_bias;
}

template <class T>
bool is_aligned(const T* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

/// kernel(size) with the smallest group whose registers hold a row, as an integral constant; false if there is none.
template <class T, class Kernel>
bool with_group(const EmotionNorm<T>& p, const Kernel& kernel) {
  if (p.channels % kWidth<T> != 0) return false;
  if (p.channels <= 8 * kItems)
    kernel(std::integral_constant<int, 8>());
  else if (p.channels <= 32 * kItems)
    kernel(std::integral_constant<int, 32>());
  else if (p.channels <= 128 * kItems)
    kernel(std::integral_constant<int, 128>());
  else if (p.channels <= 512 * kItems)
    kernel(std::integral_constant<int, 512>());
  else if (p.channels <= 1024 * kItems)
    kernel(std::integral_constant<int, 1024>());
  else
    return false;
  return true;
}

/// Blocks that fill the device: the rest of the tokens come to the same blocks.
int64_t resident_blocks(const Launch& launch, int threads) {
  int processors = 0;
  check_cuda(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, launch.device), "emotion_norm");
  return int64_t(processors) * (2048 / threads);
}

}  // namespace

template <class T>
int64_t emotion_norm_forward_cuda(const EmotionNormForward<T>& p) {
  const DeviceGuard guard(p);
  const int64_t tokens = p.batch * p.tokens;
  if (tokens == 0 || p.channels == 0) return -1;
  const bool aligned = is_aligned(p.x) && is_aligned(p.residual) && is_aligned(p.y) && is_aligned(p.residual_out);
  const bool launched =
      aligned && with_group(p, [&](auto size) {
        constexpr int kGroup = decltype(size)::value, kPerBlock = Group<kGroup>::kPerBlock;
        const int64_t blocks = minimum((tokens + kPerBlock - 1) / kPerBlock, resident_blocks(p, block_of(kGroup)));
        launch_kernel("emotion_norm_forward_group_kernel", emotion_norm_forward_group_kernel<T, kGroup>,
                      unsigned(blocks), block_of(kGroup), 0, p, p);
      });
  if (!launched) {
    const unsigned blocks = grid_size(tokens, "emotion_norm_forward_kernel");
    launch_kernel("emotion_norm_forward_kernel", emotion_norm_forward_kernel<T>, blocks, kThreads, 0, p, p);
  }
  return -1;
}

template <class T>
int64_t emotion_norm_backward_cuda(const EmotionNormBackward<T>& p) {
  const DeviceGuard guard(p);
  const int64_t chunks = p.batch * p.chunks;
  if (p.channels == 0) return -1;
  if (chunks > 0) {
    const bool aligned = is_aligned(p.x) && is_aligned(p.hidden) && is_aligned(p.grad_y) && is_aligned(p.grad_x) &&
                         is_aligned(p.grad_residual_out) && is_aligned(p.grad_hidden);
    const bool launched =
        aligned && with_group(p, [&](auto size) {
          constexpr int kGroup = decltype(size)::value, kPerBlock = Group<kGroup>::kPerBlock;
          const unsigned blocks = grid_size((chunks + kPerBlock - 1) / kPerBlock, "emotion_norm_backward_kernel");
          launch_kernel("emotion_norm_backward_group_kernel", emotion_norm_backward_group_kernel<T, kGroup>, blocks,
                        block_of(kGroup), 0, p, p);
        });
    if (!launched) {
      const unsigned blocks = grid_size(chunks, "emotion_norm_backward_kernel");
      launch_kernel("emotion_norm_backward_kernel", emotion_norm_backward_kernel<T>, blocks, kThreads, 0, p, p);
    }
    const int64_t tiles = (p.channels + 31) / 32 * p.batch * (p.gate ? 3 : 2) * p.regions;
    const unsigned blocks = grid_size(tiles, "emotion_norm_sum_chunks_kernel");
    launch_kernel("emotion_norm_sum_chunks_kernel", emotion_norm_sum_chunks_kernel<T>, blocks, dim3(32, kSumRows), 0, p,
                  p);
  }
  const unsigned blocks = grid_size((p.channels + kThreads - 1) / kThreads, "emotion_norm_finish_kernel");
  launch_kernel("emotion_norm_finish_kernel", emotion_norm_finish_kernel<T>, blocks, kThreads, 0, p, p);
  return -1;
}

#define EMOGS_INSTANTIATE(...)                                                        \
  template int64_t emotion_norm_forward_cuda(const EmotionNormForward<__VA_ARGS__>&); \
  template int64_t emotion_norm_backward_cuda(const EmotionNormBackward<__VA_ARGS__>&);
EMOGS_INSTANTIATE(float)
EMOGS_FOR_NORM_HALVES(EMOGS_INSTANTIATE)

}  // namespace emogs
