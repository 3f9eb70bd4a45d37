// Projection on the CPU, parallel over blocks of Gaussians, each a few registers of them. A Gaussian's results do not
// depend on where in a register it lies, nor on threads.
#include "common/threads.h"
#include "project/block_lanes.h"

namespace emogs {
namespace EMOGS_ISA {
namespace {

template <class T>
SplatSettings<Lanes<T>> splat_settings(const ProjectForward<T>& p) {
  using V = Lanes<T>;
  return {V(T(p.alpha_cut)), V(T(p.blur)), V(T(p.near)), V(T(p.far)), V(T(p.radius_clip)), p.antialiased};
}

/// What cameras see of a block, in the world.
template <class T>
struct WorldBlock {
  BlockColumns<T, 3> means;
  BlockColumns<T, 9> shapes;
  BlockColumns<T, 1> opacities;
  BlockColumns<T, 3> normals;  // if asked for
  BlockColumns<T, 1> finite;   // 1 or 0
};

template <class T>
EMOGS_HD void pose_block(const ProjectForward<T>& p, const BlockInputs<T>& in, WorldBlock<T>& world) {
  using V = Lanes<T>;
  for (int first = 0; first < kBlockSize; first += V::count) {
    const Gaussian<V> g = pose(p, in, first).world;
    const Mat3<V> shape = shape_matrix(g.quat, g.scale);
    set_vec3(world.means, first, g.mean);
    set_vec3(world.shapes, first, shape.row0);
    set_vec3(world.shapes, first, shape.row1, 3);
    set_vec3(world.shapes, first, shape.row2, 6);
    world.opacities.set(0, first, g.opacity);
    if (p.splat_normals) set_vec3(world.normals, first, disc_normal(g.quat, g.scale));
    world.finite.set(0, first, select(is_finite(g), V(T(1)), V(T(0))));
  }
}

/// Harmonics of a register of Gaussians in the direction of one camera. The emotion changes the first coefficient.
template <int kDegree, class T>
EMOGS_HD Vec3<Lanes<T>> sh_color(const ProjectForward<T>& p, const BlockInputs<T>& in, Vec3<Lanes<T>> view, int first) {
  using V = Lanes<T>;
  const ShBasis<V> basis = sh_basis(normalize(view), kDegree);
  V color[3];
  for (int channel = 0; channel < 3; channel++) {
    V coefficient = in.harmonics.get(channel, first);
    if (p.emotion) coefficient = coefficient + in.delta_colors.get(channel, first);
    color[channel] = basis.value[0] * coefficient;
    for (int s = 1; s < (kDegree + 1) * (kDegree + 1); s++)
      color[channel] = color[channel] + basis.value[s] * in.harmonics.get(3 * s + channel, first);
    color[channel] = select(is_finite(color[channel]), sh_colour(color[channel]), color[channel]);
  }
  return {color[0], color[1], color[2]};
}

template <class T>
EMOGS_HD Vec3<Lanes<T>> sh_color(const ProjectForward<T>& p, const BlockInputs<T>& in, Vec3<Lanes<T>> view, int first) {
  switch (p.harmonics) {
    case 1:
      return sh_color<0>(p, in, view, first);
    case 4:
      return sh_color<1>(p, in, view, first);
    case 9:
      return sh_color<2>(p, in, view, first);
    case 16:
      return sh_color<3>(p, in, view, first);
    default:
      return sh_color<4>(p, in, view, first);
  }
}

template <class T>
bool all_finite(const T* values, int64_t count) {
  T sum = T(0);
  for (int64_t j = 0; j < count; j++) sum += values[j] - values[j];
  return sum == T(0);
}

/// Colours of one block for one camera, stored + sum_k e_k delta_k; marks in `finite` which Gaussians have only finite
/// ones.
template <class T>
void plain_colors(const ProjectForward<T>& p, Rows rows, Block block, T* out, BlockColumns<T, 1>& finite) {
  const T* stored = p.colors + (rows.gaussian * p.count + block.begin) * p.channels;
  const int64_t values = block.size * p.channels;
  if (p.emotion && p.basis_colors)
    sum_components(p, p.basis_colors, rows.emotion, block, p.channels, stored, out);
  else
    for (int64_t j = 0; j < values; j++) out[j] = stored[j];
  if (!all_finite(out, values))
    for (int i = 0; i < block.size; i++) finite.at[0][i] = all_finite(out + i * p.channels, p.channels) ? T(1) : T(0);
}

/// One block of one image. `colors_finite` is about the plain colours.
template <class T>
void project_image(const ProjectForward<T>& p, const BlockInputs<T>& in, const WorldBlock<T>& world, Block block,
                   const Camera<Lanes<T>>& camera, const BlockColumns<T, 1>& colors_finite, int64_t image) {
  using V = Lanes<T>;
  const SplatSettings<V> settings = splat_settings(p);
  const V zero = V(T(0));
  BlockColumns<T, 8> splats;
  BlockColumns<T, 3> colors, normals;
  int64_t shown = 0, non_finite = 0;
  for (int first = 0; first < kBlockSize; first += V::count) {
    const Vec3<V> mean = get_vec3(world.means, first);
    const Mat3<V> shape = {get_vec3(world.shapes, first), get_vec3(world.shapes, first, 3),
                           get_vec3(world.shapes, first, 6)};
    const SplatResult<V> s = make_splat(camera, mean, shape, world.opacities.get(0, first), settings);
    auto finite = world.finite.get(0, first) > zero && !s.non_finite;
    auto color_finite = colors_finite.get(0, first) > zero;
    Vec3<V> color;
    if (p.harmonics) {
      color = sh_color(p, in, view_vector(p, in, camera, mean, first), first);
      color_finite = is_finite(color);
    }
    finite = finite && (!s.visible || color_finite);
    const auto visible = s.visible && finite;
    const auto counted = V::sequence(T(first)) < V(T(block.size));
    shown += count(visible && counted);
    non_finite += count(!finite && counted);
    const auto set = [&](int column, V value) { splats.set(column, first, select(visible, value, zero)); };
    set(0, s.splat.x), set(1, s.splat.y), set(2, s.splat.a), set(3, s.splat.b), set(4, s.splat.c);
    set(5, s.splat.opacity), set(6, s.splat.depth), set(7, s.splat.reach_y);
    const Vec3<V> none = {zero, zero, zero};
    if (p.harmonics) set_vec3(colors, first, select_vec3(visible, color, none));
    if (p.splat_normals) {
      const Vec3<V> normal = get_vec3(world.normals, first);
      set_vec3(normals, first, select_vec3(visible, facing(camera, mean, normal, normal), none));
    }
  }
  const int64_t at = image * p.count + block.begin;
  splats.write(p.splats + kSplatSize * at, block.size);
  if (p.splat_normals) normals.write(p.splat_normals + 3 * at, block.size);
  if (p.harmonics)
    colors.write(p.splat_colors + 3 * at, block.size);
  else if (shown < block.size)
    for (int i = 0; i < block.size; i++)
      if (splats.at[7][i] == T(0))
        for (int64_t c = 0; c < p.channels; c++) p.splat_colors[(at + i) * p.channels + c] = T(0);
  const int64_t outside = block.size - shown - non_finite;
  if (outside) {
#pragma omp atomic
    p.culled[2 * image] += outside;
  }
  if (non_finite) {
#pragma omp atomic
    p.culled[2 * image + 1] += non_finite;
  }
}

template <class T>
void project_block(const ProjectForward<T>& p, Block block) {
  BlockInputs<T> in;
  WorldBlock<T> world;
  BlockColumns<T, 1> colors_finite;
  for (int64_t element = 0; element < p.batch; element++) {
    const Rows rows = rows_of(p, element);
    read_inputs(p, rows, block, in);
    pose_block(p, in, world);
    for (int i = 0; i < kBlockSize; i++) colors_finite.at[0][i] = T(1);
    for (int64_t c = 0; c < p.cameras; c++) {
      const int64_t image = element * p.cameras + c;
      T* colors = p.splat_colors + (image * p.count + block.begin) * p.channels;
      if (!p.harmonics) plain_colors(p, rows, block, colors, colors_finite);
      project_image(p, in, world, block, broadcast(camera_at(p, rows.camera, c)), colors_finite, image);
    }
  }
}

}  // namespace

template <class T>
void project_gaussians_forward(const ProjectForward<T>& p) {
  const int64_t blocks = (p.count + kBlockSize - 1) / kBlockSize;
#pragma omp parallel for num_threads(threads_for(p.threads, blocks, 8)) schedule(dynamic, 4)
  for (int64_t b = 0; b < blocks; b++) {
    const int64_t begin = b * kBlockSize;
    project_block(p, {begin, int(minimum(p.count - begin, int64_t(kBlockSize)))});
  }
}

template void project_gaussians_forward(const ProjectForward<float>&);
template void project_gaussians_forward(const ProjectForward<double>&);

}  // namespace EMOGS_ISA
}  // namespace emogs
