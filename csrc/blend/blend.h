// The shape contract of blending: splats into pixels, tile by tile, front to back.
// I images, N splats, D channels, M pairs (splat, tile), T tiles an image, H x W pixels.
#pragma once

#include <stdint.h>

#include "common/isa.h"
#include "common/launch.h"
#include "common/platform.h"
#include "tiles/tiles.h"

namespace emogs {

enum class DepthMode : int { none = 0, sum = 1, median = 2 };  // what `depths` holds

template <class T>
struct BlendForward : Launch {
  int64_t images, count, channels;  // I, N, D
  int64_t pairs;                    // M
  int width, height;
  double alpha_cut, alpha_ceiling, transmittance_stop;
  int depth_mode;               // DepthMode
  const T* splats;              // [I, N, 8] math/splat.h's Splat
  const T* colors;              // [I, N, D]
  const T* backgrounds;         // [I, D] or null (zeros)
  const int64_t* tile_offsets;  // [I * T + 1]
  const int32_t* ids;           // [M]
  T* scratch;                   // [threads, blend_tiles_scratch(channels)], CPU only

  T* image_colors;    // [I, H, W, D] out
  T* alphas;          // [I, H, W] out
  T* depths;          // [I, H, W] out: sums of weight times depth, or medians; null without depth
  T* transmittances;  // [I, H, W] out: what is left of the background; 1 - alphas, not rounded to steps of 1
  int32_t* last;      // [I, H, W] out: how many pairs of its tile matter to the pixel
  int32_t* medians;   // [I, H, W] out: the pair of the tile that brings the pixel to one half, from 1; 0: none
  T* checkpoints;     // [M / kBucket, planes + 1, 256] out, CUDA only: see blend_tile.cuh's checkpoint_at; with `last`

  template <class Reader>
  void visit(Reader& field) {
    field("images", images), field("count", count), field("channels", channels), field("pairs", pairs);
    field("width", width), field("height", height);
    field("alpha_cut", alpha_cut), field("alpha_ceiling", alpha_ceiling);
    field("transmittance_stop", transmittance_stop), field("depth_mode", depth_mode);
    field("splats", splats), field("colors", colors), field("backgrounds", backgrounds);
    field("tile_offsets", tile_offsets), field("ids", ids), field("scratch", scratch);
    field("image_colors", image_colors), field("alphas", alphas), field("depths", depths);
    field("transmittances", transmittances), field("last", last), field("medians", medians);
    field("checkpoints", checkpoints);
  }

  EMOGS_HD_MEMBER bool blends_depth() const { return depth_mode == int(DepthMode::sum); }  // as one more channel
  EMOGS_HD_MEMBER bool wants_median() const { return depth_mode == int(DepthMode::median); }
};

// Tiles are taken in waves of bounded pairs. A tile writes the sums of its pairs over its pixels to rows of their own,
// which are then added per splat in the order of tiles: neither threads nor waves change any value.
// Of forward's outputs, `transmittances`, `last`, `medians` and `checkpoints` are read.
template <class T>
struct BlendBackward : BlendForward<T> {
  const T* grad_image_colors;  // [I, H, W, D] or null (zeros)
  const T* grad_alphas;        // [I, H, W] or null
  const T* grad_depths;        // [I, H, W] or null
  const int32_t* places;       // [M] CUDA: the row of each pair; a splat's rows stand together
  const int32_t* rows;         // [I * N, 2] CUDA: begin and end of each splat's rows
  T* pair_sums;                // [blend_tiles_wave, pair_sums_width] scratch; CUDA: [M, pair_sums_width]
  int32_t* tile_pairs;         // [I * T] scratch, CPU only: pairs of a tile that have sums
  T* tile_backgrounds;         // [I * T, D] scratch, or null
  T* grad_splats;              // [I, N, 8] out
  T* grad_colors;              // [I, N, D] out
  T* grad_backgrounds;         // [I, D] out, or null
  T* grad_probes;  // [I, N, 4] out, or null: gradients of x and y, and the sums of their magnitudes over pixels

  template <class Reader>
  void visit(Reader& field) {
    BlendForward<T>::visit(field);
    field("grad_image_colors", grad_image_colors), field("grad_alphas", grad_alphas);
    field("places", places), field("rows", rows);
    field("grad_depths", grad_depths), field("pair_sums", pair_sums), field("tile_pairs", tile_pairs);
    field("tile_backgrounds", tile_backgrounds), field("grad_splats", grad_splats);
    field("grad_colors", grad_colors), field("grad_backgrounds", grad_backgrounds), field("grad_probes", grad_probes);
  }
};

constexpr int kTilePixels = kTileSize * kTileSize;
constexpr int kBucket = 128;                   // pairs of a tile that a CUDA block stages together, or goes back over
constexpr int kBatchSize = 64;                 // splats that are staged together: one bit each
constexpr int kWavePairs = 1 << 17;            // pairs whose sums are kept at a time, unless one tile has more
constexpr int kStatePlanes = 3;                // of a tile beside its channels
constexpr int kMoments = 6, kMaximumSums = 9;  // sums of a pair beside its channels: six moments, two magnitudes, depth

/// Channels and depth, padded for whole registers.
constexpr int64_t padded_channels(int64_t channels) {
  return (channels + 1 + 15) / 16 * 16;
}

/// Numbers in a row of `pair_sums`, a multiple of four, since that many are written at a time.
EMOGS_HD constexpr int64_t pair_sums_width(int64_t channels) {
  return (channels + kMaximumSums + 3) / 4 * 4;
}

/// Scalars of scratch a thread needs, a multiple of 64 bytes: planes of the tile's pixels for its state and channels,
/// twice for backward; channels of the staged splats; weights of a block's or splat's pixels.
constexpr int64_t blend_tiles_scratch(int64_t channels) {
  return kTilePixels * (kStatePlanes + 2 * padded_channels(channels)) + kBatchSize * padded_channels(channels) +
         kBatchSize * 16 + 16 * (kMaximumSums + padded_channels(channels));
}

/// The tile behind the last one of the wave that starts at tile `begin`.
static inline int64_t wave_end(const int64_t* tile_offsets, int64_t tiles, int64_t begin) {
  int64_t end = begin + 1;
  while (end < tiles && tile_offsets[end + 1] - tile_offsets[begin] <= kWavePairs) end++;
  return end;
}

/// Rows that `pair_sums` needs: the pairs of the largest wave.
static inline int64_t largest_wave(const int64_t* tile_offsets, int64_t tiles) {
  int64_t most = 0;
  for (int64_t begin = 0, end = 0; begin < tiles; begin = end) {
    end = wave_end(tile_offsets, tiles, begin);
    const int64_t pairs = tile_offsets[end] - tile_offsets[begin];
    most = pairs > most ? pairs : most;
  }
  return most;
}

// What the kernels return; after an error the outputs are undefined.
constexpr int64_t kBlended = 0, kBadOffsets = -1, kBadIds = -2, kLongList = -3;

// The CUDA kernels check nothing: pairs that do not exist are left out.
template <class T>
void blend_tiles_forward_cuda(const BlendForward<T>& params);
template <class T>
void blend_tiles_backward_cuda(const BlendBackward<T>& params);

EMOGS_CPU_KERNEL(int64_t, blend_tiles_forward, BlendForward)
EMOGS_CPU_KERNEL(int64_t, blend_tiles_backward, BlendBackward)

}  // namespace emogs
