// Backward of projection on the CPU, parallel over slices of blocks. Gradients that belong to one Gaussian are written
// by one thread; sums over Gaussians go through partial sums that are added in a fixed order.
#include "common/groups.h"
#include "common/threads.h"
#include "project/basis_backward.h"

namespace emogs {
namespace EMOGS_ISA {
namespace {

constexpr int kCameraSums = 19;  // linear 9, translation 3, position 3, fx, fy, cx, cy

/// Gradients of a block before the cameras, summed over them; zeros where no camera sees the Gaussian.
template <class T>
struct BlockGrads {
  BlockColumns<T, 1> seen;  // in how many images
  BlockColumns<T, 3> means;
  BlockColumns<T, 9> shapes;
  BlockColumns<T, 1> opacities;
  BlockColumns<T, 3> normals;
  BlockColumns<T, 4> sh_rotations;  // of the face, through the direction of the harmonics
  BlockColumns<T, 3> delta_colors;
  BlockColumns<T, 3 * kMaxShCount> harmonics;
};

template <class T>
EMOGS_HD void clear(BlockGrads<T>& grads, int64_t harmonics) {
  grads.seen.clear(), grads.means.clear(), grads.shapes.clear(), grads.opacities.clear(), grads.normals.clear();
  grads.sh_rotations.clear(), grads.delta_colors.clear(), grads.harmonics.clear(3 * harmonics);
}

/// Where `mask` is true.
template <class T, int kWidth>
EMOGS_HD void add_vec3(BlockColumns<T, kWidth>& to, int first, LaneMask<T> mask, Vec3<Lanes<T>> value, int column = 0) {
  to.add(column, first, mask, value.x);
  to.add(column + 1, first, mask, value.y);
  to.add(column + 2, first, mask, value.z);
}

template <class T>
EMOGS_HD void add_mat3(BlockColumns<T, 9>& to, int first, LaneMask<T> mask, const Mat3<Lanes<T>>& value) {
  add_vec3(to, first, mask, value.row0);
  add_vec3(to, first, mask, value.row1, 3);
  add_vec3(to, first, mask, value.row2, 6);
}

template <class T, int kWidth>
EMOGS_HD void add_quat(BlockColumns<T, kWidth>& to, int first, LaneMask<T> mask, Quat<Lanes<T>> value) {
  to.add(0, first, mask, value.w), to.add(1, first, mask, value.x);
  to.add(2, first, mask, value.y), to.add(3, first, mask, value.z);
}

/// Back through the colour of a register of Gaussians in one image: adds to the gradients of the harmonics and of the
/// face, and returns that of the vector from the camera, in the world.
template <class T>
EMOGS_HD Vec3<Lanes<T>> sh_color_backward(const ProjectForward<T>& p, const BlockInputs<T>& in,
                                          const Camera<Lanes<T>>& camera, Vec3<Lanes<T>> mean,
                                          const BlockColumns<T, 3>& grad_colors, LaneMask<T> visible, int first,
                                          BlockGrads<T>& grads) {
  using V = Lanes<T>;
  const Vec3<V> view = view_vector(p, in, camera, mean, first), direction = normalize(view);
  Vec3<V> grad_view;
  with_degree(p.harmonics, [&](auto degree) {
    const ShBasis<V> basis = sh_basis(direction, degree);
    ShBasis<V> grad_basis = {};
    for (int channel = 0; channel < 3; channel++) {
      const V sum = harmonic_sum(p, in, basis, degree, channel, first);
      const V grad = select(sh_colour(sum) > V(T(0)), grad_colors.get(channel, first), V(T(0)));
      grads.delta_colors.add(channel, first, visible, grad * basis.value[0]);
      for (int s = 0; s < harmonics_of(degree); s++) {
        if (s > 0) grad_basis.value[s] += grad * in.harmonics.get(3 * s + channel, first);
        grads.harmonics.add(3 * s + channel, first, visible, grad * basis.value[s]);
      }
    }
    grad_view = normalize_backward(view, sh_basis_backward(direction, degree, grad_basis));
  });
  if (!p.binding) return grad_view;
  const Quat<V> rotation = get_quat(in.frames, first);
  add_quat(grads.sh_rotations, first, visible,
           rotation_matrix_backward(rotation, outer(mean - camera.position, grad_view)));
  return multiply(rotation_matrix(rotation), grad_view);
}

template <class T>
EMOGS_HD void add_camera(BlockColumns<T, kCameraSums>& to, int first, LaneMask<T> mask, const CameraGrad<Lanes<T>>& g) {
  add_vec3(to, first, mask, g.linear.row0), add_vec3(to, first, mask, g.linear.row1, 3);
  add_vec3(to, first, mask, g.linear.row2, 6), add_vec3(to, first, mask, g.translation, 9);
  add_vec3(to, first, mask, g.position, 12);
  to.add(15, first, mask, g.fx), to.add(16, first, mask, g.fy);
  to.add(17, first, mask, g.cx), to.add(18, first, mask, g.cy);
}

/// Back through one image: adds to the gradients of the block and, unless they are null, to the camera's sums.
template <class T>
void image_backward(const ProjectBackward<T>& p, const BlockInputs<T>& in, const WorldBlock<T>& world, Block block,
                    const Camera<Lanes<T>>& camera, int64_t image, BlockGrads<T>& grads, T* camera_sums) {
  using V = Lanes<T>;
  const SplatSettings<V> settings = splat_settings(p);
  const int64_t at = image * p.count + block.begin;
  BlockColumns<T, kSplatSize> splats, grad_splats;
  BlockColumns<T, 3> grad_colors, grad_normals;
  BlockColumns<T, kCameraSums> camera_parts = {};
  splats.read(p.splats + kSplatSize * at, block.size);
  grad_splats.read(p.grad_splats + kSplatSize * at, block.size);
  if (p.harmonics) grad_colors.read(p.grad_splat_colors + 3 * at, block.size);
  if (p.grad_splat_normals) grad_normals.read(p.grad_splat_normals + 3 * at, block.size);
  const auto splat_at = [](const BlockColumns<T, kSplatSize>& from, int i) {
    return Splat<V>{from.get(0, i), from.get(1, i), from.get(2, i), from.get(3, i),
                    from.get(4, i), from.get(5, i), from.get(6, i), from.get(7, i)};
  };
  for (int first = 0; first < kBlockSize; first += V::count) {
    const Splat<V> splat = splat_at(splats, first);
    const auto visible = splat.reach_y != V(T(0));
    if (!any(visible)) continue;
    const Vec3<V> mean = get_vec3(world.means, first);
    SplatGrad<V> back =
        make_splat_backward(camera, mean, get_mat3(world.shapes, first), splat, splat_at(grad_splats, first), settings);
    if (p.harmonics) {
      const Vec3<V> grad_view = sh_color_backward(p, in, camera, mean, grad_colors, visible, first, grads);
      back.mean = back.mean + grad_view;
      back.camera.position = -grad_view;
    }
    if (p.grad_splat_normals)
      add_vec3(grads.normals, first, visible,
               facing(camera, mean, get_vec3(world.normals, first), get_vec3(grad_normals, first)));
    grads.seen.add(0, first, visible, V(T(1)));
    add_vec3(grads.means, first, visible, back.mean);
    add_mat3(grads.shapes, first, visible, back.shape);
    grads.opacities.add(0, first, visible, back.opacity);
    if (camera_sums) add_camera(camera_parts, first, visible, back.camera);
  }
  if (camera_sums)
    for (int j = 0; j < kCameraSums; j++)
      camera_sums[j] += row_sums<T, 1>(kBlockSize, [&](int64_t i, auto lanes, Terms<V, 1>& sums) {
                          sums.values[0] += load(camera_parts.at[j] + i, lanes);
                        }).values[0];
}

/// Gradients of a block's stored Gaussians, summed deltas and frames, ready to be added to records.
template <class T>
struct StoredGrads {
  BlockColumns<T, 3> means, scales, delta_means, delta_rotations, delta_log_scales;
  BlockColumns<T, 4> quats;
  BlockColumns<T, 1> opacities, delta_logit_opacities;
  BlockColumns<T, 8> frames;
};

/// Back through shape, rig and modulation.
template <class T>
void pose_backward(const ProjectBackward<T>& p, const BlockInputs<T>& in, const BlockGrads<T>& grads,
                   StoredGrads<T>& to) {
  using V = Lanes<T>;
  for (int first = 0; first < kBlockSize; first += V::count) {
    const auto seen = grads.seen.get(0, first) > V(T(0));
    const Posed<V> g = pose(p, in, first);
    const ShapeGrad<V> shape = shape_matrix_backward(g.world.quat, g.world.scale, get_mat3(grads.shapes, first));
    Gaussian<V> grad = {get_vec3(grads.means, first), shape.quat, shape.scale, grads.opacities.get(0, first)};
    if (p.grad_splat_normals)
      grad.quat = grad.quat + disc_normal_backward(g.world.quat, g.world.scale, get_vec3(grads.normals, first));
    if (p.binding) {
      const ApplyFrameGrad<V> back = apply_frame_backward(get_frame(in, first), g.modulated, grad);
      grad = back.gaussian;
      add_quat(to.frames, first, seen, back.frame.rotation + get_quat(grads.sh_rotations, first));
      add_vec3(to.frames, first, seen, back.frame.translation, 4);
      to.frames.add(7, first, seen, back.frame.scale);
    }
    if (p.emotion) {
      const ModulateGrad<V> back = modulate_backward(g.stored, get_delta(in, first), grad);
      grad = back.gaussian;
      add_vec3(to.delta_means, first, seen, back.delta.mean);
      add_vec3(to.delta_rotations, first, seen, back.delta.rotation);
      add_vec3(to.delta_log_scales, first, seen, back.delta.log_scale);
      to.delta_logit_opacities.add(0, first, seen, back.delta.logit_opacity);
    }
    add_vec3(to.means, first, seen, grad.mean);
    add_quat(to.quats, first, seen, grad.quat);
    add_vec3(to.scales, first, seen, grad.scale);
    to.opacities.add(0, first, seen, grad.opacity);
  }
}

/// Whether nobody has written the Gaussians' own gradients, which come uninitialised where all elements share them.
template <class T>
bool is_first(const ProjectBackward<T>& p, int64_t writer) {
  return p.gaussian_rows == 1 && writer == 0;
}

/// Adds the gradients of a block to those of the call.
template <class T>
void add_stored(const ProjectBackward<T>& p, Rows rows, int64_t element, Block block, const StoredGrads<T>& from,
                const BlockGrads<T>& grads, T* emotion_sums) {
  const int64_t at = rows.gaussian * p.count + block.begin;
  const auto put = [&](const auto& columns, T* grad, auto width) {
    if (!grad) return;
    if (is_first(p, element))
      columns.template write<width>(grad + width * at, block.size);
    else
      columns.template add_to<width>(grad + width * at, block.size);
  };
  put(from.means, p.grad_means, Constant<3>()), put(from.quats, p.grad_quats, Constant<4>());
  put(from.scales, p.grad_scales, Constant<3>()), put(from.opacities, p.grad_opacities, Constant<1>());
  if (p.harmonics)
    with_degree(p.harmonics,
                [&](auto degree) { put(grads.harmonics, p.grad_colors, Constant<3 * harmonics_of(degree)>()); });
  if (p.frame_parts) from.frames.write(p.frame_parts + 8 * (element * p.count + block.begin), block.size);
  if (!p.emotion) return;
  const Writing writing = writing_of(p, element, p.batch);
  const auto pull = [&](const MaybeHalf<T>& basis, T* grad_basis, const auto& columns) {
    constexpr int width = sizeof(columns.at) / sizeof(columns.at[0]);
    T records[width * kBlockSize];
    columns.write(records, kBlockSize);
    add_components_backward(p, {basis, grad_basis, width, writing}, rows.emotion, block, records, emotion_sums);
  };
  pull(p.basis_means, p.grad_basis_means, from.delta_means);
  pull(p.basis_rotations, p.grad_basis_rotations, from.delta_rotations);
  pull(p.basis_log_scales, p.grad_basis_log_scales, from.delta_log_scales);
  pull(p.basis_logit_opacities, p.grad_basis_logit_opacities, from.delta_logit_opacities);
  if (p.harmonics) pull(p.basis_colors, p.grad_basis_colors, grads.delta_colors);
}

/// Gradient of plain colours in one image, over each run of Gaussians that are visible there.
template <class T>
void plain_colors_backward(const ProjectBackward<T>& p, Rows rows, Block block, int64_t image, T* emotion_sums) {
  const auto visible = [&](int i) { return p.splats[kSplatSize * (image * p.count + block.begin + i) + 7] != T(0); };
  const bool first = is_first(p, image);
  const Writing writing = writing_of(p, image, p.batch * p.cameras);
  for (int begin = 0, end; begin < block.size; begin = end) {
    const bool shown = visible(begin);
    for (end = begin; end < block.size && visible(end) == shown; end++) continue;
    const Block run = {block.begin + begin, end - begin};
    const T* grad = p.grad_splat_colors + (image * p.count + run.begin) * p.channels;
    if (p.grad_colors) {
      T* stored = p.grad_colors + (rows.gaussian * p.count + run.begin) * p.channels;
      if (first) memset(stored, 0, sizeof(T) * run.size * p.channels);
      for (int64_t j = 0; shown && j < run.size * p.channels; j++) stored[j] += grad[j];
    }
    if (shown && p.emotion)
      add_components_backward(p, {p.basis_colors, p.grad_basis_colors, p.channels, writing}, rows.emotion, run, grad,
                              emotion_sums);
    else if (image == 0 && p.grad_basis_colors)
      clear_components(p, p.grad_basis_colors, p.channels, run);
  }
}

template <class T>
void project_block_backward(const ProjectBackward<T>& p, int64_t slice, int64_t element, Block block,
                            BlockInputs<T>& in) {
  const Rows rows = rows_of(p, element);
  T* emotion_sums = p.emotion_sums ? p.emotion_sums + (slice * p.batch + element) * p.components : nullptr;
  WorldBlock<T> world;
  read_inputs(p, rows, block, in);
  pose_block(p, in, p.grad_splat_normals, world);
  BlockGrads<T> grads;
  clear(grads, p.harmonics);
  for (int64_t c = 0; c < p.cameras; c++) {
    const int64_t image = element * p.cameras + c;
    T* camera_sums =
        p.camera_sums ? p.camera_sums + kCameraSums * ((slice * p.batch + element) * p.cameras + c) : nullptr;
    image_backward(p, in, world, block, broadcast(camera_at(p, rows.camera, c)), image, grads, camera_sums);
    if (!p.harmonics) plain_colors_backward(p, rows, block, image, emotion_sums);
  }
  StoredGrads<T> stored = {};
  pose_backward(p, in, grads, stored);
  add_stored(p, rows, element, block, stored, grads, emotion_sums);
}

template <class T>
Vec3<T> load_vec3(const T* from) {
  return {from[0], from[1], from[2]};
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
  for (int64_t slice = 0; slice < p.slices; slice++) {
    for (int64_t b = slice * blocks / p.slices; b < (slice + 1) * blocks / p.slices; b++) {
      const int64_t begin = b * kBlockSize;
      const Block block = {begin, int(minimum(p.count - begin, int64_t(kBlockSize)))};
      BlockInputs<T> in;
      for (int64_t element = 0; element < p.batch; element++) project_block_backward(p, slice, element, block, in);
    }
    finish_streams();
  }
  add_slices(p);
  if (p.frame_parts) add_faces(p);
}

#define EMOGS_INSTANTIATE(T) template void project_gaussians_backward(const ProjectBackward<T>&);
EMOGS_FOR_FLOATS(EMOGS_INSTANTIATE)

}  // namespace EMOGS_ISA
}  // namespace emogs
