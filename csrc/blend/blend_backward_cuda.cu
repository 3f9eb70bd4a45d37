// Backward blending on CUDA: launchers. backward_few.cuh goes back over buckets of up to four planes, backward_many.cuh
// over those of more, and leaves a row of sums a pair; backward_sums.cuh adds the rows of each splat in order. No
// atomics: the same bits in every run.
//
// Expected on sm_90, from its machine code; no GPU has confirmed it yet. A warp's instructions for one pair in the 64
// pixels of a region: 95 for three planes (65 going back over pixels, 30 adding up), 320 for 32 planes. Adding up by
// warp shuffles instead would take about 90 for each 32 pixels; a lane a splat through which pixels pass (Taming 3DGS)
// visits all 256 pixels of the tile. Bytes a pair: 56 read, some 60 for the pixels of a bucket, a row of 48 (three
// planes) written and read again. Resident: 20 warps for three planes (96 registers, 45 KiB of shared memory), 16 for
// four, 8 for more.
#include "blend/backward_few.cuh"
#include "blend/backward_many.cuh"
#include "blend/backward_sums.cuh"

namespace emogs {
namespace {

int64_t tiles_of_image(const BlendForward<float>& p) {
  return tiles_along(p.width) * tiles_along(p.height);
}

template <int kPlanes, bool kMagnitudes>
void back_over_few(const BlendBackward<float>& p, int64_t tiles) {
  using Shared = FewBackwardShared<kPlanes, kMagnitudes>;
  launch_kernel("backward_few_kernel", backward_few_kernel<kPlanes, kMagnitudes>,
                grid_size(bucket_blocks(p, tiles), "backward_few_kernel"), kBlendThreads, sizeof(Shared), p, p, tiles,
                settings_with_cut(p));
}

template <bool kMagnitudes>
void back_over_buckets(const BlendBackward<float>& p, int64_t tiles) {
  const int64_t planes = p.channels + p.blends_depth();
  if (planes == 3) return back_over_few<3, kMagnitudes>(p, tiles);
  if (planes <= 4) return back_over_few<4, kMagnitudes>(p, tiles);
  const dim3 blocks(grid_size(bucket_blocks(p, tiles), "backward_many_kernel"),
                    unsigned((planes + kPassPlanes - 1) / kPassPlanes));
  launch_kernel("backward_many_kernel", backward_many_kernel<kMagnitudes>, blocks, kBlendThreads,
                many_backward_bytes(int(planes)), p, p, tiles, settings_with_cut(p));
}

template <int kLanes>
void add_rows(const BlendBackward<float>& p) {
  const int64_t splats = p.images * p.count, each = kSumThreads / kLanes;
  launch_kernel("add_rows_kernel", add_rows_kernel<kLanes>, grid_size((splats + each - 1) / each, "add_rows_kernel"),
                kSumThreads, 0, p, p);
}

void add_backgrounds(const BlendBackward<float>& p) {
  const int tiles = int(tiles_of_image(p)), blocks = (tiles + kBackgroundTiles - 1) / kBackgroundTiles;
  launch_kernel("tile_backgrounds_kernel", tile_backgrounds_kernel,
                grid_size(p.images * blocks, "tile_backgrounds_kernel"), kBlendThreads, 0, p, p, tiles, blocks);
  const unsigned strips = unsigned((p.channels + kBackgroundChannels - 1) / kBackgroundChannels);
  const dim3 sums(grid_size(p.images, "add_backgrounds_kernel"), strips);
  launch_kernel("add_backgrounds_kernel", add_backgrounds_kernel, sums, kBlendThreads, 0, p, p, blocks);
}

}  // namespace

template <>
void blend_tiles_backward_cuda(const BlendBackward<float>& p) {
  const DeviceGuard guard(p);
  if (p.images == 0) return;
  const int64_t tiles = p.images * tiles_of_image(p);
  if (p.pairs > 0) {
    if (p.grad_probes)
      back_over_buckets<true>(p, tiles);
    else
      back_over_buckets<false>(p, tiles);
  }
  if (p.count > 0) {
    const int64_t columns = pair_sums_width(p.channels) / 4;
    if (columns <= 4)
      add_rows<4>(p);
    else if (columns <= 16)
      add_rows<16>(p);
    else
      add_rows<32>(p);
  }
  if (p.grad_backgrounds) add_backgrounds(p);
}

}  // namespace emogs
