#include "common/registry.h"
#include "norm/norm.h"

namespace emogs {

template <>
constexpr const char* scalar_name<Mixed<BFloat16, float>>() {
  return "bfloat16 with float32";
}
template <>
constexpr const char* scalar_name<Mixed<Half, float>>() {
  return "float16 with float32";
}
template <>
constexpr const char* scalar_name<Mixed<float, BFloat16>>() {
  return "float32 with bfloat16";
}
template <>
constexpr const char* scalar_name<Mixed<float, Half>>() {
  return "float32 with float16";
}

static const Operation forward = operation<EmotionNormForward>(
    "emotion_norm_forward",
    on_cpu<EMOGS_NORM_FLOATS, double>([](const auto& params) { return emotion_norm_forward_cpu(params); }),
    on_cuda<EMOGS_NORM_FLOATS>([](const auto& params) { return emotion_norm_forward_cuda(params); }));

static const Operation backward = operation<EmotionNormBackward>(
    "emotion_norm_backward",
    on_cpu<EMOGS_NORM_FLOATS, double>([](const auto& params) { return emotion_norm_backward_cpu(params); }),
    on_cuda<EMOGS_NORM_FLOATS>([](const auto& params) { return emotion_norm_backward_cuda(params); }));

}  // namespace emogs
