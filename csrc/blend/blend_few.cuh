// Forward blending of up to four planes (channels, and depth where it is blended): a lane keeps its two pixels' sums in
// registers, and the channels of a splat are staged with it. Pixels do the operations of the CPU in its order, so only
// the exponential (on the GPU one instruction) makes a difference.
#pragma once

#include "blend/blend_tile.cuh"

namespace emogs {
namespace {

/// What forward notes for each pixel beside colour and transmittance: nothing, or the last pair that matters, or also
/// the pair that brings the pixel to one half. `last` is the last that adds to the pixel (the CPU may name a later one
/// that does not touch it).
enum class Note { nothing, last, median };

/// One of a lane's pixels. A pixel that has ended, or lies outside the image, has a negative transmittance.
template <int kPlanes>
struct PixelSums {
  float transmittance;
  int last, median;  // positions in the list, from 1
  float sums[kPlanes];
};

/// Blends the pair at byte offset `offset` into the two pixels. `last` and `median` take offsets until the list ends.
template <int kPlanes, Note kNote>
__device__ inline void blend_staged(const float4* record, int offset, float x, float y, PixelSums<kPlanes> (&pixels)[2],
                                    const BlendSettings<float>& settings) {
  const UnpackedPair<kPlanes> pair(record);
  const StagedSplat<float>& s = pair.splat;
  const float dy = y - s.y;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    PixelSums<kPlanes>& pixel = pixels[i];
    const Alpha<float> alpha = alpha_at(x + float(i) - s.x, dy, s, settings);
    const BlendStep<float> step = blend(pixel.transmittance, alpha.value, settings);
    const bool touched = alpha.value > 0.0f;
    if (kNote == Note::median) pixel.median = touched && 0.5f < pixel.transmittance ? offset : pixel.median;
    if (kNote != Note::nothing) pixel.last = touched && step.goes_on ? offset : pixel.last;
    pixel.transmittance = step.transmittance;
#pragma unroll
    for (int c = 0; c < kPlanes; ++c) pixel.sums[c] = multiply_add(step.weight, pair.channels[c], pixel.sums[c]);
  }
}

/// Blends a list into a lane's pixels; looks every kGroup pairs whether all of the warp's have ended.
template <int kPlanes, Note kNote>
__device__ void blend_list(const StagedBucket<4>& bucket, int listed, int position, float x, float y,
                           PixelSums<kPlanes> (&pixels)[2], const BlendSettings<float>& settings) {
  const uint2* list = reinterpret_cast<const uint2*>(bucket.list[threadIdx.x / kWarpLanes]);
  int before[2][2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    before[i][0] = pixels[i].last, before[i][1] = pixels[i].median;
    pixels[i].last = pixels[i].median = -1;
  }
  for (int begin = 0; begin < listed; begin += kGroup) {
    if (!__any_sync(kAllLanes, fmaxf(pixels[0].transmittance, pixels[1].transmittance) > 0.0f)) break;
    const int end = minimum(begin + kGroup, listed);
#pragma unroll 1
    for (int k = begin; k < end; k += 4) {
      const uint2 four = list[k / 4];
      const int offsets[4] = {int(four.x & 0xffff), int(four.x >> 16), int(four.y & 0xffff), int(four.y >> 16)};
#pragma unroll
      for (int i = 0; i < 4; ++i)
        blend_staged<kPlanes, kNote>(bucket.at(offsets[i]), offsets[i], x, y, pixels, settings);
    }
  }
  constexpr int stride = StagedBucket<4>::kStride;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    pixels[i].last = pixels[i].last < 0 ? before[i][0] : position + pixels[i].last / stride + 1;
    pixels[i].median = pixels[i].median < 0 ? before[i][1] : position + pixels[i].median / stride + 1;
  }
}

/// Leaves the state before a bucket in the checkpoint behind the previous one.
template <int kPlanes>
__device__ void write_checkpoint(float* checkpoint, int planes, const PixelSums<kPlanes> (&pixels)[2]) {
  float2* at = reinterpret_cast<float2*>(checkpoint) + threadIdx.x;
  at[0] = make_float2(pixels[0].transmittance, pixels[1].transmittance);
#pragma unroll
  for (int c = 0; c < kPlanes; ++c)
    if (c < planes) at[(c + 1) * (kTilePixels / 2)] = make_float2(pixels[0].sums[c], pixels[1].sums[c]);
}

/// Turns the sums in a tile's checkpoints into those of what lies behind, for the pixels that need them.
template <int kPlanes>
__device__ void turn_checkpoints(const BlendForward<float>& p, const TilePlace& tile,
                                 const PixelSums<kPlanes> (&pixels)[2]) {
  const int planes = planes_of(p), last = maximum(pixels[0].last, pixels[1].last);
  for (int bucket = 0; (bucket + 1) * kBucket < last; ++bucket) {
    float2* at = reinterpret_cast<float2*>(checkpoint_at(p, tile, bucket)) + threadIdx.x;
#pragma unroll
    for (int c = 0; c < kPlanes; ++c) {
      if (c >= planes) continue;
      float2& sums = at[(c + 1) * (kTilePixels / 2)];
      sums = make_float2(pixels[0].sums[c] - sums.x, pixels[1].sums[c] - sums.y);
    }
  }
}

/// Adds the background and writes one pixel.
template <int kPlanes>
__device__ void write_pixel(const BlendForward<float>& p, const TilePlace& tile, PixelSums<kPlanes> sums,
                            int64_t pixel) {
  const float transmittance = fabsf(sums.transmittance);
  write_state(p, tile, transmittance, sums.last, sums.median, pixel);
#pragma unroll
  for (int c = 0; c < kPlanes; ++c) {
    if (c < p.channels) {
      if (p.backgrounds)
        sums.sums[c] = multiply_add(transmittance, p.backgrounds[tile.image * p.channels + c], sums.sums[c]);
      p.image_colors[pixel * p.channels + c] = sums.sums[c];
    } else if (c < planes_of(p)) {
      p.depths[pixel] = sums.sums[c];
    }
  }
}

template <int kPlanes, Note kNote>
__global__ void __launch_bounds__(kBlendThreads)
    blend_few_kernel(BlendForward<float> p, BlendSettings<float> with_cut) {
  __shared__ StagedBucket<4> bucket;
  const BlendSettings<float> settings = device_settings(with_cut);
  const TilePlace tile = tile_place(p, blockIdx.x);
  const LanePixels lane(p, tile);
  const float x = float(lane.x) + 0.5f, y = float(lane.y) + 0.5f;
  PixelSums<kPlanes> pixels[2] = {};
#pragma unroll
  for (int i = 0; i < 2; ++i) pixels[i].transmittance = lane.inside[i] ? 1.0f : -1.0f;
  stage_null(bucket);
  int64_t at = tile.begin;
  PairLoad<kPlanes> next = load_pair<kPlanes>(p, tile.image, load_id(p, at + threadIdx.x, tile.end));
  int32_t next_id = load_id(p, at + kBucket + threadIdx.x, tile.end);
  for (; at < tile.end; at += kBucket) {
    if (!__syncthreads_or(fmaxf(pixels[0].transmittance, pixels[1].transmittance) > 0.0f)) break;
    stage_pair(bucket, tile, next, settings);
    __syncthreads();
    next = load_pair<kPlanes>(p, tile.image, next_id);
    next_id = load_id(p, at + 2 * kBucket + threadIdx.x, tile.end);
    if (kNote != Note::nothing && p.checkpoints && at > tile.begin)
      write_checkpoint(checkpoint_at(p, tile, (at - tile.begin) / kBucket - 1), planes_of(p), pixels);
    const int listed = list_touching(bucket, kBucket);
    blend_list<kPlanes, kNote>(bucket, listed, int(at - tile.begin), x, y, pixels, settings);
  }
  if (kNote != Note::nothing && p.checkpoints) turn_checkpoints(p, tile, pixels);
#pragma unroll
  for (int i = 0; i < 2; ++i)
    if (lane.inside[i]) write_pixel(p, tile, pixels[i], lane.first + i);
}

}  // namespace
}  // namespace emogs
