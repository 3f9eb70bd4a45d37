// The shape contract of tile intersection: for every 16x16 tile of every image, the splats that can reach it, near to
// far. I images, N splats, M pairs (splat, tile), T tiles an image (row-major). Call `intersect_tiles_count`, which
// sorts and counts and returns M, allocate `ids`, then `intersect_tiles_fill`.
#pragma once

#include <stdint.h>

#include "common/isa.h"
#include "common/launch.h"

namespace emogs {

constexpr int kTileSize = 16;  // pixels; one row is one AVX-512 register of floats

constexpr int64_t tiles_along(int64_t pixels) {
  return (pixels + kTileSize - 1) / kTileSize;
}

template <class T>
struct IntersectCount : Launch {
  int64_t images, count;  // I, N
  int width, height;
  int64_t chunks;          // S: parts of the depth-sorted splats that are counted and placed on their own
  const T* splats;         // [I, N, 8] math/splat.h's Splat
  const bool* tile_mask;   // [I, T] or null: tiles that are false stay empty
  int32_t* order;          // [I, N] out: visible splats by depth, then by index; the rest is unset
  int32_t* visible;        // [I] out: how many
  int32_t* chunk_offsets;  // [I, S, T] out: where the next pair of a chunk goes in a tile
  int64_t* tile_offsets;   // [I * T + 1] out: pairs of tile t are [tile_offsets[t], tile_offsets[t + 1])
  int64_t* scratch;        // [min(threads, images), 4 N]

  template <class Reader>
  void visit(Reader& field) {
    field("images", images), field("count", count), field("width", width), field("height", height);
    field("chunks", chunks), field("splats", splats), field("tile_mask", tile_mask), field("order", order);
    field("visible", visible), field("chunk_offsets", chunk_offsets), field("tile_offsets", tile_offsets),
        field("scratch", scratch);
  }
};

template <class T>
struct IntersectFill : IntersectCount<T> {
  int32_t* ids;  // [M] out: index of the splat in its image

  template <class Reader>
  void visit(Reader& field) {
    IntersectCount<T>::visit(field);
    field("ids", ids);
  }
};

// Returns M, or -1 if that is more than 32-bit positions can count.
EMOGS_CPU_KERNEL(int64_t, intersect_tiles_count, IntersectCount)
EMOGS_CPU_KERNEL(void, intersect_tiles_fill, IntersectFill)

}  // namespace emogs
