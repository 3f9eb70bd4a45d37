// The kernels for rows of any length and alignment, which norm_group.cuh's cannot hold: a group of threads goes through
// a token's channels in a loop, several times, and finds them in the caches from the second time on. Lane i owns
// channels i, i + size, ... It reads only those elements of a result that it has written itself.
#pragma once

#include "norm/norm_items.cuh"

namespace emogs {
namespace {

constexpr int kLoopThreads = 256;  // of a block at most

/// Few lanes for short rows, so that short rows waste none; the whole block for long ones.
inline int loop_group_size(int64_t channels) {
  int size = 1;
  while (size < 32 && size * 4 < channels) size *= 2;
  return channels <= 1024 ? size : kLoopThreads;
}

template <class Storage>
__device__ NormStatistics<float> loop_statistics(Group& group, const Storage* h, int64_t channels, bool rms,
                                                 float eps) {
  float mean = 0;
  if (!rms) {
    for (int64_t c = group.lane; c < channels; c += group.size) mean += load_float(h[c]);
    mean = group.sum(mean) / static_cast<float>(channels);
  }
  float2 sums = {0, 0};  // of deviations and of their squares
  for (int64_t c = group.lane; c < channels; c += group.size) {
    const float deviation = load_float(h[c]) - mean;
    sums.x += deviation;
    sums.y = multiply_add(deviation, deviation, sums.y);
  }
  sums = group.sum(sums);
  return norm_statistics(mean, rms ? 0.0f : sums.x, sums.y, channels, eps);
}

template <class T, class Storage>
__device__ void loop_normalize(const EmotionNormForward<T>& p, Group& group, const Storage* h, int64_t channels,
                               int row, typename EmotionNorm<T>::Token* y) {
  const NormStatistics<float> statistics = loop_statistics(group, h, channels, p.rms, static_cast<float>(p.eps));
  const int b = row / int(p.regions), region = row % int(p.regions);
  const float* scale = vector_of(p.scale, p.scale_rows, b, region, p.channels);
  const float* shift = vector_of(p.shift, p.shift_rows, b, region, p.channels);
  for (int64_t c = group.lane; c < channels; c += group.size) {
    const float factor = norm_factor(p.weight ? p.weight[c] : 1.0f, scale[c]);
    const float offset = norm_offset(p.bias ? p.bias[c] : 0.0f, scale[c], shift[c]);
    store_float(norm_modulate(norm_normalize(load_float(h[c]), statistics), factor, offset), y + c);
  }
}

template <class T>
__global__ void __launch_bounds__(kLoopThreads)
    emotion_norm_forward_loop_kernel(EmotionNormForward<T> p, Groups groups) {
  Group group(groups.size);
  const uint32_t token = group.index();
  const int64_t at = token * p.channels;
  const bool active = token < groups.count;
  const int row = active ? row_of(p, token) : -1;
  const int64_t channels = row < 0 ? 0 : p.channels;  // the others' lanes only take part in the sums
  if (active && row < 0)
    for (int64_t c = group.lane; c < p.channels; c += group.size) {
      store_float(NAN, p.y + at + c);
      if (p.residual) store_float(NAN, p.residual_out + at + c);
    }
  if (!p.residual) return loop_normalize(p, group, p.x + at, channels, row, p.y + at);
  const int64_t b = row / int(p.regions), region = row % int(p.regions);
  const float* gate = p.gate ? vector_of(p.gate, p.gate_rows, b, region, p.channels) : nullptr;
  for (int64_t c = group.lane; c < channels; c += group.size) {
    const float branch = gate ? norm_branch(gate[c]) : 1.0f;
    store_float(norm_residual(load_float(p.x[at + c]), load_float(p.residual[at + c]), branch),
                p.residual_out + at + c);
  }
  loop_normalize(p, group, p.residual_out + at, channels, row, p.y + at);
}

/// Of the first `channels`: none, where there is nothing to do but to take part in the sums.
template <class T>
__device__ void loop_backward(const EmotionNormBackward<T>& p, Group& group, uint32_t token, int row, int64_t channels,
                              float* partial) {
  const int64_t at = token * p.channels, plane = p.regions * p.channels;
  const int b = row / int(p.regions), region = row % int(p.regions);
  const auto* h = p.hidden + at;
  const auto* grad_y = p.grad_y + at;
  const float* scale = vector_of(p.scale, p.scale_rows, b, region, p.channels);
  const float* gate = p.gate ? vector_of(p.gate, p.gate_rows, b, region, p.channels) : nullptr;
  const NormStatistics<float> statistics = loop_statistics(group, h, channels, p.rms, static_cast<float>(p.eps));
  float2 means = {0, 0};
  for (int64_t c = group.lane; c < channels; c += group.size) {
    const float grad_n = load_float(grad_y[c]) * norm_factor(p.weight ? p.weight[c] : 1.0f, scale[c]);
    means.x += grad_n;
    means.y = multiply_add(grad_n, norm_normalize(load_float(h[c]), statistics), means.y);
  }
  means = group.sum(means);
  means.x = p.rms ? 0.0f : means.x / static_cast<float>(channels), means.y /= static_cast<float>(channels);
  for (int64_t c = group.lane; c < channels; c += group.size) {
    const float g = load_float(grad_y[c]), n = norm_normalize(load_float(h[c]), statistics);
    const float factor = norm_factor(p.weight ? p.weight[c] : 1.0f, scale[c]);
    float grad_h = norm_normalize_backward(g, factor, n, means.x, means.y, statistics);
    if (p.grad_residual_out) grad_h += load_float(p.grad_residual_out[at + c]);
    store_float(grad_h, p.grad_hidden + at + c);
    if (p.grad_x) store_float(gate ? norm_branch(gate[c]) * grad_h : grad_h, p.grad_x + at + c);
    float* sum = partial + region * p.channels + c;
    sum[0] += g;
    sum[plane] = multiply_add(g, n, sum[plane]);
    if (gate) sum[2 * plane] = multiply_add(grad_h, load_float(p.x[at + c]), sum[2 * plane]);
  }
}

// A group a chunk of tokens, whose sums it keeps in memory.
template <class T>
__global__ void __launch_bounds__(kLoopThreads)
    emotion_norm_backward_loop_kernel(EmotionNormBackward<T> p, Groups groups) {
  Group group(groups.size);
  const uint32_t chunk = group.index(), length = uint32_t((p.tokens + p.chunks - 1) / p.chunks);
  const uint32_t first = chunk / uint32_t(p.chunks) * uint32_t(p.tokens);
  const uint32_t begin = first + chunk % uint32_t(p.chunks) * length;
  const uint32_t end = chunk < groups.count ? minimum(begin + length, first + uint32_t(p.tokens)) : 0;
  const int64_t rows = (p.gate ? 3 : 2) * p.regions;
  float* partial = p.partial + chunk * rows * p.channels;
  if (chunk < groups.count)
    for (int64_t c = group.lane; c < p.channels; c += group.size)
      for (int64_t row = 0; row < rows; ++row) partial[row * p.channels + c] = 0;
  for (uint32_t token = begin; token - begin < length; ++token) {  // as often for each group of a warp
    const bool active = token < end;
    const int row = active ? row_of(p, token) : -1;
    if (active && row < 0)
      for (int64_t c = group.lane; c < p.channels; c += group.size) {
        store_float(NAN, p.grad_hidden + token * p.channels + c);
        if (p.grad_x) store_float(NAN, p.grad_x + token * p.channels + c);
      }
    loop_backward(p, group, token, row < 0 ? 0 : row, row < 0 ? 0 : p.channels, partial);
  }
}

}  // namespace
}  // namespace emogs
