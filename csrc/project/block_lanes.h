// A block of consecutive Gaussians in columns, read and modulated by registers, for both directions of the projection
// stage. What a block reads is kept while it serves batch elements that use the same rows.
#pragma once

#include "common/columns.h"
#include "project/block.h"

namespace emogs {
namespace EMOGS_ISA {

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

/// out = from + sum_k e_k basis_k over `values` consecutive scalars, basis_k being k * stride further; `from` may be
/// null for zeros. Components of weight zero are not read.
template <class T>
EMOGS_HD void sum_components(const T* weights, int64_t components, const T* basis, int64_t stride, const T* from,
                             int64_t values, T* out) {
  using V = Lanes<T>;
  constexpr int kUnroll = 4, step = kUnroll * V::count;
  int64_t j = 0;
  for (; j + step <= values; j += step) {
    V sum[kUnroll];
    for (int u = 0; u < kUnroll; u++) sum[u] = from ? V::load_unaligned(from + j + u * V::count) : V(T(0));
    for (int64_t k = 0; k < components; k++) {
      if (weights[k] == T(0)) continue;
      const V weight = V(weights[k]);
      const T* component = basis + k * stride + j;
      for (int u = 0; u < kUnroll; u++)
        sum[u] = multiply_add(weight, V::load_unaligned(component + u * V::count), sum[u]);
    }
    for (int u = 0; u < kUnroll; u++) sum[u].store_unaligned(out + j + u * V::count);
  }
  for (; j < values; j++) {
    T sum = from ? from[j] : T(0);
    for (int64_t k = 0; k < components; k++)
      if (weights[k] != T(0)) sum = multiply_add(weights[k], basis[k * stride + j], sum);
    out[j] = sum;
  }
}

template <class T>
EMOGS_HD void sum_components(const ProjectForward<T>& p, const T* basis, int64_t row, Block block, int64_t width,
                             const T* from, T* out) {
  sum_components(p.emotion + row * p.components, p.components, basis + block.begin * width, p.count * width, from,
                 block.size * width, out);
}

/// The summed deltas of one field, [size, kWidth] scalars, in columns; zeros where the basis has no such field.
template <int kWidth, class T>
EMOGS_HD void read_delta(const ProjectForward<T>& p, const T* basis, int64_t row, Block block,
                         BlockColumns<T, kWidth>& to) {
  T sum[kWidth * kBlockSize] = {};
  if (basis) sum_components(p, basis, row, block, kWidth, static_cast<const T*>(nullptr), sum);
  to.read(sum, kBlockSize);
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

template <class T>
EMOGS_HD void read_harmonics(const T* from, int64_t harmonics, int size, BlockColumns<T, 3 * kMaxShCount>& to) {
  switch (harmonics) {
    case 1:
      return to.template read<3>(from, size);
    case 4:
      return to.template read<12>(from, size);
    case 9:
      return to.template read<27>(from, size);
    case 16:
      return to.template read<48>(from, size);
    default:
      return to.template read<75>(from, size);
  }
}

/// Reads what a batch element needs and the one before it did not.
template <class T>
EMOGS_HD void read_inputs(const ProjectForward<T>& p, Rows rows, Block block, BlockInputs<T>& to) {
  if (to.gaussian_row != rows.gaussian) {
    const int64_t at = rows.gaussian * p.count + block.begin;
    to.means.read(p.means + 3 * at, block.size);
    to.quats.read(p.quats + 4 * at, block.size);
    to.scales.read(p.scales + 3 * at, block.size);
    to.opacities.read(p.opacities + at, block.size);
    if (p.harmonics) read_harmonics(p.colors + 3 * p.harmonics * at, p.harmonics, block.size, to.harmonics);
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

/// A register of Gaussians through the steps of this stage before the camera.
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

}  // namespace EMOGS_ISA
}  // namespace emogs
