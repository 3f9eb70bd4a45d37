// Tile intersection on the CPU. Splats are sorted by depth once, then placed into tiles by a counting sort: the sorted
// splats are cut into chunks, each chunk counts its pairs per tile, a prefix sum over (tile, chunk) says where each
// chunk writes. Threads take chunks; lists come out in depth order whatever the number of chunks or threads.
#include "common/threads.h"
#include "math/splat.h"
#include "tiles/tiles.h"

namespace emogs {
namespace EMOGS_ISA {
namespace {

template <class T>
const Splat<T>* splats_of(const IntersectCount<T>& p, int64_t image) {
  return reinterpret_cast<const Splat<T>*>(p.splats) + image * p.count;
}

template <class T>
struct DepthKey;

template <>
struct DepthKey<float> {
  using Bits = uint32_t;
};

template <>
struct DepthKey<double> {
  using Bits = uint64_t;
};

/// Bits that compare like the numbers: negative ones are inverted, positive ones get the sign bit.
template <class T>
typename DepthKey<T>::Bits depth_bits(T depth) {
  using Bits = typename DepthKey<T>::Bits;
  constexpr Bits sign = Bits(1) << (8 * sizeof(Bits) - 1);
  Bits bits;
  __builtin_memcpy(&bits, &depth, sizeof bits);
  return bits & sign ? ~bits : bits | sign;
}

constexpr int kDigitBits = 11;
constexpr int kDigits = 1 << kDigitBits;

template <class T>
struct Keyed {
  typename DepthKey<T>::Bits key;
  int32_t id;
};
static_assert(2 * sizeof(Keyed<double>) <= 4 * sizeof(int64_t), "two buffers of N must fit the scratch of a thread");

/// One stable pass of a radix sort; returns false, having moved nothing, if all keys share the digit.
template <class T>
bool sort_digit(const Keyed<T>* from, Keyed<T>* to, int64_t count, int shift) {
  int64_t starts[kDigits] = {};
  for (int64_t i = 0; i < count; i++) starts[(from[i].key >> shift) & (kDigits - 1)]++;
  if (starts[(from[0].key >> shift) & (kDigits - 1)] == count) return false;
  int64_t sum = 0;
  for (int d = 0; d < kDigits; d++) {
    const int64_t size = starts[d];
    starts[d] = sum;
    sum += size;
  }
  for (int64_t i = 0; i < count; i++) to[starts[(from[i].key >> shift) & (kDigits - 1)]++] = from[i];
  return true;
}

template <class T>
void sort_by_depth(const IntersectCount<T>& p, int64_t image) {
  const Splat<T>* splats = splats_of(p, image);
  Keyed<T>* from = reinterpret_cast<Keyed<T>*>(p.scratch + thread_index() * 4 * p.count);
  Keyed<T>* to = from + p.count;
  int32_t visible = 0;
  for (int64_t i = 0; i < p.count; i++)
    if (splats[i].reach_y > T(0)) from[visible++] = {depth_bits(splats[i].depth), int32_t(i)};
  for (int shift = 0; visible > 0 && shift < int(8 * sizeof(from->key)); shift += kDigitBits)
    if (sort_digit(from, to, visible, shift)) {
      Keyed<T>* swap = from;
      from = to;
      to = swap;
    }
  for (int32_t i = 0; i < visible; i++) p.order[image * p.count + i] = from[i].id;
  p.visible[image] = visible;
}

/// Calls visit(tile) for every tile in which some pixel centre may reach the cut, row by row.
/// A tile stands for the rectangle of its pixel centres; in a row of tiles, those between the ellipse's extremes are
/// met.
template <class T, class Visit>
void for_each_tile(const Splat<T>& splat, int width, int height, int64_t tiles_x, const Visit& visit) {
  const T half_width = reach_x(splat);
  const PixelRange columns = pixels_between(splat.x - half_width, splat.x + half_width, width);
  const PixelRange rows = pixels_between(splat.y - splat.reach_y, splat.y + splat.reach_y, height);
  if (columns.end <= columns.begin || rows.end <= rows.begin) return;
  const int first_x = columns.begin / kTileSize, last_x = (columns.end - 1) / kTileSize;
  const int first_y = rows.begin / kTileSize, last_y = (rows.end - 1) / kTileSize;
  if (first_x == last_x || first_y == last_y) {
    for (int y = first_y; y <= last_y; y++)
      for (int x = first_x; x <= last_x; x++) visit(y * tiles_x + x);
    return;
  }
  const Reach<T> ellipse = reach(splat);
  for (int y = first_y; y <= last_y; y++) {
    const T low = T(y * kTileSize) + T(0.5) - splat.y, high = low + T(kTileSize - 1);
    const Interval<T> extent = extent_in_band(ellipse, low, high);
    const PixelRange met = pixels_between(splat.x + extent.low, splat.x + extent.high, width);
    if (met.end <= met.begin) continue;
    for (int x = met.begin / kTileSize; x <= (met.end - 1) / kTileSize; x++) visit(y * tiles_x + x);
  }
}

/// Calls visit(id, tile) for the pairs of one chunk, in depth order.
template <class T, class Visit>
void for_each_pair(const IntersectCount<T>& p, int64_t image, int64_t chunk, const Visit& visit) {
  const Splat<T>* splats = splats_of(p, image);
  const int64_t visible = p.visible[image], tiles_x = tiles_along(p.width);
  const bool* mask = p.tile_mask ? p.tile_mask + image * tiles_x * tiles_along(p.height) : nullptr;
  for (int64_t i = chunk * visible / p.chunks; i < (chunk + 1) * visible / p.chunks; i++) {
    const int32_t id = p.order[image * p.count + i];
    for_each_tile(splats[id], p.width, p.height, tiles_x, [&](int64_t tile) {
      if (!mask || mask[tile]) visit(id, tile);
    });
  }
}

}  // namespace

template <class T>
int64_t intersect_tiles_count(const IntersectCount<T>& p) {
  const int64_t tiles = tiles_along(p.width) * tiles_along(p.height);
#pragma omp parallel for num_threads(threads_for(p.threads, p.images, 1)) schedule(dynamic)
  for (int64_t image = 0; image < p.images; image++) sort_by_depth(p, image);
#pragma omp parallel for num_threads(threads_for(p.threads, p.images* p.chunks, 1)) schedule(dynamic)
  for (int64_t work = 0; work < p.images * p.chunks; work++) {
    int32_t* counts = p.chunk_offsets + work * tiles;
    for (int64_t tile = 0; tile < tiles; tile++) counts[tile] = 0;
    for_each_pair(p, work / p.chunks, work % p.chunks, [&](int32_t, int64_t tile) { counts[tile]++; });
  }
  int64_t pairs = 0;
  for (int64_t image = 0; image < p.images; image++)
    for (int64_t tile = 0; tile < tiles; tile++) {
      p.tile_offsets[image * tiles + tile] = pairs;
      for (int64_t chunk = 0; chunk < p.chunks; chunk++) {
        int32_t& offset = p.chunk_offsets[(image * p.chunks + chunk) * tiles + tile];
        const int32_t size = offset;
        offset = int32_t(pairs);
        pairs += size;
      }
    }
  p.tile_offsets[p.images * tiles] = pairs;
  return pairs > INT32_MAX ? -1 : pairs;
}

template <class T>
void intersect_tiles_fill(const IntersectFill<T>& p) {
  const int64_t tiles = tiles_along(p.width) * tiles_along(p.height);
#pragma omp parallel for num_threads(threads_for(p.threads, p.images* p.chunks, 1)) schedule(dynamic)
  for (int64_t work = 0; work < p.images * p.chunks; work++) {
    int32_t* next = p.chunk_offsets + work * tiles;
    for_each_pair(p, work / p.chunks, work % p.chunks, [&](int32_t id, int64_t tile) { p.ids[next[tile]++] = id; });
  }
}

template int64_t intersect_tiles_count(const IntersectCount<float>&);
template int64_t intersect_tiles_count(const IntersectCount<double>&);
template void intersect_tiles_fill(const IntersectFill<float>&);
template void intersect_tiles_fill(const IntersectFill<double>&);

}  // namespace EMOGS_ISA
}  // namespace emogs
