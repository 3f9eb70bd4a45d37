// Tile intersection on CUDA. Splats of all images are sorted by depth at once; their pairs are listed splat by splat
// and sorted by tile, and since that sort is stable, every list comes out near to far. A thread takes a splat with few
// tiles and a warp together one with many; counting and listing go through the same spans (spans.h), so they agree.
#include "common/cuda_launch.h"
#include "common/cuda_sort.h"
#include "tiles/spans.h"

namespace emogs {
namespace {

constexpr int kThreads = 256, kLanes = 32;
constexpr int kBlocks = 5;  // at once on a multiprocessor: more would spill registers
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr unsigned kFillBlocks = 1024;
constexpr int kAloneRows = 8;    // a thread counts the tiles of so many rows at most, and a warp those of more
constexpr int kAlonePairs = 16;  // a thread lists so many pairs at most
constexpr int kDepthBits = 32;
constexpr uint32_t kCulled = 0xffffffffu;  // the depth key of splats without tiles
static_assert(kThreads % kLanes == 0, "blocks of whole warps");

template <class T>
__device__ Splat<T> splat_at(const IntersectOrder<T>& p, uint32_t index) {
  const float4* at = reinterpret_cast<const float4*>(p.splats) + 2 * int64_t(index);
  const float4 low = at[0], high = at[1];
  return {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
}

/// The tiles of an image.
struct Grid {
  uint32_t columns, tiles;

  template <class T>
  __device__ explicit Grid(const IntersectOrder<T>& p)
      : columns(uint32_t(tiles_along(p.width))), tiles(columns * uint32_t(tiles_along(p.height))) {}
};

/// A splat's tiles, and which of them the mask lets through.
template <class T>
struct Target {
  MetTiles<T> met;
  uint32_t columns, first_tile;  // tiles along the image; its first among those of all images
  const bool* mask;              // of its image, or null

  __device__ uint32_t tile(int row, int column) const { return uint32_t(row) * columns + uint32_t(column); }
  __device__ bool shows(uint32_t tile) const { return !mask || mask[tile]; }

  /// How many tiles of a row are met and shown.
  __device__ uint32_t count(int row) const {
    const TileSpan span = met.span(row);
    if (!mask) return uint32_t(maximum(span.end - span.begin, 0));
    uint32_t shown = 0;
    for (int column = span.begin; column < span.end; column++) shown += mask[tile(row, column)];
    return shown;
  }
};

template <class T>
__device__ Target<T> target_of(const IntersectOrder<T>& p, const Splat<T>& splat, uint32_t index) {
  const Grid grid(p);
  const uint32_t first_tile = index / uint32_t(p.count) * grid.tiles;
  return {met_tiles(splat, p.width, p.height), grid.columns, first_tile,
          p.tile_mask ? p.tile_mask + first_tile : nullptr};
}

/// All lanes: the sum of `value` over the lanes up to each.
__device__ int sum_up_to_lane(int value, int lane) {
  for (int step = 1; step < kLanes; step *= 2) {
    const int before = __shfl_up_sync(kAllLanes, value, step);
    if (lane >= step) value += before;
  }
  return value;
}

/// A thread a splat, and a warp together for those with many rows.
template <class T>
__global__ void __launch_bounds__(kThreads, kBlocks) count_tiles_kernel(IntersectOrder<T> p) {
  const uint32_t index = blockIdx.x * kThreads + threadIdx.x, lane = threadIdx.x % kLanes;
  const bool exists = index < p.images * p.count;
  Splat<T> splat = {};
  if (exists) splat = splat_at(p, index);
  const Target<T> target = target_of(p, splat, exists ? index : 0);
  const bool alone = target.met.rows.end - target.met.rows.begin <= kAloneRows;
  uint32_t pairs = 0;
  if (alone)
    for (int row = target.met.rows.begin; row < target.met.rows.end; row++) pairs += target.count(row);
  for (unsigned rest = __ballot_sync(kAllLanes, !alone); rest; rest &= rest - 1) {
    const int owner = __ffs(rest) - 1;
    const uint32_t shared_index = index - lane + owner;
    const Target<T> shared = target_of(p, splat_at(p, shared_index), shared_index);
    uint32_t sum = 0;
    for (int row = shared.met.rows.begin + int(lane); row < shared.met.rows.end; row += kLanes)
      sum += shared.count(row);
    for (int step = kLanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
    if (int(lane) == owner) pairs = sum;
  }
  if (!exists) return;
  p.counts[index] = int32_t(pairs);
  p.starts[index] = int32_t(pairs ? depth_bits(splat.depth) : kCulled);
  p.order[index] = int32_t(index);
}

/// Writes pairs to their places, as far as there is room.
template <class T>
struct PairWriter {
  const IntersectEmit<T>& p;

  __device__ void write(uint32_t place, uint32_t key, int32_t id) const {
    if (place >= p.room) return;
    p.keys[place] = int32_t(key);
    p.values[0][place] = p.place_ids ? int32_t(place) : id;
    if (p.place_ids) p.place_ids[place] = id;
  }
};

/// All lanes: writes the pairs of one splat from `place` on. Lane r finds the span of row r, then the lanes take the
/// tiles of 32 rows in turn: the row of a tile is how many rows end before it.
template <class T>
__device__ void emit_together(const PairWriter<T>& out, const Target<T>& target, uint32_t place, int32_t id, int lane) {
  const TileSpan rows = target.met.rows;
  for (int first = rows.begin; first < rows.end; first += kLanes) {
    const TileSpan span = first + lane < rows.end ? target.met.span(first + lane) : TileSpan{0, 0};
    const int end = sum_up_to_lane(maximum(span.end - span.begin, 0), lane);
    const int total = __shfl_sync(kAllLanes, end, kLanes - 1);
    for (int done = 0; done < total; done += kLanes) {
      const int rank = done + lane;
      int row = 0;
      for (int step = kLanes / 2; step > 0; step /= 2)
        if (__shfl_sync(kAllLanes, end, row + step - 1) <= rank) row += step;
      const int row_end = __shfl_sync(kAllLanes, end, row), last = __shfl_sync(kAllLanes, span.end, row);
      const uint32_t tile = target.tile(first + row, last - (row_end - rank));
      const bool shown = rank < total && target.shows(tile);
      const unsigned all_shown = __ballot_sync(kAllLanes, shown);
      if (shown) out.write(place + __popc(all_shown & ((1u << lane) - 1)), target.first_tile + tile, id);
      place += __popc(all_shown);
    }
  }
}

/// A warp takes 32 splats in the order of depth. Those with few pairs are listed by a thread each, in shared memory, so
/// that the warp then writes to memory in order; those with many by all lanes.
template <class T>
__global__ void __launch_bounds__(kThreads, kBlocks) emit_pairs_kernel(IntersectEmit<T> p) {
  __shared__ uint32_t staged_keys[kThreads / kLanes][kLanes * kAlonePairs];
  __shared__ uint8_t staged_lanes[kThreads / kLanes][kLanes * kAlonePairs];
  const uint32_t splats = uint32_t(p.images * p.count), at = blockIdx.x * kThreads + threadIdx.x;
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const PairWriter<T> out = {p};
  const uint32_t* starts = reinterpret_cast<const uint32_t*>(p.starts);
  uint32_t index = 0, begin = 0, end = 0;
  if (at < splats) {
    index = uint32_t(p.order[p.order_row * int64_t(splats) + at]);
    begin = starts[at], end = starts[at + 1];
    if (p.rows) {
      const bool kept = begin < end && begin < p.room;
      p.rows[2 * int64_t(index)] = kept ? int32_t(begin) : 0;
      p.rows[2 * int64_t(index) + 1] = kept ? int32_t(minimum(int64_t(end), p.room)) : 0;
    }
    if (begin >= p.room) end = begin;
  }
  const int pairs = end - begin <= kAlonePairs ? int(end - begin) : 0;
  const int staged_end = sum_up_to_lane(pairs, lane), staged = __shfl_sync(kAllLanes, staged_end, kLanes - 1);
  if (pairs > 0) {
    const Target<T> target = target_of(p, splat_at(p, index), index);
    int next = staged_end - pairs;
    for (int row = target.met.rows.begin; row < target.met.rows.end; row++) {
      const TileSpan span = target.met.span(row);
      for (int column = span.begin; column < span.end; column++) {
        const uint32_t tile = target.tile(row, column);
        if (!target.shows(tile)) continue;
        staged_keys[warp][next] = target.first_tile + tile;
        staged_lanes[warp][next++] = uint8_t(lane);
      }
    }
  }
  __syncwarp();
  const uint32_t to_place = begin - uint32_t(staged_end - pairs);
  for (int done = 0; done < staged; done += kLanes) {
    const int from = minimum(done + lane, staged - 1), owner = staged_lanes[warp][from];
    const uint32_t place = uint32_t(from) + __shfl_sync(kAllLanes, to_place, owner);
    const uint32_t owned = __shfl_sync(kAllLanes, index, owner);
    if (done + lane < staged) out.write(place, staged_keys[warp][from], int32_t(owned % uint32_t(p.count)));
  }
  for (unsigned rest = __ballot_sync(kAllLanes, end - begin > kAlonePairs); rest; rest &= rest - 1) {
    const int owner = __ffs(rest) - 1;
    const uint32_t shared = __shfl_sync(kAllLanes, index, owner), place = __shfl_sync(kAllLanes, begin, owner);
    emit_together(out, target_of(p, splat_at(p, shared), shared), place, int32_t(shared % uint32_t(p.count)), lane);
  }
  // What is left of the room sorts behind all tiles.
  const uint32_t all_pairs = starts[splats], past_tiles = uint32_t(p.images * Grid(p).tiles);
  for (int64_t place = int64_t(all_pairs) + at; place < p.room; place += int64_t(gridDim.x) * kThreads)
    out.write(uint32_t(place), past_tiles, -1);
  if (p.needed && at == 0) *p.needed = all_pairs;
}

/// A thread finds where a tile begins, by bisection, and the splat of a pair.
template <class T>
__global__ void __launch_bounds__(kThreads, kBlocks) finish_lists_kernel(IntersectEmit<T> p, int sorted) {
  const int64_t at = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t splats = p.images * p.count, tiles = p.images * Grid(p).tiles;
  if (at <= tiles) {
    const uint32_t* keys = reinterpret_cast<const uint32_t*>(p.keys) + sorted * p.room;
    int64_t begin = 0, end = minimum(p.room, int64_t(uint32_t(p.starts[splats])));
    while (begin < end) {
      const int64_t middle = (begin + end) / 2;
      if (keys[middle] < at)
        begin = middle + 1;
      else
        end = middle;
    }
    p.tile_offsets[at] = begin;
  }
  if (!p.place_ids || at >= p.room) return;
  if (sorted)
    p.values[0][at] = p.place_ids[p.values[1][at]];
  else
    p.values[1][at] = p.place_ids[p.values[0][at]];
}

uint32_t* bits(int32_t* numbers) {
  return reinterpret_cast<uint32_t*>(numbers);
}

unsigned blocks_of(int64_t threads, const char* kernel) {
  return grid_size((threads + kThreads - 1) / kThreads, kernel);
}

}  // namespace

template <class T>
int64_t intersect_tiles_order_scratch_cuda(const IntersectOrderScratch<T>& p) {
  const DeviceGuard guard(p);
  return maximum(sort_pairs_scratch(p, p.splats, kDepthBits), exclusive_sum_scratch(p, p.splats));
}

template <class T>
int64_t intersect_tiles_emit_scratch_cuda(const IntersectEmitScratch<T>& p) {
  const DeviceGuard guard(p);
  return sort_pairs_scratch(p, p.room, p.tile_bits);
}

template <class T>
int64_t intersect_tiles_order_cuda(const IntersectOrder<T>& p) {
  const DeviceGuard guard(p);
  const int64_t splats = p.images * p.count;
  int row = 0;
  if (splats > 0) {
    launch_kernel("count_tiles_kernel", count_tiles_kernel<T>, blocks_of(splats, "count_tiles_kernel"), kThreads, 0, p,
                  p);
    const SortBuffers buffers = {{bits(p.starts), bits(p.starts + splats + 1)},
                                 {bits(p.order), bits(p.order + splats)}};
    row = sort_pairs(p, buffers, splats, kDepthBits, p.scratch, p.scratch_bytes);
  }
  // The sorted depths have done their work: the sums take their place.
  exclusive_sum(p, bits(p.counts), bits(p.order + row * splats), splats, bits(p.starts), p.scratch, p.scratch_bytes);
  return row;
}

template <class T>
int64_t intersect_tiles_emit_cuda(const IntersectEmit<T>& p) {
  const DeviceGuard guard(p);
  const int64_t splats = p.images * p.count, tiles = p.images * tiles_along(p.width) * tiles_along(p.height);
  // Where pairs may be fewer than there is room for, threads must be many enough to fill what is left.
  const unsigned fill_blocks = p.needed ? minimum(blocks_of(p.room, "emit_pairs_kernel"), kFillBlocks) : 0;
  const unsigned emit_blocks = maximum(maximum(1u, fill_blocks), blocks_of(splats, "emit_pairs_kernel"));
  launch_kernel("emit_pairs_kernel", emit_pairs_kernel<T>, emit_blocks, kThreads, 0, p, p);
  int sorted = 0;
  if (p.room > 0) {
    const SortBuffers buffers = {{bits(p.keys), bits(p.keys + p.room)}, {bits(p.values[0]), bits(p.values[1])}};
    sorted = sort_pairs(p, buffers, p.room, p.tile_bits, p.scratch, p.scratch_bytes);
  }
  const unsigned finish_blocks = blocks_of(maximum(tiles + 1, p.place_ids ? p.room : 0), "finish_lists_kernel");
  launch_kernel("finish_lists_kernel", finish_lists_kernel<T>, finish_blocks, kThreads, 0, p, p, sorted);
  return sorted;
}

template int64_t intersect_tiles_order_scratch_cuda(const IntersectOrderScratch<float>&);
template int64_t intersect_tiles_order_cuda(const IntersectOrder<float>&);
template int64_t intersect_tiles_emit_scratch_cuda(const IntersectEmitScratch<float>&);
template int64_t intersect_tiles_emit_cuda(const IntersectEmit<float>&);

}  // namespace emogs
