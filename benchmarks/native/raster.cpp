#include "head.h"

namespace emogs {
namespace {

/// What a case of `project_gaussians` has beside the head; emotions come with a basis of 16 components.
struct Options {
  int64_t count = 20000, harmonics = 0, emotions = 0;
  bool rig = false;
};

/// A basis of small changes, the emotions' weights, and faces that carry the Gaussians.
struct Expression {
  static constexpr int64_t kComponents = 16, kFaces = 5000;

  Expression(int64_t count, int64_t emotions, bool rig)
      : field(kComponents * count),
        emotion(emotions * kComponents),
        basis(emotions ? 13 * field : 0),
        frames(rig ? 8 * emotions * kFaces : 0),
        binding(rig ? count : 0) {
    Random random(2);
    for (int64_t i = 0; i < emotion.size(); i++) emotion[i] = random.uniform();
    for (int64_t i = 0; i < basis.size(); i++)  // means, of which there come three a Gaussian, are changed least
      basis[i] = (i < 3 * field ? 0.0005f : 0.04f) * (random.uniform() - 0.5f);
    for (int64_t i = 0; i < frames.size(); i++)
      frames[i] = float(i % 8 == 0 || i % 8 == 7) + (i % 8 < 4 ? 0.01f : 0.0002f) * random.normal();
    for (int64_t i = 0; i < binding.size(); i++) binding[i] = random.below(kFaces);
  }

  void add_to(ProjectForward<float>& p) {
    p.components = kComponents, p.emotion = emotion;
    p.basis_means.full = basis, p.basis_rotations.full = basis + 3 * field, p.basis_log_scales.full = basis + 6 * field;
    p.basis_colors.full = basis + 9 * field, p.basis_logit_opacities.full = basis + 12 * field;
    if (binding.size()) p.faces = kFaces, p.binding = binding, p.frames = frames;
  }

  const int64_t field;  // numbers of a basis field that has one a Gaussian
  Buffer<float> emotion, basis, frames;
  Buffer<int32_t> binding;
};

void project(Counter& count, const Options& options) {
  const int64_t images = options.emotions ? options.emotions : 1, all = images * options.count;
  Head head(options.count, 3, options.harmonics);
  Expression expression(options.count, options.emotions, options.rig);
  Buffer<float> splats(8 * all), colors(3 * all);
  Buffer<int64_t> culled(2 * images);
  Buffer<int32_t> rows(4 * images);  // one head and one camera; every image has an emotion and frames of its own
  for (int64_t i = 0; i < images; i++) rows[2 * images + i] = int32_t(i), rows[3 * images + i] = int32_t(i);

  ProjectBackward<float> p{};
  static_cast<ProjectForward<float>&>(p) = head.projection();
  p.batch = images, p.rows = rows, p.splats = splats, p.splat_colors = colors, p.culled = culled;
  if (options.emotions) expression.add_to(p);
  const ProjectForward<float>& forward = p;
  count("forward", all, "gaussians", [&] { return counted::project_gaussians_forward(forward), 0; });

  p.slices = (p.count + 2047) / 2048;  // emogs/ops/project.py
  Buffer<float> grad_splats(splats.size(), 0.5f), grad_splat_colors(colors.size(), 0.5f);
  Buffer<float> means(head.means.size()), quats(head.quats.size()), scales(head.scales.size());
  Buffer<float> opacities(head.opacities.size()), head_colors(head.colors.size()), viewmat(16), intrinsics(9);
  Buffer<float> camera_sums(p.slices * images * 19), emotion_sums(p.slices * images * p.components);
  Buffer<float> emotion(expression.emotion.size()), basis(expression.basis.size()), frames(expression.frames.size());
  Buffer<float> frame_parts(options.rig ? 8 * all : 0);
  Buffer<int64_t> face_lists(p.faces + 1 + p.count);
  p.grad_splats = grad_splats, p.grad_splat_colors = grad_splat_colors, p.grad_means = means, p.grad_quats = quats;
  p.grad_scales = scales, p.grad_opacities = opacities, p.grad_colors = head_colors, p.camera_sums = camera_sums;
  p.grad_viewmats = viewmat, p.grad_Ks = intrinsics;
  if (options.emotions) {
    const int64_t field = expression.field;
    p.emotion_sums = emotion_sums, p.grad_emotion = emotion, p.grad_basis_means = basis;
    p.grad_basis_rotations = basis + 3 * field, p.grad_basis_log_scales = basis + 6 * field;
    p.grad_basis_colors = basis + 9 * field, p.grad_basis_logit_opacities = basis + 12 * field;
  }
  if (options.rig) p.frame_parts = frame_parts, p.face_lists = face_lists, p.grad_frames = frames;
  count("backward", all, "gaussians", [&] { return counted::project_gaussians_backward(p), 0; });
}

void intersect(Counter& count) {
  Splats splats(3, kPixels);
  TileLists lists(splats);
  lists.make();
  count("forward", lists.pairs, "pairs", [&] { return lists.make(); });
}

void blend(Counter& count, int size, int64_t channels, DepthMode depth) {
  const int64_t pixels = size * size;
  Splats splats(channels, size);
  TileLists lists(splats);
  lists.make();
  Buffer<float> image(pixels * channels), alphas(pixels), depths(pixels), transmittances(pixels);
  Buffer<float> scratch(blend_tiles_scratch(channels)), background(channels, 0.5f);
  Buffer<int32_t> last(pixels), medians(pixels), tile_pairs(lists.tiles);

  BlendBackward<float> p{};
  p.images = 1, p.count = splats.count, p.channels = channels, p.pairs = lists.pairs, p.width = p.height = size;
  p.alpha_cut = 1.0 / 255, p.alpha_ceiling = 0.999, p.transmittance_stop = 1e-4, p.depth_mode = int(depth);
  p.splats = splats.records, p.colors = splats.colors, p.backgrounds = background;
  p.tile_offsets = lists.offsets, p.ids = lists.ids, p.scratch = scratch;
  p.image_colors = image, p.alphas = alphas, p.transmittances = transmittances, p.last = last;
  if (depth != DepthMode::none) p.depths = depths;
  if (depth == DepthMode::median) p.medians = medians;
  const BlendForward<float>& forward = p;
  count("forward", lists.pairs, "pairs", [&] { return counted::blend_tiles_forward(forward); });

  Buffer<float> pair_sums(largest_wave(lists.offsets, lists.tiles) * pair_sums_width(channels));
  Buffer<float> tile_backgrounds(lists.tiles * channels), grad_background(channels);
  Buffer<float> grad_image(image.size(), 0.5f), grad_pixels(pixels, 0.5f);
  Buffer<float> grad_splats(splats.records.size()), grad_colors(splats.colors.size());
  p.grad_image_colors = grad_image, p.grad_alphas = grad_pixels, p.pair_sums = pair_sums, p.tile_pairs = tile_pairs;
  if (depth != DepthMode::none) p.grad_depths = grad_pixels;
  p.tile_backgrounds = tile_backgrounds, p.grad_splats = grad_splats, p.grad_colors = grad_colors;
  p.grad_backgrounds = grad_background;
  count("backward", lists.pairs, "pairs", [&] { return counted::blend_tiles_backward(p); });
}

// Blending takes windows: valgrind has fused multiply-adds one by one, and is slow there.
const Case plain("project_gaussians/head20000/float32", [](Counter& count) { project(count, {}); });
const Case harmonics("project_gaussians/head20000-sh2/float32", [](Counter& count) { project(count, {20000, 9}); });
const Case emotion("project_gaussians/head5000-1emotion/float32", [](Counter& count) { project(count, {5000, 0, 1}); });
const Case emotions("project_gaussians/head2000-4emotions-rig/float32",
                    [](Counter& count) { project(count, {2000, 0, 4, true}); });
const Case tiles("intersect_tiles/head20000/float32", intersect);
const Case few("blend_tiles/window64-3channels/float32", [](Counter& count) { blend(count, 64, 3, DepthMode::none); });
const Case depth("blend_tiles/window64-3channels-depth/float32",
                 [](Counter& count) { blend(count, 64, 3, DepthMode::sum); });
const Case median("blend_tiles/window64-3channels-median/float32",
                  [](Counter& count) { blend(count, 64, 3, DepthMode::median); });
const Case many("blend_tiles/window48-32channels/float32",
                [](Counter& count) { blend(count, 48, 32, DepthMode::none); });

}  // namespace
}  // namespace emogs
