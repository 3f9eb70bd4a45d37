// A Gaussian and its shape: quaternion to rotation, and the factor M = R S of the covariance M Mᵀ.
// Quaternions may have any norm: they are normalised here, and the gradient goes through it.
#pragma once

#include "math/vector.h"

namespace emogs {

template <class T>
struct Gaussian {
  Vec3<T> mean;
  Quat<T> quat;  // any norm but zero
  Vec3<T> scale;
  T opacity;
};

template <class T>
EMOGS_HD auto is_finite(const Gaussian<T>& g) {
  return is_finite(g.mean) && is_finite(g.quat) && is_finite(g.scale) && is_finite(g.opacity);
}

template <class T>
EMOGS_HD Mat3<T> rotation_matrix(Quat<T> quat) {
  const T s = T(2) / dot(quat, quat);
  const T w = quat.w, x = quat.x, y = quat.y, z = quat.z;
  return {{T(1) - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)},
          {s * (x * y + w * z), T(1) - s * (x * x + z * z), s * (y * z - w * x)},
          {s * (x * z - w * y), s * (y * z + w * x), T(1) - s * (x * x + y * y)}};
}

template <class T>
EMOGS_HD Quat<T> rotation_matrix_backward(Quat<T> quat, const Mat3<T>& grad) {
  const T inverse_norm = T(1) / sqrt(dot(quat, quat));
  const Quat<T> unit = inverse_norm * quat;
  const T w = unit.w, x = unit.x, y = unit.y, z = unit.z;
  const Vec3<T> g0 = grad.row0, g1 = grad.row1, g2 = grad.row2;
  const Quat<T> grad_unit = {
      T(2) * (x * (g2.y - g1.z) + y * (g0.z - g2.x) + z * (g1.x - g0.y)),
      T(2) * (w * (g2.y - g1.z) + y * (g0.y + g1.x) + z * (g0.z + g2.x) - T(2) * x * (g1.y + g2.z)),
      T(2) * (w * (g0.z - g2.x) + x * (g0.y + g1.x) + z * (g1.z + g2.y) - T(2) * y * (g0.x + g2.z)),
      T(2) * (w * (g1.x - g0.y) + x * (g0.z + g2.x) + y * (g1.z + g2.y) - T(2) * z * (g0.x + g1.y))};
  return inverse_norm * (grad_unit + (-dot(unit, grad_unit)) * unit);
}

/// M = R diag(scale), so that the covariance is M Mᵀ.
template <class T>
EMOGS_HD Mat3<T> shape_matrix(Quat<T> quat, Vec3<T> scale) {
  const Mat3<T> r = rotation_matrix(quat);
  return {hadamard(r.row0, scale), hadamard(r.row1, scale), hadamard(r.row2, scale)};
}

template <class T>
struct ShapeGrad {
  Quat<T> quat;
  Vec3<T> scale;
};

template <class T>
EMOGS_HD ShapeGrad<T> shape_matrix_backward(Quat<T> quat, Vec3<T> scale, const Mat3<T>& grad) {
  const Mat3<T> r = rotation_matrix(quat);
  const Mat3<T> grad_rotation = {hadamard(grad.row0, scale), hadamard(grad.row1, scale), hadamard(grad.row2, scale)};
  return {rotation_matrix_backward(quat, grad_rotation),
          hadamard(grad.row0, r.row0) + hadamard(grad.row1, r.row1) + hadamard(grad.row2, r.row2)};
}

/// A one in the place of the smallest scale, the first of several, and zeros in the others.
template <class T>
EMOGS_HD Vec3<T> shortest(Vec3<T> scale) {
  const T x = fabs(scale.x), y = fabs(scale.y), z = fabs(scale.z), one = T(1), zero = T(0);
  const auto second = y < x;
  const auto third = z < select(second, y, x);
  return {select(second || third, zero, one), select(third, zero, select(second, one, zero)), select(third, one, zero)};
}

/// The unit normal of a Gaussian that is taken for a disc: its shortest axis, one of its two directions.
template <class T>
EMOGS_HD Vec3<T> disc_normal(Quat<T> quat, Vec3<T> scale) {
  return multiply(rotation_matrix(quat), shortest(scale));
}

template <class T>
EMOGS_HD Quat<T> disc_normal_backward(Quat<T> quat, Vec3<T> scale, Vec3<T> grad) {
  return rotation_matrix_backward(quat, outer(grad, shortest(scale)));
}

}  // namespace emogs
