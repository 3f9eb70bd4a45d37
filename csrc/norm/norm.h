// The shape contract of emotion-conditioned normalization. B batch, T tokens, C channels. The modulation vectors have 1
// or R rows each (scale_rows, ...); `region` chooses the row of a token. Vectors are float32, float64 only beside
// float64 tokens.
#pragma once

#include <stdint.h>

#include "common/isa.h"
#include "common/launch.h"

namespace emogs {

template <class T>
struct NormVector {
  using type = float;
};
template <>
struct NormVector<double> {
  using type = double;
};

template <class T>
struct EmotionNorm : Launch {
  using Vector = typename NormVector<T>::type;
  int64_t batch, tokens, channels, regions;  // B, T, C, R
  int64_t scale_rows, gate_rows;
  const T* x;             // [B, T, C]; backward: null without a gate
  const Vector* gate;     // [B, gate_rows, C] or null (zeros)
  const Vector* scale;    // [B, scale_rows, C]
  const Vector* weight;   // [C] or null (ones)
  const int32_t* region;  // [B, T] in [0, R), or null (zeros)
  bool rms;               // RMSNorm instead of LayerNorm
  double eps;             // added to the variance

  template <class Reader>
  void visit(Reader& field) {
    field("batch", batch), field("tokens", tokens), field("channels", channels), field("regions", regions);
    field("scale_rows", scale_rows), field("gate_rows", gate_rows);
    field("x", x), field("gate", gate), field("scale", scale), field("weight", weight), field("region", region);
    field("rms", rms), field("eps", eps);
  }
};

template <class T>
struct EmotionNormForward : EmotionNorm<T> {
  using Vector = typename NormVector<T>::type;
  int64_t shift_rows;
  const T* residual;    // [B, T, C] or null
  const Vector* shift;  // [B, shift_rows, C]
  const Vector* bias;   // [C] or null (zeros)
  Vector* folded;       // [2, B, R, C] scratch: factor and offset (norm_factor, norm_offset)
  T* y;                 // [B, T, C] out
  T* residual_out;      // [B, T, C] out, null without a residual

  template <class Reader>
  void visit(Reader& field) {
    EmotionNorm<T>::visit(field);
    field("shift_rows", shift_rows), field("residual", residual), field("shift", shift), field("bias", bias);
    field("folded", folded);
    field("y", y), field("residual_out", residual_out);
  }
};

// A row of T is summed in `chunks` pieces of equal length, each by one worker; then the pieces in order. So the bits do
// not depend on how many workers there are.
template <class T>
struct EmotionNormBackward : EmotionNorm<T> {
  using Vector = typename NormVector<T>::type;
  int64_t chunks;
  const T* hidden;             // [B, T, C] what was normalized: residual_out, or x
  const T* grad_y;             // [B, T, C]
  const T* grad_residual_out;  // [B, T, C] or null
  Vector* folded;              // [B, R, C] scratch: factor
  Vector* partial;             // [B, chunks, S, R, C] scratch, S as in sums
  T* grad_hidden;              // [B, T, C] out: also the gradient of residual, and of x without a gate
  T* grad_x;                   // [B, T, C] out, null without a gate
  Vector* sums;                // [B, S, R, C] out: grad_y, grad_y * n and, with a gate (S = 3, else 2), grad_hidden * x

  template <class Reader>
  void visit(Reader& field) {
    EmotionNorm<T>::visit(field);
    field("chunks", chunks), field("hidden", hidden), field("grad_y", grad_y);
    field("grad_residual_out", grad_residual_out), field("folded", folded), field("partial", partial);
    field("grad_hidden", grad_hidden), field("grad_x", grad_x), field("sums", sums);
  }
};

// Both return the first flat index of `region` that is out of range, or -1; what they then wrote is undefined. CUDA
// cannot look without waiting: it returns -1 and writes NaN to such tokens.
EMOGS_CPU_KERNEL(int64_t, emotion_norm_forward, EmotionNormForward)
EMOGS_CPU_KERNEL(int64_t, emotion_norm_backward, EmotionNormBackward)
template <class T>
int64_t emotion_norm_forward_cuda(const EmotionNormForward<T>& params);
template <class T>
int64_t emotion_norm_backward_cuda(const EmotionNormBackward<T>& params);

}  // namespace emogs
