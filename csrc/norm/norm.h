// The shape contract of emotion-conditioned normalization. B batch, T tokens, C channels. The modulation vectors have 1
// or R rows each (scale_rows, ...); `region` chooses the row of a token.
//
// The type T of an operation names the storage of its tensors: `Token` of x, y and their gradients, `Stream` of the
// residual, residual_out and their gradients; one type where both are the same, else Mixed. Vectors and arithmetic are
// float32; float64 where everything is.
#pragma once

#include <stdint.h>

#include "common/half.h"
#include "common/isa.h"
#include "common/launch.h"

namespace emogs {

template <class Token, class Stream>
struct Mixed {};

template <class T>
struct NormTypes {
  using Token = T;
  using Stream = T;
  using Vector = typename ArithmeticOf<T>::Type;
};
template <class X, class R>
struct NormTypes<Mixed<X, R>> {
  using Token = X;
  using Stream = R;
  using Vector = float;
};

// Two half types never meet: a half converts to float32 without loss.
#define EMOGS_NORM_FLOATS                                                                        \
  float, emogs::Half, emogs::BFloat16, emogs::Mixed<BFloat16, float>, emogs::Mixed<Half, float>, \
      emogs::Mixed<float, BFloat16>, emogs::Mixed<float, Half>
#define EMOGS_FOR_NORM_HALVES(INSTANTIATE) /* the same without float */ \
  INSTANTIATE(Half)                                                     \
  INSTANTIATE(BFloat16)                                                 \
  INSTANTIATE(Mixed<BFloat16, float>)                                   \
  INSTANTIATE(Mixed<Half, float>)                                       \
  INSTANTIATE(Mixed<float, BFloat16>)                                   \
  INSTANTIATE(Mixed<float, Half>)

template <class T>
struct EmotionNorm : Launch {
  using Token = typename NormTypes<T>::Token;
  using Stream = typename NormTypes<T>::Stream;
  using Vector = typename NormTypes<T>::Vector;
  int64_t batch, tokens, channels, regions;  // B, T, C, R
  int64_t scale_rows, shift_rows, gate_rows;
  int64_t region_rows;    // B, or 1: the same for every sample
  const Token* x;         // [B, T, C]; backward: null without a gate
  const Vector* scale;    // [B, scale_rows, C]
  const Vector* weight;   // [C] or null (ones)
  const Vector* bias;     // [C] or null (zeros)
  const Vector* gate;     // [B, gate_rows, C] or null (zeros)
  const int32_t* region;  // [region_rows, T] in [0, R), or null (zeros)
  Vector* folded;         // [3, B, R, C] scratch: factor, offset (forward) and branch (with a gate), see math/norm.h
  bool rms;               // RMSNorm instead of LayerNorm
  double eps;             // added to the variance

  template <class Reader>
  void visit(Reader& field) {
    field("batch", batch), field("tokens", tokens), field("channels", channels), field("regions", regions);
    field("scale_rows", scale_rows), field("shift_rows", shift_rows), field("gate_rows", gate_rows);
    field("region_rows", region_rows);
    field("x", x), field("scale", scale), field("weight", weight), field("bias", bias), field("gate", gate);
    field("region", region), field("folded", folded), field("rms", rms), field("eps", eps);
  }
};

template <class T>
struct EmotionNormForward : EmotionNorm<T> {
  using typename EmotionNorm<T>::Token;
  using typename EmotionNorm<T>::Stream;
  using typename EmotionNorm<T>::Vector;
  const Stream* residual;  // [B, T, C] or null
  const Vector* shift;     // [B, shift_rows, C]
  Token* y;                // [B, T, C] out; may be x
  Stream* residual_out;    // [B, T, C] out, null without a residual; may be residual

  template <class Reader>
  void visit(Reader& field) {
    EmotionNorm<T>::visit(field);
    field("residual", residual), field("shift", shift), field("y", y), field("residual_out", residual_out);
  }
};

// A sample's tokens are summed in `chunks` pieces of equal length, each by one worker; then the pieces in order, then
// what the regions and samples share. So the bits do not depend on how many workers there are.
template <class T>
struct EmotionNormBackward : EmotionNorm<T> {
  using typename EmotionNorm<T>::Token;
  using typename EmotionNorm<T>::Stream;
  using typename EmotionNorm<T>::Vector;
  int64_t chunks;
  const Stream* hidden;             // [B, T, C] what was normalized: residual_out, or x
  const Token* grad_y;              // [B, T, C]
  const Stream* grad_residual_out;  // [B, T, C] or null
  Vector* partial;                  // [B, chunks, S, R, C] scratch: sums of grad_y, grad_y * n and, with a gate (S = 3,
                                    // else 2), grad_hidden * x
  Stream* grad_hidden;              // [B, T, C] out: the gradient of residual, or of x without one
  Token* grad_x;                    // [B, T, C] out, or null: the same as grad_hidden
  Vector* grad_scale;               // [B, scale_rows, C] out
  Vector* grad_shift;               // [B, shift_rows, C] out
  Vector* grad_gate;                // [B, gate_rows, C] out, null without a gate
  Vector* grad_weight;              // [C] out, null without a weight
  Vector* grad_bias;                // [C] out, null without a bias

  template <class Reader>
  void visit(Reader& field) {
    EmotionNorm<T>::visit(field);
    field("chunks", chunks), field("hidden", hidden), field("grad_y", grad_y);
    field("grad_residual_out", grad_residual_out), field("partial", partial);
    field("grad_hidden", grad_hidden), field("grad_x", grad_x);
    field("grad_scale", grad_scale), field("grad_shift", grad_shift), field("grad_gate", grad_gate);
    field("grad_weight", grad_weight), field("grad_bias", grad_bias);
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
