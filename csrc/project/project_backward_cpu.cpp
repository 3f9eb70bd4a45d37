// Backward of projection on the CPU, parallel over slices of blocks. Gradients that belong to one Gaussian are written
// by one thread; sums over Gaussians go through partial sums that are added in a fixed order.
#include "common/groups.h"
#include "common/threads.h"
#include "project/block.h"

namespace emogs {
namespace EMOGS_ISA {
namespace {

/// One channel [S] (stride 3) of a Gaussian's harmonics in the direction of `basis`; `shift` is added to the first.
template <class T>
T harmonic_sum(const ShBasis<T>& basis, const T* stored, int64_t harmonics, T shift) {
  T sum = basis.value[0] * (stored[0] + shift);
  for (int64_t s = 1; s < harmonics; s++) sum += basis.value[s] * stored[3 * s];
  return sum;
}

template <class T>
SplatSettings<T> splat_settings(const ProjectForward<T>& p) {
  return {T(p.alpha_cut), T(p.blur), T(p.near), T(p.far), T(p.radius_clip), p.antialiased};
}

constexpr int kCameraSums = 19;  // linear 9, translation 3, position 3, fx, fy, cx, cy

template <class T>
void add_camera(T* sum, const CameraGrad<T>& g) {
  add_to(sum, g.linear.row0), add_to(sum + 3, g.linear.row1), add_to(sum + 6, g.linear.row2);
  add_to(sum + 9, g.translation), add_to(sum + 12, g.position);
  sum[15] += g.fx, sum[16] += g.fy, sum[17] += g.cx, sum[18] += g.cy;
}

/// Gradients of the harmonics and of what their direction depends on.
template <class T>
struct ShGrad {
  Vec3<T> mean, position;
  Quat<T> rotation;  // of the face
};

template <class T>
ShGrad<T> sh_color_backward(const ProjectBackward<T>& p, Rows rows, const Camera<T>& camera, Vec3<T> mean, int64_t i,
                            const T* shift, const T* grad_color, T* grad_shift) {
  const Vec3<T> view = view_vector(p, rows, camera, mean, i);
  const Vec3<T> direction = normalize(view);
  const int degree = harmonic_degree(p.harmonics);
  const ShBasis<T> basis = sh_basis(direction, degree);
  const int64_t at = (rows.gaussian * p.count + i) * p.harmonics * 3;
  const T* stored = p.colors + at;
  ShBasis<T> grad_basis = {};
  for (int channel = 0; channel < 3; channel++) {
    const T sum = harmonic_sum(basis, stored + channel, p.harmonics, shift[channel]);
    const T grad = sh_colour(sum) > T(0) ? grad_color[channel] : T(0);
    grad_shift[channel] += grad * basis.value[0];
    for (int64_t s = 1; s < p.harmonics; s++) grad_basis.value[s] += grad * stored[3 * s + channel];
    if (p.grad_colors)
      for (int64_t s = 0; s < p.harmonics; s++) p.grad_colors[at + 3 * s + channel] += grad * basis.value[s];
  }
  const Vec3<T> grad_view = normalize_backward(view, sh_basis_backward(direction, degree, grad_basis));
  if (!p.binding) return {grad_view, -grad_view, {}};
  const Quat<T> rotation = frame_at(p, rows.rig, i).rotation;
  const Vec3<T> grad_world = multiply(rotation_matrix(rotation), grad_view);
  return {grad_world, -grad_world, rotation_matrix_backward(rotation, outer(mean - camera.position, grad_view))};
}

/// Adds grad_k += e_k grad to the basis, and <basis_k, grad> to the emotion sums, over a block of one field.
template <class T>
void add_components_backward(const ProjectBackward<T>& p, const T* basis, T* grad_basis, int64_t row, T* emotion_sums,
                             Block block, int64_t width, const T* grad) {
  if (!basis) return;
  const int64_t values = block.size * width;
  for (int64_t k = 0; k < p.components; k++) {
    const int64_t at = (k * p.count + block.begin) * width;
    const T weight = p.emotion[row * p.components + k];
    if (grad_basis && weight != T(0))
      for (int64_t j = 0; j < values; j++) grad_basis[at + j] += weight * grad[j];
    if (emotion_sums) {
      T sum = T(0);
      for (int64_t j = 0; j < values; j++) sum += basis[at + j] * grad[j];
      emotion_sums[k] += sum;
    }
  }
}

template <class T>
void store_delta(BlockDelta<T>& block, int i, const Delta<T>& delta) {
  add_to(block.means + 3 * i, delta.mean);
  add_to(block.rotations + 3 * i, delta.rotation);
  add_to(block.log_scales + 3 * i, delta.log_scale);
  block.logit_opacities[i] += delta.logit_opacity;
}

/// Back through rig and modulation; adds to the gradients of the stored Gaussian and of its frame.
template <class T>
Delta<T> pose_backward(const ProjectBackward<T>& p, Rows rows, int64_t element, const BlockDelta<T>& delta, Block block,
                       int i, const Posed<T>& g, Gaussian<T> grad, Quat<T> grad_sh_rotation) {
  const int64_t n = block.begin + i, at = rows.gaussian * p.count + n;
  if (p.binding) {
    const ApplyFrameGrad<T> back = apply_frame_backward(frame_at(p, rows.rig, n), g.modulated, grad);
    grad = back.gaussian;
    if (p.frame_parts) {
      T* part = p.frame_parts + 8 * (element * p.count + n);
      add_to(part, back.frame.rotation + grad_sh_rotation);
      add_to(part + 4, back.frame.translation);
      part[7] += back.frame.scale;
    }
  }
  Delta<T> grad_delta = {};
  if (p.emotion) {
    const ModulateGrad<T> back = modulate_backward(g.stored, delta_at(delta, i), grad);
    grad = back.gaussian;
    grad_delta = back.delta;
  }
  if (p.grad_means) add_to(p.grad_means + 3 * at, grad.mean);
  if (p.grad_quats) add_to(p.grad_quats + 4 * at, grad.quat);
  if (p.grad_scales) add_to(p.grad_scales + 3 * at, grad.scale);
  if (p.grad_opacities) p.grad_opacities[at] += grad.opacity;
  return grad_delta;
}

/// Gradient of plain colours: summed over the cameras where the Gaussian is visible.
template <class T>
void plain_colors_backward(const ProjectBackward<T>& p, Rows rows, Block block, const T* splats, const T* grad_colors,
                           T* emotion_sums) {
  T* grad_stored = p.grad_colors ? p.grad_colors + (rows.gaussian * p.count + block.begin) * p.channels : nullptr;
  for (int i = 0; i < block.size; i++) {
    if (splats[kSplatSize * i + 7] == T(0)) continue;
    const T* grad = grad_colors + i * p.channels;
    if (grad_stored)
      for (int64_t j = 0; j < p.channels; j++) grad_stored[i * p.channels + j] += grad[j];
    if (p.emotion)
      add_components_backward(p, p.basis_colors, p.grad_basis_colors, rows.emotion, emotion_sums, {block.begin + i, 1},
                              p.channels, grad);
  }
}

template <class T>
void project_block_backward(const ProjectBackward<T>& p, int64_t slice, int64_t element, Block block) {
  const Rows rows = rows_of(p, element);
  const BlockDelta<T> delta = p.emotion ? block_delta(p, rows.emotion, block) : BlockDelta<T>{};
  T sh_shift[3 * kBlockSize] = {}, grad_shift[3 * kBlockSize] = {};
  if (p.harmonics && p.emotion) add_components(p, p.basis_colors, rows.emotion, block, 3, sh_shift);
  T* emotion_sums = p.emotion_sums ? p.emotion_sums + (slice * p.batch + element) * p.components : nullptr;
  const SplatSettings<T> settings = splat_settings(p);
  BlockDelta<T> grad_delta = {};
  for (int i = 0; i < block.size; i++) {
    const int64_t n = block.begin + i;
    Posed<T> g;
    Mat3<T> shape, grad_shape = {};
    Gaussian<T> grad = {};
    Quat<T> grad_sh_rotation = {};
    Vec3<T> normal = {}, grad_normal = {};
    bool seen = false;
    for (int64_t c = 0; c < p.cameras; c++) {
      const int64_t image = element * p.cameras + c, at = image * p.count + n;
      const Splat<T>& splat = reinterpret_cast<const Splat<T>*>(p.splats)[at];
      if (splat.reach_y == T(0)) continue;
      if (!seen) {
        g = pose(p, rows, delta, block, i);
        shape = shape_matrix(g.world.quat, g.world.scale);
        if (p.grad_splat_normals) normal = disc_normal(g.world.quat, g.world.scale);
        seen = true;
      }
      const Splat<T>& grad_splat = reinterpret_cast<const Splat<T>*>(p.grad_splats)[at];
      const Camera<T> camera = camera_at(p, rows.camera, c);
      SplatGrad<T> back = make_splat_backward(camera, g.world.mean, shape, splat, grad_splat, settings);
      if (p.harmonics) {
        const ShGrad<T> sh = sh_color_backward(p, rows, camera, g.world.mean, n, sh_shift + 3 * i,
                                               p.grad_splat_colors + at * p.channels, grad_shift + 3 * i);
        back.mean = back.mean + sh.mean;
        back.camera.position = sh.position;
        grad_sh_rotation = grad_sh_rotation + sh.rotation;
      }
      if (p.grad_splat_normals)
        grad_normal = grad_normal + facing(camera, g.world.mean, normal, load_vec3(p.grad_splat_normals + 3 * at));
      grad.mean = grad.mean + back.mean;
      grad.opacity += back.opacity;
      grad_shape = grad_shape + back.shape;
      if (p.camera_sums)
        add_camera(p.camera_sums + kCameraSums * ((slice * p.batch + element) * p.cameras + c), back.camera);
    }
    if (!seen) continue;
    const ShapeGrad<T> back = shape_matrix_backward(g.world.quat, g.world.scale, grad_shape);
    grad.quat = back.quat;
    grad.scale = back.scale;
    if (p.grad_splat_normals) grad.quat = grad.quat + disc_normal_backward(g.world.quat, g.world.scale, grad_normal);
    store_delta(grad_delta, i, pose_backward(p, rows, element, delta, block, i, g, grad, grad_sh_rotation));
  }
  if (!p.harmonics)
    for (int64_t c = 0; c < p.cameras; c++) {
      const int64_t first = (element * p.cameras + c) * p.count + block.begin;
      plain_colors_backward(p, rows, block, p.splats + kSplatSize * first, p.grad_splat_colors + first * p.channels,
                            emotion_sums);
    }
  if (!p.emotion) return;
  const auto pull = [&](const T* basis, T* grad_basis, int64_t width, const T* grad) {
    add_components_backward(p, basis, grad_basis, rows.emotion, emotion_sums, block, width, grad);
  };
  pull(p.basis_means, p.grad_basis_means, 3, grad_delta.means);
  pull(p.basis_rotations, p.grad_basis_rotations, 3, grad_delta.rotations);
  pull(p.basis_log_scales, p.grad_basis_log_scales, 3, grad_delta.log_scales);
  pull(p.basis_logit_opacities, p.grad_basis_logit_opacities, 1, grad_delta.logit_opacities);
  if (p.harmonics) pull(p.basis_colors, p.grad_basis_colors, 3, grad_shift);
}

/// Adds the slices' sums, in order, into the gradients of cameras and emotion.
template <class T>
void add_slices(const ProjectBackward<T>& p) {
  for (int64_t element = 0; element < p.batch; element++) {
    const Rows rows = rows_of(p, element);
    if (p.grad_emotion)
      for (int64_t slice = 0; slice < p.slices; slice++)
        for (int64_t k = 0; k < p.components; k++)
          p.grad_emotion[rows.emotion * p.components + k] +=
              p.emotion_sums[(slice * p.batch + element) * p.components + k];
    if (!p.camera_sums) continue;
    for (int64_t c = 0; c < p.cameras; c++) {
      T sum[kCameraSums] = {};
      for (int64_t slice = 0; slice < p.slices; slice++)
        for (int j = 0; j < kCameraSums; j++)
          sum[j] += p.camera_sums[kCameraSums * ((slice * p.batch + element) * p.cameras + c) + j];
      const CameraGrad<T> grad = {{load_vec3(sum), load_vec3(sum + 3), load_vec3(sum + 6)},
                                  load_vec3(sum + 9),
                                  load_vec3(sum + 12),
                                  sum[15],
                                  sum[16],
                                  sum[17],
                                  sum[18]};
      const int64_t at = rows.camera * p.cameras + c;
      load_camera_backward(camera_at(p, rows.camera, c), grad, p.grad_viewmats + 16 * at, p.grad_Ks + 9 * at);
    }
  }
}

/// Sums the frames' gradients over the Gaussians of each face, in the order of the Gaussians.
template <class T>
void add_faces(const ProjectBackward<T>& p) {
  int64_t* starts = p.face_lists;
  int64_t* members = p.face_lists + p.faces + 1;
  group_by_key(
      p.count, p.faces, starts, [&](int64_t i) { return p.binding[i]; },
      [&](int64_t i, int64_t at) { members[at] = i; });
#pragma omp parallel for num_threads(threads_for(p.threads, p.faces, 512)) schedule(static)
  for (int64_t f = 0; f < p.faces; f++)
    for (int64_t element = 0; element < p.batch; element++) {
      T* grad = p.grad_frames + 8 * (rows_of(p, element).rig * p.faces + f);
      for (int64_t m = starts[f]; m < starts[f + 1]; m++)
        for (int j = 0; j < 8; j++) grad[j] += p.frame_parts[8 * (element * p.count + members[m]) + j];
    }
}

}  // namespace

template <class T>
void project_gaussians_backward(const ProjectBackward<T>& p) {
  const int64_t blocks = (p.count + kBlockSize - 1) / kBlockSize;
#pragma omp parallel for num_threads(threads_for(p.threads, p.slices, 1)) schedule(dynamic)
  for (int64_t slice = 0; slice < p.slices; slice++)
    for (int64_t b = slice * blocks / p.slices; b < (slice + 1) * blocks / p.slices; b++) {
      const int64_t begin = b * kBlockSize;
      const Block block = {begin, int(minimum(p.count - begin, int64_t(kBlockSize)))};
      for (int64_t element = 0; element < p.batch; element++) project_block_backward(p, slice, element, block);
    }
  add_slices(p);
  if (p.frame_parts) add_faces(p);
}

template void project_gaussians_backward(const ProjectBackward<float>&);
template void project_gaussians_backward(const ProjectBackward<double>&);

}  // namespace EMOGS_ISA
}  // namespace emogs
