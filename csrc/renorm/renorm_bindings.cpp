#include "common/registry.h"
#include "renorm/renorm.h"

namespace emogs {

static const Operation forward = operation<EmotionRenormForward>(
    "emotion_renorm_forward",
    on_cpu<float, Half, BFloat16, double>([](const auto& params) { emotion_renorm_forward_cpu(params); }),
    on_cuda<float, Half, BFloat16>([](const auto& params) { emotion_renorm_forward_cuda(params); }));

static const Operation backward = operation<EmotionRenormBackward>(
    "emotion_renorm_backward",
    on_cpu<float, Half, BFloat16, double>([](const auto& params) { emotion_renorm_backward_cpu(params); }),
    on_cuda<float, Half, BFloat16>([](const auto& params) { emotion_renorm_backward_cuda(params); }));

}  // namespace emogs
