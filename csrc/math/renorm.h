// Emotion-conditioned renormalization of one parameter, forward and backward:
//   params' = params + channels * ((params - center) * scale + shift)
// A change of zero leaves the bits of params.
#pragma once

#include "common/platform.h"

namespace emogs {

template <class V>
EMOGS_HD V renorm(V params, V center, V scale, V shift, V channels) {
  const V change = channels * multiply_add(params - center, scale, shift);
  return select(change == V(0), params, params + change);
}

// d loss / d params
template <class V>
EMOGS_HD V renorm_backward(V grad, V scale, V channels) {
  return multiply_add(grad, channels * scale, grad);
}

// The vectors' gradients follow from two sums over the frames, G = sum grad and D = sum grad * (params - center):
//   center: -channels * scale * G     scale: channels * D     shift: channels * G
//   channels: sum over samples of scale * D + shift * G

}  // namespace emogs
