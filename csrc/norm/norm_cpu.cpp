// Emotion-conditioned normalization on the CPU: tokens are spread over threads, channels over vector lanes. A token's
// channels stay in the first-level cache between the passes, so memory sees one read and one write. The order of every
// sum is fixed by the shape alone: the same bits for any number of threads and any instruction set.
#include "common/ordered_sum.h"
#include "math/norm.h"
#include "norm/norm.h"

namespace emogs {
namespace EMOGS_ISA {

// Work below this many elements takes less time than waking the other threads.
constexpr int64_t kSerialElements = 1 << 15;

template <class T>
EMOGS_HD int worker_count(const EmotionNorm<T>& p) {
  return p.batch * p.tokens * p.channels < kSerialElements ? 1 : p.threads;
}

// Row of a modulation vector for sample b and region r.
template <class V>
EMOGS_HD const V* vector_row(const V* vectors, int64_t rows, int64_t b, int64_t r, int64_t channels) {
  return vectors + (b * rows + (rows == 1 ? 0 : r)) * channels;
}

template <class T>
EMOGS_HD NormStatistics<T> row_statistics(const T* __restrict__ h, int64_t channels, bool rms, T eps) {
  if (rms)
    return norm_statistics(T(0), T(0), ordered_sum<T>(channels, [=](int64_t c) { return h[c] * h[c]; }), channels, eps);
  const T mean = ordered_sum<T>(channels, [=](int64_t c) { return h[c]; }) / T(channels);
  const Pair<T> sums = ordered_sum_pair<T>(channels, [=](int64_t c) {
    const T deviation = h[c] - mean;
    return Pair<T>{deviation, deviation * deviation};
  });
  return norm_statistics(mean, sums.first, sums.second, channels, eps);
}

// folded[0] = factor and, if bias and shift matter, folded[1] = offset, for every sample and region.
template <class T, class V>
void fold_factor(const EmotionNorm<T>& p, V* factor) {
  for (int64_t row = 0; row < p.batch * p.regions; ++row) {
    const V* scale = vector_row(p.scale, p.scale_rows, row / p.regions, row % p.regions, p.channels);
    for (int64_t c = 0; c < p.channels; ++c)
      factor[row * p.channels + c] = norm_factor(p.weight ? p.weight[c] : V(1), scale[c]);
  }
}

template <class T, class V>
void fold_offset(const EmotionNormForward<T>& p, V* offset) {
  for (int64_t row = 0; row < p.batch * p.regions; ++row) {
    const V* scale = vector_row(p.scale, p.scale_rows, row / p.regions, row % p.regions, p.channels);
    const V* shift = vector_row(p.shift, p.shift_rows, row / p.regions, row % p.regions, p.channels);
    for (int64_t c = 0; c < p.channels; ++c)
      offset[row * p.channels + c] = norm_offset(p.bias ? p.bias[c] : V(0), scale[c], shift[c]);
  }
}

template <class T>
EMOGS_HD void forward_token(const EmotionNormForward<T>& p, int64_t token, int64_t region) {
  const int64_t b = token / p.tokens, channels = p.channels;
  const int64_t folded_row = (b * p.regions + region) * channels;
  const T* __restrict__ h = p.x + token * channels;
  if (p.residual) {
    const T* __restrict__ x = h;
    const T* __restrict__ residual = p.residual + token * channels;
    T* __restrict__ out = p.residual_out + token * channels;
    if (p.gate) {
      const T* __restrict__ gate = vector_row(p.gate, p.gate_rows, b, region, channels);
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) out[c] = norm_residual(x[c], residual[c], gate[c]);
    } else {
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) out[c] = norm_residual(x[c], residual[c], T(0));
    }
    h = out;
  }
  const NormStatistics<T> row = row_statistics(h, channels, p.rms, T(p.eps));
  const T* __restrict__ factor = p.folded + folded_row;
  const T* __restrict__ offset = factor + p.batch * p.regions * channels;
  T* __restrict__ y = p.y + token * channels;
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) y[c] = norm_normalize(h[c], row) * factor[c] + offset[c];
}

template <class T>
int64_t emotion_norm_forward(const EmotionNormForward<T>& p) {
  fold_factor(p, p.folded);
  fold_offset(p, p.folded + p.batch * p.regions * p.channels);
  const int64_t count = p.batch * p.tokens;
  int64_t invalid = count;
#pragma omp parallel for num_threads(worker_count(p)) schedule(static) reduction(min : invalid)
  for (int64_t token = 0; token < count; ++token) {
    const int64_t region = p.region ? p.region[token] : 0;
    if (region < 0 || region >= p.regions)
      invalid = minimum(invalid, token);
    else
      forward_token(p, token, region);
  }
  return invalid < count ? invalid : -1;
}

template <class T>
EMOGS_HD void backward_token(const EmotionNormBackward<T>& p, int64_t token, int64_t region, T* partial) {
  const int64_t b = token / p.tokens, channels = p.channels, plane = p.regions * channels;
  const T* __restrict__ h = p.hidden + token * channels;
  const T* __restrict__ grad_y = p.grad_y + token * channels;
  const T* __restrict__ factor = p.folded + (b * p.regions + region) * channels;
  T* __restrict__ grad_h = p.grad_hidden + token * channels;
  T* __restrict__ grad_sum = partial + region * channels;
  T* __restrict__ product_sum = grad_sum + plane;
  const NormStatistics<T> row = row_statistics(h, channels, p.rms, T(p.eps));

  const Pair<T> sums = ordered_sum_pair<T>(channels, [=](int64_t c) {
    const T n = norm_normalize(h[c], row), grad_n = grad_y[c] * factor[c];
    return Pair<T>{grad_n, grad_n * n};
  });
  const T mean_gradient = p.rms ? T(0) : sums.first / T(channels);
  const T mean_product = sums.second / T(channels);
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) {
    const T n = norm_normalize(h[c], row);
    grad_sum[c] += grad_y[c];
    product_sum[c] += grad_y[c] * n;
    grad_h[c] = norm_normalize_backward(grad_y[c] * factor[c], n, mean_gradient, mean_product, row);
  }
  if (p.grad_residual_out) {
    const T* __restrict__ grad_residual_out = p.grad_residual_out + token * channels;
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) grad_h[c] += grad_residual_out[c];
  }
  if (p.gate) {
    const T* __restrict__ x = p.x + token * channels;
    const T* __restrict__ gate = vector_row(p.gate, p.gate_rows, b, region, channels);
    T* __restrict__ grad_x = p.grad_x + token * channels;
    T* __restrict__ gate_sum = product_sum + plane;
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      grad_x[c] = (T(1) + gate[c]) * grad_h[c];
      gate_sum[c] += grad_h[c] * x[c];
    }
  }
}

template <class T>
int64_t emotion_norm_backward(const EmotionNormBackward<T>& p) {
  const int64_t sums = (p.gate ? 3 : 2) * p.regions * p.channels;
  const int64_t chunk_tokens = (p.tokens + p.chunks - 1) / p.chunks;
  fold_factor(p, p.folded);
  int64_t invalid = p.batch * p.tokens;
#pragma omp parallel for num_threads(worker_count(p)) schedule(static) reduction(min : invalid)
  for (int64_t chunk = 0; chunk < p.batch * p.chunks; ++chunk) {
    T* partial = p.partial + chunk * sums;
    for (int64_t i = 0; i < sums; ++i) partial[i] = T(0);
    const int64_t begin = chunk % p.chunks * chunk_tokens, end = minimum(begin + chunk_tokens, p.tokens);
    for (int64_t t = begin; t < end; ++t) {
      const int64_t token = chunk / p.chunks * p.tokens + t;
      const int64_t region = p.region ? p.region[token] : 0;
      if (region < 0 || region >= p.regions)
        invalid = minimum(invalid, token);
      else
        backward_token(p, token, region, partial);
    }
  }
#pragma omp parallel for num_threads(worker_count(p)) schedule(static) collapse(2)
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t i = 0; i < sums; ++i) {
      T sum = 0;
      for (int64_t chunk = 0; chunk < p.chunks; ++chunk) sum += p.partial[(b * p.chunks + chunk) * sums + i];
      p.sums[b * sums + i] = sum;
    }
  }
  return invalid < p.batch * p.tokens ? invalid : -1;
}

template int64_t emotion_norm_forward(const EmotionNormForward<float>&);
template int64_t emotion_norm_forward(const EmotionNormForward<double>&);
template int64_t emotion_norm_backward(const EmotionNormBackward<float>&);
template int64_t emotion_norm_backward(const EmotionNormBackward<double>&);

}  // namespace EMOGS_ISA
}  // namespace emogs
