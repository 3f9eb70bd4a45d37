// Backward blending of many planes. The same two steps as in backward_few.cuh, kGroup pairs at a time, with two
// products around them: before, each pixel's gradient times the pairs' channels; afterwards, weights times gradients,
// a lane four pairs and four planes in half of the pixels. Gradients lie in shared memory kChunk planes at a time,
// where 32 planes stay for the whole bucket. Rows of sums are finished 32 pairs at a time. A block sums up to
// kPassPlanes planes (blockIdx.y has the rest).
#pragma once

#include "blend/bucket.cuh"

namespace emogs {
namespace {

constexpr int kChunk = 32;                // planes whose gradients are in shared memory at a time
constexpr int kChunkStride = kChunk + 4;  // of a pixel's: eight pixels' 16 bytes lie in different banks
constexpr int kPassPlanes = 68;           // 64 and depth; more do not fit into 99 KiB, all that some GPUs of today have
constexpr int kStrip = kWarpLanes;        // pairs whose rows are finished together

struct ManyBackwardShared {
  StagedBucket<0> bucket;
  alignas(16) float pixel_grads[kRegions][kRegionPixels][kChunkStride];
  alignas(16) float pixels[kRegions][kGroup][kRegionStride];  // gradients of sigma, later weights, of pairs in pixels
  alignas(16) float channels[kRegions][kGroup][kChunk];
  float moments[kRegions][kStrip][kMoments + 3];
  int matter[kRegions];  // pairs that matter to some pixel of the region
  int medians[kTilePixels];
  float median_grads[kTilePixels];
  // [kRegions, kStrip, plane_stride] follow: sums of the planes' gradients
};

/// Planes that the block sums, rounded up for 16-byte stores.
EMOGS_HD int plane_stride(int planes) {
  return (minimum(planes, kPassPlanes) + 3) / 4 * 4;
}

static_assert(sizeof(ManyBackwardShared) + sizeof(float) * kRegions * kStrip * kPassPlanes <= 99 * 1024, "");

inline size_t many_backward_bytes(int planes) {
  return sizeof(ManyBackwardShared) + sizeof(float) * kRegions * kStrip * size_t(plane_stride(planes));
}

/// One warp's work on a bucket. A lane's two pixels are l and l + 32 of the region, row by row.
struct ManyWarp {
  const BlendBackward<float>& p;
  const BucketPlace& place;
  ManyBackwardShared& shared;
  const int region, lane;
  const int x, y;        // first pixel of the region
  const int64_t first;   // its index among the pixels of all images
  const int planes;      // of the pixels
  int chunk_there = -1;  // whose gradients are in shared memory

  __device__ ManyWarp(const BlendBackward<float>& params, const BucketPlace& bucket, ManyBackwardShared& memory)
      : p(params),
        place(bucket),
        shared(memory),
        region(threadIdx.x / kWarpLanes),
        lane(threadIdx.x % kWarpLanes),
        x(bucket.tile.x + region % kRegionsAlong * kRegionSize),
        y(bucket.tile.y + region / kRegionsAlong * kRegionSize),
        first((bucket.tile.image * params.height + y) * params.width + x),
        planes(planes_of(params)) {}

  __device__ bool inside(int pixel) const {
    return x + pixel % kRegionSize < p.width && y + pixel / kRegionSize < p.height;
  }
  __device__ int64_t index_of(int pixel) const {
    return first + int64_t(pixel / kRegionSize) * p.width + pixel % kRegionSize;
  }

  /// Brings the gradients of a chunk's planes to shared memory.
  __device__ void load_grads(int chunk) {
    if (chunk == chunk_there) return;
    chunk_there = chunk;
    __syncwarp();
    auto& to = shared.pixel_grads[region];
    if (p.channels % 4 == 0 && (chunk + 1) * kChunk <= p.channels && p.grad_image_colors) {
#pragma unroll 4
      for (int pixel = lane / 8; pixel < kRegionPixels; pixel += 4) {
        const int plane = lane % 8 * 4;
        float4 four = make_float4(0, 0, 0, 0);
        if (inside(pixel))
          four = __ldg(reinterpret_cast<const float4*>(p.grad_image_colors + index_of(pixel) * p.channels +
                                                       chunk * kChunk + plane));
        *reinterpret_cast<float4*>(&to[pixel][plane]) = four;
      }
    } else {
      for (int pixel = 0; pixel < kRegionPixels; ++pixel)
        to[pixel][lane] = inside(pixel) ? plane_grad(p, index_of(pixel), chunk * kChunk + lane) : 0.0f;
    }
    __syncwarp();
  }

  /// Brings a chunk of the channels of a group of pairs to shared memory.
  __device__ void load_channels(const uint16_t* list, int chunk) {
    const int c = chunk * kChunk + lane;
    float values[kGroup];
#pragma unroll
    for (int k = 0; k < kGroup; ++k) {
      const float4 body = shared.bucket.at(list[k])[1];
      const int id = int(bits_of(body.z));
      values[k] =
          id >= 0 && c < p.channels ? __ldg(p.colors + (place.tile.image * p.count + id) * p.channels + c) : 0.0f;
      if (c == p.channels && p.blends_depth()) values[k] = body.w;
    }
    __syncwarp();
#pragma unroll
    for (int k = 0; k < kGroup; ++k) shared.channels[region][k][lane] = values[k];
    __syncwarp();
  }

  /// Dot products of the group's channels with the gradients of the lane's two pixels.
  __device__ void dot_group(const uint16_t* list, float (&dots)[kGroup][2]) {
    for (int chunk = 0; chunk * kChunk < planes; ++chunk) {
      load_grads(chunk);
      load_channels(list, chunk);
#pragma unroll 2
      for (int c = 0; c < kChunk; c += 4) {
        float4 grads[2];
#pragma unroll
        for (int i = 0; i < 2; ++i)
          grads[i] = *reinterpret_cast<const float4*>(&shared.pixel_grads[region][lane + i * kWarpLanes][c]);
#pragma unroll
        for (int k = 0; k < kGroup; ++k) {
          const float4 four = *reinterpret_cast<const float4*>(&shared.channels[region][k][c]);
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            dots[k][i] = multiply_add(four.x, grads[i].x, dots[k][i]);
            dots[k][i] = multiply_add(four.y, grads[i].y, dots[k][i]);
            dots[k][i] = multiply_add(four.z, grads[i].z, dots[k][i]);
            dots[k][i] = multiply_add(four.w, grads[i].w, dots[k][i]);
          }
        }
      }
    }
  }

  /// The lane as two pixels: leaves gradients of sigma in shared memory, and weights in `dots`.
  __device__ void back_over_group(const uint16_t* list, float (&dots)[kGroup][2], PixelBack (&pixels)[2],
                                  const BlendSettings<float>& settings) {
    const float center_x = float(x + lane % kRegionSize) + 0.5f, center_y = float(y + lane / kRegionSize) + 0.5f;
#pragma unroll
    for (int k = kGroup - 1; k >= 0; --k) {
      const int offset = list[k];
      const float4* record = shared.bucket.at(offset);
      const StagedSplat<float> s = staged_splat(record[0], record[1]);
      const float dx = center_x - s.x;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float dy = center_y + float(i * kWarpLanes / kRegionSize) - s.y;
        const BlendBack<float> back =
            blend_pixel_back(s, dx, dy, offset < pixels[i].matter, dots[k][i], pixels[i], settings);
        shared.pixels[region][k][lane + i * kWarpLanes] = back.grad_exponent;
        dots[k][i] = back.weight;
      }
    }
    __syncwarp();
  }

  /// Leaves weights where the gradients of sigma were.
  __device__ void store_weights(const float (&weights)[kGroup][2]) {
    __syncwarp();
#pragma unroll
    for (int k = 0; k < kGroup; ++k)
#pragma unroll
      for (int i = 0; i < 2; ++i) shared.pixels[region][k][lane + i * kWarpLanes] = weights[k][i];
    __syncwarp();
  }

  /// The lane as a pair of the group in two rows of the region: sums moments.
  template <bool kMagnitudes>
  __device__ void sum_moments(const uint16_t* list) {
    const int k = lane % kGroup, row = lane / kGroup * 2, offset = list[k];
    const float4* record = shared.bucket.at(offset);
    const StagedSplat<float> s = staged_splat(record[0], record[1]);
    PairMoments<kMagnitudes> moments;
    float dx[kRegionSize];
#pragma unroll
    for (int i = 0; i < kRegionSize; ++i) dx[i] = float(x + i) + 0.5f - s.x;
#pragma unroll
    for (int r = row; r < row + 2; ++r) {
      const float4* from = reinterpret_cast<const float4*>(&shared.pixels[region][k][r * kRegionSize]);
      const float4 left = from[0], right = from[1];
      const float grad[kRegionSize] = {left.x, left.y, left.z, left.w, right.x, right.y, right.z, right.w};
      moments.add_row(grad, dx, float(y + r) + 0.5f - s.y, s);
    }
    float* to = exists(offset) ? shared.moments[region][strip_slot(offset)] : nullptr;
    sum_quarters(moments.sums, to);
  }

  /// Whether a list's entry is a pair, and not the null record that pads it.
  __device__ static bool exists(int offset) { return offset != StagedBucket<0>::kNull; }

  /// Where a pair's sums lie: its index in the strip.
  __device__ static int strip_slot(int offset) { return offset / StagedBucket<0>::kStride % kStrip; }

  /// Sums weight times gradient over the region's pixels, for each pair of the group and plane of the pass.
  __device__ void sum_planes(const uint16_t* list, float* sums, int stride) {
    const int pairs = lane / 16 * 4, plane = lane / 2 % 8 * 4, half = lane % 2;
    const int begin = int(blockIdx.y) * kPassPlanes, end = minimum(begin + kPassPlanes, planes);
    for (int chunk = (end - 1) / kChunk; (chunk + 1) * kChunk > begin; --chunk) {  // the last is still there
      load_grads(chunk);
      float sum[4][4] = {};
#pragma unroll 2
      for (int block = half; block < kRegionPixels / 4; block += 2) {
        float weight[4][4], grad[4][4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float4 w = *reinterpret_cast<const float4*>(&shared.pixels[region][pairs + i][4 * block]);
          const float4 g = *reinterpret_cast<const float4*>(&shared.pixel_grads[region][4 * block + i][plane]);
          weight[i][0] = w.x, weight[i][1] = w.y, weight[i][2] = w.z, weight[i][3] = w.w;
          grad[i][0] = g.x, grad[i][1] = g.y, grad[i][2] = g.z, grad[i][3] = g.w;
        }
#pragma unroll
        for (int pixel = 0; pixel < 4; ++pixel)
#pragma unroll
          for (int i = 0; i < 4; ++i)
#pragma unroll
            for (int c = 0; c < 4; ++c) sum[i][c] = multiply_add(weight[i][pixel], grad[pixel][c], sum[i][c]);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {  // each half keeps two of the pairs
        float kept[4];
#pragma unroll
        for (int c = 0; c < 4; ++c)
          kept[c] =
              (half ? sum[2 + i][c] : sum[i][c]) + __shfl_xor_sync(kAllLanes, half ? sum[i][c] : sum[2 + i][c], 1);
        const int offset = list[pairs + 2 * half + i], at = chunk * kChunk + plane - begin;
        if (exists(offset) && at >= 0 && at < stride)
          *reinterpret_cast<float4*>(sums + (region * kStrip + strip_slot(offset)) * stride + at) =
              make_float4(kept[0], kept[1], kept[2], kept[3]);
      }
    }
  }
};

/// Adds the regions' sums of the pairs of a strip and writes their rows.
template <bool kMagnitudes>
__device__ void write_strip(const BlendBackward<float>& p, const BucketPlace& place, const ManyBackwardShared& shared,
                            const float* sums, int stride, int strip) {
  constexpr int moments = PairMoments<kMagnitudes>::kCount;
  const int begin = int(blockIdx.y) * kPassPlanes, count = minimum(planes_of(p) - begin, kPassPlanes);
  const int width = int(pair_sums_width(p.channels));
  for (int i = threadIdx.x; i < kStrip * (moments + count); i += kBlendThreads) {
    const int in_strip = i / (moments + count), k = i % (moments + count), slot = strip * kStrip + in_strip;
    if (slot >= place.count || (k < moments && blockIdx.y > 0)) continue;
    const int64_t row = p.places[place.tile.begin + place.position + slot];
    if (row < 0 || row >= p.pairs) continue;
    float sum = 0;
    for (int region = 0; region < kRegions; ++region)
      if ((shared.bucket.touching[region][strip] >> in_strip & 1) && slot < shared.matter[region])
        sum += k < moments ? shared.moments[region][in_strip][k]
                           : sums[(region * kStrip + in_strip) * stride + k - moments];
    p.pair_sums[row * width + (k < moments ? k : k + begin)] = sum;
    if (p.wants_median() && blockIdx.y == 0 && k == 0)
      p.pair_sums[row * width + moments + p.channels] = median_grad(shared.medians, shared.median_grads, slot);
  }
}

template <bool kMagnitudes>
__global__ void __launch_bounds__(kBlendThreads, 2)
    backward_many_kernel(BlendBackward<float> p, int64_t tiles, BlendSettings<float> with_cut) {
  EMOGS_DYNAMIC_SHARED(ManyBackwardShared, shared);
  float* sums = reinterpret_cast<float*>(shared + 1);
  const BucketPlace place = bucket_place(p, tiles);
  if (place.count == 0) return;  // the whole block
  const BlendSettings<float> settings = device_settings(with_cut);
  const int64_t first = place.tile.begin + place.position;
  const PairLoad<0> load = load_pair<0>(p, place.tile.image, load_id(p, first + threadIdx.x, first + place.count));
  ManyWarp warp(p, place, *shared);
  PixelBack pixels[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int pixel = warp.lane + i * kWarpLanes, in_tile = warp.region * kRegionPixels + pixel;
    const bool inside = warp.inside(pixel);
    const int64_t index = warp.index_of(pixel);
    pixels[i] = {1.0f, 0.0f, 0};
    if (inside) pixels[i] = pixel_behind(p, place, index, in_tile, [&](int c) { return plane_grad(p, index, c); });
    if (p.wants_median()) {
      const bool wanted = inside && p.grad_depths;
      shared->medians[in_tile] = wanted ? median_slot(p, place, index) : -1;
      shared->median_grads[in_tile] = wanted ? p.grad_depths[index] : 0.0f;
    }
  }
  const int matter = warp_maximum(maximum(pixels[0].matter, pixels[1].matter));
  if (warp.lane == 0) shared->matter[warp.region] = matter;
#pragma unroll
  for (int i = 0; i < 2; ++i) pixels[i].matter *= StagedBucket<0>::kStride;
  stage_null(shared->bucket);
  stage_pair(shared->bucket, place.tile, load, settings);
  __syncthreads();
  const int stride = plane_stride(warp.planes);
  for (int strip = (place.count - 1) / kStrip; strip >= 0; --strip) {
    const int listed = list_touching(shared->bucket, matter, strip, strip + 1);
    for (int begin = (listed + kGroup - 1) / kGroup * kGroup - kGroup; begin >= 0; begin -= kGroup) {
      const uint16_t* list = shared->bucket.list[warp.region] + begin;
      float dots[kGroup][2] = {};
      warp.dot_group(list, dots);
      warp.back_over_group(list, dots, pixels, settings);
      if (blockIdx.y == 0) warp.template sum_moments<kMagnitudes>(list);
      warp.store_weights(dots);
      warp.sum_planes(list, sums, stride);
      __syncwarp();
    }
    __syncthreads();
    write_strip<kMagnitudes>(p, place, *shared, sums, stride, strip);
    __syncthreads();
  }
}

}  // namespace
}  // namespace emogs
