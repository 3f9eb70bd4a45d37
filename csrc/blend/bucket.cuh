// What backward blending shares: a block goes back over a bucket, kBucket pairs of a tile, from the state that forward
// left behind it. Every lane has two pixels, as in forward; rows of sums, one a pair, are added by splat afterwards.
#pragma once

#include "blend/blend_tile.cuh"

namespace emogs {
namespace {

constexpr int kRegionStride = kRegionPixels + 4;  // of a pair's numbers in shared memory: pairs begin in other banks

/// A bucket of a tile's list. Tile t has the blocks from offsets[t] / kBucket + t on: as many as buckets, or one more.
struct BucketPlace {
  TilePlace tile;
  int bucket, position, count;  // which; the first pair's position in the tile's list; pairs, 0 if there are none
};

/// The bucket of a block: the last tile whose blocks begin at or before it, each lane looking at one of 32 candidates.
__device__ inline BucketPlace bucket_place(const BlendForward<float>& p, int64_t tiles) {
  const int64_t block = blockIdx.x, lane = threadIdx.x % kWarpLanes;
  const auto first_block = [&](int64_t tile) { return __ldg(p.tile_offsets + tile) / kBucket + tile; };
  int64_t low = 0, high = tiles;
  while (high - low > 1) {
    const int64_t step = (high - low + kWarpLanes - 1) / kWarpLanes, probe = low + lane * step;
    const bool before = probe < high && first_block(probe) <= block;
    low += maximum(__popc(__ballot_sync(kAllLanes, before)) - 1, 0) * step;
    high = minimum(high, low + step);
  }
  const TilePlace tile = tile_place(p, low);
  const int64_t bucket = block - first_block(low), pairs = tile.end - tile.begin;
  const bool exists = bucket >= 0 && bucket < (pairs + kBucket - 1) / kBucket;
  if (!exists) return {tile, 0, 0, 0};
  const int64_t position = bucket * kBucket;
  return {tile, int(bucket), int(position), int(minimum(pairs - position, int64_t(kBucket)))};
}

inline int64_t bucket_blocks(const BlendForward<float>& p, int64_t tiles) {
  return p.pairs / kBucket + tiles;
}

/// The gradient of plane c of a pixel: of a channel, or of the accumulated depth.
__device__ inline float plane_grad(const BlendBackward<float>& p, int64_t pixel, int c) {
  if (c < p.channels) return p.grad_image_colors ? __ldg(p.grad_image_colors + pixel * p.channels + c) : 0.0f;
  return c == p.channels && p.blends_depth() && p.grad_depths ? __ldg(p.grad_depths + pixel) : 0.0f;
}

/// The state of a pixel behind the pair that is met next, going back.
struct PixelBack {
  float transmittance, behind;  // as blend_backward takes them
  int matter;                   // how many of the bucket's pairs matter to the pixel
};

/// Where a lane's pixel stands behind the bucket: at the end of its list, or where the next bucket begins.
/// `grad(c)` is its gradient of plane c, and `index` its index in a checkpoint. A `last` beyond the list is its end.
template <class Grad>
__device__ PixelBack pixel_behind(const BlendBackward<float>& p, const BucketPlace& place, int64_t pixel, int index,
                                  Grad grad) {
  const int last = minimum(p.last[pixel], int(place.tile.end - place.tile.begin));
  if (last <= place.position) return {1.0f, 0.0f, 0};
  const int matter = last - place.position;
  const float* background = p.backgrounds ? p.backgrounds + place.tile.image * p.channels : nullptr;
  float dot = 0;
  for (int c = 0; background && c < p.channels; ++c) dot = multiply_add(background[c], grad(c), dot);
  const float left = p.transmittances[pixel];
  PixelBack back = {left, left * (dot - (p.grad_alphas ? p.grad_alphas[pixel] : 0.0f)), minimum(matter, kBucket)};
  if (matter <= kBucket) return back;
  const float* checkpoint = checkpoint_at(p, place.tile, place.bucket) + index;
  back.transmittance = checkpoint[0];
  for (int c = 0; c < planes_of(p); ++c)
    back.behind = multiply_add(checkpoint[(c + 1) * kTilePixels], grad(c), back.behind);
  return back;
}

/// A pixel of a pair, going back: the weight of its channels, and its gradient of sigma. No exponent reaches the cut of
/// a pair that is not `counted`.
__device__ inline BlendBack<float> blend_pixel_back(const StagedSplat<float>& s, float dx, float dy, bool counted,
                                                    float dot, PixelBack& pixel, BlendSettings<float> settings) {
  settings.level_cut = counted ? settings.level_cut : INFINITY;
  const Alpha<float> alpha = alpha_at(dx, dy, s, settings);
  const BlendBack<float> back = blend_backward(pixel.transmittance, pixel.behind, alpha, dot, float());
  pixel.transmittance = back.transmittance, pixel.behind = back.behind;
  return back;
}

/// The sums of a pair over a lane's pixels: its six moments, and the magnitudes of the gradients of x and y.
template <bool kMagnitudes>
struct PairMoments {
  static constexpr int kCount = kMoments + 2 * kMagnitudes;
  float sums[kCount] = {};

  /// Adds a row of eight pixels: their gradients of sigma, and offsets from the splat.
  __device__ void add_row(const float (&grad)[kRegionSize], const float (&dx)[kRegionSize], float dy,
                          const StagedSplat<float>& s) {
    float one = grad[0], x = grad[0] * dx[0], xx = x * dx[0];
#pragma unroll
    for (int i = 0; i < kRegionSize; ++i) {
      const float grad_x = grad[i] * dx[i];
      if (i > 0) one += grad[i], x += grad_x, xx = multiply_add(grad_x, dx[i], xx);
      if (kMagnitudes) {
        // of the conic: a = -2 ln 2 xx, b = -ln 2 xy, c = -2 ln 2 yy
        const float grad_y = grad[i] * dy, b = -0.6931471806f * s.xy;
        sums[kMoments] += fabsf(multiply_add(-1.3862943611f * s.xx, grad_x, b * grad_y));
        sums[kMoments + 1] += fabsf(multiply_add(b, grad_x, -1.3862943611f * s.yy * grad_y));
      }
    }
    const float y = one * dy;
    sums[0] += one, sums[1] += x, sums[2] += y, sums[3] += xx;
    sums[4] = multiply_add(x, dy, sums[4]);
    sums[5] = multiply_add(y, dy, sums[5]);
  }
};

/// Adds up `kCount` values over the four lanes l, l + 8, l + 16, l + 24 and stores sum k at `to[k]` unless `to` is
/// null, each lane a quarter of them: half of what a lane holds goes to its partner, twice.
template <int kCount>
__device__ void sum_quarters(const float (&values)[kCount], float* to) {
  constexpr int half = (kCount + 3) / 4 * 2, quarter = half / 2;
  const int lane = threadIdx.x % kWarpLanes;
  const bool high = lane & 16, second = lane & 8;
  const auto at = [&](int k) { return k < kCount ? values[k < kCount ? k : 0] : 0.0f; };
  float halves[half], quarters[quarter];
#pragma unroll
  for (int k = 0; k < half; ++k) {
    const float keep = high ? at(half + k) : at(k), send = high ? at(k) : at(half + k);
    halves[k] = keep + __shfl_xor_sync(kAllLanes, send, 16);
  }
#pragma unroll
  for (int k = 0; k < quarter; ++k) {
    const float keep = second ? halves[quarter + k] : halves[k], send = second ? halves[k] : halves[quarter + k];
    quarters[k] = keep + __shfl_xor_sync(kAllLanes, send, 8);
  }
  const int first = high * half + second * quarter;
#pragma unroll
  for (int k = 0; k < quarter; ++k)
    if (to && first + k < kCount) to[first + k] = quarters[k];
}

/// The slot in the bucket of a pixel's median, or one that no pair has.
__device__ inline int median_slot(const BlendBackward<float>& p, const BucketPlace& place, int64_t pixel) {
  const int median = p.medians[pixel];
  return median > place.position ? median - 1 - place.position : -1;
}

/// The gradient of the bucket's median depths with respect to one pair's depth; `medians` and `grads` are of the tile's
/// pixels, medians as slots of the bucket.
__device__ inline float median_grad(const int (&medians)[kTilePixels], const float (&grads)[kTilePixels], int slot) {
  float sum = 0;
  for (int i = 0; i < kTilePixels; ++i) sum += medians[i] == slot ? grads[i] : 0.0f;
  return sum;
}

}  // namespace
}  // namespace emogs
