// Frames of mesh faces, and Gaussians that live in them. A frame (q, t, s) takes local coordinates x to s R(q) x + t.
#pragma once

#include "math/gaussian.h"

namespace emogs {

template <class T>
struct Frame {
  Quat<T> rotation;  // any norm but zero
  Vec3<T> translation;
  T scale;
};

template <class T>
EMOGS_HD Gaussian<T> apply_frame(const Frame<T>& frame, const Gaussian<T>& g) {
  return {frame.scale * multiply(rotation_matrix(frame.rotation), g.mean) + frame.translation,
          multiply(frame.rotation, g.quat), frame.scale * g.scale, g.opacity};
}

template <class T>
struct ApplyFrameGrad {
  Frame<T> frame;
  Gaussian<T> gaussian;
};

template <class T>
EMOGS_HD ApplyFrameGrad<T> apply_frame_backward(const Frame<T>& frame, const Gaussian<T>& g, const Gaussian<T>& grad) {
  const Mat3<T> rotation = rotation_matrix(frame.rotation);
  const Vec3<T> local_grad_mean = transpose_multiply(rotation, grad.mean);
  const QuatProductGrad<T> product = multiply_backward(frame.rotation, g.quat, grad.quat);
  const Quat<T> grad_rotation = rotation_matrix_backward(frame.rotation, outer(frame.scale * grad.mean, g.mean));
  return {{grad_rotation + product.a, grad.mean, dot(local_grad_mean, g.mean) + dot(grad.scale, g.scale)},
          {frame.scale * local_grad_mean, product.b, frame.scale * grad.scale, grad.opacity}};
}

template <class T>
struct Triangle {
  Vec3<T> a, b, c;
};

// A triangle whose edges at its first corner are this close to parallel (sine of their angle) has no usable normal.
constexpr double kDegenerateSine = 1e-6;

/// Axes of a triangle: x along its first edge, z along its normal, y = z × x.
template <class T>
struct TriangleAxes {
  Vec3<T> x, y, z;
  T edge_length;   // of the first edge
  T cross_length;  // of the cross product of both edges: twice the area
  bool degenerate;
};

template <class T>
EMOGS_HD TriangleAxes<T> triangle_axes(const Triangle<T>& triangle) {
  const Vec3<T> first = triangle.b - triangle.a, second = triangle.c - triangle.a;
  const Vec3<T> normal = cross(first, second);
  const T edge_length = sqrt(dot(first, first)), cross_length = sqrt(dot(normal, normal));
  const T limit = T(kDegenerateSine) * edge_length * sqrt(dot(second, second));
  const Vec3<T> x = (T(1) / edge_length) * first, z = (T(1) / cross_length) * normal;
  return {x, cross(z, x), z, edge_length, cross_length, !(cross_length > limit)};
}

/// The quaternion of a rotation matrix, by the largest of its four components (Shepperd 1978).
template <class T>
EMOGS_HD Quat<T> matrix_quat(const Mat3<T>& m) {
  const T xx = m.row0.x, yy = m.row1.y, zz = m.row2.z;
  const T yz = m.row2.y - m.row1.z, zx = m.row0.z - m.row2.x, xy = m.row1.x - m.row0.y;  // 4 w times x, y, z
  Quat<T> q;
  if (xx + yy + zz >= T(0))
    q = {T(1) + xx + yy + zz, yz, zx, xy};
  else if (xx >= yy && xx >= zz)
    q = {yz, T(1) + xx - yy - zz, m.row0.y + m.row1.x, m.row0.z + m.row2.x};
  else if (yy >= zz)
    q = {zx, m.row0.y + m.row1.x, T(1) - xx + yy - zz, m.row1.z + m.row2.y};
  else
    q = {xy, m.row0.z + m.row2.x, m.row1.z + m.row2.y, T(1) - xx - yy + zz};
  return (T(1) / sqrt(dot(q, q))) * q;
}

/// The frame that carries a rest triangle to its deformed place: the rotation between their axes, the deformed
/// centroid, and the square root of the ratio of areas. Local coordinates are relative to the rest centroid, in the
/// axes of the rest space, so at rest the rotation is the identity and the scale 1. Without a usable normal (a
/// collapsed triangle) the rotation is the identity; the scale still is the root of the area ratio, or 1 if it is the
/// rest triangle that has no area.
template <class T>
EMOGS_HD Frame<T> triangle_frame(const Triangle<T>& rest, const Triangle<T>& deformed) {
  const TriangleAxes<T> from = triangle_axes(rest), to = triangle_axes(deformed);
  Frame<T> frame = {{T(1), T(0), T(0), T(0)}, (T(1) / T(3)) * (deformed.a + deformed.b + deformed.c), T(1)};
  if (from.degenerate) return frame;
  frame.scale = sqrt(to.cross_length / from.cross_length);
  if (to.degenerate) return frame;
  const Mat3<T> x = outer(to.x, from.x), y = outer(to.y, from.y), z = outer(to.z, from.z);
  frame.rotation = matrix_quat(x + y + z);
  return frame;
}

/// A small turn ω of the deformed triangle changes the quaternion by (0, ω)/2 ⊗ q, and ω = z × dz + z (y . dx) for the
/// changes of its axes; both steps are transposed here. Where the triangle is degenerate only the centroid has a
/// gradient.
template <class T>
EMOGS_HD Triangle<T> triangle_frame_backward(const Triangle<T>& rest, const Triangle<T>& deformed,
                                             const Frame<T>& grad) {
  const Vec3<T> grad_corner = (T(1) / T(3)) * grad.translation;
  const TriangleAxes<T> from = triangle_axes(rest), to = triangle_axes(deformed);
  if (from.degenerate || to.degenerate) return {grad_corner, grad_corner, grad_corner};
  const Frame<T> frame = triangle_frame(rest, deformed);
  const Quat<T> turned = multiply(grad.rotation, conjugate(frame.rotation));
  const Vec3<T> grad_turn = T(0.5) * Vec3<T>{turned.x, turned.y, turned.z};
  const T grad_cross_length = grad.scale * frame.scale / (T(2) * to.cross_length);
  const Vec3<T> grad_normal = (T(1) / to.cross_length) * cross(grad_turn, to.z) + grad_cross_length * to.z;
  const Vec3<T> first = deformed.b - deformed.a, second = deformed.c - deformed.a;
  const Vec3<T> grad_first = cross(second, grad_normal) + (dot(grad_turn, to.z) / to.edge_length) * to.y;
  const Vec3<T> grad_second = cross(grad_normal, first);
  return {grad_corner - grad_first - grad_second, grad_corner + grad_first, grad_corner + grad_second};
}

}  // namespace emogs
