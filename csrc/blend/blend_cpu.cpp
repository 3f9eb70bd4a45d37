// Blending on the CPU, parallel over tiles: forward.h and backward.h have the work on one tile. Neither the register
// width nor the thread that takes a tile changes any value.
#include "blend/backward.h"
#include "blend/forward.h"

namespace emogs {
namespace EMOGS_ISA {
namespace {

constexpr int kPairGrain = 512;    // pairs that are worth waking a thread
constexpr int kTilePairs = 16;     // a tile without any costs as much as so many
constexpr int kAhead = 16;         // pairs whose gradients are asked for in advance
constexpr int kSplatGrain = 4096;  // splats, where their rows are added

template <class T>
int threads_for_tiles(const BlendForward<T>& p, int64_t tiles, int64_t pairs) {
  return threads_for(p.threads, pairs + kTilePairs * tiles, kPairGrain);
}

/// run(channels) with the channels of a pixel, depth among them, where they stay in registers; else with 0. From
/// `fewest` on, three are the way of fewer, too. float64, which checks gradients, always takes 0: forward has the
/// same bits, backward up to the order of a sum, without a quarter of this file's code.
template <class T, class Run>
bool with_channels(const BlendForward<T>& p, int64_t fewest, const Run& run) {
  if constexpr (!kIsDouble<T>) {
    const int64_t planes = p.channels + p.blends_depth();
    if (fewest <= planes && planes <= 3) return run(Constant<3>());
    if (planes == 4) return run(Constant<4>());
  }
  return run(Constant<0>());
}

template <int kChannels, Note kNote, class T>
bool blend_all(const BlendForward<T>& p) {
  const int64_t tiles = tile_total(p);
  const BlendSettings<T> settings = blend_settings(p);
  bool valid = true;
#pragma omp parallel for num_threads(threads_for_tiles(p, tiles, p.pairs)) schedule(dynamic) reduction(&& : valid)
  for (int64_t tile = 0; tile < tiles; tile++) valid = blend_tile<kChannels, kNote>(p, tile, settings) && valid;
  return valid;
}

template <int kChannels, class T>
bool blend_all(const BlendForward<T>& p) {
  if (p.wants_median()) return blend_all<kChannels, Note::median>(p);
  return p.last ? blend_all<kChannels, Note::last>(p) : blend_all<kChannels, Note::nothing>(p);
}

/// Adds the rows of a wave's pairs to their splats. A thread has splats of its own and goes through all pairs, so every
/// splat receives its rows in the order of tiles.
template <class T>
void add_rows(const BlendBackward<T>& p, int64_t begin, int64_t end, int64_t width) {
  const int threads = threads_for(p.threads, p.count, kSplatGrain);
  const int64_t tiles = tile_total(p) / p.images;
  const int sums = int(p.channels), channels_at = kMoments + (p.grad_probes ? 2 : 0);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int part = 0; part < threads; part++) {
    const int64_t first = p.count * part / threads, count = p.count * (part + 1) / threads - first;
    for (int64_t tile = begin; tile < end; tile++) {
      const int64_t at = p.tile_offsets[tile], splats = tile / tiles * p.count;
      const T* row = p.pair_sums + (at - p.tile_offsets[begin]) * width;
      for (int32_t pair = 0; pair < p.tile_pairs[tile]; pair++, row += width) {
        const int64_t id = p.ids[at + pair], ahead = minimum(at + pair + kAhead, p.pairs - 1);
        __builtin_prefetch(p.grad_splats + (splats + p.ids[ahead]) * kSplatSize, 1);
        __builtin_prefetch(p.grad_colors + (splats + p.ids[ahead]) * p.channels, 1);
        if (uint64_t(id - first) >= uint64_t(count)) continue;
        T* splat = p.grad_splats + (splats + id) * kSplatSize;
        for (int k = 0; k < kMoments; k++) splat[k] += row[k];
        if (p.depth_mode) splat[kMoments] += row[p.blends_depth() ? channels_at + sums : width - 1];
        T* color = p.grad_colors + (splats + id) * p.channels;
        for (int c = 0; c < sums; c++) color[c] += row[channels_at + c];
        if (p.grad_probes) {
          T* probe = p.grad_probes + (splats + id) * 4;
          probe[2] += row[kMoments], probe[3] += row[kMoments + 1];
        }
      }
    }
  }
}

template <class T>
void clear(T* values, int64_t count, int threads) {
#pragma omp parallel for num_threads(threads_for(threads, count, 16 * kSplatGrain)) schedule(static)
  for (int64_t i = 0; i < count; i++) values[i] = T(0);
}

/// Turns the sums of all splats into gradients, in place, and adds up each image's background.
template <class T>
void finish_grads(const BlendBackward<T>& p) {
  const Splat<T>* splats = reinterpret_cast<const Splat<T>*>(p.splats);
#pragma omp parallel for num_threads(threads_for(p.threads, p.images* p.count, kSplatGrain)) schedule(static)
  for (int64_t i = 0; i < p.images * p.count; i++) {
    T* grad = p.grad_splats + i * kSplatSize;
    const Moments<T> moments = {grad[0], grad[1], grad[2], grad[3], grad[4], grad[5]};
    const Splat<T> result = splat_backward(splats[i], moments, grad[kMoments]);
    *reinterpret_cast<Splat<T>*>(grad) = result;
    if (p.grad_probes) p.grad_probes[4 * i] = result.x, p.grad_probes[4 * i + 1] = result.y;
  }
  if (!p.grad_backgrounds) return;
  const int64_t tiles = tiles_along(p.width) * tiles_along(p.height);
  for (int64_t image = 0; image < p.images; image++)
    for (int64_t c = 0; c < p.channels; c++) {
      T sum = T(0);
      for (int64_t tile = image * tiles; tile < (image + 1) * tiles; tile++)
        sum += p.tile_backgrounds[tile * p.channels + c];
      p.grad_backgrounds[image * p.channels + c] = sum;
    }
}

template <int kChannels, bool kMagnitudes, class T>
bool blend_all_backward(const BlendBackward<T>& p) {
  const int64_t tiles = tile_total(p), width = pair_sums_width(p.channels);
  const BlendSettings<T> settings = blend_settings(p);
  bool valid = true;
  for (int64_t begin = 0, end = 0; begin < tiles && valid; begin = end) {
    end = wave_end(p.tile_offsets, tiles, begin);
    const int threads = threads_for_tiles(p, end - begin, p.tile_offsets[end] - p.tile_offsets[begin]);
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(&& : valid)
    for (int64_t tile = begin; tile < end; tile++) {
      T* rows = p.pair_sums + (p.tile_offsets[tile] - p.tile_offsets[begin]) * width;
      valid = blend_tile_backward<kChannels, kMagnitudes>(p, tile, settings, rows, width) && valid;
    }
    if (valid) add_rows(p, begin, end, width);
  }
  return valid;
}

template <int kChannels, class T>
bool blend_all_backward(const BlendBackward<T>& p) {
  return p.grad_probes ? blend_all_backward<kChannels, true>(p) : blend_all_backward<kChannels, false>(p);
}

}  // namespace

template <class T>
int64_t blend_tiles_forward(const BlendForward<T>& p) {
  if (const int64_t error = check_offsets(p)) return error;
  const bool valid = with_channels(p, 3, [&](auto channels) { return blend_all<channels>(p); });
  return valid ? kBlended : kBadIds;
}

template <class T>
int64_t blend_tiles_backward(const BlendBackward<T>& p) {
  if (const int64_t error = check_offsets(p)) return error;
  clear(p.grad_splats, p.images * p.count * kSplatSize, p.threads);
  clear(p.grad_colors, p.images * p.count * p.channels, p.threads);
  if (p.grad_probes) clear(p.grad_probes, p.images * p.count * 4, p.threads);
  const bool valid = with_channels(p, 0, [&](auto channels) { return blend_all_backward<channels>(p); });
  if (!valid) return kBadIds;
  finish_grads(p);
  return kBlended;
}

#define EMOGS_INSTANTIATE(T)                                    \
  template int64_t blend_tiles_forward(const BlendForward<T>&); \
  template int64_t blend_tiles_backward(const BlendBackward<T>&);
EMOGS_FOR_FLOATS(EMOGS_INSTANTIATE)

}  // namespace EMOGS_ISA
}  // namespace emogs
