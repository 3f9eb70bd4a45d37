// What forward and backward share: where a tile lies, how its pixels are stored, and the staging of its splats. The
// pixels of a tile are 16 blocks of 4x4: one AVX-512 register of floats or several narrower ones, contiguous in memory.
// A batch of splats is staged as a structure of arrays in the first cache, together with which blocks each can touch:
// most splats of a tile touch a few. For files compiled once per instruction set only.
#pragma once

#include "blend/blend.h"
#include "common/lanes.h"
#include "common/threads.h"
#include "math/blend.h"

namespace emogs {
namespace EMOGS_ISA {
namespace {

constexpr int kBlockSize = 4;                          // pixels, both ways
constexpr int kBlockPixels = kBlockSize * kBlockSize;  // lanes
constexpr int kBlocksAlong = kTileSize / kBlockSize;
constexpr int kBlocks = kBlocksAlong * kBlocksAlong;

/// Where a tile lies, and which pairs it has.
struct Tile {
  int64_t image, index;  // index over all images
  int x, y;              // first pixel
  int width, height;     // pixels inside the image
  int64_t begin, end;    // pairs
};

template <class T>
int64_t tile_total(const BlendForward<T>& p) {
  return p.images * tiles_along(p.width) * tiles_along(p.height);
}

template <class T>
Tile tile_at(const BlendForward<T>& p, int64_t index) {
  const int64_t tiles_x = tiles_along(p.width), tiles = tiles_x * tiles_along(p.height);
  const int x = int(index % tiles % tiles_x) * kTileSize, y = int(index % tiles / tiles_x) * kTileSize;
  return {index / tiles,
          index,
          x,
          y,
          minimum(kTileSize, p.width - x),
          minimum(kTileSize, p.height - y),
          p.tile_offsets[index],
          p.tile_offsets[index + 1]};
}

/// Positions in a list are counted in T, which has room for so many.
template <class T>
constexpr int64_t kLongestList = sizeof(T) == 4 ? int64_t(1) << 24 : INT32_MAX;

/// The lists must lie one after the other in the pairs.
template <class T>
int64_t check_offsets(const BlendForward<T>& p) {
  const int64_t tiles = tile_total(p);
  bool rise = p.tile_offsets[0] == 0 && p.tile_offsets[tiles] == p.pairs;
  int64_t longest = 0;
  for (int64_t tile = 0; tile < tiles; tile++) {
    rise = rise && p.tile_offsets[tile] <= p.tile_offsets[tile + 1];
    if (rise) longest = maximum(longest, p.tile_offsets[tile + 1] - p.tile_offsets[tile]);
  }
  return !rise ? kBadOffsets : longest > kLongestList<T> ? kLongList : kBlended;
}

template <class T>
BlendSettings<T> blend_settings(const BlendForward<T>& p) {
  return make_blend_settings<T>(p.alpha_cut, p.alpha_ceiling, p.transmittance_stop);
}

/// Where the pixels of a block are: (column, row) of its first, and pixels of it that lie inside the image.
struct BlockPlace {
  int x, y, width, height;
};

EMOGS_HD BlockPlace place_of(const Tile& tile, int block) {
  const int x = block % kBlocksAlong * kBlockSize, y = block / kBlocksAlong * kBlockSize;
  return {x, y, minimum(kBlockSize, tile.width - x), minimum(kBlockSize, tile.height - y)};
}

/// The image's index of the first pixel in a row of a block.
template <class T>
EMOGS_HD int64_t pixel_of(const BlendForward<T>& p, const Tile& tile, BlockPlace place, int row) {
  return (tile.image * p.height + tile.y + place.y + row) * p.width + tile.x + place.x;
}

/// The pixels of a tile [kBlocks, kStatePlanes + channels, kBlockPixels], in the scratch of a thread.
template <class T>
struct TilePixels {
  int channels;  // depth included where it is blended, then padded
  T* planes;

  EMOGS_HD_MEMBER T* transmittance(int block) const {
    return planes + block * (kStatePlanes + channels) * kBlockPixels;
  }
  EMOGS_HD_MEMBER T* last(int block) const { return transmittance(block) + kBlockPixels; }
  EMOGS_HD_MEMBER T* median(int block) const { return transmittance(block) + 2 * kBlockPixels; }  // forward
  EMOGS_HD_MEMBER T* behind(int block) const { return median(block); }                            // backward
  EMOGS_HD_MEMBER T* channel(int block) const { return transmittance(block) + kStatePlanes * kBlockPixels; }
};

/// Pixel centres of the blocks of a tile, by lane: x for each column of blocks, y for each row.
template <class T>
struct Centres {
  T x[kBlocksAlong][kBlockPixels] __attribute__((aligned(64)));
  T y[kBlocksAlong][kBlockPixels] __attribute__((aligned(64)));

  explicit Centres(const Tile& tile) {
    for (int i = 0; i < kBlocksAlong; i++)
      for (int lane = 0; lane < kBlockPixels; lane++) {
        x[i][lane] = T(tile.x + i * kBlockSize + lane % kBlockSize) + T(0.5);
        y[i][lane] = T(tile.y + i * kBlockSize + lane / kBlockSize) + T(0.5);
      }
  }
};

/// Up to kBatchSize splats of a tile's list.
template <class T>
struct Batch {
  StagedSplat<T[kBatchSize]> splats __attribute__((aligned(64)));
  T reach_y[kBatchSize] __attribute__((aligned(64)));
  T position[kBatchSize] __attribute__((aligned(64)));  // in the tile's list, from 1
  T blocks[kBatchSize] __attribute__((aligned(64)));    // sum of 2^block over the blocks that the splat can touch
  uint64_t touching[kBlocks];                           // one bit for each splat that can touch the block
  T* channels;                                          // [kBatchSize, stride]
  int stride;

  template <class V>
  EMOGS_HD_MEMBER StagedSplat<V> splat(int slot) const {
    return {V(splats.x[slot]),  V(splats.y[slot]),  V(splats.xx[slot]),
            V(splats.xy[slot]), V(splats.yy[slot]), V(splats.level[slot])};
  }
};

/// Turns the raw fields of a register of splats into what blending reads; returns their `least_exponent`.
template <class T>
EMOGS_HD Lanes<T> stage_splats(StagedSplat<T[kBatchSize]>& s, const T* reach_y, int at,
                               const BlendSettings<T>& settings) {
  using V = Lanes<T>;
  const StagedSplat<V> staged = stage_splat(V::load(s.x + at), V::load(s.y + at), V::load(s.xx + at),
                                            V::load(s.xy + at), V::load(s.yy + at), V::load(s.level + at));
  staged.xx.store(s.xx + at), staged.xy.store(s.xy + at), staged.yy.store(s.yy + at);
  staged.level.store(s.level + at);
  return least_exponent(staged.yy, V::load(reach_y + at), settings);
}

/// Finds which blocks each splat can touch: where its exponent somewhere in the rectangle of the block's pixel centres
/// reaches the cut. The exponent is concave, so its maximum lies on the vertical or the horizontal line of the
/// rectangle that is nearest to the splat's centre.
template <class T>
void find_touching(const Tile& tile, Batch<T>& batch, int count, const BlendSettings<T>& settings) {
  using V = Lanes<T>;
  const V zero = V(T(0)), side = V(T(kBlockSize - 1));
  uint64_t touching[kBlocks] = {};
  for (int at = 0; at < count; at += V::count) {
    const V least = stage_splats(batch.splats, batch.reach_y, at, settings);
    const V x = V::load(batch.splats.x + at), y = V::load(batch.splats.y + at),
            level = V::load(batch.splats.level + at);
    const V xx = V::load(batch.splats.xx + at), xy = V::load(batch.splats.xy + at), yy = V::load(batch.splats.yy + at);
    const V x_slope = -xy / (xx + xx), y_slope = -xy / (yy + yy);  // of the maxima along rows and columns
    V left[kBlocksAlong], best_y[kBlocksAlong], column_linear[kBlocksAlong], column_constant[kBlocksAlong];
    for (int i = 0; i < kBlocksAlong; i++) {
      left[i] = V(T(tile.x + i * kBlockSize) + T(0.5)) - x;
      const V nearest = minimum(maximum(zero, left[i]), left[i] + side);
      best_y[i] = nearest * y_slope;
      column_linear[i] = nearest * xy;
      column_constant[i] = multiply_add(nearest * xx, nearest, level);
    }
    V blocks = zero;
    for (int j = 0; j < kBlocksAlong; j++) {
      const V top = V(T(tile.y + j * kBlockSize) + T(0.5)) - y;
      const V nearest = minimum(maximum(zero, top), top + side), best_x = nearest * x_slope;
      const V row_linear = nearest * xy, row_constant = multiply_add(nearest * yy, nearest, level);
      for (int i = 0; i < kBlocksAlong; i++) {
        const V dy = minimum(maximum(best_y[i], top), top + side);
        const V dx = minimum(maximum(best_x, left[i]), left[i] + side);
        const V on_column = multiply_add(dy, multiply_add(dy, yy, column_linear[i]), column_constant[i]);
        const V on_row = multiply_add(dx, multiply_add(dx, xx, row_linear), row_constant);
        const auto touches = least <= maximum(on_column, on_row);
        const int block = j * kBlocksAlong + i;
        touching[block] |= bits(touches) << at;
        blocks = blocks + select(touches, V(T(1 << block)), zero);
      }
    }
    blocks.store(batch.blocks + at);
  }
  const uint64_t staged = ~uint64_t(0) >> (kBatchSize - count);
  for (int block = 0; block < kBlocks; block++) batch.touching[block] = touching[block] & staged;
}

/// Copies the pairs [begin, end) of a tile's list, at least one, into the cache. Returns whether their indices exist.
template <class T>
bool stage_batch(const BlendForward<T>& p, const Tile& tile, int64_t begin, int64_t end, Batch<T>& batch,
                 const BlendSettings<T>& settings) {
  const Splat<T>* splats = reinterpret_cast<const Splat<T>*>(p.splats) + tile.image * p.count;
  const T* colors = p.colors + tile.image * p.count * p.channels;
  for (int64_t pair = begin; pair < end; pair++) {
    const int64_t id = p.ids[pair], slot = pair - begin;
    if (id < 0 || id >= p.count) return false;
    const Splat<T>& s = splats[id];
    batch.splats.x[slot] = s.x, batch.splats.y[slot] = s.y;
    batch.splats.xx[slot] = s.a, batch.splats.xy[slot] = s.b, batch.splats.yy[slot] = s.c;
    batch.splats.level[slot] = s.opacity, batch.reach_y[slot] = s.reach_y;
    batch.position[slot] = T(pair - tile.begin + 1);
    T* channels = batch.channels + slot * batch.stride;
    for (int64_t c = 0; c < p.channels; c++) channels[c] = colors[id * p.channels + c];
    if (p.blends_depth()) channels[p.channels] = s.depth;
  }
  find_touching(tile, batch, int(end - begin), settings);
  return true;
}

/// Asks for the splat of a pair, if there is one. Many at once would queue up.
template <class T>
EMOGS_HD void prefetch_pair(const BlendForward<T>& p, const Tile& tile, int64_t pair) {
  if (uint64_t(pair) >= uint64_t(p.pairs)) return;
  const int64_t splat = tile.image * p.count + p.ids[pair];
  __builtin_prefetch(p.splats + splat * kSplatSize);
  __builtin_prefetch(p.colors + splat * p.channels);
}

}  // namespace
}  // namespace EMOGS_ISA
}  // namespace emogs
