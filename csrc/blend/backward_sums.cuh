// What comes after the buckets: rows of sums are added by splat, in their order, and become gradients; and the
// gradients of backgrounds, tile by tile, then image by image.
#pragma once

#include "blend/bucket.cuh"

namespace emogs {
namespace {

constexpr int kSumThreads = 128;
constexpr int kLongRows = 64;            // of a splat; more are dealt to all of a warp's lanes
constexpr int kBackgroundTiles = 8;      // of an image whose pixels a block adds up
constexpr int kBackgroundChannels = 32;  // at a time: a lane each, when blocks' sums are added

__device__ inline float component(float4 four, int k) {
  return k == 0 ? four.x : k == 1 ? four.y : k == 2 ? four.z : four.w;
}

__device__ inline float4 shuffle(float4 four, int from, int width) {
  return make_float4(__shfl_sync(kAllLanes, four.x, from, width), __shfl_sync(kAllLanes, four.y, from, width),
                     __shfl_sync(kAllLanes, four.z, from, width), __shfl_sync(kAllLanes, four.w, from, width));
}

__device__ inline void add(float4& sum, float4 four) {
  sum.x += four.x, sum.y += four.y, sum.z += four.z, sum.w += four.w;
}

/// Four columns of every `step`-th row.
__device__ inline float4 sum_rows(const float4* rows, int64_t begin, int64_t end, int step, int64_t columns) {
  float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 4
  for (int64_t row = begin; row < end; row += step) add(sum, rows[row * columns]);
  return sum;
}

/// The sum of a splat's rows, in groups of kLanes lanes that have a splat each. The rows of a splat over many tiles are
/// dealt to all groups of the warp, if they are many: the number of rows alone decides, so that the order of a sum is
/// always the same.
template <int kLanes>
__device__ inline float4 sum_splat(const float4* rows, int begin, int end, int64_t columns) {
  constexpr int groups = kWarpLanes / kLanes;
  const int lane = threadIdx.x % kWarpLanes, group = lane / kLanes;
  const bool shared = groups > 2 && end - begin > kLongRows;
  float4 sum = sum_rows(rows, begin, shared ? begin : end, 1, columns);
  for (unsigned left = __ballot_sync(kAllLanes, shared && lane % kLanes == 0); left != 0; left &= left - 1) {
    const int owner = __ffs(int(left)) - 1;
    const int first = __shfl_sync(kAllLanes, begin, owner), last = __shfl_sync(kAllLanes, end, owner);
    float4 part = sum_rows(rows, first + group, last, groups, columns);
#pragma unroll
    for (int step = kLanes; step < kWarpLanes; step *= 2)
      add(part, make_float4(__shfl_xor_sync(kAllLanes, part.x, step), __shfl_xor_sync(kAllLanes, part.y, step),
                            __shfl_xor_sync(kAllLanes, part.z, step), __shfl_xor_sync(kAllLanes, part.w, step)));
    if (group == owner / kLanes) sum = part;
  }
  return sum;
}

/// kLanes lanes a splat, each four columns of the rows at a time.
template <int kLanes>
__global__ void __launch_bounds__(kSumThreads) add_rows_kernel(BlendBackward<float> p) {
  const int64_t splat = (int64_t(blockIdx.x) * kSumThreads + threadIdx.x) / kLanes;
  const int lane = threadIdx.x % kLanes, columns = int(pair_sums_width(p.channels)) / 4;
  const bool exists = splat < p.images * p.count;
  int begin = exists ? p.rows[2 * splat] : 0, end = exists ? p.rows[2 * splat + 1] : 0;
  if (begin < 0 || end > p.pairs || end < begin) begin = end = 0;
  const float4* rows = reinterpret_cast<const float4*>(p.pair_sums);
  const int channels_at = p.grad_probes ? kMoments + 2 : kMoments, depth_at = channels_at + int(p.channels);
  float4 first = make_float4(0, 0, 0, 0), depths = first;
  for (int column = lane; column - lane < columns; column += kLanes) {
    const int readable = minimum(column, columns - 1);  // lanes too many repeat the last and drop it
    const float4 sum = sum_splat<kLanes>(rows + readable, begin, end, columns);
    if (column == lane) first = sum;
    if (column == depth_at / 4) depths = sum;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int c = 4 * column + k - channels_at;
      if (exists && c >= 0 && c < p.channels) p.grad_colors[splat * p.channels + c] = component(sum, k);
    }
  }
  const float4 second = shuffle(first, 1, kLanes);
  depths = shuffle(depths, depth_at / 4 % kLanes, kLanes);
  if (!exists || lane != 0) return;
  const float4* record = reinterpret_cast<const float4*>(p.splats + splat * kSplatSize);
  const float4 head = record[0], body = record[1];
  const Splat<float> s = {head.x, head.y, head.z, head.w, body.x, body.y, body.z, body.w};
  const Splat<float> grad = splat_backward(s, {first.x, first.y, first.z, first.w, second.x, second.y},
                                           p.depth_mode ? component(depths, depth_at % 4) : 0.0f);
  float4* to = reinterpret_cast<float4*>(p.grad_splats + splat * kSplatSize);
  to[0] = make_float4(grad.x, grad.y, grad.a, grad.b);
  to[1] = make_float4(grad.c, grad.opacity, grad.depth, grad.reach_y);
  if (p.grad_probes) reinterpret_cast<float4*>(p.grad_probes)[splat] = make_float4(grad.x, grad.y, second.z, second.w);
}

/// What kBackgroundTiles of an image's tiles leave of its background, channel by channel; an image has so many blocks.
__global__ void __launch_bounds__(kBlendThreads)
    tile_backgrounds_kernel(BlendBackward<float> p, int tiles, int blocks) {
  __shared__ float warps[kRegions][kBackgroundChannels];
  const int warp = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
  const int64_t image = blockIdx.x / unsigned(blocks);
  const int in_image = int(blockIdx.x % unsigned(blocks)) * kBackgroundTiles;
  const int64_t first = image * tiles + in_image;
  const int count = minimum(kBackgroundTiles, tiles - in_image);
  for (int64_t base = 0; base < p.channels; base += kBackgroundChannels) {
    const int channels = int(minimum(p.channels - base, int64_t(kBackgroundChannels)));
    for (int c = 0; c < channels; ++c) {
      float sum = 0;
      for (int tile = 0; tile < count; ++tile) {
        const LanePixels pixels(p, tile_place(p, first + tile));
        for (int i = 0; i < 2; ++i)
          if (pixels.inside[i])
            sum = multiply_add(p.transmittances[pixels.first + i], plane_grad(p, pixels.first + i, int(base) + c), sum);
      }
      for (int step = kWarpLanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
      if (lane == 0) warps[warp][c] = sum;
    }
    __syncthreads();
    if (int(threadIdx.x) < channels) {
      float sum = 0;
      for (int i = 0; i < kRegions; ++i) sum += warps[i][threadIdx.x];
      p.tile_backgrounds[blockIdx.x * p.channels + base + threadIdx.x] = sum;
    }
    __syncthreads();
  }
}

/// Adds up what the `blocks` blocks of an image (blockIdx.x) left; a lane has a channel, a warp every fourth block.
__global__ void __launch_bounds__(kBlendThreads) add_backgrounds_kernel(BlendBackward<float> p, int blocks) {
  __shared__ float warps[kRegions][kBackgroundChannels];
  const int warp = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
  const int64_t image = blockIdx.x, c = int64_t(blockIdx.y) * kBackgroundChannels + lane;
  float sum = 0;
  for (int block = warp; block < blocks && c < p.channels; block += kRegions)
    sum += p.tile_backgrounds[(image * blocks + block) * p.channels + c];
  warps[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || c >= p.channels) return;
  for (int i = 1; i < kRegions; ++i) sum += warps[i][lane];
  p.grad_backgrounds[image * p.channels + c] = sum;
}

}  // namespace
}  // namespace emogs
