// Emotion-conditioned normalization of one element, forward and backward. With h = residual + (1 + gate) x:
//   layer: n = (h - mean) * inverse_deviation;   rms: n = h * inverse_deviation
//   y = (n * weight + bias) * (1 + scale) + shift = n * factor + offset
// h is rounded to the type in which residual_out is stored before anything else is done with it, forward and backward.
// Zero gate, scale and shift leave the bits of the plain normalization.
#pragma once

#include "common/platform.h"

namespace emogs {

// The mean is kept as two numbers: what a first pass found, and what the deviations from it still average to. So a row
// whose mean is a million deviations away loses nothing but what its own storage has lost. RMS has mean = correction =
// 0.
template <class T>
struct NormStatistics {
  T mean, correction, inverse_deviation;
};

template <class T>
EMOGS_HD T norm_branch(T gate) {
  return T(1) + gate;
}

template <class V>
EMOGS_HD V norm_residual(V x, V residual, V branch) {
  return multiply_add(branch, x, residual);
}

// From the sums over a row of the deviations h - mean and of their squares.
template <class T>
EMOGS_HD NormStatistics<T> norm_statistics(T mean, T deviation_sum, T square_sum, int64_t channels, T eps) {
  const T correction = deviation_sum / T(channels);
  const T variance = maximum(square_sum / T(channels) - correction * correction, T(0));
  return {mean, correction, T(1) / sqrt(variance + eps)};
}

// V is T, or a register of them.
template <class V, class T>
EMOGS_HD V norm_normalize(V h, const NormStatistics<T>& row) {
  return ((h - V(row.mean)) - V(row.correction)) * V(row.inverse_deviation);
}

template <class T>
EMOGS_HD T norm_factor(T weight, T scale) {
  return weight * (T(1) + scale);
}

template <class T>
EMOGS_HD T norm_offset(T bias, T scale, T shift) {
  return bias * (T(1) + scale) + shift;
}

template <class V>
EMOGS_HD V norm_modulate(V n, V factor, V offset) {
  return multiply_add(n, factor, offset);
}

// d loss / d h, given the row's means of grad_n = grad_y * factor (0 for RMS) and of grad_n * n.
template <class V, class T>
EMOGS_HD V norm_normalize_backward(V grad_y, V factor, V n, T mean_gradient, T mean_product,
                                   const NormStatistics<T>& row) {
  const V deviation = multiply_add(grad_y, factor, V(-mean_gradient));
  return multiply_add(n, V(-mean_product), deviation) * V(row.inverse_deviation);
}

// The vectors' gradients follow from two sums over the rows that share them, G = sum grad_y and P = sum grad_y * n:
//   shift: G     scale: weight * P + bias * G     weight: (1 + scale) * P     bias: (1 + scale) * G
// and the gate's is the sum of grad_h * x. They are formed after the reduction over tokens.

}  // namespace emogs
