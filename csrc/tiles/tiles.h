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

/// Bytes of scratch for `slots` images at a time: per splat a box and two records of the sort (24 bytes in float), per
/// part the sort's counts. All S I where S > 1, else as many as there are threads.
template <class T>
static constexpr int64_t intersect_tiles_scratch(int64_t slots, int64_t count, int64_t parts) {
  return slots * (count * int64_t(sizeof(int64_t) + 4 * sizeof(T)) + parts * int64_t(2048 * sizeof(int32_t) + 64));
}

template <class T>
struct IntersectCount : Launch {
  int64_t images, count;  // I, N
  int width, height;
  int64_t parts;          // S: threads share an image in so many parts; S I <= I + 2 threads bounds part_offsets
  const T* splats;        // [I, N, 8] math/splat.h's Splat
  const bool* tile_mask;  // [I, T] or null: tiles that are false stay empty
  int32_t* visible;       // [I] out: how many splats meet a tile
  int32_t* order;         // [I, N] out: those, by depth, then by index; the rest is unset
  int64_t* boxes;         // [I, N] out: tiles/boxes.h's TileBox of each, in that order
  int32_t* part_offsets;  // [I, S, T] out: how many pairs of a tile lie in the parts before
  int64_t* tile_offsets;  // [I * T + 1] out: pairs of tile t are [tile_offsets[t], tile_offsets[t + 1])
  uint8_t* scratch;       // [intersect_tiles_scratch(slots, N, S)]; slots: I where S > 1, else min(threads, I)

  template <class Reader>
  void visit(Reader& field) {
    field("images", images), field("count", count), field("width", width), field("height", height);
    field("parts", parts), field("splats", splats), field("tile_mask", tile_mask), field("visible", visible);
    field("order", order), field("boxes", boxes), field("part_offsets", part_offsets);
    field("tile_offsets", tile_offsets), field("scratch", scratch);
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
