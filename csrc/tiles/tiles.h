// The shape contract of tile intersection: for every 16x16 tile of every image, the splats that can reach it, near to
// far. I images, N splats, M pairs (splat, tile), T tiles an image (row-major). Call `intersect_tiles_count`, which
// sorts and counts and returns M, allocate `ids`, then `intersect_tiles_fill`.
#pragma once

#include <stdint.h>

#include "common/isa.h"
#include "common/launch.h"
#include "common/platform.h"

namespace emogs {

constexpr int kTileSize = 16;  // pixels; one row is one AVX-512 register of floats

EMOGS_HD constexpr int64_t tiles_along(int64_t pixels) {
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

// CUDA has two calls of its own; between them, the caller decides how much room the pairs get. S = I N splats.
// The first counts the tiles of every splat, sorts the splats of all images by depth, and adds the counts up in that
// order: places are numbers of pairs when all are listed splat by splat, near to far, over all images.
template <class T>
struct IntersectOrder : Launch {
  int64_t images, count;  // I, N; S at most 2^31 - 2
  int width, height;
  const T* splats;        // [S, 8] aligned to 16 bytes
  const bool* tile_mask;  // [I, T] or null: tiles that are false stay empty
  int32_t* counts;        // [S] scratch: how many tiles a splat meets
  int32_t* order;         // [2, S] out: in one of the two rows the splats, near to far, those without tiles last
  int32_t* starts;        // [2, S + 1] out: the first place of each, in that order, then M; 2^32 - 1 if that is less
                          // (row 1 is scratch)
  uint8_t* scratch;       // [scratch_bytes]
  int64_t scratch_bytes;  // intersect_tiles_order_scratch

  template <class Reader>
  void visit(Reader& field) {
    field("images", images), field("count", count), field("width", width), field("height", height);
    field("splats", splats), field("tile_mask", tile_mask), field("counts", counts), field("order", order);
    field("starts", starts), field("scratch", scratch), field("scratch_bytes", scratch_bytes);
  }
};

// The second lists the pairs, sorts them by tile, and finds where each tile begins. Where there is room for fewer than
// M pairs, the farthest are left out.
template <class T>
struct IntersectEmit : IntersectOrder<T> {
  int order_row;          // what intersect_tiles_order returned
  int64_t room;           // R: pairs that the arrays hold
  int tile_bits;          // of the largest key: I T - 1, or I T where R may be more than M
  int32_t* keys;          // [2, R] scratch
  int32_t* values[2];     // [R] each; one is out, see below
  int32_t* place_ids;     // [R] scratch: splats by place; or null, and places are not wanted
  int64_t* tile_offsets;  // [I * T + 1] out
  int32_t* rows;          // [S, 2] out: the places [begin, end) of a splat, (0, 0) if it has none; null with place_ids
  int64_t* needed;        // [1] out: M, or 2^32 - 1 if that is less; or null

  template <class Reader>
  void visit(Reader& field) {
    IntersectOrder<T>::visit(field);
    field("order_row", order_row), field("room", room), field("tile_bits", tile_bits), field("keys", keys);
    field("values0", values[0]), field("values1", values[1]), field("place_ids", place_ids);
    field("tile_offsets", tile_offsets), field("rows", rows), field("needed", needed);
  }
};

// Bytes of scratch for either; T only says that there is a kernel.
template <class T>
struct IntersectOrderScratch : Launch {
  int64_t splats;  // S

  template <class Reader>
  void visit(Reader& field) {
    field("splats", splats);
  }
};

template <class T>
struct IntersectEmitScratch : Launch {
  int64_t room;   // R
  int tile_bits;  // as in IntersectEmit

  template <class Reader>
  void visit(Reader& field) {
    field("room", room), field("tile_bits", tile_bits);
  }
};

template <class T>
int64_t intersect_tiles_order_scratch_cuda(const IntersectOrderScratch<T>& params);
template <class T>
int64_t intersect_tiles_emit_scratch_cuda(const IntersectEmitScratch<T>& params);

// Returns the row of `order` that holds the result.
template <class T>
int64_t intersect_tiles_order_cuda(const IntersectOrder<T>& params);

// Returns v: values[v] holds the sorted ids; or, where places are wanted, the places, and the other the ids. Behind the
// last pair ids are -1.
template <class T>
int64_t intersect_tiles_emit_cuda(const IntersectEmit<T>& params);

}  // namespace emogs
