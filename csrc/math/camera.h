// Cameras: OpenCV axes (x right, y down, z forward), pixel centres at +0.5, world to camera by a general affine map.
// A camera model is one function from a point to its pixel and the Jacobian there, `project_pinhole`, and its backward.
#pragma once

#include "math/vector.h"

namespace emogs {

template <class T>
struct Camera {
  Mat3<T> linear;  // world to camera: p = linear x + translation
  Vec3<T> translation;
  Vec3<T> position;  // the world point that maps to zero
  T fx, fy, cx, cy;  // pixels
  T width, height;   // pixels
};

/// From a row-major view matrix [4, 4] (its last row is not read) and intrinsics [3, 3] (fx, fy, cx, cy are).
template <class T>
EMOGS_HD Camera<T> load_camera(const T* viewmat, const T* k, int width, int height) {
  const Mat3<T> linear = {{viewmat[0], viewmat[1], viewmat[2]},
                          {viewmat[4], viewmat[5], viewmat[6]},
                          {viewmat[8], viewmat[9], viewmat[10]}};
  const Vec3<T> translation = {viewmat[3], viewmat[7], viewmat[11]};
  return {linear, translation, -multiply(inverse(linear), translation), k[0], k[4], k[2], k[5], T(width), T(height)};
}

template <class T>
struct CameraGrad {
  Mat3<T> linear;
  Vec3<T> translation;
  Vec3<T> position;
  T fx, fy, cx, cy;
};

/// Adds to the gradients of a view matrix and intrinsics. The position c solves linear c = -translation, so
/// dc = -linear⁻¹ (d translation + d linear c).
template <class T>
EMOGS_HD void load_camera_backward(const Camera<T>& camera, const CameraGrad<T>& grad, T* grad_viewmat, T* grad_k) {
  const Vec3<T> pulled = -transpose_multiply(inverse(camera.linear), grad.position);
  const bool used = grad.position.x != T(0) || grad.position.y != T(0) || grad.position.z != T(0);
  const Vec3<T> shift =
      used ? pulled : Vec3<T>{T(0), T(0), T(0)};  // a singular map is allowed where the position is unused
  const Vec3<T> position = used ? camera.position : Vec3<T>{T(0), T(0), T(0)};
  const Mat3<T> linear = grad.linear + outer(shift, position);
  const Vec3<T> translation = grad.translation + shift;
  const T rows[12] = {linear.row0.x, linear.row0.y, linear.row0.z, translation.x, linear.row1.x, linear.row1.y,
                      linear.row1.z, translation.y, linear.row2.x, linear.row2.y, linear.row2.z, translation.z};
  for (int i = 0; i < 12; i++) grad_viewmat[i] += rows[i];
  grad_k[0] += grad.fx;
  grad_k[4] += grad.fy;
  grad_k[2] += grad.cx;
  grad_k[5] += grad.cy;
}

template <class T>
struct Projection {
  T u, v;          // pixels
  Vec3<T> du, dv;  // their gradients with respect to the camera-space point
};

// The Jacobian of a point far outside the image would blow its splat up. It is taken at the pixel clamped to the image
// grown by this share of its size on every side (the 1.3 half-angle tangents of the original 3DGS).
constexpr double kJacobianMargin = 0.15;

template <class T>
EMOGS_HD T clamp_to_view(T pixel, T size) {
  return minimum(maximum(pixel, T(-kJacobianMargin) * size), T(1 + kJacobianMargin) * size);
}

/// Perspective: u = fx x/z + cx, du = (fx/z, 0, -(u' - cx)/z) with the clamped pixel u'; likewise v.
template <class T>
EMOGS_HD Projection<T> project_pinhole(const Camera<T>& camera, Vec3<T> point) {
  const T inverse_z = T(1) / point.z;
  const T ax = camera.fx * inverse_z, ay = camera.fy * inverse_z;
  const T u = ax * point.x + camera.cx, v = ay * point.y + camera.cy;
  const T offset_u = clamp_to_view(u, camera.width) - camera.cx;
  const T offset_v = clamp_to_view(v, camera.height) - camera.cy;
  return {u, v, {ax, T(0), -offset_u * inverse_z}, {T(0), ay, -offset_v * inverse_z}};
}

template <class T>
struct ProjectGrad {
  Vec3<T> point;
  T fx, fy, cx, cy;
};

template <class T>
EMOGS_HD ProjectGrad<T> project_pinhole_backward(const Camera<T>& camera, Vec3<T> point, const Projection<T>& grad) {
  const T inverse_z = T(1) / point.z;
  const T ax = camera.fx * inverse_z, ay = camera.fy * inverse_z;
  const T u = ax * point.x + camera.cx, v = ay * point.y + camera.cy;
  const T clamped_u = clamp_to_view(u, camera.width), clamped_v = clamp_to_view(v, camera.height);
  const T grad_offset_u = -grad.du.z * inverse_z, grad_offset_v = -grad.dv.z * inverse_z;
  const T grad_u = grad.u + (clamped_u == u ? grad_offset_u : T(0));
  const T grad_v = grad.v + (clamped_v == v ? grad_offset_v : T(0));
  const T grad_ax = grad.du.x + grad_u * point.x, grad_ay = grad.dv.y + grad_v * point.y;
  const T grad_inverse_z = grad_ax * camera.fx + grad_ay * camera.fy - grad.du.z * (clamped_u - camera.cx) -
                           grad.dv.z * (clamped_v - camera.cy);
  return {{grad_u * ax, grad_v * ay, -grad_inverse_z * inverse_z * inverse_z},
          grad_ax * inverse_z,
          grad_ay * inverse_z,
          grad_u - grad_offset_u,
          grad_v - grad_offset_v};
}

}  // namespace emogs
