// Forward blending of many planes (channels, and depth where it is blended), kPlanes at a time (blockIdx.y). kGroup
// pairs at a time, a warp first leaves their weights in each pixel of its region in shared memory, a lane two pixels;
// then it adds weight times channel like a matrix product, a lane a row of eight pixels and a quarter of the planes, so
// that two numbers read serve up to eight multiply-adds. Each sum is still added to in the order of the list.
#pragma once

#include "blend/blend_tile.cuh"

namespace emogs {
namespace {

constexpr int kPlaneParts = 4;  // lanes that share a row of pixels

template <int kPlanes>
struct ManyShared {
  StagedBucket<0> bucket;
  alignas(16) float weights[kRegions][kGroup][kRegionPixels];  // by weight_index
  alignas(16) float channels[kRegions][kGroup][kPlanes];
};

/// A lane's part of the sums: of the row of pixels lane / 4, planes [lane % 4 * kPlanes / 4, ...).
template <int kPlanes>
struct RowSums {
  float sums[kRegionSize][kPlanes / kPlaneParts];
};

/// The left and the right half of each row lie apart, so that what eight rows read at once lies in different banks.
__device__ inline int weight_index(int row, int column) {
  return column / 4 * (kRegionPixels / 2) + row * 4 + column % 4;
}

/// One of a lane's two pixels, as far as its weights go.
struct PixelState {
  float transmittance;  // negative: the pixel has ended, or lies outside the image
  int last, median;     // positions in the list, from 1
};

/// Leaves the weights of a pair in the lane's two pixels in shared memory.
__device__ inline void weigh_pair(const StagedBucket<0>& bucket, int offset, int position, float x, float y,
                                  PixelState (&pixels)[2], float* weights, const BlendSettings<float>& settings) {
  const float4* record = bucket.at(offset);
  const StagedSplat<float> s = staged_splat(record[0], record[1]);
  const float dy = y - s.y;
  float both[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    PixelState& pixel = pixels[i];
    const Alpha<float> alpha = alpha_at(x + float(i) - s.x, dy, s, settings);
    const BlendStep<float> step = blend(pixel.transmittance, alpha.value, settings);
    const bool touched = alpha.value > 0.0f;
    pixel.median = touched && 0.5f < pixel.transmittance ? position : pixel.median;
    pixel.last = touched && step.goes_on ? position : pixel.last;
    pixel.transmittance = step.transmittance;
    both[i] = step.weight;
  }
  *reinterpret_cast<float2*>(weights) = make_float2(both[0], both[1]);
}

/// Adds a group's weights times channels.
template <int kPlanes>
__device__ inline void add_group(const float (&weights)[kGroup][kRegionPixels],
                                 const float (&channels)[kGroup][kPlanes], RowSums<kPlanes>& row) {
  constexpr int planes = kPlanes / kPlaneParts;
  const int lane = threadIdx.x % kWarpLanes;
#pragma unroll 2
  for (int pair = 0; pair < kGroup; ++pair) {
    const float4 left = *reinterpret_cast<const float4*>(&weights[pair][weight_index(lane / kPlaneParts, 0)]);
    const float4 right = *reinterpret_cast<const float4*>(&weights[pair][weight_index(lane / kPlaneParts, 4)]);
    const float weight[kRegionSize] = {left.x, left.y, left.z, left.w, right.x, right.y, right.z, right.w};
#pragma unroll
    for (int c = 0; c < planes; c += 4) {
      const float4 four = *reinterpret_cast<const float4*>(&channels[pair][lane % kPlaneParts * planes + c]);
      const float channel[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int i = 0; i < kRegionSize; ++i)
#pragma unroll
        for (int k = 0; k < 4; ++k) row.sums[i][c + k] = multiply_add(weight[i], channel[k], row.sums[i][c + k]);
    }
  }
}

/// A lane's share of the channels of a group of pairs, on their way to shared memory.
template <int kPlanes>
struct GroupLoad {
  static constexpr int kWords = kPlanes / kWarpLanes;
  float values[kGroup][kWords];

  __device__ GroupLoad(const BlendForward<float>& p, const TilePlace& tile, const StagedBucket<0>& bucket,
                       const uint16_t* list, int first_plane) {
#pragma unroll
    for (int pair = 0; pair < kGroup; ++pair) {
      const float4 body = bucket.at(list[pair])[1];
      const int id = int(bits_of(body.z));
      const float* colors = p.colors + (tile.image * p.count + id) * p.channels;
#pragma unroll
      for (int word = 0; word < kWords; ++word) {
        const int c = first_plane + word * kWarpLanes + int(threadIdx.x % kWarpLanes);
        float& value = values[pair][word];
        value = id >= 0 && c < p.channels ? __ldg(colors + c) : 0.0f;
        if (c == p.channels && p.blends_depth()) value = body.w;
      }
    }
  }

  __device__ void store(float (&channels)[kGroup][kPlanes]) const {
#pragma unroll
    for (int pair = 0; pair < kGroup; ++pair)
#pragma unroll
      for (int word = 0; word < kWords; ++word)
        channels[pair][word * kWarpLanes + threadIdx.x % kWarpLanes] = values[pair][word];
  }
};

/// Blends the region's list, whose first pair is the `position`-th of the tile's, from 0.
template <int kPlanes>
__device__ void blend_many_list(const BlendForward<float>& p, const TilePlace& tile, ManyShared<kPlanes>& shared,
                                int listed, int position, float x, float y, PixelState (&pixels)[2],
                                RowSums<kPlanes>& row, const BlendSettings<float>& settings) {
  const int region = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
  const uint16_t* list = shared.bucket.list[region];
  auto& weights = shared.weights[region];
  for (int begin = 0; begin < listed; begin += kGroup) {
    if (!__any_sync(kAllLanes, fmaxf(pixels[0].transmittance, pixels[1].transmittance) > 0.0f)) break;
    const GroupLoad<kPlanes> load(p, tile, shared.bucket, list + begin, int(blockIdx.y) * kPlanes);
#pragma unroll 2
    for (int pair = 0; pair < kGroup; ++pair) {
      const int offset = list[begin + pair];
      weigh_pair(shared.bucket, offset, position + offset / StagedBucket<0>::kStride + 1, x, y, pixels,
                 &weights[pair][weight_index(lane / 4, lane % 4 * 2)], settings);
    }
    load.store(shared.channels[region]);
    __syncwarp();
    add_group(weights, shared.channels[region], row);
    __syncwarp();
  }
}

/// The lane's eight pixels in checkpoints and images, and the planes that it has of them.
template <int kPlanes>
struct RowPlace {
  static constexpr int kCount = kPlanes / kPlaneParts;
  int x, y, in_tile;  // the first pixel, in the image and in a checkpoint
  int first_plane;

  __device__ explicit RowPlace(const TilePlace& tile) {
    const int warp = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
    x = tile.x + warp % kRegionsAlong * kRegionSize;
    y = tile.y + warp / kRegionsAlong * kRegionSize + lane / kPlaneParts;
    in_tile = warp * kRegionPixels + lane / kPlaneParts * kRegionSize;
    first_plane = int(blockIdx.y) * kPlanes + lane % kPlaneParts * kCount;
  }

  /// Eight pixels of one plane in a checkpoint.
  __device__ float4* in(float* checkpoint, int plane) const {
    return reinterpret_cast<float4*>(checkpoint + (first_plane + plane + 1) * kTilePixels + in_tile);
  }
};

/// Leaves the state before a bucket in the checkpoint behind the previous one; or, with `turn`, turns the sums that are
/// there into those of what lies behind.
template <int kPlanes>
__device__ void write_many_checkpoint(const BlendForward<float>& p, float* checkpoint, const RowPlace<kPlanes>& place,
                                      const RowSums<kPlanes>& row, bool turn) {
#pragma unroll
  for (int c = 0; c < RowPlace<kPlanes>::kCount; ++c) {
    if (place.first_plane + c >= planes_of(p)) continue;
    float4* at = place.in(checkpoint, c);
    float4 sums[2] = {make_float4(0, 0, 0, 0), make_float4(0, 0, 0, 0)};
    if (turn) sums[0] = at[0], sums[1] = at[1];
    at[0] = make_float4(row.sums[0][c] - sums[0].x, row.sums[1][c] - sums[0].y, row.sums[2][c] - sums[0].z,
                        row.sums[3][c] - sums[0].w);
    at[1] = make_float4(row.sums[4][c] - sums[1].x, row.sums[5][c] - sums[1].y, row.sums[6][c] - sums[1].z,
                        row.sums[7][c] - sums[1].w);
  }
}

/// Adds the background and writes the lane's planes of its eight pixels, whose transmittances it reads in `weights`.
template <int kPlanes>
__device__ void write_row(const BlendForward<float>& p, const TilePlace& tile, const RowPlace<kPlanes>& place,
                          const RowSums<kPlanes>& row, const float (&transmittances)[kRegionPixels]) {
  constexpr int count = RowPlace<kPlanes>::kCount;
  const int in_row = threadIdx.x % kWarpLanes / kPlaneParts, first = place.first_plane;
  const bool wide = p.channels % 4 == 0;  // the pixels' channels begin at multiples of 16 bytes
#pragma unroll
  for (int i = 0; i < kRegionSize; ++i) {
    if (place.y >= p.height || place.x + i >= p.width) continue;
    const int64_t pixel = (tile.image * p.height + place.y) * p.width + place.x + i;
    const float transmittance = transmittances[weight_index(in_row, i)];
#pragma unroll
    for (int c = 0; c < count; c += 4) {
      float four[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        four[k] = row.sums[i][c + k];
        if (p.backgrounds && first + c + k < p.channels)
          four[k] = multiply_add(transmittance, p.backgrounds[tile.image * p.channels + first + c + k], four[k]);
      }
      float* out = p.image_colors + pixel * p.channels + first + c;
      if (wide && first + c < p.channels) {
        *reinterpret_cast<float4*>(out) = make_float4(four[0], four[1], four[2], four[3]);
        continue;
      }
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (first + c + k < p.channels) out[k] = four[k];
        if (first + c + k == p.channels && p.blends_depth()) p.depths[pixel] = four[k];
      }
    }
  }
}

template <int kPlanes>
__global__ void __launch_bounds__(kBlendThreads)
    blend_many_kernel(BlendForward<float> p, BlendSettings<float> with_cut) {
  EMOGS_DYNAMIC_SHARED(ManyShared<kPlanes>, shared);
  const BlendSettings<float> settings = device_settings(with_cut);
  const TilePlace tile = tile_place(p, blockIdx.x);
  const LanePixels lane(p, tile);
  const RowPlace<kPlanes> place(tile);
  PixelState pixels[2] = {};
#pragma unroll
  for (int i = 0; i < 2; ++i) pixels[i].transmittance = lane.inside[i] ? 1.0f : -1.0f;
  RowSums<kPlanes> row = {};
  stage_null(shared->bucket);
  int64_t at = tile.begin;
  PairLoad<0> next = load_pair<0>(p, tile.image, load_id(p, at + threadIdx.x, tile.end));
  int32_t next_id = load_id(p, at + kBucket + threadIdx.x, tile.end);
  for (; at < tile.end; at += kBucket) {
    if (!__syncthreads_or(fmaxf(pixels[0].transmittance, pixels[1].transmittance) > 0.0f)) break;
    stage_pair(shared->bucket, tile, next, settings);
    __syncthreads();
    next = load_pair<0>(p, tile.image, next_id);
    next_id = load_id(p, at + 2 * kBucket + threadIdx.x, tile.end);
    if (p.checkpoints && at > tile.begin) {
      float* checkpoint = checkpoint_at(p, tile, (at - tile.begin) / kBucket - 1);
      if (blockIdx.y == 0)
        reinterpret_cast<float2*>(checkpoint)[threadIdx.x] =
            make_float2(pixels[0].transmittance, pixels[1].transmittance);
      write_many_checkpoint(p, checkpoint, place, row, false);
    }
    const int listed = list_touching(shared->bucket, kBucket);
    blend_many_list(p, tile, *shared, listed, int(at - tile.begin), float(lane.x) + 0.5f, float(lane.y) + 0.5f, pixels,
                    row, settings);
  }
  const int warp = threadIdx.x / kWarpLanes, in_warp = threadIdx.x % kWarpLanes;
  const int last = warp_maximum(maximum(pixels[0].last, pixels[1].last));
  for (int bucket = 0; p.checkpoints && (bucket + 1) * kBucket < last; ++bucket)
    write_many_checkpoint(p, checkpoint_at(p, tile, bucket), place, row, true);
  auto& transmittances = shared->weights[warp][0];
  *reinterpret_cast<float2*>(&transmittances[weight_index(in_warp / 4, in_warp % 4 * 2)]) =
      make_float2(fabsf(pixels[0].transmittance), fabsf(pixels[1].transmittance));
  __syncwarp();
  write_row(p, tile, place, row, transmittances);
#pragma unroll
  for (int i = 0; i < 2; ++i)
    if (blockIdx.y == 0 && lane.inside[i])
      write_state(p, tile, fabsf(pixels[i].transmittance), pixels[i].last, pixels[i].median, lane.first + i);
}

}  // namespace
}  // namespace emogs
