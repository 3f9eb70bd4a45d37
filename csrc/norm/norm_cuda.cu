// Emotion-conditioned normalization on CUDA.
#include "common/cuda_launch.h"
#include "math/norm.h"
#include "norm/norm.h"

namespace emogs {

template <class T>
int64_t emotion_norm_forward_cuda(const EmotionNormForward<T>& p) {
  return -1;
}

template int64_t emotion_norm_forward_cuda(const EmotionNormForward<float>&);

}  // namespace emogs
