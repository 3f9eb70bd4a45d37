// Backward blending, splat by splat from the last: one splat goes over the blocks that it can touch, and the sums over
// its pixels stay in registers. What has many channels is read in two layouts: planes of pixels for the splat's dot
// product with each pixel's gradient, rows of channels for the sums of the gradients.
#pragma once

#include "blend/tile.h"

namespace emogs {
namespace EMOGS_ISA {
namespace {

/// A tile during backward.
template <class T>
struct BackwardTile {
  TilePixels<T> pixels;  // of the gradients
  Centres<T> centres;
  T last[kBlocks] __attribute__((aligned(64)));  // of the block's pixels, the largest
  T* pixel_grads;                                // [kTilePixels, stride] the same gradients, for many channels
  T* weights;                                    // [kBlocks, kBlockPixels] of one splat, for many channels
  T* sums;                                       // [row_width, kBlockPixels] of one splat
};

/// Sums over the lanes of each of `rows`, rounded up to fours, in an order that does not depend on the register width:
/// halves are added until one number is left.
template <class T>
EMOGS_HD void sum_lanes(const T* lanes, int rows, T* sums) {
  typedef T Four __attribute__((vector_size(4 * sizeof(T))));
  typedef T Unaligned __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T)), may_alias));
  typedef decltype(Four{} < Four{}) Order;
  static_assert(kBlockPixels == 16, "halved twice to four");
  for (int row = 0; row < rows; row += 4) {
    Four four[4];
    for (int k = 0; k < 4; k++) {
      const Four* from = reinterpret_cast<const Four*>(lanes + (row + k) * kBlockPixels);
      four[k] = (from[0] + from[2]) + (from[1] + from[3]);
    }
    const Order low = {0, 4, 1, 5}, high = {2, 6, 3, 7}, first = {0, 1, 4, 5}, second = {2, 3, 6, 7};
    const Four a = __builtin_shuffle(four[0], four[1], low) + __builtin_shuffle(four[0], four[1], high);
    const Four b = __builtin_shuffle(four[2], four[3], low) + __builtin_shuffle(four[2], four[3], high);
    *reinterpret_cast<Unaligned*>(sums + row) = __builtin_shuffle(a, b, first) + __builtin_shuffle(a, b, second);
  }
}

/// Loads the gradients of a block's pixels; notes the last pair that matters to one. A `last` beyond the list means its
/// end.
template <int kChannels, class T>
void read_block(const BlendBackward<T>& p, const Tile& tile, BackwardTile<T>& t, int block, int stride) {
  const T* background = p.backgrounds ? p.backgrounds + tile.image * p.channels : nullptr;
  // The bound is there for the compiler: loops over so few are not worth a vector.
  const int64_t channels = kChannels ? minimum(p.channels, int64_t(kChannels)) : p.channels;
  const BlockPlace place = place_of(tile, block);
  T* planes = t.pixels.transmittance(block);
  for (int i = 0; i < (kStatePlanes + t.pixels.channels) * kBlockPixels; i++) planes[i] = T(0);
  for (int lane = 0; lane < kBlockPixels; lane++) t.pixels.transmittance(block)[lane] = T(1);
  const int32_t pairs = int32_t(tile.end - tile.begin);
  int32_t last = 0;
  for (int row = 0; row < place.height; row++)
    for (int column = 0; column < place.width; column++) {
      const int lane = row * kBlockSize + column;
      const int64_t pixel = pixel_of(p, tile, place, row) + column;
      const T transmittance = p.transmittances[pixel];
      T* grads = t.pixels.channel(block) + lane;
      T dot = T(0);
      if (p.grad_image_colors)
        for (int64_t c = 0; c < channels; c++) {
          const T grad = p.grad_image_colors[pixel * channels + c];
          grads[c * kBlockPixels] = grad;
          if (background) dot += background[c] * grad;
        }
      if (p.blends_depth() && p.grad_depths) grads[channels * kBlockPixels] = p.grad_depths[pixel];
      t.pixels.transmittance(block)[lane] = transmittance;
      const int32_t pixel_last = minimum(p.last[pixel], pairs);
      t.pixels.last(block)[lane] = T(pixel_last);
      t.pixels.behind(block)[lane] = transmittance * (dot - (p.grad_alphas ? p.grad_alphas[pixel] : T(0)));
      last = maximum(last, pixel_last);
    }
  t.last[block] = T(last);
  if (!kChannels)
    for (int c = 0; c < stride; c++)
      for (int lane = 0; lane < kBlockPixels; lane++)
        t.pixel_grads[(block * kBlockPixels + lane) * stride + c] =
            c < t.pixels.channels ? t.pixels.channel(block)[c * kBlockPixels + lane] : T(0);
}

template <class T>
void sum_tile_background(const BlendBackward<T>& p, const Tile& tile, const BackwardTile<T>& t) {
  for (int64_t c = 0; c < p.channels; c++) {
    T sum = T(0);
    for (int block = 0; block < kBlocks; block++)
      for (int lane = 0; lane < kBlockPixels; lane++)
        sum += t.pixels.transmittance(block)[lane] * t.pixels.channel(block)[c * kBlockPixels + lane];
    p.tile_backgrounds[tile.index * p.channels + c] = sum;
  }
}

/// The dot product of a splat's channels with each pixel's gradient.
template <int kChannels, class T>
EMOGS_HD Lanes<T> dot_channels(const T* channels, const T* grads, int count) {
  using V = Lanes<T>;
  if (kChannels) {
    V dot = V(channels[0]) * V::load(grads);
    for (int c = 1; c < kChannels; c++) dot = multiply_add(V(channels[c]), V::load(grads + c * kBlockPixels), dot);
    return dot;
  }
  V dots[4] = {V(T(0)), V(T(0)), V(T(0)), V(T(0))};
  for (int c = 0; c < count; c += 4)
    for (int k = 0; k < 4; k++)
      dots[k] = multiply_add(V(channels[c + k]), V::load(grads + (c + k) * kBlockPixels), dots[k]);
  return (dots[0] + dots[1]) + (dots[2] + dots[3]);
}

/// Goes back over the pixels of one splat: updates their state and stores the sums over blocks, still by lane, of the
/// moments, the magnitudes of the gradients of x and y (kMagnitudes), and the channels (few) or the weights (many).
template <int kChannels, bool kMagnitudes, class T>
EMOGS_HD void blend_splat_backward(const Batch<T>& batch, int slot, uint32_t blocks, const Splat<T>& raw,
                                   const BackwardTile<T>& t, const BlendSettings<T>& settings) {
  using V = Lanes<T>;
  const V zero = V(T(0)), position = V(batch.position[slot]);
  const StagedSplat<V> s = batch.template splat<V>(slot);
  const T* channels = batch.channels + slot * batch.stride;
  for (int lane = 0; lane < kBlockPixels; lane += V::count) {
    Moments<V> m = {zero, zero, zero, zero, zero, zero};
    V magnitude_x = zero, magnitude_y = zero, sums[kChannels + 1];
    for (int c = 0; c < kChannels; c++) sums[c] = zero;
    T* weight = t.weights + lane;
    for (uint32_t left = blocks; left; left &= left - 1) {
      const int block = __builtin_ctz(left);
      T *transmittance = t.pixels.transmittance(block) + lane, *behind = t.pixels.behind(block) + lane;
      const T* grads = t.pixels.channel(block) + lane;
      const V dx = V::load(t.centres.x[block % kBlocksAlong] + lane) - s.x;
      const V dy = V::load(t.centres.y[block / kBlocksAlong] + lane) - s.y;
      Alpha<V> alpha = alpha_at(dx, dy, s, settings);
      const auto counted = position <= V::load(t.pixels.last(block) + lane);
      alpha = {select(counted, alpha.value, zero), select(counted, alpha.free, zero)};
      const V dot = dot_channels<kChannels>(channels, grads, t.pixels.channels);
      const BlendBack<V> back = blend_backward(V::load(transmittance), V::load(behind), alpha, dot, T());
      back.transmittance.store(transmittance);
      back.behind.store(behind);
      const V grad = back.grad_exponent, grad_x = grad * dx, grad_y = grad * dy;
      m = {m.one + grad,
           m.x + grad_x,
           m.y + grad_y,
           multiply_add(grad_x, dx, m.xx),
           multiply_add(grad_x, dy, m.xy),
           multiply_add(grad_y, dy, m.yy)};
      if (kMagnitudes) {
        magnitude_x = magnitude_x - negative_magnitude(multiply_add(V(raw.a), grad_x, V(raw.b) * grad_y));
        magnitude_y = magnitude_y - negative_magnitude(multiply_add(V(raw.b), grad_x, V(raw.c) * grad_y));
      }
      for (int c = 0; c < kChannels; c++)
        sums[c] = multiply_add(back.weight, V::load(grads + c * kBlockPixels), sums[c]);
      if (!kChannels) back.weight.store(weight), weight += kBlockPixels;
    }
    T* sum = t.sums + lane;
    const V all[] = {m.one, m.x, m.y, m.xx, m.xy, m.yy, magnitude_x, magnitude_y};
    for (int k = 0; k < kMoments + 2 * kMagnitudes; k++, sum += kBlockPixels) all[k].store(sum);
    for (int c = 0; c < kChannels; c++, sum += kBlockPixels) sums[c].store(sum);
  }
}

/// Sums over a splat's pixels of weight times gradient, a register of channels at a time: over blocks first, then over
/// lanes in the order of sum_lanes, so that a channel's sum does not depend on how many there are.
template <class T>
EMOGS_HD void sum_channels(const BackwardTile<T>& t, uint32_t blocks, int stride, T* sums) {
  using V = Lanes<T>;
  constexpr int quarter = kBlockPixels / 4;
  for (int c = 0; c < stride; c += V::count) {
    V quarters[quarter];
    for (int i = 0; i < quarter; i++) {
      V lanes[4] = {V(T(0)), V(T(0)), V(T(0)), V(T(0))};
      const T* weight = t.weights + i;
      for (uint32_t left = blocks; left; left &= left - 1, weight += kBlockPixels) {
        const T* grads = t.pixel_grads + (__builtin_ctz(left) * kBlockPixels + i) * stride + c;
        for (int k = 0; k < 4; k++)
          lanes[k] = multiply_add(V(weight[k * quarter]), V::load(grads + k * quarter * stride), lanes[k]);
      }
      quarters[i] = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
    }
    ((quarters[0] + quarters[2]) + (quarters[1] + quarters[3])).store(sums + c);
  }
}

/// The blocks to some pixel of which the pair at a position matters.
template <class T>
EMOGS_HD uint32_t blocks_that_last(const BackwardTile<T>& t, T position) {
  using V = Lanes<T>;
  uint32_t blocks = 0;
  for (int i = 0; i < kBlocks; i += V::count) blocks |= uint32_t(bits(V(position) <= V::load(t.last + i))) << i;
  return blocks;
}

/// Adds the gradients of median depths to the pairs that they come from, the last columns of their rows.
template <class T>
void add_median_grads(const BlendBackward<T>& p, const Tile& tile, T* rows, int64_t width) {
  const int32_t pairs = p.tile_pairs[tile.index];
  for (int row = 0; row < tile.height; row++)
    for (int column = 0; column < tile.width; column++) {
      const int64_t pixel = (tile.image * p.height + tile.y + row) * p.width + tile.x + column;
      const int32_t median = p.medians[pixel];
      if (median > 0 && median <= pairs) rows[median * width - 1] += p.grad_depths[pixel];
    }
}

/// Writes the sums of a tile's pairs to `rows` [.., width]; returns whether the tile's indices exist. kChannels planes
/// have zeros behind those that there are; 0: any number.
template <int kChannels, bool kMagnitudes, class T>
bool blend_tile_backward(const BlendBackward<T>& p, int64_t index, const BlendSettings<T>& settings, T* rows,
                         int64_t width) {
  const Tile tile = tile_at(p, index);
  p.tile_pairs[index] = 0;
  if (tile.begin == tile.end && !p.tile_backgrounds) return true;
  T* scratch = p.scratch + thread_index() * blend_tiles_scratch(p.channels);
  const int stride = int(padded_channels(p.channels));
  const int channels = kChannels ? kChannels : (int(p.channels) + p.blends_depth() + 3) / 4 * 4;
  Batch<T> batch = {};
  batch.channels = scratch + kTilePixels * (kStatePlanes + 2 * stride);
  batch.stride = stride;
  if (!kChannels || p.channels + p.blends_depth() < kChannels)
    for (int i = 0; i < kBatchSize * stride; i++) batch.channels[i] = T(0);
  T* weights = batch.channels + kBatchSize * stride;
  BackwardTile<T> t = {
      {channels, scratch},  Centres<T>(tile), {}, scratch + kTilePixels * (kStatePlanes + stride), weights,
      weights + kTilePixels};
  int32_t longest = 0;
  for (int block = 0; block < kBlocks; block++) {
    read_block<kChannels>(p, tile, t, block, stride);
    longest = maximum(longest, int32_t(t.last[block]));
  }
  if (p.tile_backgrounds) sum_tile_background(p, tile, t);
  p.tile_pairs[index] = longest;
  const Splat<T>* splats = reinterpret_cast<const Splat<T>*>(p.splats) + tile.image * p.count;
  constexpr int lane_sums = kMoments + 2 * kMagnitudes + kChannels;
  const bool with_median = p.wants_median();
  for (int64_t end = longest; end > 0; end = (end - 1) / kBatchSize * kBatchSize) {
    const int64_t begin = (end - 1) / kBatchSize * kBatchSize;
    if (!stage_batch(p, tile, tile.begin + begin, tile.begin + end, batch, settings)) return false;
    for (int64_t position = end - 1; position >= begin; position--) {
      const int slot = int(position - begin);
      prefetch_pair(p, tile, tile.begin + position - kBatchSize);
      const uint32_t blocks = uint32_t(batch.blocks[slot]) & blocks_that_last(t, batch.position[slot]);
      blend_splat_backward<kChannels, kMagnitudes>(batch, slot, blocks, splats[p.ids[tile.begin + position]], t,
                                                   settings);
      T* row = rows + position * width;
      sum_lanes(t.sums, lane_sums, row);
      if (!kChannels) {
        T* sums = t.sums + lane_sums * kBlockPixels;
        sum_channels(t, blocks, stride, sums);
        for (int c = 0; c < int(p.channels) + p.blends_depth(); c++) row[lane_sums + c] = sums[c];
      }
      if (with_median) row[width - 1] = T(0);
    }
  }
  if (with_median && p.grad_depths) add_median_grads(p, tile, rows, width);
  return true;
}

}  // namespace
}  // namespace EMOGS_ISA
}  // namespace emogs
