#include "common/registry.h"
#include "project/project.h"

namespace emogs {

static const Operation forward = operation<ProjectForward>(
    "project_gaussians_forward", on_cpu<float, double>([](const auto& p) { project_gaussians_forward_cpu(p); }),
    on_cuda<float>([](const auto& p) { project_gaussians_forward_cuda(p); }));

static const Operation backward = operation<ProjectBackward>(
    "project_gaussians_backward", on_cpu<float, double>([](const auto& p) { project_gaussians_backward_cpu(p); }),
    on_cuda<float>([](const auto& p) { project_gaussians_backward_cuda(p); }));

}  // namespace emogs
