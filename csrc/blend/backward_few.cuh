// Backward blending of up to four planes. Each warp goes back over the pairs that can touch its region, kGroup at a
// time: first a lane is two pixels, follows their transmittance and leaves the pairs' weights and gradients of sigma in
// shared memory; then it is a pair in two rows of the region, whose gradients stay in its registers, and sums moments
// and channel gradients there. Sums of regions are added in order: nothing depends on which warp is faster.
#pragma once

#include "blend/bucket.cuh"

namespace emogs {
namespace {

constexpr int kRowsALane = 2;  // of the region, when a lane is a pair

template <int kPlanes, bool kMagnitudes>
struct FewBackwardShared {
  static constexpr int kSums = PairMoments<kMagnitudes>::kCount + kPlanes;

  StagedBucket<4> bucket;
  alignas(16) float weights[kRegions][kGroup][kRegionStride];
  alignas(16) float grads[kRegions][kGroup][kRegionStride];  // of sigma
  float sums[kRegions][kBucket][kSums | 1];                  // odd: threads that read a pair each meet other banks
  int matter[kRegions];                                      // pairs that matter to some pixel of the region
  int medians[kTilePixels];
  float median_grads[kTilePixels];
};

/// The lane as two pixels: weights and gradients of the pair at `offset`.
template <int kPlanes>
__device__ inline void back_over_pixels(const StagedBucket<4>& bucket, int offset, float x, float y,
                                        const float (&grads)[2][kPlanes], PixelBack (&pixels)[2], float* weights,
                                        float* grads_sigma, const BlendSettings<float>& settings) {
  const UnpackedPair<kPlanes> pair(bucket.at(offset));
  const StagedSplat<float>& s = pair.splat;
  const float dy = y - s.y;
  BlendBack<float> back[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float dot = pair.channels[0] * grads[i][0];
#pragma unroll
    for (int c = 1; c < kPlanes; ++c) dot = multiply_add(pair.channels[c], grads[i][c], dot);
    const bool counted = offset < pixels[i].matter;  // in bytes here
    back[i] = blend_pixel_back(s, x + float(i) - s.x, dy, counted, dot, pixels[i], settings);
  }
  *reinterpret_cast<float2*>(weights) = make_float2(back[0].weight, back[1].weight);
  *reinterpret_cast<float2*>(grads_sigma) = make_float2(back[0].grad_exponent, back[1].grad_exponent);
}

/// The lane as a pair in two rows of the region; the rows' first pixel is at (x, y).
template <int kPlanes, bool kMagnitudes>
__device__ inline void sum_pair(const StagedBucket<4>& bucket, int offset, float x, float y,
                                const float (&pixel_grads)[kRowsALane][kRegionSize][kPlanes], const float* weights,
                                const float* grads_sigma, float* sums) {
  const float4* record = bucket.at(offset);
  const StagedSplat<float> s = staged_splat(record[0], record[1]);
  PairMoments<kMagnitudes> moments;
  float all[PairMoments<kMagnitudes>::kCount + kPlanes] = {};
  float* channels = all + PairMoments<kMagnitudes>::kCount;
  float dx[kRegionSize];
#pragma unroll
  for (int i = 0; i < kRegionSize; ++i) dx[i] = x + float(i) - s.x;
#pragma unroll
  for (int row = 0; row < kRowsALane; ++row) {
    float weight[kRegionSize], grad[kRegionSize];
#pragma unroll
    for (int i = 0; i < kRegionSize; i += 4) {
      const float4 w = *reinterpret_cast<const float4*>(weights + row * kRegionSize + i);
      const float4 g = *reinterpret_cast<const float4*>(grads_sigma + row * kRegionSize + i);
      weight[i] = w.x, weight[i + 1] = w.y, weight[i + 2] = w.z, weight[i + 3] = w.w;
      grad[i] = g.x, grad[i + 1] = g.y, grad[i + 2] = g.z, grad[i + 3] = g.w;
    }
    moments.add_row(grad, dx, y + float(row) - s.y, s);
#pragma unroll
    for (int i = 0; i < kRegionSize; ++i)
#pragma unroll
      for (int c = 0; c < kPlanes; ++c) channels[c] = multiply_add(weight[i], pixel_grads[row][i][c], channels[c]);
  }
#pragma unroll
  for (int k = 0; k < PairMoments<kMagnitudes>::kCount; ++k) all[k] = moments.sums[k];
  sum_quarters(all, sums);
}

/// The gradients of a row of eight pixels, zeros outside the image.
template <int kPlanes>
__device__ inline void load_row_grads(const BlendBackward<float>& p, const TilePlace& tile, int x, int y,
                                      float (&grads)[kRegionSize][kPlanes]) {
#pragma unroll
  for (int i = 0; i < kRegionSize; ++i)
#pragma unroll
    for (int c = 0; c < kPlanes; ++c)
      grads[i][c] =
          y < p.height && x + i < p.width ? plane_grad(p, (tile.image * p.height + y) * p.width + x + i, c) : 0.0f;
}

/// Goes back over the region's list.
template <int kPlanes, bool kMagnitudes>
__device__ void back_over_list(const BlendBackward<float>& p, const BucketPlace& place,
                               FewBackwardShared<kPlanes, kMagnitudes>& shared, const LanePixels& lane,
                               PixelBack (&pixels)[2], const float (&grads)[2][kPlanes],
                               const BlendSettings<float>& settings) {
  const int region = threadIdx.x / kWarpLanes, in_warp = threadIdx.x % kWarpLanes;
  const int listed = list_touching(shared.bucket, shared.matter[region]);
  const int pair = in_warp % kGroup, first_row = in_warp / kGroup * kRowsALane;
  const int x = place.tile.x + region % kRegionsAlong * kRegionSize;
  const int y = place.tile.y + region / kRegionsAlong * kRegionSize + first_row;
  float row_grads[kRowsALane][kRegionSize][kPlanes];
#pragma unroll
  for (int row = 0; row < kRowsALane; ++row) load_row_grads(p, place.tile, x, y + row, row_grads[row]);
  const uint16_t* list = shared.bucket.list[region];
  auto &weights = shared.weights[region], &grads_sigma = shared.grads[region];
  for (int begin = (listed - 1) / kGroup * kGroup; begin >= 0 && listed > 0; begin -= kGroup) {
#pragma unroll 2
    for (int k = kGroup - 1; k >= 0; --k)
      back_over_pixels(shared.bucket, list[begin + k], float(lane.x) + 0.5f, float(lane.y) + 0.5f, grads, pixels,
                       &weights[k][2 * in_warp], &grads_sigma[k][2 * in_warp], settings);
    __syncwarp();
    const int offset = list[begin + pair], slot = offset / StagedBucket<4>::kStride;
    sum_pair<kPlanes, kMagnitudes>(shared.bucket, offset, float(x) + 0.5f, float(y) + 0.5f, row_grads,
                                   &weights[pair][first_row * kRegionSize], &grads_sigma[pair][first_row * kRegionSize],
                                   slot < kBucket ? shared.sums[region][slot] : nullptr);
    __syncwarp();
  }
}

/// Adds the regions' sums of the thread's pair and writes its row.
template <int kPlanes, bool kMagnitudes>
__device__ void write_row_of_sums(const BlendBackward<float>& p, const BucketPlace& place,
                                  const FewBackwardShared<kPlanes, kMagnitudes>& shared) {
  constexpr int moments = PairMoments<kMagnitudes>::kCount, count = moments + kPlanes;
  const int slot = threadIdx.x;
  if (slot >= place.count) return;
  const int64_t row = p.places[place.tile.begin + place.position + slot];
  if (row < 0 || row >= p.pairs) return;
  float sums[count] = {};
#pragma unroll
  for (int region = 0; region < kRegions; ++region)
    if ((shared.bucket.touching[region][slot / kWarpLanes] >> slot % kWarpLanes & 1) && slot < shared.matter[region])
#pragma unroll
      for (int k = 0; k < count; ++k) sums[k] += shared.sums[region][slot][k];
  const float median = p.wants_median() ? median_grad(shared.medians, shared.median_grads, slot) : 0.0f;
  const int width = int(pair_sums_width(p.channels)), depth = moments + int(p.channels);
  float4* to = reinterpret_cast<float4*>(p.pair_sums + row * width);
#pragma unroll
  for (int k = 0; k < (count + 4) / 4; ++k) {
    float four[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = 4 * k + i;
      four[i] = at < count ? sums[at < count ? at : 0] : 0.0f;
      if (p.wants_median() && at == depth) four[i] = median;
    }
    if (4 * k < width) to[k] = make_float4(four[0], four[1], four[2], four[3]);
  }
}

#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ == 900 || __CUDA_ARCH__ == 1000)
constexpr int kMostBlocks = 5;  // that 228 KiB of shared memory have room for
#else
constexpr int kMostBlocks = 3;
#endif

/// Blocks that a multiprocessor of 64k registers holds without a spill: 5 to 3 from the smallest kernel to the largest.
template <int kPlanes, bool kMagnitudes>
constexpr int kFewBlocks = 8 - kPlanes - kMagnitudes < kMostBlocks ? 8 - kPlanes - kMagnitudes : kMostBlocks;

template <int kPlanes, bool kMagnitudes>
__global__ void __launch_bounds__(kBlendThreads, kFewBlocks<kPlanes, kMagnitudes>)
    backward_few_kernel(BlendBackward<float> p, int64_t tiles, BlendSettings<float> with_cut) {
  using Shared = FewBackwardShared<kPlanes, kMagnitudes>;
  EMOGS_DYNAMIC_SHARED(Shared, shared);
  const BucketPlace place = bucket_place(p, tiles);
  if (place.count == 0) return;  // the whole block
  const BlendSettings<float> settings = device_settings(with_cut);
  const int64_t first = place.tile.begin + place.position;
  const PairLoad<kPlanes> load =
      load_pair<kPlanes>(p, place.tile.image, load_id(p, first + threadIdx.x, first + place.count));
  const LanePixels lane(p, place.tile);
  PixelBack pixels[2];
  float grads[2][kPlanes];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int c = 0; c < kPlanes; ++c) grads[i][c] = lane.inside[i] ? plane_grad(p, lane.first + i, c) : 0.0f;
    pixels[i] = {1.0f, 0.0f, 0};
    if (lane.inside[i])
      pixels[i] = pixel_behind(p, place, lane.first + i, 2 * threadIdx.x + i,
                               [&](int c) { return plane_grad(p, lane.first + i, c); });
    if (p.wants_median()) {
      const bool wanted = lane.inside[i] && p.grad_depths;
      shared->medians[2 * threadIdx.x + i] = wanted ? median_slot(p, place, lane.first + i) : -1;
      shared->median_grads[2 * threadIdx.x + i] = wanted ? p.grad_depths[lane.first + i] : 0.0f;
    }
  }
  const int matter = warp_maximum(maximum(pixels[0].matter, pixels[1].matter));
  if (threadIdx.x % kWarpLanes == 0) shared->matter[threadIdx.x / kWarpLanes] = matter;
#pragma unroll
  for (int i = 0; i < 2; ++i) pixels[i].matter *= StagedBucket<4>::kStride;
  stage_null(shared->bucket);
  stage_pair(shared->bucket, place.tile, load, settings);
  __syncthreads();
  back_over_list(p, place, *shared, lane, pixels, grads, settings);
  __syncthreads();
  write_row_of_sums(p, place, *shared);
}

}  // namespace
}  // namespace emogs
