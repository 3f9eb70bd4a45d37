// Emotion-conditioned normalization on CUDA. Forward: a block a token. Backward: a block a chunk of tokens, one after
// the other; thread i owns channels i, i + kThreads, ... of the chunk's sums, so no atomics, and a second kernel adds
// the chunks in order. A token's channels are read from memory once and found in the cache by the later passes.
#include "common/cuda_launch.h"
#include "common/half.h"
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

__device__ const float* vector_row(const float* vectors, int64_t rows, int64_t b, int64_t r, int64_t channels) {
  return vectors + (b * rows + (rows == 1 ? 0 : r)) * channels;
}

template <class T>
__device__ int64_t region_of(const EmotionNorm<T>& p, int64_t b, int64_t t) {
  return p.region ? p.region[(p.region_rows == 1 ? 0 : b) * p.tokens + t] : 0;
}

template <class T, class Storage>
__device__ void normalize_row(const EmotionNormForward<T>& p, const Storage* h, int64_t b, int64_t region,
                              typename EmotionNorm<T>::Token* y) {
  const NormStatistics<float> row = block_statistics(h, p.channels, p.rms, static_cast<float>(p.eps));
  const float* scale = vector_row(p.scale, p.scale_rows, b, region, p.channels);
  const float* shift = vector_row(p.shift, p.shift_rows, b, region, p.channels);
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
  const float* gate = p.gate ? vector_row(p.gate, p.gate_rows, b, region, p.channels) : nullptr;
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
  const float* scale = vector_row(p.scale, p.scale_rows, b, region, channels);
  const float* gate = p.gate ? vector_row(p.gate, p.gate_rows, b, region, channels) : nullptr;
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

// A thread a channel: adds the pieces and forms the vectors' gradients (math/norm.h).
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
      for (int64_t chunk = 0; chunk < p.chunks; ++chunk)
        for (int64_t k = 0; k < terms; ++k)
          sums[k] += p.partial[((b * p.chunks + chunk) * terms + k) * plane + r * channels + c];
      const float factor = norm_factor(1.0f, vector_row(p.scale, p.scale_rows, b, r, channels)[c]);
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
  const int64_t blocks = p.batch * p.chunks;
  if (p.channels == 0) return -1;
  if (blocks > 0) {
    emotion_norm_backward_kernel<<<grid_size(blocks, "emotion_norm_backward_kernel"), kThreads, 0, stream_of(p)>>>(p);
    check_launch("emotion_norm_backward_kernel");
  }
  const unsigned finish_blocks = grid_size((p.channels + kThreads - 1) / kThreads, "emotion_norm_finish_kernel");
  emotion_norm_finish_kernel<<<finish_blocks, kThreads, 0, stream_of(p)>>>(p);
  check_launch("emotion_norm_finish_kernel");
  return -1;
}

#define EMOGS_INSTANTIATE(...)                                                        \
  template int64_t emotion_norm_forward_cuda(const EmotionNormForward<__VA_ARGS__>&); \
  template int64_t emotion_norm_backward_cuda(const EmotionNormBackward<__VA_ARGS__>&);
EMOGS_INSTANTIATE(float)
EMOGS_INSTANTIATE(Half)
EMOGS_INSTANTIATE(BFloat16)
EMOGS_INSTANTIATE(Mixed<Half, float>)
EMOGS_INSTANTIATE(Mixed<BFloat16, float>)
EMOGS_INSTANTIATE(Mixed<float, Half>)
EMOGS_INSTANTIATE(Mixed<float, BFloat16>)

}  // namespace emogs
