// Reading and modulating a block of consecutive Gaussians, for both directions of the projection stage. A block stays
// in the cache while every batch element and camera is served, so that Gaussians and basis come from memory once.
#pragma once

#include "math/emotion.h"
#include "math/rig.h"
#include "math/sh.h"
#include "math/splat.h"
#include "project/project.h"

namespace emogs {

constexpr int kBlockSize = 64;

template <class T>
EMOGS_HD Vec3<T> load_vec3(const T* from) {
  return {from[0], from[1], from[2]};
}

template <class T>
EMOGS_HD Quat<T> load_quat(const T* from) {
  return {from[0], from[1], from[2], from[3]};
}

template <class T>
EMOGS_HD void add_to(T* to, Vec3<T> value) {
  to[0] += value.x, to[1] += value.y, to[2] += value.z;
}

template <class T>
EMOGS_HD void add_to(T* to, Quat<T> value) {
  to[0] += value.w, to[1] += value.x, to[2] += value.y, to[3] += value.z;
}

/// The Gaussians [begin, begin + size) of the call.
struct Block {
  int64_t begin;
  int size;
};

template <class T>
struct BlockDelta {
  T means[3 * kBlockSize];
  T rotations[3 * kBlockSize];
  T log_scales[3 * kBlockSize];
  T logit_opacities[kBlockSize];
};

/// Which rows of the inputs a batch element uses.
struct Rows {
  int64_t gaussian, camera, emotion, rig;
};

template <class T>
EMOGS_HD Rows rows_of(const ProjectForward<T>& p, int64_t element) {
  return {p.rows[element], p.rows[p.batch + element], p.rows[2 * p.batch + element], p.rows[3 * p.batch + element]};
}

/// sum += sum_k e_k basis_k over a block of one field with `width` values a Gaussian. Components of weight zero are not
/// read.
template <class T>
EMOGS_HD void add_components(const ProjectForward<T>& p, const T* basis, int64_t row, Block block, int64_t width,
                             T* sum) {
  if (!basis) return;
  const int64_t values = block.size * width;
  for (int64_t k = 0; k < p.components; k++) {
    const T weight = p.emotion[row * p.components + k];
    if (weight == T(0)) continue;
    const T* component = basis + (k * p.count + block.begin) * width;
    for (int64_t j = 0; j < values; j++) sum[j] = multiply_add(weight, component[j], sum[j]);
  }
}

template <class T>
EMOGS_HD BlockDelta<T> block_delta(const ProjectForward<T>& p, int64_t row, Block block) {
  BlockDelta<T> delta = {};
  add_components(p, p.basis_means, row, block, 3, delta.means);
  add_components(p, p.basis_rotations, row, block, 3, delta.rotations);
  add_components(p, p.basis_log_scales, row, block, 3, delta.log_scales);
  add_components(p, p.basis_logit_opacities, row, block, 1, delta.logit_opacities);
  return delta;
}

template <class T>
EMOGS_HD Delta<T> delta_at(const BlockDelta<T>& d, int i) {
  return {load_vec3(d.means + 3 * i), load_vec3(d.rotations + 3 * i), load_vec3(d.log_scales + 3 * i),
          d.logit_opacities[i]};
}

template <class T>
EMOGS_HD Gaussian<T> gaussian_at(const ProjectForward<T>& p, int64_t row, int64_t i) {
  const int64_t at = row * p.count + i;
  return {load_vec3(p.means + 3 * at), load_quat(p.quats + 4 * at), load_vec3(p.scales + 3 * at), p.opacities[at]};
}

template <class T>
EMOGS_HD Frame<T> frame_at(const ProjectForward<T>& p, int64_t row, int64_t i) {
  const T* frame = p.frames + 8 * (row * p.faces + p.binding[i]);
  return {load_quat(frame), load_vec3(frame + 4), frame[7]};
}

template <class T>
EMOGS_HD Camera<T> camera_at(const ProjectForward<T>& p, int64_t row, int64_t c) {
  const int64_t at = row * p.cameras + c;
  return load_camera(p.viewmats + 16 * at, p.Ks + 9 * at, p.width, p.height, CameraModel(p.model));
}

/// A Gaussian through the steps of this stage before the camera; backward goes back through all of them.
template <class T>
struct Posed {
  Gaussian<T> stored, modulated, world;
};

template <class T>
EMOGS_HD Posed<T> pose(const ProjectForward<T>& p, Rows rows, const BlockDelta<T>& delta, Block block, int i) {
  Posed<T> g;
  g.stored = gaussian_at(p, rows.gaussian, block.begin + i);
  g.modulated = p.emotion ? modulate(g.stored, delta_at(delta, i)) : g.stored;
  g.world = p.binding ? apply_frame(frame_at(p, rows.rig, block.begin + i), g.modulated) : g.modulated;
  return g;
}

/// The vector from the camera to a Gaussian, in the axes that its harmonics live in: those of its face, if it has one.
template <class T>
EMOGS_HD Vec3<T> view_vector(const ProjectForward<T>& p, Rows rows, const Camera<T>& camera, Vec3<T> mean, int64_t i) {
  const Vec3<T> view = mean - camera.position;
  return p.binding ? transpose_multiply(rotation_matrix(frame_at(p, rows.rig, i).rotation), view) : view;
}

EMOGS_HD int harmonic_degree(int64_t harmonics) {
  int degree = 0;
  while ((degree + 1) * (degree + 1) < harmonics) degree++;
  return degree;
}

}  // namespace emogs
