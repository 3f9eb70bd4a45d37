// Emotion-conditioned normalization on the CPU.
#include "math/norm.h"
#include "norm/norm.h"

namespace emogs {
namespace EMOGS_ISA {

template <class T>
int64_t emotion_norm_forward(const EmotionNormForward<T>& p) {
  return -1;
}

template int64_t emotion_norm_forward(const EmotionNormForward<float>&);
template int64_t emotion_norm_forward(const EmotionNormForward<double>&);

}  // namespace EMOGS_ISA
}  // namespace emogs
