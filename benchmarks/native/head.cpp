#include "head.h"

namespace emogs {

// From (0.25, 0.05, 1.2) to the origin, y down: the rows are the camera's axes and the origin's place along them.
static const float kViewmat[16] = {0.978980f,  0.f,        -0.203954f, 0.f,        //
                                   0.008313f,  -0.999169f, 0.039900f,  0.f,        //
                                   -0.203785f, -0.040757f, -0.978167f, 1.226784f,  //
                                   0.f,        0.f,        0.f,        1.f};
static const float kFocal = 1042.5f;  // 14 degrees

Head::Head(int64_t head_count, int64_t head_channels, int64_t head_harmonics)
    : count(head_count),
      channels(head_channels),
      harmonics(head_harmonics),
      means(3 * count),
      quats(4 * count),
      scales(3 * count),
      opacities(count),
      colors(count * (harmonics ? 3 * harmonics : channels)),
      viewmat(16),
      intrinsics(9),
      rows(4) {
  const float size = 0.0022f * sqrtf(20000.f / float(count));
  Random random(1);
  for (int64_t i = 0; i < count; i++) {
    const float x = random.normal(), y = random.normal(), z = random.normal();
    const float length = sqrtf(x * x + y * y + z * z) + 1e-6f, normal[3] = {x / length, y / length, z / length};
    const float radii[3] = {0.08f, 0.12f, 0.1f};
    for (int k = 0; k < 3; k++) means[3 * i + k] = normal[k] * radii[k] + 0.0005f * random.normal();
    const float quat[4] = {1 + normal[2], -normal[1], normal[0], 0.f};  // turns z into the normal
    const float norm = sqrtf(quat[0] * quat[0] + quat[1] * quat[1] + quat[2] * quat[2]) + 1e-6f;
    for (int k = 0; k < 4; k++) quats[4 * i + k] = quat[k] / norm;
    for (int k = 0; k < 3; k++) scales[3 * i + k] = (k == 2 ? 0.1f : 1.f) * size * (0.5f + random.uniform());
    opacities[i] = 0.3f + 0.69f * random.uniform();
  }
  for (int64_t i = 0; i < colors.size(); i++) colors[i] = random.uniform();
  for (int i = 0; i < 16; i++) viewmat[i] = kViewmat[i];
}

ProjectForward<float> Head::projection(int pixels) {
  const float left = pixels < kPixels ? 40 : 0, top = pixels < kPixels ? 80 : 0;
  const float matrix[9] = {kFocal, 0, kPixels / 2 - left, 0, kFocal, kPixels / 2 - top, 0, 0, 1};
  for (int i = 0; i < 9; i++) intrinsics[i] = matrix[i];
  ProjectForward<float> p{};
  p.batch = p.cameras = p.gaussian_rows = 1, p.count = count;
  p.channels = harmonics ? 3 : channels, p.harmonics = harmonics, p.width = p.height = pixels;
  p.alpha_cut = 1.0 / 255, p.blur = 0.3, p.near = 0.01, p.far = 1e10;
  p.rows = rows, p.means = means, p.quats = quats, p.scales = scales, p.opacities = opacities, p.colors = colors;
  p.viewmats = viewmat, p.Ks = intrinsics;
  return p;
}

Splats::Splats(int64_t channels, int size) : count(20000), pixels(size), records(8 * count), colors(channels * count) {
  Head head(count, channels);
  Buffer<int64_t> culled(2);
  ProjectForward<float> p = head.projection(pixels);
  p.splats = records, p.splat_colors = colors, p.culled = culled;
  counted::project_gaussians_forward(p);
}

TileLists::TileLists(Splats& splats)
    : tiles(tiles_along(splats.pixels) * tiles_along(splats.pixels)),
      visible(1),
      order(splats.count),
      part_offsets(tiles),
      ids(kMostPairs),
      boxes(splats.count),
      offsets(tiles + 1),
      scratch(intersect_tiles_scratch<float>(1, splats.count, 1)) {
  params.images = params.parts = 1, params.count = splats.count, params.width = params.height = splats.pixels;
  params.splats = splats.records, params.visible = visible, params.order = order, params.boxes = boxes;
  params.part_offsets = part_offsets, params.tile_offsets = offsets, params.scratch = scratch, params.ids = ids;
}

int64_t TileLists::make() {
  pairs = counted::intersect_tiles_count<float>(params);
  if (pairs < 0 || pairs > kMostPairs) return pairs;
  counted::intersect_tiles_fill(params);
  return 0;
}

}  // namespace emogs
