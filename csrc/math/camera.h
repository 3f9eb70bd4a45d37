// Cameras: OpenCV axes (x right, y down, z forward), pixel centres at +0.5, world to camera by a general affine map.
// A camera model is one function from a point to its pixel and the Jacobian there, and its backward; all assume z > 0.
#pragma once

#include "math/functions.h"
#include "math/vector.h"

namespace emogs {

enum class CameraModel { pinhole, ortho, fisheye };  // the order of emogs/ops/scene.py's CameraModel

template <class T>
struct Camera {
  Mat3<T> linear;  // world to camera: p = linear x + translation
  Vec3<T> translation;
  Vec3<T> position;  // the world point that maps to zero
  Vec3<T> axis;      // the world direction that maps to (0, 0, 1)
  T fx, fy, cx, cy;  // pixels
  T width, height;   // pixels
  CameraModel model;
};

/// From a row-major view matrix [4, 4] (its last row is not read) and intrinsics [3, 3] (fx, fy, cx, cy are).
template <class T>
EMOGS_HD Camera<T> load_camera(const T* viewmat, const T* k, int width, int height, CameraModel model) {
  const Mat3<T> linear = {{viewmat[0], viewmat[1], viewmat[2]},
                          {viewmat[4], viewmat[5], viewmat[6]},
                          {viewmat[8], viewmat[9], viewmat[10]}};
  const Vec3<T> translation = {viewmat[3], viewmat[7], viewmat[11]};
  const Mat3<T> inverted = inverse(linear);
  const Vec3<T> axis = {inverted.row0.z, inverted.row1.z, inverted.row2.z};
  return {linear,    translation, -multiply(inverted, translation), axis, k[0], k[4], k[2], k[5], T(width),
          T(height), model};
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

template <class T>
struct ProjectGrad {
  Vec3<T> point;
  T fx, fy, cx, cy;
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
EMOGS_HD ProjectGrad<T> project_pinhole_backward(const Camera<T>& camera, Vec3<T> point, const Projection<T>& grad) {
  const T inverse_z = T(1) / point.z;
  const T ax = camera.fx * inverse_z, ay = camera.fy * inverse_z;
  const T u = ax * point.x + camera.cx, v = ay * point.y + camera.cy;
  const T clamped_u = clamp_to_view(u, camera.width), clamped_v = clamp_to_view(v, camera.height);
  const T grad_offset_u = -grad.du.z * inverse_z, grad_offset_v = -grad.dv.z * inverse_z;
  const T grad_u = grad.u + select(clamped_u == u, grad_offset_u, T(0));
  const T grad_v = grad.v + select(clamped_v == v, grad_offset_v, T(0));
  const T grad_ax = grad.du.x + grad_u * point.x, grad_ay = grad.dv.y + grad_v * point.y;
  const T grad_inverse_z = grad_ax * camera.fx + grad_ay * camera.fy - grad.du.z * (clamped_u - camera.cx) -
                           grad.dv.z * (clamped_v - camera.cy);
  return {{grad_u * ax, grad_v * ay, -grad_inverse_z * inverse_z * inverse_z},
          grad_ax * inverse_z,
          grad_ay * inverse_z,
          grad_u - grad_offset_u,
          grad_v - grad_offset_v};
}

/// Parallel rays: u = fx x + cx, v = fy y + cy.
template <class T>
EMOGS_HD Projection<T> project_ortho(const Camera<T>& camera, Vec3<T> point) {
  const T zero = T(0);
  return {camera.fx * point.x + camera.cx,
          camera.fy * point.y + camera.cy,
          {camera.fx, zero, zero},
          {zero, camera.fy, zero}};
}

template <class T>
EMOGS_HD ProjectGrad<T> project_ortho_backward(const Camera<T>& camera, Vec3<T> point, const Projection<T>& grad) {
  return {{grad.u * camera.fx, grad.v * camera.fy, T(0)},
          grad.u * point.x + grad.du.x,
          grad.v * point.y + grad.dv.y,
          grad.u,
          grad.v};
}

/// What an equidistant lens needs of the squared tangent q = tan² theta of the angle to its axis.
template <class T>
struct LensAngle {
  T ratio;   // A = theta / tan theta = atan(sqrt q) / sqrt q
  T slope;   // B = 2 dA/dq, negative
  T curve;   // C = 2 dB/dq, positive
  T cosine;  // g = cos² theta = 1 / (1 + q)
};

// Below this q the power series of C is used, which loses nothing as q goes to 0; its terms end below the rounding.
constexpr double kSmallLensAngle = 1.0 / 16;
template <class T>
EMOGS_HD int lens_series_terms() {
  return kSingle<T> ? 7 : 14;
}

/// B = (g - A) / q and C = -(2 g² + 3 B) / q cancel towards q = 0. Solved for A and B they do not, and
/// C = sum_k 4 (k + 1) (k + 2) / (2k + 5) (-q)^k.
template <class T>
EMOGS_HD LensAngle<T> lens_angle(T q) {
  const T cosine = T(1) / (T(1) + q);
  T series = T(0);
  for (int k = lens_series_terms<T>() - 1; k >= 0; k--)
    series = multiply_add(-q, series, T(4.0 * (k + 1) * (k + 2) / (2 * k + 5)));
  const T series_slope = (T(2) * cosine * cosine + series * q) * T(-1.0 / 3);
  const T tangent = sqrt(q);
  const T ratio = atan2(tangent, T(1)) / tangent + (q - q);  // NaN if q overflowed, or it would pass for the centre
  const T slope = (cosine - ratio) / q;
  const auto small = q < T(kSmallLensAngle);
  return {select(small, cosine - series_slope * q, ratio), select(small, series_slope, slope),
          select(small, series, -(T(2) * cosine * cosine + T(3) * slope) / q), cosine};
}

/// Equidistant fisheye (Kannala and Brandt 2006, without distortion): a point at the angle theta to the axis is drawn
/// at a distance of f theta from the centre. With X = x/z, Y = y/z, q = X² + Y²: u = fx A X + cx, and since
/// A + B X² = g - B Y², du = fx/z (g - B Y², B X Y, -g X), where no terms cancel; likewise v.
template <class T>
EMOGS_HD Projection<T> project_fisheye(const Camera<T>& camera, Vec3<T> point) {
  const T inverse_z = T(1) / point.z;
  const T x = point.x * inverse_z, y = point.y * inverse_z;
  const LensAngle<T> angle = lens_angle(x * x + y * y);
  const T ax = camera.fx * inverse_z, ay = camera.fy * inverse_z;
  const T g = angle.cosine, mixed = angle.slope * x * y;
  return {camera.fx * angle.ratio * x + camera.cx, camera.fy * angle.ratio * y + camera.cy,
          ax * Vec3<T>{g - angle.slope * y * y, mixed, -g * x}, ay * Vec3<T>{mixed, g - angle.slope * x * x, -g * y}};
}

/// 2 dA/dq = B, 2 dB/dq = C, dg/dq = -g².
template <class T>
EMOGS_HD ProjectGrad<T> project_fisheye_backward(const Camera<T>& camera, Vec3<T> point, const Projection<T>& grad) {
  const T inverse_z = T(1) / point.z;
  const T x = point.x * inverse_z, y = point.y * inverse_z;
  const LensAngle<T> angle = lens_angle(x * x + y * y);
  const T g = angle.cosine, slope = angle.slope;
  const Vec3<T> row_u = {g - slope * y * y, slope * x * y, -g * x};
  const Vec3<T> row_v = {slope * x * y, g - slope * x * x, -g * y};
  const T along_u = dot(grad.du, row_u) * inverse_z, along_v = dot(grad.dv, row_v) * inverse_z;  // d / d fx, fy

  const Vec3<T> p = (camera.fx * inverse_z) * grad.du, q = (camera.fy * inverse_z) * grad.dv;
  const T grad_u = grad.u * camera.fx, grad_v = grad.v * camera.fy, mixed = p.y + q.x;
  const T grad_ratio = grad_u * x + grad_v * y;
  const T grad_slope = mixed * x * y - p.x * y * y - q.y * x * x;
  const T grad_cosine = p.x + q.y - p.z * x - q.z * y;
  const T grad_square = slope * grad_ratio + angle.curve * grad_slope - T(2) * g * g * grad_cosine;  // twice of q's
  const T grad_x = grad_u * angle.ratio + slope * (mixed * y - T(2) * q.y * x) - g * p.z + grad_square * x;
  const T grad_y = grad_v * angle.ratio + slope * (mixed * x - T(2) * p.x * y) - g * q.z + grad_square * y;
  const T grad_z = -(grad_x * x + grad_y * y + camera.fx * along_u + camera.fy * along_v) * inverse_z;
  return {{grad_x * inverse_z, grad_y * inverse_z, grad_z},
          grad.u * angle.ratio * x + along_u,
          grad.v * angle.ratio * y + along_v,
          grad.u,
          grad.v};
}

/// `value` with the sign that turns the normal at a world point to the camera: of the normal itself, or its gradient.
template <class T>
EMOGS_HD Vec3<T> facing(const Camera<T>& camera, Vec3<T> point, Vec3<T> normal, Vec3<T> value) {
  const Vec3<T> ray = camera.model == CameraModel::ortho ? camera.axis : point - camera.position;
  return select_vec3(dot(normal, ray) > T(0), -value, value);
}

/// The one place that chooses a model; it is the same for all points of a camera.
template <class T>
EMOGS_HD Projection<T> project(const Camera<T>& camera, Vec3<T> point) {
  switch (camera.model) {
    case CameraModel::ortho:
      return project_ortho(camera, point);
    case CameraModel::fisheye:
      return project_fisheye(camera, point);
    default:
      return project_pinhole(camera, point);
  }
}

template <class T>
EMOGS_HD ProjectGrad<T> project_backward(const Camera<T>& camera, Vec3<T> point, const Projection<T>& grad) {
  switch (camera.model) {
    case CameraModel::ortho:
      return project_ortho_backward(camera, point, grad);
    case CameraModel::fisheye:
      return project_fisheye_backward(camera, point, grad);
    default:
      return project_pinhole_backward(camera, point, grad);
  }
}

}  // namespace emogs
