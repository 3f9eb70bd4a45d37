// What blending on CUDA shares, forward and backward: a block takes a tile (or a bucket of its pairs), a warp the 8x8
// pixels of one of its regions, a lane two pixels beside each other, so that what a lane reads of a splat serves twice.
// kBucket pairs are staged in shared memory together, a pair a thread, which also finds which regions the splat can
// touch; each warp then goes through a dense list of those that touch its own. Splats that do not exist and the ends of
// lists are the null record, whose alpha is zero everywhere.
#pragma once

#include "blend/blend.h"
#include "common/cuda_launch.h"
#include "math/blend.h"

namespace emogs {
namespace {

constexpr int kWarpLanes = 32;
constexpr int kRegionSize = 8;                            // pixels, both ways
constexpr int kRegionsAlong = kTileSize / kRegionSize;    // also the tile's warps, both ways
constexpr int kRegions = kRegionsAlong * kRegionsAlong;   // warps of a block
constexpr int kRegionPixels = kRegionSize * kRegionSize;  // two a lane
constexpr int kBlendThreads = kRegions * kWarpLanes;      // of a block
constexpr int kGroup = 8;                                 // pairs that are taken together; lists are padded to it
constexpr unsigned kAllLanes = 0xffffffffu;
static_assert(kRegionPixels == 2 * kWarpLanes, "a lane has two pixels");
static_assert(kBucket == kBlendThreads, "a thread stages a pair");

/// Channels, and depth where it is blended.
__device__ inline int planes_of(const BlendForward<float>& p) {
  return int(p.channels) + p.blends_depth();
}

/// What kernels are given: settings whose level is still the cut itself. The logarithm is the device's, so that a
/// splat's level and the cut's round alike.
inline BlendSettings<float> settings_with_cut(const BlendForward<float>& p) {
  BlendSettings<float> settings = make_blend_settings<float>(p.alpha_cut, p.alpha_ceiling, p.transmittance_stop);
  settings.level_cut = float(p.alpha_cut);
  return settings;
}

__device__ inline BlendSettings<float> device_settings(BlendSettings<float> with_cut) {
  with_cut.level_cut = alpha_level(with_cut.level_cut);
  return with_cut;
}

/// Where a tile lies, and which pairs it has. Lists that lie outside the pairs are taken for empty.
struct TilePlace {
  int64_t image, begin, end;  // the tile's pairs are [begin, end)
  int x, y;                   // first pixel
};

__device__ inline TilePlace tile_place(const BlendForward<float>& p, int64_t index) {
  const int along = (p.width + kTileSize - 1) / kTileSize, tiles = along * ((p.height + kTileSize - 1) / kTileSize);
  const int64_t image = index / tiles;
  const int in_image = int(index - image * tiles), row = in_image / along;
  int64_t begin = p.tile_offsets[index], end = p.tile_offsets[index + 1];
  if (begin < 0 || end > p.pairs || end < begin) begin = end = 0;
  return {image, begin, end, (in_image - row * along) * kTileSize, row * kTileSize};
}

/// A lane's two pixels: (x, y) and (x + 1, y).
struct LanePixels {
  int x, y;
  bool inside[2];
  int64_t first;  // index of the first among the pixels of all images

  __device__ LanePixels(const BlendForward<float>& p, const TilePlace& tile) {
    const int warp = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
    x = tile.x + warp % kRegionsAlong * kRegionSize + lane % 4 * 2;
    y = tile.y + warp / kRegionsAlong * kRegionSize + lane / 4;
    inside[0] = y < p.height && x < p.width;
    inside[1] = y < p.height && x + 1 < p.width;
    first = (tile.image * p.height + y) * p.width + x;
  }
};

/// A pair on its way to shared memory, in the registers of the thread that stages it: its loads are issued while the
/// block blends the pairs before.
template <int kChannels>
struct PairLoad {
  int32_t id;          // -1: there is none
  float4 first, last;  // x y a b | c opacity depth reach_y
  float channels[kChannels > 0 ? kChannels : 1];
};

__device__ inline int32_t load_id(const BlendForward<float>& p, int64_t pair, int64_t end) {
  if (pair >= end) return -1;
  const int32_t id = __ldg(p.ids + pair);
  return id >= 0 && id < p.count ? id : -1;
}

/// The channels of a pair of `planes`: colours, then depth where it is blended, then zeros.
template <int kChannels>
__device__ inline PairLoad<kChannels> load_pair(const BlendForward<float>& p, int64_t image, int32_t id) {
  PairLoad<kChannels> pair{};
  pair.id = id;
  if (id < 0) return pair;
  const int64_t splat = image * p.count + id;
  const float4* record = reinterpret_cast<const float4*>(p.splats + splat * kSplatSize);
  pair.first = __ldg(record), pair.last = __ldg(record + 1);
#pragma unroll
  for (int c = 0; c < kChannels; ++c) {
    if (c < p.channels)
      pair.channels[c] = __ldg(p.colors + splat * p.channels + c);
    else
      pair.channels[c] = c < planes_of(p) ? pair.last.z : 0.0f;
  }
  return pair;
}

/// A pair in shared memory.
template <int kChannels>
struct alignas(16) StagedPair {
  static_assert(kChannels <= 4, "six fields and up to four channels");
  float4 head;  // x y xx xy of StagedSplat
  float4 body;  // yy, level, channels 0 and 1; or the index of the splat
  float4 tail;  // channels 2 and 3
};
template <>
struct alignas(16) StagedPair<0> {
  float4 head, body;
};

__device__ inline StagedSplat<float> staged_splat(float4 head, float4 body) {
  return {head.x, head.y, head.z, head.w, body.x, body.y};
}

/// What lies at a staged pair's address: the splat, and channels for kPlanes planes, three or four.
template <int kPlanes>
struct UnpackedPair {
  StagedSplat<float> splat;
  float channels[kPlanes];

  __device__ explicit UnpackedPair(const float4* record) {
    static_assert(kPlanes == 3 || kPlanes == 4, "two beside the splat, the others behind it");
    const float4 body = record[1];
    splat = staged_splat(record[0], body);
    channels[0] = body.z, channels[1] = body.w, channels[2] = record[2].x;
    if constexpr (kPlanes == 4) channels[3] = record[2].y;
  }
};

/// The pairs of a bucket, and a list for each region. Entries are byte offsets into `pairs`, ready to be added to an
/// address; the null record is the last.
template <int kChannels>
struct StagedBucket {
  using Pair = StagedPair<kChannels>;
  static constexpr int kStride = int(sizeof(Pair));
  static constexpr int kNull = kBucket * kStride;

  Pair pairs[kBucket + 1];
  uint32_t touching[kRegions][kBucket / kWarpLanes];  // a bit for each pair that can touch the region
  alignas(16) uint16_t list[kRegions][kBucket + kGroup];

  __device__ const float4* at(unsigned offset) const {
    return reinterpret_cast<const float4*>(reinterpret_cast<const char*>(pairs) + offset);
  }
};

/// The regions of a tile that a splat can touch, a bit each.
__device__ inline unsigned touched_regions(const TilePlace& tile, const StagedSplat<float>& s, float reach_y,
                                           const BlendSettings<float>& settings) {
  const float least = least_exponent(s.yy, reach_y, settings), side = float(kRegionSize - 1);
  unsigned touched = 0;
#pragma unroll
  for (int region = 0; region < kRegions; ++region) {
    const float left = float(tile.x + region % kRegionsAlong * kRegionSize) + 0.5f - s.x;
    const float top = float(tile.y + region / kRegionsAlong * kRegionSize) + 0.5f - s.y;
    touched |= unsigned(least <= largest_exponent(s, left, left + side, top, top + side)) << region;
  }
  return touched;
}

/// Writes the thread's pair into the bucket, and which regions it can touch. The block meets before lists are made.
template <int kChannels, int kLoaded>
__device__ void stage_pair(StagedBucket<kChannels>& bucket, const TilePlace& tile, const PairLoad<kLoaded>& pair,
                           const BlendSettings<float>& settings) {
  const StagedSplat<float> s =
      stage_splat(pair.first.x, pair.first.y, pair.first.z, pair.first.w, pair.last.x, pair.last.y);
  StagedPair<kChannels>& staged = bucket.pairs[threadIdx.x];
  staged.head = make_float4(s.x, s.y, s.xx, s.xy);
  if constexpr (kChannels > 0) {
    const auto channel = [&](int c) { return c < kLoaded ? pair.channels[c < kLoaded ? c : 0] : 0.0f; };
    staged.body = make_float4(s.yy, s.level, channel(0), channel(1));
    staged.tail = make_float4(channel(2), channel(3), 0.0f, 0.0f);
  } else {
    staged.body = make_float4(s.yy, s.level, from_bits(0.0f, uint32_t(pair.id)), pair.last.z);
  }
  const unsigned touched = pair.id < 0 ? 0 : touched_regions(tile, s, pair.last.w, settings);
#pragma unroll
  for (int region = 0; region < kRegions; ++region) {
    const unsigned word = __ballot_sync(kAllLanes, touched >> region & 1);
    if (threadIdx.x % kWarpLanes == 0) bucket.touching[region][threadIdx.x / kWarpLanes] = word;
  }
}

/// The null record, once a block.
template <int kChannels>
__device__ void stage_null(StagedBucket<kChannels>& bucket) {
  if (threadIdx.x != 0) return;
  const float4 zero = make_float4(0, 0, 0, 0);
  StagedPair<kChannels>& null = bucket.pairs[kBucket];
  null.head = zero;
  null.body = make_float4(0, -INFINITY, 0, 0);
  if constexpr (kChannels > 0) null.tail = zero;
  if constexpr (kChannels == 0) null.body.z = from_bits(0.0f, uint32_t(-1));
}

/// The warp's list of the pairs that can touch its region, of words [first, end) of 32 pairs and among the bucket's
/// first `count` pairs, padded with null to a multiple of kGroup. Returns its length without the padding.
template <int kChannels>
__device__ int list_touching(StagedBucket<kChannels>& bucket, int count, int first = 0,
                             int end = kBucket / kWarpLanes) {
  const int region = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
  int listed = 0;
#pragma unroll
  for (int word = first; word < end; ++word) {
    const int slot = word * kWarpLanes + lane;
    const int left = minimum(maximum(count - word * kWarpLanes, 0), kWarpLanes);
    const uint32_t kept = left == 0 ? 0 : bucket.touching[region][word] & (kAllLanes >> (kWarpLanes - left));
    if (kept >> lane & 1)
      bucket.list[region][listed + __popc(kept & ((1u << lane) - 1))] =
          uint16_t(slot * StagedBucket<kChannels>::kStride);
    listed += __popc(kept);
  }
  if (lane < kGroup) bucket.list[region][listed + lane] = uint16_t(StagedBucket<kChannels>::kNull);
  __syncwarp();
  return listed;
}

__device__ inline int warp_maximum(int value) {
#pragma unroll
  for (int step = kWarpLanes / 2; step > 0; step /= 2) value = maximum(value, __shfl_xor_sync(kAllLanes, value, step));
  return value;
}

/// Writes what a pixel has beside its sums: alpha, and what forward notes. `last` and `median` are positions from 1.
__device__ inline void write_state(const BlendForward<float>& p, const TilePlace& tile, float transmittance, int last,
                                   int median, int64_t pixel) {
  p.alphas[pixel] = 1.0f - transmittance;
  if (p.wants_median()) {
    if (transmittance > 0.5f) median = 0;
    p.depths[pixel] =
        median ? p.splats[(tile.image * p.count + p.ids[tile.begin + median - 1]) * kSplatSize + 6] : 0.0f;
    if (p.medians) p.medians[pixel] = median;
  }
  if (!p.last) return;
  p.transmittances[pixel] = transmittance;
  p.last[pixel] = last;
}

/// Where the checkpoint behind bucket `bucket` of a list lies: what the pixels of the tile see from the next bucket on.
/// [planes + 1, kTilePixels], transmittances first; a warp's pixels lie together, a lane's two side by side.
__device__ inline float* checkpoint_at(const BlendForward<float>& p, const TilePlace& tile, int64_t bucket) {
  return p.checkpoints + (tile.begin / kBucket + bucket) * (planes_of(p) + 1) * kTilePixels;
}

}  // namespace
}  // namespace emogs
