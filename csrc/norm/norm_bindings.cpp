#include "common/registry.h"
#include "norm/norm.h"

namespace emogs {

static const Operation forward = operation<EmotionNormForward>(
    "emotion_norm_forward", on_cpu<float, double>([](const auto& params) { return emotion_norm_forward_cpu(params); }),
    on_cuda<EMOGS_CUDA_FLOATS>([](const auto& params) { return emotion_norm_forward_cuda(params); }));

static const Operation backward = operation<EmotionNormBackward>(
    "emotion_norm_backward",
    on_cpu<float, double>([](const auto& params) { return emotion_norm_backward_cpu(params); }),
    on_cuda<EMOGS_CUDA_FLOATS>([](const auto& params) { return emotion_norm_backward_cuda(params); }));

}  // namespace emogs
