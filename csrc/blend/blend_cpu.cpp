// Blending on the CPU, parallel over tiles. The state of a tile lies in planes of 16x16 pixels that fit the first
// cache; one splat at a time visits the rows that it can reach, a register of pixels at a time. Neither the register
// width nor the thread that takes a tile changes any value.
#include "blend/blend.h"
#include "common/groups.h"
#include "common/lanes.h"
#include "common/threads.h"
#include "math/blend.h"

namespace emogs {
namespace EMOGS_ISA {
namespace {

template <class T>
BlendSettings<T> blend_settings(const BlendForward<T>& p) {
  return {T(p.alpha_cut), T(p.alpha_ceiling), T(p.transmittance_stop)};
}

/// Where a tile lies, and which pairs it has.
struct Tile {
  int64_t image, index;  // index over all images
  int x, y;              // first pixel
  int width, height;     // pixels inside the image
  int64_t begin, end;    // pairs
};

template <class T>
Tile tile_at(const BlendForward<T>& p, int64_t index) {
  const int64_t tiles_x = tiles_along(p.width), tiles = tiles_x * tiles_along(p.height);
  const int x = int(index % tiles % tiles_x) * kTileSize, y = int(index % tiles / tiles_x) * kTileSize;
  return {index / tiles,
          index,
          x,
          y,
          minimum(kTileSize, p.width - x),
          minimum(kTileSize, p.height - y),
          p.tile_offsets[index],
          p.tile_offsets[index + 1]};
}

/// Channels and pixel state of a tile, one plane of kTilePixels each, in the scratch of a thread.
template <class T>
struct Planes {
  int channels;  // depth included
  T* channel;    // [channels, kTilePixels]: sums forward, gradients backward
  T* transmittance;
  T* last;          // pairs up to the last that touched the pixel; exact in a float up to 2^24 of them
  T* behind;        // backward only
  T* channel_sums;  // [channels, kTileSize]
  T* staged;        // [kBatchSize, stride] channels of the staged splats
  int stride;
};

template <class T>
Planes<T> planes_of(const BlendForward<T>& p) {
  T* scratch = p.scratch + thread_index() * blend_tiles_scratch(p.channels);
  const int channels = int(p.channels) + p.with_depth;
  T* state = scratch + kTilePixels * (p.channels + 1);
  return {channels,
          scratch,
          state,
          state + kTilePixels,
          state + 2 * kTilePixels,
          state + 3 * kTilePixels,
          state + 3 * kTilePixels + kTileSize * (p.channels + 1),
          staged_stride(p.channels)};
}

/// A splat of the list in the coordinates of the tile: which rows and columns of it the splat can reach.
template <class T>
struct TileSplat {
  StagedSplat<T> splat;
  PixelRange rows, columns;
};

/// Copies the pairs [begin, end) of a tile's list into the cache.
template <class T>
void stage_batch(const BlendForward<T>& p, const Tile& tile, int64_t begin, int64_t end, TileSplat<T>* batch,
                 const Planes<T>& planes) {
  const Splat<T>* splats = reinterpret_cast<const Splat<T>*>(p.splats) + tile.image * p.count;
  const T* colors = p.colors + tile.image * p.count * p.channels;
  for (int64_t pair = begin; pair < end; pair++) {
    const int64_t id = p.ids[pair], slot = pair - begin;
    const Splat<T>& s = splats[id];
    batch[slot].splat = stage(s);
    batch[slot].rows = pixels_between(s.y - s.reach_y - T(tile.y), s.y + s.reach_y - T(tile.y), tile.height);
    batch[slot].columns = {0, kTileSize};
    if (Lanes<T>::count < kTileSize)
      batch[slot].columns = pixels_between(s.x - reach_x(s) - T(tile.x), s.x + reach_x(s) - T(tile.x), kTileSize);
    T* staged = planes.staged + slot * planes.stride;
    for (int64_t c = 0; c < p.channels; c++) staged[c] = colors[id * p.channels + c];
    if (p.with_depth) staged[p.channels] = s.depth;
  }
}

/// Pixel centres of a register of columns.
template <class T>
Lanes<T> column_centres(const Tile& tile, int column) {
  T centres[Lanes<T>::count] __attribute__((aligned(kRegisterBytes)));
  for (int lane = 0; lane < Lanes<T>::count; lane++) centres[lane] = T(tile.x + column + lane) + T(0.5);
  return Lanes<T>::load(centres);
}

template <class T>
EMOGS_HD StagedRow<Lanes<T>> row_lanes(const StagedSplat<T>& splat, T dy) {
  const StagedRow<T> row = stage_row(splat, dy);
  return {Lanes<T>(row.linear), Lanes<T>(row.constant)};
}

/// Blends the `position`-th splat of a list into the registers of pixels that it can reach. kChannels is their number,
/// or 0 where it is only known at run time.
template <int kChannels, class T>
EMOGS_HD void blend_splat(const TileSplat<T>& s, const T* channels, const Tile& tile, const Planes<T>& planes,
                          const Lanes<T>* columns, int64_t position, const BlendSettings<T>& settings) {
  using V = Lanes<T>;
  const int count = kChannels ? kChannels : planes.channels;
  for (int column = 0; column < kTileSize; column += V::count) {
    if (s.columns.end <= column || s.columns.begin >= column + V::count) continue;
    const V dx = V(s.splat.x) - columns[column / V::count];
    for (int row = s.rows.begin; row < s.rows.end; row++) {
      const int at = row * kTileSize + column;
      const T dy = s.splat.y - (T(tile.y + row) + T(0.5));
      const Alpha<V> alpha = alpha_at(dx, V(s.splat.xx), row_lanes(s.splat, dy), V(s.splat.opacity), settings);
      const BlendStep<V> step = blend(V::load(planes.transmittance + at), alpha.value, settings);
      step.transmittance.store(planes.transmittance + at);
      for (int c = 0; c < count; c++) {
        T* plane = planes.channel + c * kTilePixels + at;
        multiply_add(step.weight, V(channels[c]), V::load(plane)).store(plane);
      }
      const auto touched = V(T(0)) < step.weight;
      select(touched, V(T(position + 1)), V::load(planes.last + at)).store(planes.last + at);
    }
  }
}

/// Which rows still have an open pixel; returns whether any has.
template <class T>
bool find_open_rows(const Planes<T>& planes, bool* open) {
  using V = Lanes<T>;
  bool some = false;
  for (int row = 0; row < kTileSize; row++) {
    open[row] = false;
    for (int column = 0; column < kTileSize; column += V::count)
      open[row] = open[row] || V::any(V(T(0)) < V::load(planes.transmittance + row * kTileSize + column));
    some = some || open[row];
  }
  return some;
}

template <class T>
void write_tile(const BlendForward<T>& p, const Tile& tile, const Planes<T>& planes) {
  const T* background = p.backgrounds ? p.backgrounds + tile.image * p.channels : nullptr;
  for (int row = 0; row < tile.height; row++)
    for (int column = 0; column < tile.width; column++) {
      const int at = row * kTileSize + column;
      const int64_t pixel = (tile.image * p.height + tile.y + row) * p.width + tile.x + column;
      const T transmittance = fabs(planes.transmittance[at]);
      for (int64_t c = 0; c < p.channels; c++)
        p.image_colors[pixel * p.channels + c] =
            planes.channel[c * kTilePixels + at] + (background ? transmittance * background[c] : T(0));
      if (p.with_depth) p.depths[pixel] = planes.channel[p.channels * kTilePixels + at];
      p.alphas[pixel] = T(1) - transmittance;
      p.transmittances[pixel] = transmittance;
      p.last[pixel] = int32_t(planes.last[at]);
    }
}

template <int kChannels, class T>
void blend_tile(const BlendForward<T>& p, int64_t index) {
  using V = Lanes<T>;
  const Tile tile = tile_at(p, index);
  const Planes<T> planes = planes_of(p);
  const BlendSettings<T> settings = blend_settings(p);
  for (int i = 0; i < planes.channels * kTilePixels; i++) planes.channel[i] = T(0);
  for (int i = 0; i < kTilePixels; i++) {
    const bool inside = i % kTileSize < tile.width && i / kTileSize < tile.height;
    planes.transmittance[i] = inside ? T(1) : T(-1);  // ended, so that it does not hold the tile back
    planes.last[i] = T(0);
  }
  V columns[kTileSize / V::count];
  for (int column = 0; column < kTileSize; column += V::count)
    columns[column / V::count] = column_centres<T>(tile, column);
  bool open[kTileSize];
  TileSplat<T> batch[kBatchSize];
  for (int64_t begin = tile.begin; begin < tile.end && find_open_rows(planes, open); begin += kBatchSize) {
    const int64_t end = minimum(begin + kBatchSize, tile.end);
    stage_batch(p, tile, begin, end, batch, planes);
    for (int64_t pair = begin; pair < end; pair++) {
      TileSplat<T>& s = batch[pair - begin];
      while (s.rows.begin < s.rows.end && !open[s.rows.begin]) s.rows.begin++;
      while (s.rows.begin < s.rows.end && !open[s.rows.end - 1]) s.rows.end--;
      blend_splat<kChannels>(s, planes.staged + (pair - begin) * planes.stride, tile, planes, columns,
                             pair - tile.begin, settings);
    }
  }
  write_tile(p, tile, planes);
}

// ---- backward ----

/// The sum of a row of lanes, in an order that does not depend on the register width.
template <class T>
EMOGS_HD T sum_lanes(const T* lanes) {
  T sums[kTileSize / 2];
  for (int i = 0; i < kTileSize / 2; i++) sums[i] = lanes[i] + lanes[i + kTileSize / 2];
  for (int width = kTileSize / 4; width > 0; width /= 2)
    for (int i = 0; i < width; i++) sums[i] += sums[i + width];
  return sums[0];
}

/// Loads the gradients of a tile's pixels; returns the longest list of pairs that touched one.
template <class T>
int64_t read_tile(const BlendBackward<T>& p, const Tile& tile, const Planes<T>& planes) {
  const T* background = p.backgrounds ? p.backgrounds + tile.image * p.channels : nullptr;
  for (int i = 0; i < planes.channels * kTilePixels; i++) planes.channel[i] = T(0);
  for (int i = 0; i < kTilePixels; i++) planes.transmittance[i] = T(1), planes.last[i] = planes.behind[i] = T(0);
  int32_t longest = 0;
  for (int row = 0; row < tile.height; row++)
    for (int column = 0; column < tile.width; column++) {
      const int at = row * kTileSize + column;
      const int64_t pixel = (tile.image * p.height + tile.y + row) * p.width + tile.x + column;
      const T transmittance = p.transmittances[pixel];
      T dot = T(0);
      if (p.grad_image_colors)
        for (int64_t c = 0; c < p.channels; c++) {
          const T grad = p.grad_image_colors[pixel * p.channels + c];
          planes.channel[c * kTilePixels + at] = grad;
          if (background) dot += background[c] * grad;
        }
      if (p.with_depth && p.grad_depths) planes.channel[p.channels * kTilePixels + at] = p.grad_depths[pixel];
      planes.transmittance[at] = transmittance;
      planes.last[at] = T(p.last[pixel]);
      planes.behind[at] = transmittance * (dot - (p.grad_alphas ? p.grad_alphas[pixel] : T(0)));
      longest = maximum(longest, p.last[pixel]);
    }
  return longest;
}

template <class T>
void sum_tile_background(const BlendBackward<T>& p, const Tile& tile, const Planes<T>& planes) {
  for (int64_t c = 0; c < p.channels; c++) {
    T sum = T(0);
    for (int row = 0; row < tile.height; row++)
      for (int column = 0; column < tile.width; column++) {
        const int at = row * kTileSize + column;
        sum += planes.transmittance[at] * planes.channel[c * kTilePixels + at];
      }
    p.tile_backgrounds[tile.index * p.channels + c] = sum;
  }
}

/// Goes back over the pixels of one splat: updates their state, and adds to the sums over pixels, which are still per
/// column: those of the moments [6, 16] and of the channels [channels, 16].
template <int kChannels, class T>
EMOGS_HD void blend_splat_backward(const TileSplat<T>& s, const T* channels, const Tile& tile, const Planes<T>& planes,
                                   const Lanes<T>* columns, int64_t position, const BlendSettings<T>& settings,
                                   T* moment_sums, T* channel_sums) {
  using V = Lanes<T>;
  const int count = kChannels ? kChannels : planes.channels;
  const V zero = V(T(0));
  for (int column = 0; column < kTileSize; column += V::count) {
    Moments<V> m = {zero, zero, zero, zero, zero, zero};
    V sums[kChannels ? kChannels : 1];
    for (int c = 0; c < kChannels; c++) sums[c] = zero;
    if (!kChannels)
      for (int c = 0; c < count; c++) zero.store(channel_sums + c * kTileSize + column);
    const bool reached = s.columns.begin < column + V::count && s.columns.end > column;
    const V dx = V(s.splat.x) - columns[column / V::count];
    for (int row = s.rows.begin; reached && row < s.rows.end; row++) {
      const int at = row * kTileSize + column;
      const T dy = s.splat.y - (T(tile.y + row) + T(0.5));
      Alpha<V> alpha = alpha_at(dx, V(s.splat.xx), row_lanes(s.splat, dy), V(s.splat.opacity), settings);
      const auto counted = V(T(position)) < V::load(planes.last + at);
      alpha = {select(counted, alpha.value, zero), select(counted, alpha.free, zero)};
      V dot = zero;
      for (int c = 0; c < count; c++)
        dot = multiply_add(V(channels[c]), V::load(planes.channel + c * kTilePixels + at), dot);
      const BlendBack<V> back =
          blend_backward(V::load(planes.transmittance + at), V::load(planes.behind + at), alpha, dot, T());
      back.transmittance.store(planes.transmittance + at);
      back.behind.store(planes.behind + at);
      const V grad = back.grad_exponent, grad_x = grad * dx, grad_y = grad * V(dy);
      m = {m.one + grad,
           m.x + grad_x,
           m.y + grad_y,
           multiply_add(grad_x, dx, m.xx),
           multiply_add(grad_x, V(dy), m.xy),
           multiply_add(grad_y, V(dy), m.yy)};
      for (int c = 0; c < count; c++) {
        const V gradient = V::load(planes.channel + c * kTilePixels + at);
        T* sum = channel_sums + c * kTileSize + column;
        if (kChannels)
          sums[c] = multiply_add(back.weight, gradient, sums[c]);
        else
          multiply_add(back.weight, gradient, V::load(sum)).store(sum);
      }
    }
    m.one.store(moment_sums + column), m.x.store(moment_sums + kTileSize + column);
    m.y.store(moment_sums + 2 * kTileSize + column), m.xx.store(moment_sums + 3 * kTileSize + column);
    m.xy.store(moment_sums + 4 * kTileSize + column), m.yy.store(moment_sums + 5 * kTileSize + column);
    for (int c = 0; c < kChannels; c++) sums[c].store(channel_sums + c * kTileSize + column);
  }
}

/// The gradients of one pair from the sums over its pixels, into a row of its own.
template <class T>
void write_pair(const BlendBackward<T>& p, const Splat<T>& splat, int64_t pair, const T* moment_sums,
                const T* channel_sums) {
  T* row = p.pair_grads + p.pair_rows[pair] * (kSplatSize + p.channels);
  Moments<T> m = {sum_lanes(moment_sums),
                  sum_lanes(moment_sums + kTileSize),
                  sum_lanes(moment_sums + 2 * kTileSize),
                  sum_lanes(moment_sums + 3 * kTileSize),
                  sum_lanes(moment_sums + 4 * kTileSize),
                  sum_lanes(moment_sums + 5 * kTileSize)};
  const T grad_depth = p.with_depth ? sum_lanes(channel_sums + p.channels * kTileSize) : T(0);
  *reinterpret_cast<Splat<T>*>(row) = splat_backward(splat, m, grad_depth);
  for (int64_t c = 0; c < p.channels; c++) row[kSplatSize + c] = sum_lanes(channel_sums + c * kTileSize);
}

template <int kChannels, class T>
void blend_tile_backward(const BlendBackward<T>& p, int64_t index) {
  using V = Lanes<T>;
  const Tile tile = tile_at(p, index);
  const Planes<T> planes = planes_of(p);
  const BlendSettings<T> settings = blend_settings(p);
  const int64_t longest = read_tile(p, tile, planes);
  if (p.tile_backgrounds) sum_tile_background(p, tile, planes);
  for (int64_t pair = tile.begin + longest; pair < tile.end; pair++) {
    T* row = p.pair_grads + p.pair_rows[pair] * (kSplatSize + p.channels);
    for (int64_t c = 0; c < kSplatSize + p.channels; c++) row[c] = T(0);
  }
  V columns[kTileSize / V::count];
  for (int column = 0; column < kTileSize; column += V::count)
    columns[column / V::count] = column_centres<T>(tile, column);
  const Splat<T>* splats = reinterpret_cast<const Splat<T>*>(p.splats) + tile.image * p.count;
  TileSplat<T> batch[kBatchSize];
  T moment_sums[6 * kTileSize] __attribute__((aligned(64)));
  for (int64_t end = longest; end > 0; end -= kBatchSize) {
    const int64_t begin = maximum(end - kBatchSize, int64_t(0));
    stage_batch(p, tile, tile.begin + begin, tile.begin + end, batch, planes);
    for (int64_t position = end - 1; position >= begin; position--) {
      blend_splat_backward<kChannels>(batch[position - begin], planes.staged + (position - begin) * planes.stride, tile,
                                      planes, columns, position, settings, moment_sums, planes.channel_sums);
      const int64_t pair = tile.begin + position;
      write_pair(p, splats[p.ids[pair]], pair, moment_sums, planes.channel_sums);
    }
  }
}

/// Chooses where the gradients of each pair go: grouped by splat, tiles in order within.
template <class T>
void place_pairs(const BlendBackward<T>& p) {
  const int64_t tiles = tiles_along(p.width) * tiles_along(p.height);
#pragma omp parallel for num_threads(threads_for(p.threads, p.images, 1)) schedule(dynamic)
  for (int64_t image = 0; image < p.images; image++) {
    const int64_t begin = p.tile_offsets[image * tiles], end = p.tile_offsets[(image + 1) * tiles];
    group_by_key(
        end - begin, p.count, p.splat_starts + image * (p.count + 1), [&](int64_t i) { return p.ids[begin + i]; },
        [&](int64_t i, int64_t at) { p.pair_rows[begin + i] = int32_t(begin + at); });
  }
}

/// Sums the rows of each splat, and each image's background over its tiles.
template <class T>
void sum_pairs(const BlendBackward<T>& p) {
  const int64_t tiles = tiles_along(p.width) * tiles_along(p.height), width = kSplatSize + p.channels;
#pragma omp parallel for num_threads(threads_for(p.threads, p.images* p.count, 4096)) schedule(static)
  for (int64_t at = 0; at < p.images * p.count; at++) {
    const int64_t image = at / p.count, splat = at % p.count;
    const int64_t* starts = p.splat_starts + image * (p.count + 1);
    const T* rows = p.pair_grads + p.tile_offsets[image * tiles] * width;
    T* grad_splat = p.grad_splats + at * kSplatSize;
    T* grad_color = p.grad_colors + at * p.channels;
    for (int j = 0; j < kSplatSize; j++) grad_splat[j] = T(0);
    for (int64_t c = 0; c < p.channels; c++) grad_color[c] = T(0);
    for (int64_t row = starts[splat]; row < starts[splat + 1]; row++) {
      for (int j = 0; j < kSplatSize; j++) grad_splat[j] += rows[row * width + j];
      for (int64_t c = 0; c < p.channels; c++) grad_color[c] += rows[row * width + kSplatSize + c];
    }
  }
  if (!p.grad_backgrounds) return;
  for (int64_t image = 0; image < p.images; image++)
    for (int64_t c = 0; c < p.channels; c++) {
      T sum = T(0);
      for (int64_t tile = image * tiles; tile < (image + 1) * tiles; tile++)
        sum += p.tile_backgrounds[tile * p.channels + c];
      p.grad_backgrounds[image * p.channels + c] = sum;
    }
}

}  // namespace

template <class T>
void blend_tiles_forward(const BlendForward<T>& p) {
  const int64_t tiles = p.images * tiles_along(p.width) * tiles_along(p.height);
  const int64_t planes = p.channels + p.with_depth;
#pragma omp parallel for num_threads(threads_for(p.threads, tiles, 16)) schedule(dynamic)
  for (int64_t tile = 0; tile < tiles; tile++) {
    if (planes == 3)
      blend_tile<3>(p, tile);
    else if (planes == 4)
      blend_tile<4>(p, tile);
    else
      blend_tile<0>(p, tile);
  }
}

template <class T>
void blend_tiles_backward(const BlendBackward<T>& p) {
  const int64_t tiles = p.images * tiles_along(p.width) * tiles_along(p.height);
  const int64_t planes = p.channels + p.with_depth;
  place_pairs(p);
#pragma omp parallel for num_threads(threads_for(p.threads, tiles, 16)) schedule(dynamic)
  for (int64_t tile = 0; tile < tiles; tile++) {
    if (planes == 3)
      blend_tile_backward<3>(p, tile);
    else if (planes == 4)
      blend_tile_backward<4>(p, tile);
    else
      blend_tile_backward<0>(p, tile);
  }
  sum_pairs(p);
}

template void blend_tiles_forward(const BlendForward<float>&);
template void blend_tiles_forward(const BlendForward<double>&);
template void blend_tiles_backward(const BlendBackward<float>&);
template void blend_tiles_backward(const BlendBackward<double>&);

}  // namespace EMOGS_ISA
}  // namespace emogs
