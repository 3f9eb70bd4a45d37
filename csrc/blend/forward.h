// Forward blending, block by block: the state of a block stays in registers while the splats of a batch that can touch
// it go by. With many channels a batch's weights come first, then a few channels at a time are added.
#pragma once

#include "blend/tile.h"

namespace emogs {
namespace EMOGS_ISA {
namespace {

/// What forward notes for each pixel beside colour and transmittance.
enum class Note { nothing, last, median };  // median notes the last, too

/// Channels += weights x channels of the splats, kStrip of them; `weights` [kBatchSize, kBlockPixels] by rank.
template <int kStrip, class T>
EMOGS_HD void add_strip(const Batch<T>& batch, uint64_t splats, const T* weights, const T* channels, T* sums) {
  using V = Lanes<T>;
  for (int lane = 0; lane < kBlockPixels; lane += V::count) {
    V strip[kStrip];
    for (int c = 0; c < kStrip; c++) strip[c] = V::load(sums + c * kBlockPixels + lane);
    const T* weight = weights + lane;
    for (uint64_t left = splats; left; left &= left - 1, weight += kBlockPixels) {
      const T* channel = channels + __builtin_ctzll(left) * batch.stride;
      const V w = V::load(weight);
      for (int c = 0; c < kStrip; c++) strip[c] = multiply_add(w, V(channel[c]), strip[c]);
    }
    for (int c = 0; c < kStrip; c++) strip[c].store(sums + c * kBlockPixels + lane);
  }
}

/// Blends splats of a batch, given by their bits, into a block; returns whether a pixel is still open. kChannels is the
/// number of channels, or 0: then weights are kept in `weights` and channels are added afterwards.
template <int kChannels, Note kNote, class T>
bool blend_block(const Batch<T>& batch, uint64_t splats, const Centres<T>& centres, const TilePixels<T>& pixels,
                 int block, const BlendSettings<T>& settings, T* weights) {
  using V = Lanes<T>;
  T *transmittances = pixels.transmittance(block), *channels = pixels.channel(block);
  bool open = false;
  for (int lane = 0; lane < kBlockPixels; lane += V::count) {
    const V x = V::load(centres.x[block % kBlocksAlong] + lane), y = V::load(centres.y[block / kBlocksAlong] + lane);
    V transmittance = V::load(transmittances + lane);
    V last = V::load(pixels.last(block) + lane), median = V::load(pixels.median(block) + lane);
    V sums[kChannels + 1];
    for (int c = 0; c < kChannels; c++) sums[c] = V::load(channels + c * kBlockPixels + lane);
    T* weight = weights + lane;
    for (uint64_t left = splats; left; left &= left - 1) {
      const int slot = __builtin_ctzll(left);
      const StagedSplat<V> s = batch.template splat<V>(slot);
      const Alpha<V> alpha = alpha_at(x - s.x, y - s.y, s, settings);
      const BlendStep<V> step = blend(transmittance, alpha.value, settings);
      // The last splat that meets a pixel above one half is the one that brings it to or below.
      if (kNote == Note::median) median = select(V(T(0.5)) < transmittance, V(batch.position[slot]), median);
      if (kNote != Note::nothing) last = select(step.goes_on, V(batch.position[slot]), last);
      transmittance = step.transmittance;
      const T* channel = batch.channels + slot * batch.stride;
      for (int c = 0; c < kChannels; c++) sums[c] = multiply_add(step.weight, V(channel[c]), sums[c]);
      if (!kChannels) step.weight.store(weight), weight += kBlockPixels;
    }
    transmittance.store(transmittances + lane);
    if (kNote == Note::median) median.store(pixels.median(block) + lane);
    if (kNote != Note::nothing) last.store(pixels.last(block) + lane);
    for (int c = 0; c < kChannels; c++) sums[c].store(channels + c * kBlockPixels + lane);
    open = open || V::any(V(T(0)) < transmittance);
  }
  if (!kChannels) {
    int c = 0;
    for (; c + 8 <= pixels.channels; c += 8)
      add_strip<8>(batch, splats, weights, batch.channels + c, channels + c * kBlockPixels);
    for (; c < pixels.channels; c += 4)
      add_strip<4>(batch, splats, weights, batch.channels + c, channels + c * kBlockPixels);
  }
  return open;
}

/// Clears a tile's pixels; returns the blocks that have any. Pixels outside the image have ended, so that they do not
/// hold the others back.
template <class T>
uint32_t open_tile(const Tile& tile, const TilePixels<T>& pixels) {
  uint32_t open = 0;
  for (int i = 0; i < kBlocks * (kStatePlanes + pixels.channels) * kBlockPixels; i++) pixels.planes[i] = T(0);
  for (int block = 0; block < kBlocks; block++) {
    const BlockPlace place = place_of(tile, block);
    for (int lane = 0; lane < kBlockPixels; lane++) {
      const bool inside = lane % kBlockSize < place.width && lane / kBlockSize < place.height;
      pixels.transmittance(block)[lane] = inside ? T(1) : T(-1);
    }
    open |= uint32_t(place.width > 0 && place.height > 0) << block;
  }
  return open;
}

/// Adds the background to a block's channels; its transmittances become positive.
template <class T>
void finish_block(const BlendForward<T>& p, const Tile& tile, const TilePixels<T>& pixels, int block) {
  using V = Lanes<T>;
  const T* background = p.backgrounds ? p.backgrounds + tile.image * p.channels : nullptr;
  for (int lane = 0; lane < kBlockPixels; lane += V::count) {
    T* at = pixels.transmittance(block) + lane;
    const V transmittance = -negative_magnitude(V::load(at));
    transmittance.store(at);
    for (int64_t c = 0; background && c < p.channels; c++) {
      T* channel = pixels.channel(block) + c * kBlockPixels + lane;
      multiply_add(transmittance, V(background[c]), V::load(channel)).store(channel);
    }
  }
}

/// Writes `count` pixels of a row of a block, from `lane` on.
template <int kChannels, Note kNote, class T>
EMOGS_HD void write_pixels(const BlendForward<T>& p, const Tile& tile, const TilePixels<T>& pixels, int block, int lane,
                           int64_t pixel, int count) {
  // With depth among them, the channels of the image are one fewer.
  const int64_t channels = kChannels ? kChannels - p.blends_depth() : p.channels;
  const T* channel = pixels.channel(block) + lane;
  const T* transmittance = pixels.transmittance(block) + lane;
  for (int i = 0; i < count; i++)
    for (int64_t c = 0; c < channels; c++) p.image_colors[(pixel + i) * channels + c] = channel[c * kBlockPixels + i];
  for (int i = 0; i < count; i++) p.alphas[pixel + i] = T(1) - transmittance[i];
  if (p.blends_depth())
    for (int i = 0; i < count; i++) p.depths[pixel + i] = channel[channels * kBlockPixels + i];
  if (kNote == Note::median) {
    const Splat<T>* splats = reinterpret_cast<const Splat<T>*>(p.splats) + tile.image * p.count;
    for (int i = 0; i < count; i++) {
      const int32_t median = transmittance[i] <= T(0.5) ? int32_t(pixels.median(block)[lane + i]) : 0;
      p.depths[pixel + i] = median ? splats[p.ids[tile.begin + median - 1]].depth : T(0);
      if (p.medians) p.medians[pixel + i] = median;
    }
  }
  if (kNote == Note::nothing || !p.last) return;
  for (int i = 0; i < count; i++) p.transmittances[pixel + i] = transmittance[i];
  for (int i = 0; i < count; i++) p.last[pixel + i] = int32_t(pixels.last(block)[lane + i]);
}

template <int kChannels, Note kNote, class T>
void write_tile(const BlendForward<T>& p, const Tile& tile, const TilePixels<T>& pixels) {
  for (int block = 0; block < kBlocks; block++) {
    finish_block(p, tile, pixels, block);
    const BlockPlace place = place_of(tile, block);
    for (int row = 0; row < place.height; row++) {
      const int64_t pixel = pixel_of(p, tile, place, row);
      if (place.width == kBlockSize)
        write_pixels<kChannels, kNote>(p, tile, pixels, block, row * kBlockSize, pixel, kBlockSize);
      else
        write_pixels<kChannels, kNote>(p, tile, pixels, block, row * kBlockSize, pixel, place.width);
    }
  }
}

constexpr int kPrefetched = kBatchSize / kBlocks;  // splats of the next batch, at every block of this one

/// Returns whether the tile's indices exist.
template <int kChannels, Note kNote, class T>
bool blend_tile(const BlendForward<T>& p, int64_t index, const BlendSettings<T>& settings) {
  const Tile tile = tile_at(p, index);
  T* scratch = p.scratch + thread_index() * blend_tiles_scratch(p.channels);
  const int padded = int(padded_channels(p.channels));
  const int channels = kChannels ? kChannels : (int(p.channels) + p.blends_depth() + 3) / 4 * 4;
  const TilePixels<T> pixels = {channels, scratch};
  Batch<T> batch = {};
  batch.channels = scratch + kTilePixels * (kStatePlanes + padded);
  batch.stride = padded;
  T* weights = batch.channels + kBatchSize * padded;
  if (!kChannels)
    for (int i = 0; i < kBatchSize * padded; i++) batch.channels[i] = T(0);
  const Centres<T> centres(tile);
  uint32_t open = open_tile(tile, pixels);
  for (int64_t begin = tile.begin; begin < tile.end && open; begin += kBatchSize) {
    if (!stage_batch(p, tile, begin, minimum(begin + kBatchSize, tile.end), batch, settings)) return false;
    for (uint32_t left = open; left; left &= left - 1) {
      const int block = __builtin_ctz(left);
      for (int i = 0; i < kPrefetched; i++) prefetch_pair(p, tile, begin + kBatchSize + block * kPrefetched + i);
      const uint64_t splats = batch.touching[block];
      if (splats && !blend_block<kChannels, kNote>(batch, splats, centres, pixels, block, settings, weights))
        open &= ~(uint32_t(1) << block);
    }
  }
  write_tile<kChannels, kNote>(p, tile, pixels);
  return true;
}

}  // namespace
}  // namespace EMOGS_ISA
}  // namespace emogs
