// Projection on the CPU, parallel over blocks of Gaussians, each a few registers of them. A Gaussian's results do not
// depend on where in a register it lies, nor on threads.
#include "common/threads.h"
#include "project/block.h"

namespace emogs {
namespace EMOGS_ISA {
namespace {

constexpr int64_t kSplatGrain = 2048;  // splats that are worth waking a thread

/// Harmonics of a register of Gaussians in the direction of one camera; not finite where they are not.
template <class T>
EMOGS_HD Vec3<Lanes<T>> sh_color(const ProjectForward<T>& p, const BlockInputs<T>& in, Vec3<Lanes<T>> view, int first) {
  using V = Lanes<T>;
  V color[3];
  with_degree(p.harmonics, [&](auto degree) {
    const ShBasis<V> basis = sh_basis(normalize(view), degree);
    for (int channel = 0; channel < 3; channel++) {
      const V sum = harmonic_sum(p, in, basis, degree, channel, first);
      color[channel] = select(is_finite(sum), sh_colour(sum), sum);
    }
  });
  return {color[0], color[1], color[2]};
}

template <class T>
EMOGS_HD bool all_finite(const T* values, int64_t count) {
  Lanes<T> zeros = Lanes<T>(T(0));  // infinity and NaN minus themselves are NaN
  for_each_register<T>(count, [&](int64_t j, auto lanes) {
    const Lanes<T> value = load(values + j, lanes);
    zeros += value - value;
  });
  return !any(zeros != Lanes<T>(T(0)));
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
    memcpy(out, stored, sizeof(T) * values);
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
    const Mat3<V> shape = get_mat3(world.shapes, first);
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
    pose_block(p, in, p.splat_normals, world);
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
  const int threads = threads_for(p.threads, p.batch * p.cameras * p.count, kSplatGrain);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
  for (int64_t b = 0; b < blocks; b++) {
    const int64_t begin = b * kBlockSize;
    project_block(p, {begin, int(minimum(p.count - begin, int64_t(kBlockSize)))});
  }
}

#define EMOGS_INSTANTIATE(T) template void project_gaussians_forward(const ProjectForward<T>&);
EMOGS_FOR_FLOATS(EMOGS_INSTANTIATE)

}  // namespace EMOGS_ISA
}  // namespace emogs
