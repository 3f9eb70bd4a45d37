// A head in front of a camera, like that of benchmarks/scenes.py: flat splats on an ellipsoid, with some noise.
#pragma once

#include "blend/blend.h"
#include "driver.h"
#include "project/project.h"
#include "tiles/tiles.h"

namespace emogs {

constexpr int kPixels = 256;  // width and height of its whole image
constexpr int64_t kMostPairs = 1 << 20;

class Head {
 public:
  /// The splats' area does not depend on their number. Colours are `channels` numbers, or as many harmonics thrice.
  Head(int64_t count, int64_t channels, int64_t harmonics = 0);

  /// One image of this head by its camera, or a square window of it at the head's edge; outputs are the caller's.
  ProjectForward<float> projection(int pixels = kPixels);

  const int64_t count, channels, harmonics;
  Buffer<float> means, quats, scales, opacities, colors;
  Buffer<float> viewmat, intrinsics;
  Buffer<int32_t> rows;
};

/// The head of 20,000 on the screen, `pixels` wide and high.
struct Splats {
  Splats(int64_t channels, int pixels);

  const int64_t count;
  const int pixels;
  Buffer<float> records, colors;
};

/// Which splats meet which tile.
class TileLists {
 public:
  explicit TileLists(Splats& splats);

  /// Makes the lists; 0, or what the kernel returned where there is no room for them.
  int64_t make();

  const int64_t tiles;
  int64_t pairs = 0;
  Buffer<int32_t> visible, order, part_offsets, ids;
  Buffer<int64_t> boxes, offsets;

 private:
  Buffer<uint8_t> scratch;
  IntersectFill<float> params{};
};

}  // namespace emogs
