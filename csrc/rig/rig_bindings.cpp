#include "common/registry.h"
#include "rig/rig.h"

namespace emogs {

static const Operation forward = operation<RigFramesForward>(
    "rig_frames_forward", on_cpu<float, double>([](const auto& p) { rig_frames_forward_cpu(p); }),
    on_cuda<float>([](const auto& p) { rig_frames_forward_cuda(p); }));

static const Operation backward = operation<RigFramesBackward>(
    "rig_frames_backward", on_cpu<float, double>([](const auto& p) { rig_frames_backward_cpu(p); }),
    on_cuda<float>([](const auto& p) { rig_frames_backward_cuda(p); }));

}  // namespace emogs
