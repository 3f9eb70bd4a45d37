// The shape contract of blending: splats into pixels, tile by tile, front to back.
// I images, N splats, D channels, M pairs (splat, tile), T tiles an image, H x W pixels.
#pragma once

#include <stdint.h>

#include "common/isa.h"
#include "common/launch.h"
#include "tiles/tiles.h"

namespace emogs {

template <class T>
struct BlendForward : Launch {
  int64_t images, count, channels;  // I, N, D
  int width, height;
  double alpha_cut, alpha_ceiling, transmittance_stop;
  bool with_depth;              // blend the splats' depth as one more channel
  const T* splats;              // [I, N, 8] math/splat.h's Splat
  const T* colors;              // [I, N, D]
  const T* backgrounds;         // [I, D] or null (zeros)
  const int64_t* tile_offsets;  // [I * T + 1]
  const int32_t* ids;           // [M]
  T* scratch;                   // [threads, blend_tiles_scratch(channels)]

  T* image_colors;    // [I, H, W, D] out
  T* alphas;          // [I, H, W] out
  T* depths;          // [I, H, W] out, sums of weight times depth; null without depth
  T* transmittances;  // [I, H, W] out: what is left of the background; 1 - alphas, not rounded to steps of 1
  int32_t* last;      // [I, H, W] out: pairs of its tile up to the last that touched the pixel

  template <class Reader>
  void visit(Reader& field) {
    field("images", images), field("count", count), field("channels", channels);
    field("width", width), field("height", height);
    field("alpha_cut", alpha_cut), field("alpha_ceiling", alpha_ceiling);
    field("transmittance_stop", transmittance_stop), field("with_depth", with_depth);
    field("splats", splats), field("colors", colors), field("backgrounds", backgrounds);
    field("tile_offsets", tile_offsets), field("ids", ids), field("scratch", scratch);
    field("image_colors", image_colors), field("alphas", alphas), field("depths", depths);
    field("transmittances", transmittances), field("last", last);
  }
};

// A tile writes the gradients of its pairs to rows of its own, which are then summed per splat in the order of tiles.
// Of forward's outputs, `transmittances` and `last` are read.
template <class T>
struct BlendBackward : BlendForward<T> {
  const T* grad_image_colors;  // [I, H, W, D] or null (zeros)
  const T* grad_alphas;        // [I, H, W] or null
  const T* grad_depths;        // [I, H, W] or null
  int32_t* pair_rows;          // [M] scratch: where the gradients of a pair go, grouped by splat
  int64_t* splat_starts;       // [I, N + 1] scratch: first of the rows of a splat
  T* pair_grads;               // [M, 8 + D] scratch
  T* tile_backgrounds;         // [I * T, D] scratch, or null
  T* grad_splats;              // [I, N, 8] out
  T* grad_colors;              // [I, N, D] out
  T* grad_backgrounds;         // [I, D] out, or null

  template <class Reader>
  void visit(Reader& field) {
    BlendForward<T>::visit(field);
    field("grad_image_colors", grad_image_colors), field("grad_alphas", grad_alphas);
    field("grad_depths", grad_depths), field("pair_rows", pair_rows), field("splat_starts", splat_starts);
    field("pair_grads", pair_grads), field("tile_backgrounds", tile_backgrounds);
    field("grad_splats", grad_splats), field("grad_colors", grad_colors), field("grad_backgrounds", grad_backgrounds);
  }
};

constexpr int kTilePixels = kTileSize * kTileSize;
constexpr int kBatchSize = 32;  // splats that are staged together

constexpr int staged_stride(int64_t channels) {
  return int(channels + 1 + 15) / 16 * 16;
}

/// Scalars of scratch a thread needs, a multiple of 64 bytes: planes of the tile's pixels for each channel, depth and
/// the pixel state (three); per-column sums of the channels; the channels of the staged splats.
constexpr int64_t blend_tiles_scratch(int64_t channels) {
  return kTilePixels * (channels + 4) + kTileSize * (channels + 1) + kBatchSize * staged_stride(channels);
}

EMOGS_CPU_KERNEL(void, blend_tiles_forward, BlendForward)
EMOGS_CPU_KERNEL(void, blend_tiles_backward, BlendBackward)

}  // namespace emogs
