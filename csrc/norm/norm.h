// The shape contract of emotion-conditioned normalization. B batch, T tokens, C channels; each modulation vector has
// its own number of rows R (1 without regions), and `region` chooses the row of a token.
#pragma once

#include <stdint.h>

#include "common/isa.h"
#include "common/launch.h"

namespace emogs {

template <class T>
struct NormScalar {  // of the vectors and of all arithmetic
  using type = float;
};
template <>
struct NormScalar<double> {
  using type = double;
};

template <class T>
struct EmotionNormForward : Launch {
  using Vector = typename NormScalar<T>::type;
  int64_t batch, tokens, channels;
  int64_t scale_rows, shift_rows, gate_rows;
  const T* x;             // [B, T, C]
  const T* residual;      // [B, T, C] or null
  const Vector* gate;     // [B, gate_rows, C] or null; only with a residual
  const Vector* scale;    // [B, scale_rows, C]
  const Vector* shift;    // [B, shift_rows, C]
  const Vector* weight;   // [C] or null (ones)
  const Vector* bias;     // [C] or null (zeros)
  const int32_t* region;  // [B, T] or null; row of the vectors that have more than one
  int64_t region_rows;    // valid region values are [0, region_rows)
  bool rms;               // RMSNorm instead of LayerNorm
  double eps;             // added to the variance
  T* y;                   // [B, T, C] out
  T* residual_out;        // [B, T, C] out; null without a residual

  template <class Reader>
  void visit(Reader& field) {
    field("batch", batch), field("tokens", tokens), field("channels", channels);
    field("scale_rows", scale_rows), field("shift_rows", shift_rows), field("gate_rows", gate_rows);
    field("x", x), field("residual", residual), field("gate", gate);
    field("scale", scale), field("shift", shift), field("weight", weight), field("bias", bias);
    field("region", region), field("region_rows", region_rows);
    field("rms", rms), field("eps", eps);
    field("y", y), field("residual_out", residual_out);
  }
};

// Returns the first flat index of `region` that is out of range, or -1. CUDA returns -1 and writes NaN to such rows.
EMOGS_CPU_KERNEL(int64_t, emotion_norm_forward, EmotionNormForward)
template <class T>
int64_t emotion_norm_forward_cuda(const EmotionNormForward<T>& params);

}  // namespace emogs
