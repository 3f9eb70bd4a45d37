#include "blend/blend.h"
#include "common/registry.h"

namespace emogs {

static const Operation scratch("blend_tiles_scratch", [](FieldReader& field) -> int64_t {
  int64_t channels = 0;
  field("channels", channels);
  field.finish();
  return blend_tiles_scratch(channels);
});

static const Operation forward = operation<BlendForward>(
    "blend_tiles_forward", on_cpu<float, double>([](const auto& p) { blend_tiles_forward_cpu(p); }),
    on_cuda<>([](const auto&) {}));

static const Operation backward = operation<BlendBackward>(
    "blend_tiles_backward", on_cpu<float, double>([](const auto& p) { blend_tiles_backward_cpu(p); }),
    on_cuda<>([](const auto&) {}));

}  // namespace emogs
