#include "blend/blend.h"
#include "common/registry.h"

namespace emogs {

static const Operation scratch("blend_tiles_scratch", [](FieldReader& field) -> int64_t {
  int64_t channels = 0;
  field("channels", channels);
  field.finish();
  return blend_tiles_scratch(channels);
});

// Rows and width of `pair_sums`, for lists that have passed forward.
static const Operation rows("blend_tiles_rows", [](FieldReader& field) -> int64_t {
  int64_t tiles = 0;
  const int64_t* tile_offsets = nullptr;
  field("tiles", tiles), field("tile_offsets", tile_offsets);
  field.finish();
  return largest_wave(tile_offsets, tiles);
});

static const Operation row_width("blend_tiles_row_width", [](FieldReader& field) -> int64_t {
  int64_t channels = 0;
  field("channels", channels);
  field.finish();
  return pair_sums_width(channels);
});

static const Operation forward = operation<BlendForward>(
    "blend_tiles_forward", on_cpu<float, double>([](const auto& p) { return blend_tiles_forward_cpu(p); }),
    on_cuda<float>([](const auto& p) { blend_tiles_forward_cuda(p); }));

static const Operation backward = operation<BlendBackward>(
    "blend_tiles_backward", on_cpu<float, double>([](const auto& p) { return blend_tiles_backward_cpu(p); }),
    on_cuda<float>([](const auto& p) { blend_tiles_backward_cuda(p); }));

}  // namespace emogs
