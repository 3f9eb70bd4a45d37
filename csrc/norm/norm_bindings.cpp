#include "common/registry.h"
#include "norm/norm.h"

namespace emogs {

static const Operation forward = operation<EmotionNormForward>(
    "emotion_norm_forward", on_cpu<float, double>([](const auto& params) { return emotion_norm_forward_cpu(params); }),
    on_cuda<float>([](const auto& params) { return emotion_norm_forward_cuda(params); }));

}  // namespace emogs
