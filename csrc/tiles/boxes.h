// The tiles that a splat meets, packed into 64 bits, found for a register of splats at a time. For files compiled once
// per instruction set only.
#pragma once

#include "common/columns.h"
#include "tiles/spans.h"

namespace emogs {
namespace EMOGS_ISA {

/// Bits 0-9 and 10-19: column and row of the first tile of the splat's bounding box. Bits 20-61: which of the 6 x 7
/// tiles from there on are met, row by row. Bit 63: the box is larger, and its tiles are found where they are needed.
typedef uint64_t TileBox;

constexpr int kBoxColumns = 6, kBoxRows = 7;
constexpr int kBoxOrigin = 10, kBoxTiles = 2 * kBoxOrigin;  // bits of a coordinate; the first bit of the tiles
constexpr TileBox kAllBoxTiles = (TileBox(1) << kBoxColumns * kBoxRows) - 1;
constexpr TileBox kLargeBox = TileBox(1) << 63;
static_assert(kBoxTiles + kBoxColumns * kBoxRows <= 63, "a box must fit 64 bits");

EMOGS_HD int box_column(TileBox box) {
  return int(box & ((1 << kBoxOrigin) - 1));
}
EMOGS_HD int box_row(TileBox box) {
  return int(box >> kBoxOrigin & ((1 << kBoxOrigin) - 1));
}

/// Integers beside a register of T, one a lane.
template <class T>
struct LaneIntegers {
  typedef int32_t Values __attribute__((vector_size(kRegisterBytes * 4 / sizeof(T))));
};

template <class T>
struct LaneRange {
  typename LaneIntegers<T>::Values begin, end;
};

template <class T>
EMOGS_HD typename LaneIntegers<T>::Values integers(Lanes<T> a) {
  return __builtin_convertvector(a.values, typename LaneIntegers<T>::Values);
}
template <class T>
EMOGS_HD typename LaneIntegers<T>::Values integers(LaneMask<T> a) {
  return __builtin_convertvector(a.truth, typename LaneIntegers<T>::Values);
}
template <class T>
EMOGS_HD Lanes<T> lanes(typename LaneIntegers<T>::Values a) {
  return {__builtin_convertvector(a, typename Lanes<T>::Values)};
}
template <class T>
EMOGS_HD bool any(typename LaneIntegers<T>::Values a) {
  return any(LaneMask<T>{__builtin_convertvector(a, typename LaneMask<T>::Truth)});
}

using emogs::pixels_between;

/// `pixels_between` of math/splat.h for a register, with the same results: clamped first, so that truncation to an
/// integer, which is all that every instruction set has, can be mended to ceil and floor.
template <class T>
EMOGS_HD LaneRange<T> pixels_between(Lanes<T> low, Lanes<T> high, int size) {
  typedef Lanes<T> V;
  const V first = minimum(maximum(V(T(0)), low - V(T(0.5 + kPixelMargin))), V(T(size)));
  const V last = minimum(maximum(V(T(-1)), high - V(T(0.5 - kPixelMargin))), V(T(size - 1)));
  const auto begin = integers(first), end = integers(last);
  return {begin - integers(lanes<T>(begin) < first), end + 1 + integers(last < lanes<T>(end))};
}

/// Boxes of a register of splats, as halves of 32 bits. The formulas are those of spans.h; spans are cut to the
/// bounding box, from which they can stray by rounding.
template <class T>
EMOGS_HD void find_boxes(const Splat<Lanes<T>>& s, int width, int height, uint32_t* low, uint32_t* high) {
  typedef Lanes<T> V;
  typedef typename LaneIntegers<T>::Values Integers;
  constexpr int shift = __builtin_ctz(kTileSize);
  const V half_width = reach_x(s);
  const LaneRange<T> columns = pixels_between(s.x - half_width, s.x + half_width, width);
  const LaneRange<T> rows = pixels_between(s.y - s.reach_y, s.y + s.reach_y, height);
  const Integers first_x = columns.begin >> shift, wide = ((columns.end - 1) >> shift) - first_x + 1;
  const Integers first_y = rows.begin >> shift, tall = ((rows.end - 1) >> shift) - first_y + 1;
  const Integers visible = (columns.end > columns.begin) & (rows.end > rows.begin) & integers(s.reach_y > V(T(0)));
  const Integers small = visible & (wide <= kBoxColumns) & (tall <= kBoxRows);
  const Integers slanted = small & (wide > 1) & (tall > 1);
  const bool some_slanted = any<T>(slanted);
  const Reach<V> ellipse = reach(s);
  Integers halves[2] = {first_x | first_y << kBoxOrigin, visible & ~small & int32_t(0x80000000)};
  constexpr int low_rows = (32 - kBoxTiles) / kBoxColumns;
  for (int row = 0; any<T>(small & (tall > row)); row++) {
    Integers used = small & (tall > row), begin = {}, end = wide;
    if (some_slanted) {
      const V top = lanes<T>((first_y + row) * kTileSize) + V(T(0.5)) - s.y;
      const Interval<V> extent = extent_in_band(ellipse, top, top + V(T(kTileSize - 1)));
      const LaneRange<T> met = pixels_between(s.x + extent.low, s.x + extent.high, width);
      const Integers from = (met.begin >> shift) - first_x, to = ((met.end - 1) >> shift) - first_x + 1;
      begin = from & (from > 0) & slanted;
      end = wide + ((to - wide) & (to < wide) & slanted);
      used &= (~slanted | (met.end > met.begin)) & (begin < end);
    }
    const Integers span = used & ((1 << (end & 7)) - (1 << (begin & 7)));
    if (row < low_rows)
      halves[0] |= span << (kBoxTiles + kBoxColumns * row);
    else
      halves[1] |= span << (kBoxColumns * (row - low_rows));
  }
  halves[0] &= visible;
  __builtin_memcpy(low, &halves[0], sizeof halves[0]);
  __builtin_memcpy(high, &halves[1], sizeof halves[1]);
}

/// Calls visit(tile) for every tile that is met, row by row.
template <class T, class Visit>
EMOGS_HD void for_each_tile(const Splat<T>& splat, int width, int height, int64_t tiles_x, const Visit& visit) {
  const MetTiles<T> met = met_tiles(splat, width, height);
  for (int row = met.rows.begin; row < met.rows.end; row++) {
    const TileSpan columns = met.span(row);
    for (int column = columns.begin; column < columns.end; column++) visit(row * tiles_x + column);
  }
}

}  // namespace EMOGS_ISA
}  // namespace emogs
