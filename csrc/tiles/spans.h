// Which tiles a splat meets, and by what its tiles sort it: what CPU and CUDA must agree on to the bit.
#pragma once

#include "math/splat.h"
#include "tiles/tiles.h"

namespace emogs {

template <class T>
struct DepthBits;

template <>
struct DepthBits<float> {
  typedef uint32_t Type;
};

template <>
struct DepthBits<double> {
  typedef uint64_t Type;
};

/// Bits that compare like the numbers: negative ones are inverted, positive ones get the sign bit.
template <class T>
EMOGS_HD typename DepthBits<T>::Type depth_bits(T depth) {
  typedef typename DepthBits<T>::Type Bits;
  constexpr Bits sign = Bits(1) << (8 * sizeof(Bits) - 1);
  Bits bits;
  __builtin_memcpy(&bits, &depth, sizeof bits);
  return bits & sign ? ~bits : bits | sign;
}

/// Columns or rows of tiles, [begin, end).
struct TileSpan {
  int begin, end;
};

/// The tiles of a range of pixels, which must not be empty.
EMOGS_HD TileSpan tiles_of(PixelRange pixels) {
  return {pixels.begin / kTileSize, (pixels.end - 1) / kTileSize + 1};
}

/// The tiles in which some pixel centre may reach the cut. A tile stands for the rectangle of its pixel centres; in a
/// row of tiles, those between the ellipse's extremes are met.
template <class T>
struct MetTiles {
  TileSpan columns, rows;  // the bounding box; rows are [0, 0) where no tile is met
  Reach<T> ellipse;
  T x, y;     // its centre, pixels
  int width;  // of the image, pixels

  /// The columns met in one of the rows; end <= begin if none.
  EMOGS_HD_MEMBER TileSpan span(int row) const {
    if (columns.end - columns.begin == 1 || rows.end - rows.begin == 1) return columns;
    const T top = T(row * kTileSize) + T(0.5) - y;
    const Interval<T> extent = extent_in_band(ellipse, top, top + T(kTileSize - 1));
    const PixelRange pixels = pixels_between(x + extent.low, x + extent.high, width);
    if (pixels.end <= pixels.begin) return {0, 0};
    const TileSpan met = tiles_of(pixels);
    return {maximum(columns.begin, met.begin), minimum(columns.end, met.end)};
  }
};

template <class T>
EMOGS_HD MetTiles<T> met_tiles(const Splat<T>& splat, int width, int height) {
  const T half_width = reach_x(splat);
  const PixelRange columns = pixels_between(splat.x - half_width, splat.x + half_width, width);
  const PixelRange rows = pixels_between(splat.y - splat.reach_y, splat.y + splat.reach_y, height);
  if (!(splat.reach_y > T(0)) || columns.end <= columns.begin || rows.end <= rows.begin) return {};
  return {tiles_of(columns), tiles_of(rows), reach(splat), splat.x, splat.y, width};
}

}  // namespace emogs
