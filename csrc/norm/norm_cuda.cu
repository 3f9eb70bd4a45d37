// Emotion-conditioned normalization on CUDA. Forward: a block a token. Backward: a block a chunk of tokens, one after
// the other; thread i owns channels i, i + kThreads, ... of the chunk's sums, so no atomics, and a second kernel adds
// the chunks in order. A token's channels are read from memory once and found in the cache by the later passes.
#include "common/cuda_launch.h"
#include "common/scalar.h"
#include "math/norm.h"
#include "norm/norm.h"

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
template <class T>
__device__ NormStatistics<float> block_statistics(const T* h, int64_t channels, bool rms, float eps) {
  float mean = 0;
  if (!rms) {
    Sums sums = {0, 0};
    for (int64_t c = threadIdx.x; c < channels; c += kThreads) sums.first += static_cast<float>(h[c]);
    mean = block_sum(sums).first / static_cast<float>(channels);
  }
  Sums sums = {0, 0};
  for (int64_t c = threadIdx.x; c < channels; c += kThreads) {
    const float deviation = static_cast<float>(h[c]) - mean;
    sums.first += deviation;
    sums.second += deviation * deviation;
  }
  sums = block_sum(sums);
  return norm_statistics(mean, rms ? 0.0f : sums.first, sums.second, channels, eps);
}

__device__ const float* vector_row(const float* vectors, int64_t rows, int64_t b, int64_t r, int64_t channels) {
  return vectors + (b * rows + (rows == 1 ? 0 : r)) * channels;
}

template <class T>
__global__ void __launch_bounds__(kThreads) emotion_norm_forward_kernel(EmotionNormForward<T> p) {
  const int64_t token = blockIdx.x, b = token / p.tokens;
  const int64_t region = p.region ? p.region[token] : 0;
  const bool valid = region >= 0 && region < p.regions;
  T* y = p.y + token * p.channels;
  if (!valid) {
    for (int64_t c = threadIdx.x; c < p.channels; c += kThreads) {
      y[c] = static_cast<T>(NAN);
      if (p.residual) p.residual_out[token * p.channels + c] = static_cast<T>(NAN);
    }
    return;  // the whole block: the token is the block's
  }
  const T* h = p.x + token * p.channels;
  if (p.residual) {
    const T* residual = p.residual + token * p.channels;
    const float* gate = p.gate ? vector_row(p.gate, p.gate_rows, b, region, p.channels) : nullptr;
    T* out = p.residual_out + token * p.channels;
    for (int64_t c = threadIdx.x; c < p.channels; c += kThreads)
      out[c] = static_cast<T>(
          norm_residual(static_cast<float>(h[c]), static_cast<float>(residual[c]), gate ? gate[c] : 0.0f));
    h = out;
  }
  const NormStatistics<float> row = block_statistics(h, p.channels, p.rms, static_cast<float>(p.eps));
  const float* scale = vector_row(p.scale, p.scale_rows, b, region, p.channels);
  const float* shift = vector_row(p.shift, p.shift_rows, b, region, p.channels);
  for (int64_t c = threadIdx.x; c < p.channels; c += kThreads) {
    const float factor = norm_factor(p.weight ? p.weight[c] : 1.0f, scale[c]);
    const float offset = norm_offset(p.bias ? p.bias[c] : 0.0f, scale[c], shift[c]);
    y[c] = static_cast<T>(norm_normalize(static_cast<float>(h[c]), row) * factor + offset);
  }
}

template <class T>
__device__ void backward_token(const EmotionNormBackward<T>& p, int64_t token, int64_t region, float* partial) {
  const int64_t b = token / p.tokens, channels = p.channels, plane = p.regions * channels;
  const T* h = p.hidden + token * channels;
  const T* grad_y = p.grad_y + token * channels;
  const float* scale = vector_row(p.scale, p.scale_rows, b, region, channels);
  const float* gate = p.gate ? vector_row(p.gate, p.gate_rows, b, region, channels) : nullptr;
  const NormStatistics<float> row = block_statistics(h, channels, p.rms, static_cast<float>(p.eps));

  Sums sums = {0, 0};
  for (int64_t c = threadIdx.x; c < channels; c += kThreads) {
    const float grad_n = static_cast<float>(grad_y[c]) * norm_factor(p.weight ? p.weight[c] : 1.0f, scale[c]);
    sums.first += grad_n;
    sums.second += grad_n * norm_normalize(static_cast<float>(h[c]), row);
  }
  sums = block_sum(sums);
  const float mean_gradient = p.rms ? 0.0f : sums.first / static_cast<float>(channels);
  const float mean_product = sums.second / static_cast<float>(channels);

  for (int64_t c = threadIdx.x; c < channels; c += kThreads) {
    const int64_t i = token * channels + c;
    const float g = static_cast<float>(grad_y[c]), n = norm_normalize(static_cast<float>(h[c]), row);
    const float grad_n = g * norm_factor(p.weight ? p.weight[c] : 1.0f, scale[c]);
    float grad_h = norm_normalize_backward(grad_n, n, mean_gradient, mean_product, row);
    if (p.grad_residual_out) grad_h += static_cast<float>(p.grad_residual_out[i]);
    p.grad_hidden[i] = static_cast<T>(grad_h);
    float* sum = partial + region * channels + c;
    sum[0] += g;
    sum[plane] += g * n;
    if (gate) {
      p.grad_x[i] = static_cast<T>((1.0f + gate[c]) * grad_h);
      sum[2 * plane] += grad_h * static_cast<float>(p.x[i]);
    }
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
    const int64_t region = p.region ? p.region[token] : 0;
    if (region >= 0 && region < p.regions) {
      backward_token(p, token, region, partial);
    } else {
      for (int64_t c = threadIdx.x; c < channels; c += kThreads) {
        p.grad_hidden[token * channels + c] = static_cast<T>(NAN);
        if (p.gate) p.grad_x[token * channels + c] = static_cast<T>(NAN);
      }
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) emotion_norm_sum_chunks_kernel(EmotionNormBackward<T> p) {
  const int64_t sums = (p.gate ? 3 : 2) * p.regions * p.channels;
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= p.batch * sums) return;
  const float* partial = p.partial + i / sums * p.chunks * sums + i % sums;
  float sum = 0;
  for (int64_t chunk = 0; chunk < p.chunks; ++chunk) sum += partial[chunk * sums];
  p.sums[i] = sum;
}

}  // namespace

template <class T>
int64_t emotion_norm_forward_cuda(const EmotionNormForward<T>& p) {
  const DeviceGuard guard(p);
  const int64_t blocks = p.batch * p.tokens;
  if (blocks == 0) return -1;
  emotion_norm_forward_kernel<<<grid_size(blocks, "emotion_norm_forward_kernel"), kThreads, 0, stream_of(p)>>>(p);
  check_launch("emotion_norm_forward_kernel");
  return -1;
}

template <class T>
int64_t emotion_norm_backward_cuda(const EmotionNormBackward<T>& p) {
  const DeviceGuard guard(p);
  const int64_t blocks = p.batch * p.chunks, sums = p.batch * (p.gate ? 3 : 2) * p.regions * p.channels;
  if (sums == 0) return -1;
  emotion_norm_backward_kernel<<<grid_size(blocks, "emotion_norm_backward_kernel"), kThreads, 0, stream_of(p)>>>(p);
  check_launch("emotion_norm_backward_kernel");
  const unsigned sum_blocks = grid_size((sums + kThreads - 1) / kThreads, "emotion_norm_sum_chunks_kernel");
  emotion_norm_sum_chunks_kernel<<<sum_blocks, kThreads, 0, stream_of(p)>>>(p);
  check_launch("emotion_norm_sum_chunks_kernel");
  return -1;
}

template int64_t emotion_norm_forward_cuda(const EmotionNormForward<float>&);
template int64_t emotion_norm_forward_cuda(const EmotionNormForward<__half>&);
template int64_t emotion_norm_forward_cuda(const EmotionNormForward<__nv_bfloat16>&);
template int64_t emotion_norm_backward_cuda(const EmotionNormBackward<float>&);
template int64_t emotion_norm_backward_cuda(const EmotionNormBackward<__half>&);
template int64_t emotion_norm_backward_cuda(const EmotionNormBackward<__nv_bfloat16>&);

}  // namespace emogs
