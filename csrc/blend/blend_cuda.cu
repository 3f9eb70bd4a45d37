// Forward blending on CUDA: launchers. blend_few.cuh has the kernel of up to four planes, blend_many.cuh that of more,
// blend_tile.cuh what they share. A block takes a tile and stages its list in shared memory kBucket pairs at a time,
// loading the next ones while it blends; it ends with its last open pixel.
//
// Expected on sm_90, from its machine code; no GPU has confirmed it yet. A warp's instructions for one pair in the 64
// pixels of a region: 41 for three planes (45 if `last` is kept, 27 of them on the multiply-add pipe), 146 for 32
// planes, 226 for 64. A pair costs a tile 48 bytes of reads and about 5 instructions of staging, once for all its
// regions, of which it visits those where its exact maximum reaches the cut. 132 multiprocessors at 1.75 GHz issue
// 0.93e12 instructions a second: 1.3e12 pairs of pixel and splat. Resident: 32 warps (64 registers); 12 (32 planes); 8
// (64). Two pixels a lane, side by side: one needs 51 instructions for as many pixels and twice the shared memory's
// bandwidth, whose 128 bytes a clock would then be the limit; four need regions of 16x8, which splats of ten pixels
// visit 1.4 times as much.
#include "blend/blend_few.cuh"
#include "blend/blend_many.cuh"

namespace emogs {
namespace {

template <int kPlanes>
void blend_few(const BlendForward<float>& p, unsigned tiles) {
  const auto kernel = p.wants_median() ? blend_few_kernel<kPlanes, Note::median>
                      : p.last         ? blend_few_kernel<kPlanes, Note::last>
                                       : blend_few_kernel<kPlanes, Note::nothing>;
  launch_kernel("blend_few_kernel", kernel, tiles, kBlendThreads, 0, p, p, settings_with_cut(p));
}

template <int kPlanes>
void blend_many(const BlendForward<float>& p, unsigned tiles, int planes) {
  launch_kernel("blend_many_kernel", blend_many_kernel<kPlanes>, dim3(tiles, unsigned(planes + kPlanes - 1) / kPlanes),
                kBlendThreads, sizeof(ManyShared<kPlanes>), p, p, settings_with_cut(p));
}

}  // namespace

template <>
void blend_tiles_forward_cuda(const BlendForward<float>& p) {
  const DeviceGuard guard(p);
  const int64_t total = p.images * tiles_along(p.width) * tiles_along(p.height);
  if (total == 0) return;
  const unsigned tiles = grid_size(total, "blend_tiles_forward");
  const int planes = int(p.channels) + p.blends_depth();
  if (planes == 3) return blend_few<3>(p, tiles);
  if (planes <= 4) return blend_few<4>(p, tiles);
  if (planes <= 32) return blend_many<32>(p, tiles, planes);
  blend_many<64>(p, tiles, planes);
}

}  // namespace emogs
