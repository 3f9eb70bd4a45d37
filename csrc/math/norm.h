// Emotion-conditioned normalization of one element, forward and backward. With h = residual + (1 + gate) x:
//   layer: n = (h - mean) * inverse_deviation;   rms: n = h * inverse_deviation
//   y = (n * weight + bias) * (1 + scale) + shift
// Zero gate, scale and shift leave the bits of the plain normalization.
#pragma once

#include "common/platform.h"

namespace emogs {

// The mean is kept as two numbers: what a first pass found, and what the deviations from it still average to. So a row
// whose mean is a million deviations away loses nothing but what its own storage has lost.
template <class T>
struct NormStatistics {
  T mean;
  T correction;
  T inverse_deviation;
};

template <class T>
EMOGS_HD T norm_residual(T x, T residual, T gate) {
  return residual + (T(1) + gate) * x;
}

// Sums over one row of C deviations d = h - mean and their squares. RMS passes mean = 0 and deviation_sum = 0.
template <class T>
EMOGS_HD NormStatistics<T> norm_statistics(T mean, T deviation_sum, T square_sum, T inverse_channels, T eps) {
  const T correction = deviation_sum * inverse_channels;
  const T variance = maximum(square_sum * inverse_channels - correction * correction, T(0));
  return {mean, correction, T(1) / sqrt(variance + eps)};
}

template <class T>
EMOGS_HD T norm_normalize(T h, const NormStatistics<T>& row) {
  return ((h - row.mean) - row.correction) * row.inverse_deviation;
}

template <class T>
EMOGS_HD T norm_modulate(T normalized, T weight, T bias, T scale, T shift) {
  return (normalized * weight + bias) * (T(1) + scale) + shift;
}

// d loss / d normalized. The gradients of scale, shift, weight and bias are sums over rows of grad_y and
// grad_y * normalized, times factors that do not depend on the row; they are formed after the sums.
template <class T>
EMOGS_HD T norm_modulate_backward(T grad_y, T weight, T scale) {
  return grad_y * (T(1) + scale) * weight;
}

// d loss / d h, given the row's means of grad_normalized (0 for RMS) and of grad_normalized * normalized.
template <class T>
EMOGS_HD T norm_normalize_backward(T grad_normalized, T normalized, T mean_gradient, T mean_product,
                                   const NormStatistics<T>& row) {
  return (grad_normalized - mean_gradient - normalized * mean_product) * row.inverse_deviation;
}

}  // namespace emogs
