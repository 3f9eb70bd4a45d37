// The shape contract of emotion-conditioned renormalization. B batch, T frames, P parameters. Vectors and arithmetic
// are float32, float64 beside float64 parameters.
#pragma once

#include <stdint.h>

#include "common/half.h"
#include "common/isa.h"
#include "common/launch.h"

namespace emogs {

template <class T>
struct EmotionRenorm : Launch {
  using Vector = typename ArithmeticOf<T>::Type;
  int64_t batch, frames, width;  // B, T, P
  const T* params;               // [B, T, P]
  const Vector* center;          // [B, P]
  const Vector* scale;           // [B, P]
  const Vector* shift;           // [B, P]
  const Vector* channels;        // [P] or null (ones)
  const bool* valid;             // [B, T] or null (all): where false, params may hold anything and are left alone

  template <class Reader>
  void visit(Reader& field) {
    field("batch", batch), field("frames", frames), field("width", width), field("params", params);
    field("center", center), field("scale", scale), field("shift", shift);
    field("channels", channels), field("valid", valid);
  }
};

template <class T>
struct EmotionRenormForward : EmotionRenorm<T> {
  T* out;  // [B, T, P]

  template <class Reader>
  void visit(Reader& field) {
    EmotionRenorm<T>::visit(field);
    field("out", out);
  }
};

// A sample's frames are summed in `chunks` pieces of equal length, then the pieces in order: the same bits for any
// number of workers.
template <class T>
struct EmotionRenormBackward : EmotionRenorm<T> {
  using typename EmotionRenorm<T>::Vector;
  int64_t chunks;
  const T* grad_out;      // [B, T, P]
  Vector* partial;        // [B, chunks, 2, P] scratch: sums of grad and of grad * (params - center)
  T* grad_params;         // [B, T, P] out
  Vector* grad_center;    // [B, P] out
  Vector* grad_scale;     // [B, P] out
  Vector* grad_shift;     // [B, P] out
  Vector* grad_channels;  // [P] out, null without channels

  template <class Reader>
  void visit(Reader& field) {
    EmotionRenorm<T>::visit(field);
    field("chunks", chunks), field("grad_out", grad_out), field("partial", partial);
    field("grad_params", grad_params), field("grad_center", grad_center), field("grad_scale", grad_scale);
    field("grad_shift", grad_shift), field("grad_channels", grad_channels);
  }
};

EMOGS_CPU_KERNEL(void, emotion_renorm_forward, EmotionRenormForward)
EMOGS_CPU_KERNEL(void, emotion_renorm_backward, EmotionRenormBackward)
template <class T>
void emotion_renorm_forward_cuda(const EmotionRenormForward<T>& params);
template <class T>
void emotion_renorm_backward_cuda(const EmotionRenormBackward<T>& params);

}  // namespace emogs
