// A block of consecutive Gaussians in columns, read and modulated by registers, for both directions of the projection
// stage. A block stays in the cache while every batch element and camera is served, so that Gaussians and basis come
// from memory once.
#pragma once

#include "common/columns.h"
#include "math/emotion.h"
#include "math/rig.h"
#include "math/sh.h"
#include "math/splat.h"
#include "project/project.h"

namespace emogs {
namespace EMOGS_ISA {

// Gaussians. 16 components are 5 to 10% slower with 64, whose runs are short for prefetchers; plain ones with 512.
constexpr int kBlockSize = 128;

/// The Gaussians [begin, begin + size) of the call.
struct Block {
  int64_t begin;
  int size;
};

/// Which rows of the inputs a batch element uses.
struct Rows {
  int64_t gaussian, camera, emotion, rig;
};

template <class T>
EMOGS_HD Rows rows_of(const ProjectForward<T>& p, int64_t element) {
  return {p.rows[element], p.rows[p.batch + element], p.rows[2 * p.batch + element], p.rows[3 * p.batch + element]};
}

template <class T>
EMOGS_HD SplatSettings<Lanes<T>> splat_settings(const ProjectForward<T>& p) {
  using V = Lanes<T>;
  return {V(T(p.alpha_cut)), V(T(p.blur)), V(T(p.near)), V(T(p.far)), V(T(p.radius_clip)), p.antialiased};
}

template <class T>
EMOGS_HD Camera<T> camera_at(const ProjectForward<T>& p, int64_t row, int64_t c) {
  const int64_t at = row * p.cameras + c;
  return load_camera(p.viewmats + 16 * at, p.Ks + 9 * at, p.width, p.height, CameraModel(p.model));
}

template <class T, int kWidth>
using BlockColumns = Columns<T, kWidth, kBlockSize>;

template <class T>
EMOGS_HD Vec3<Lanes<T>> broadcast(Vec3<T> a) {
  return {Lanes<T>(a.x), Lanes<T>(a.y), Lanes<T>(a.z)};
}

template <class T>
EMOGS_HD Camera<Lanes<T>> broadcast(const Camera<T>& c) {
  using V = Lanes<T>;
  const Mat3<V> linear = {broadcast(c.linear.row0), broadcast(c.linear.row1), broadcast(c.linear.row2)};
  return {linear,
          broadcast(c.translation),
          broadcast(c.position),
          broadcast(c.axis),
          V(c.fx),
          V(c.fy),
          V(c.cx),
          V(c.cy),
          V(c.width),
          V(c.height),
          c.model};
}

template <class T, int kWidth>
EMOGS_HD Vec3<Lanes<T>> get_vec3(const BlockColumns<T, kWidth>& columns, int first, int column = 0) {
  return {columns.get(column, first), columns.get(column + 1, first), columns.get(column + 2, first)};
}

template <class T, int kWidth>
EMOGS_HD Quat<Lanes<T>> get_quat(const BlockColumns<T, kWidth>& columns, int first) {
  return {columns.get(0, first), columns.get(1, first), columns.get(2, first), columns.get(3, first)};
}

template <class T, int kWidth>
EMOGS_HD void set_vec3(BlockColumns<T, kWidth>& columns, int first, Vec3<Lanes<T>> value, int column = 0) {
  columns.set(column, first, value.x);
  columns.set(column + 1, first, value.y);
  columns.set(column + 2, first, value.z);
}

template <class T>
EMOGS_HD Mat3<Lanes<T>> get_mat3(const BlockColumns<T, 9>& columns, int first) {
  return {get_vec3(columns, first), get_vec3(columns, first, 3), get_vec3(columns, first, 6)};
}

template <class T>
EMOGS_HD void set_mat3(BlockColumns<T, 9>& columns, int first, const Mat3<Lanes<T>>& value) {
  set_vec3(columns, first, value.row0);
  set_vec3(columns, first, value.row1, 3);
  set_vec3(columns, first, value.row2, 6);
}

template <class T>
EMOGS_HD int64_t number_of(Whole) {
  return Lanes<T>::count;
}
template <class T>
EMOGS_HD int64_t number_of(Part<T> part) {
  return part.count;
}

/// A register of a basis field, which may be float16 beside any T.
template <class T, class Stored, class Counted>
EMOGS_HD Lanes<T> load_basis(const Stored* from, Counted lanes) {
  if constexpr (kSingle<T> || sizeof(Stored) == sizeof(T)) {
    return load(from, lanes);
  } else {
    T values[Lanes<T>::count] __attribute__((aligned(kRegisterBytes))) = {};
    for (int lane = 0; lane < number_of<T>(lanes); lane++) values[lane] = load_float(from[lane]);
    return Lanes<T>::load(values);
  }
}

/// out = from + sum_k e_k basis_k over kRegisters registers, basis_k being k * stride further; `from` may be null for
/// zeros. Components of weight zero are not read. Several registers at once share the weights and hide latencies.
template <int kRegisters, class T, class Stored, class Counted>
EMOGS_HD void sum_registers(const T* weights, int64_t components, const Stored* basis, int64_t stride, const T* from,
                            T* out, Counted lanes) {
  using V = Lanes<T>;
  V sum[kRegisters];
  for (int r = 0; r < kRegisters; r++) sum[r] = from ? load(from + r * V::count, lanes) : V(T(0));
  for (int64_t k = 0; k < components; k++) {
    if (weights[k] == T(0)) continue;
    const V weight = V(weights[k]);
    const Stored* component = basis + k * stride;
    for (int r = 0; r < kRegisters; r++)
      sum[r] = multiply_add(weight, load_basis<T>(component + r * V::count, lanes), sum[r]);
  }
  for (int r = 0; r < kRegisters; r++) store(sum[r], out + r * V::count, lanes);
}

/// The same over `values` consecutive scalars.
template <class T, class Stored>
EMOGS_HD void sum_components(const T* weights, int64_t components, const Stored* basis, int64_t stride, const T* from,
                             int64_t values, T* out) {
  constexpr int kTogether = 4, step = kTogether * Lanes<T>::count;
  const int64_t together = values - values % step;
  const auto begin = [from](int64_t j) { return from ? from + j : from; };
  for (int64_t j = 0; j < together; j += step)
    sum_registers<kTogether>(weights, components, basis + j, stride, begin(j), out + j, Whole());
  for_each_register<T>(values - together, [&](int64_t rest, auto lanes) {
    const int64_t j = together + rest;
    sum_registers<1>(weights, components, basis + j, stride, begin(j), out + j, lanes);
  });
}

/// The same over a block of one field with `width` scalars a Gaussian.
template <class T>
EMOGS_HD void sum_components(const ProjectForward<T>& p, const MaybeHalf<T>& basis, int64_t row, Block block,
                             int64_t width, const T* from, T* out) {
  const auto sum_of = [&](const auto* stored) {
    sum_components(p.emotion + row * p.components, p.components, stored + block.begin * width, p.count * width, from,
                   block.size * width, out);
  };
  if (basis.half)
    sum_of(basis.half);
  else
    sum_of(basis.full);
}

/// The summed deltas of one field of kWidth scalars in columns; zeros where the basis has no such field.
template <int kWidth, class T>
EMOGS_HD void read_delta(const ProjectForward<T>& p, const MaybeHalf<T>& basis, int64_t row, Block block,
                         BlockColumns<T, kWidth>& to) {
  if (!basis) return to.clear();
  T sum[kWidth * kBlockSize];
  sum_components(p, basis, row, block, kWidth, static_cast<const T*>(nullptr), sum);
  to.read(sum, block.size);
}

template <class T>
struct BlockInputs {
  int64_t gaussian_row = -1, emotion_row = -1, rig_row = -1;  // those that have been read
  BlockColumns<T, 3> means, scales, delta_means, delta_rotations, delta_log_scales, delta_colors;
  BlockColumns<T, 4> quats;
  BlockColumns<T, 1> opacities, delta_logit_opacities;
  BlockColumns<T, 8> frames;
  BlockColumns<T, 3 * kMaxShCount> harmonics;
};

/// Reads what a batch element needs and the one before it did not.
template <class T>
EMOGS_HD void read_inputs(const ProjectForward<T>& p, Rows rows, Block block, BlockInputs<T>& to) {
  if (to.gaussian_row != rows.gaussian) {
    const int64_t at = rows.gaussian * p.count + block.begin;
    to.means.read(p.means + 3 * at, block.size);
    to.quats.read(p.quats + 4 * at, block.size);
    to.scales.read(p.scales + 3 * at, block.size);
    to.opacities.read(p.opacities + at, block.size);
    if (p.harmonics)
      with_degree(p.harmonics, [&](auto degree) {
        to.harmonics.template read<3 * harmonics_of(degree)>(p.colors + 3 * p.harmonics * at, block.size);
      });
    to.gaussian_row = rows.gaussian;
  }
  if (p.emotion && to.emotion_row != rows.emotion) {
    read_delta<3>(p, p.basis_means, rows.emotion, block, to.delta_means);
    read_delta<3>(p, p.basis_rotations, rows.emotion, block, to.delta_rotations);
    read_delta<3>(p, p.basis_log_scales, rows.emotion, block, to.delta_log_scales);
    read_delta<1>(p, p.basis_logit_opacities, rows.emotion, block, to.delta_logit_opacities);
    if (p.harmonics) read_delta<3>(p, p.basis_colors, rows.emotion, block, to.delta_colors);
    to.emotion_row = rows.emotion;
  }
  if (p.binding && to.rig_row != rows.rig) {
    T frames[8 * kBlockSize];
    const T* from = p.frames + 8 * rows.rig * p.faces;
    for (int i = 0; i < block.size; i++)
      for (int j = 0; j < 8; j++) frames[8 * i + j] = from[8 * int64_t(p.binding[block.begin + i]) + j];
    to.frames.read(frames, block.size);
    to.rig_row = rows.rig;
  }
}

template <class T>
EMOGS_HD Delta<Lanes<T>> get_delta(const BlockInputs<T>& in, int first) {
  return {get_vec3(in.delta_means, first), get_vec3(in.delta_rotations, first), get_vec3(in.delta_log_scales, first),
          in.delta_logit_opacities.get(0, first)};
}

template <class T>
EMOGS_HD Frame<Lanes<T>> get_frame(const BlockInputs<T>& in, int first) {
  return {get_quat(in.frames, first), get_vec3(in.frames, first, 4), in.frames.get(7, first)};
}

/// Gaussians through the steps of this stage before the camera; backward goes back through all of them.
template <class V>
struct Posed {
  Gaussian<V> stored, modulated, world;
};

template <class T>
EMOGS_HD Posed<Lanes<T>> pose(const ProjectForward<T>& p, const BlockInputs<T>& in, int first) {
  Posed<Lanes<T>> g;
  g.stored = {get_vec3(in.means, first), get_quat(in.quats, first), get_vec3(in.scales, first),
              in.opacities.get(0, first)};
  g.modulated = p.emotion ? modulate(g.stored, get_delta(in, first)) : g.stored;
  g.world = p.binding ? apply_frame(get_frame(in, first), g.modulated) : g.modulated;
  return g;
}

/// The vector from the camera to a Gaussian, in the axes that its harmonics live in: those of its face, if it has one.
template <class T>
EMOGS_HD Vec3<Lanes<T>> view_vector(const ProjectForward<T>& p, const BlockInputs<T>& in,
                                    const Camera<Lanes<T>>& camera, Vec3<Lanes<T>> mean, int first) {
  const Vec3<Lanes<T>> view = mean - camera.position;
  return p.binding ? transpose_multiply(rotation_matrix(get_quat(in.frames, first)), view) : view;
}

/// One channel of a register of harmonics, in the direction of `basis`. The emotion changes the first coefficient.
template <class T>
EMOGS_HD Lanes<T> harmonic_sum(const ProjectForward<T>& p, const BlockInputs<T>& in, const ShBasis<Lanes<T>>& basis,
                               int degree, int channel, int first) {
  Lanes<T> coefficient = in.harmonics.get(channel, first);
  if (p.emotion) coefficient += in.delta_colors.get(channel, first);
  Lanes<T> sum = basis.value[0] * coefficient;
  for (int s = 1; s < harmonics_of(degree); s++) sum += basis.value[s] * in.harmonics.get(3 * s + channel, first);
  return sum;
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
EMOGS_HD void pose_block(const ProjectForward<T>& p, const BlockInputs<T>& in, bool normals, WorldBlock<T>& world) {
  using V = Lanes<T>;
  for (int first = 0; first < kBlockSize; first += V::count) {
    const Gaussian<V> g = pose(p, in, first).world;
    set_vec3(world.means, first, g.mean);
    set_mat3(world.shapes, first, shape_matrix(g.quat, g.scale));
    world.opacities.set(0, first, g.opacity);
    if (normals) set_vec3(world.normals, first, disc_normal(g.quat, g.scale));
    world.finite.set(0, first, select(is_finite(g), V(T(1)), V(T(0))));
  }
}

}  // namespace EMOGS_ISA
}  // namespace emogs
