// Three-vectors, 3x3 matrices by rows and quaternions (w x y z), as plain structs of scalars or of registers of
// scalars. Sums are written left to right and never fused, so that every instruction set rounds alike.
#pragma once

#include "common/platform.h"

namespace emogs {

template <class T>
struct Vec3 {
  T x, y, z;
};

template <class T>
struct Mat3 {
  Vec3<T> row0, row1, row2;
};

template <class T>
struct Quat {
  T w, x, y, z;
};

template <class T>
EMOGS_HD T square(T a) {
  return a * a;
}

template <class T>
EMOGS_HD Vec3<T> operator+(Vec3<T> a, Vec3<T> b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z};
}

template <class T>
EMOGS_HD Vec3<T> operator-(Vec3<T> a, Vec3<T> b) {
  return {a.x - b.x, a.y - b.y, a.z - b.z};
}

template <class T>
EMOGS_HD Vec3<T> operator-(Vec3<T> a) {
  return {-a.x, -a.y, -a.z};
}

template <class T>
EMOGS_HD Vec3<T> operator*(T s, Vec3<T> a) {
  return {s * a.x, s * a.y, s * a.z};
}

template <class T>
EMOGS_HD Vec3<T> hadamard(Vec3<T> a, Vec3<T> b) {
  return {a.x * b.x, a.y * b.y, a.z * b.z};
}

template <class T>
EMOGS_HD Vec3<T> select_vec3(MaskOf<T> mask, Vec3<T> a, Vec3<T> b) {
  return {select(mask, a.x, b.x), select(mask, a.y, b.y), select(mask, a.z, b.z)};
}

template <class T>
EMOGS_HD T dot(Vec3<T> a, Vec3<T> b) {
  return a.x * b.x + a.y * b.y + a.z * b.z;
}

template <class T>
EMOGS_HD Vec3<T> cross(Vec3<T> a, Vec3<T> b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

template <class T>
EMOGS_HD Mat3<T> operator+(const Mat3<T>& a, const Mat3<T>& b) {
  return {a.row0 + b.row0, a.row1 + b.row1, a.row2 + b.row2};
}

/// a b
template <class T>
EMOGS_HD Vec3<T> multiply(const Mat3<T>& a, Vec3<T> b) {
  return {dot(a.row0, b), dot(a.row1, b), dot(a.row2, b)};
}

/// aᵀ b; also the row vector bᵀ a
template <class T>
EMOGS_HD Vec3<T> transpose_multiply(const Mat3<T>& a, Vec3<T> b) {
  return b.x * a.row0 + b.y * a.row1 + b.z * a.row2;
}

/// a bᵀ, a matrix
template <class T>
EMOGS_HD Mat3<T> outer(Vec3<T> a, Vec3<T> b) {
  return {a.x * b, a.y * b, a.z * b};
}

template <class T>
EMOGS_HD Mat3<T> transpose(const Mat3<T>& a) {
  return {{a.row0.x, a.row1.x, a.row2.x}, {a.row0.y, a.row1.y, a.row2.y}, {a.row0.z, a.row1.z, a.row2.z}};
}

/// Inverse by cofactors; not finite where the matrix is singular.
template <class T>
EMOGS_HD Mat3<T> inverse(const Mat3<T>& a) {
  const Vec3<T> c0 = cross(a.row1, a.row2), c1 = cross(a.row2, a.row0), c2 = cross(a.row0, a.row1);
  const T scale = T(1) / dot(a.row0, c0);
  return transpose(Mat3<T>{scale * c0, scale * c1, scale * c2});
}

template <class T>
EMOGS_HD Quat<T> operator+(Quat<T> a, Quat<T> b) {
  return {a.w + b.w, a.x + b.x, a.y + b.y, a.z + b.z};
}

template <class T>
EMOGS_HD Quat<T> operator*(T s, Quat<T> a) {
  return {s * a.w, s * a.x, s * a.y, s * a.z};
}

template <class T>
EMOGS_HD T dot(Quat<T> a, Quat<T> b) {
  return a.w * b.w + a.x * b.x + a.y * b.y + a.z * b.z;
}

template <class T>
EMOGS_HD Quat<T> conjugate(Quat<T> a) {
  return {a.w, -a.x, -a.y, -a.z};
}

/// Hamilton product: the rotation b, then a.
template <class T>
EMOGS_HD Quat<T> multiply(Quat<T> a, Quat<T> b) {
  return {a.w * b.w - a.x * b.x - a.y * b.y - a.z * b.z, a.w * b.x + a.x * b.w + a.y * b.z - a.z * b.y,
          a.w * b.y - a.x * b.z + a.y * b.w + a.z * b.x, a.w * b.z + a.x * b.y - a.y * b.x + a.z * b.w};
}

template <class T>
struct QuatProductGrad {
  Quat<T> a, b;
};

/// The product is bilinear and the adjoint of multiplying by a quaternion is multiplying by its conjugate.
template <class T>
EMOGS_HD QuatProductGrad<T> multiply_backward(Quat<T> a, Quat<T> b, Quat<T> grad) {
  return {multiply(grad, conjugate(b)), multiply(conjugate(a), grad)};
}

// True for finite values only: infinity and NaN minus themselves are NaN.
template <class T>
EMOGS_HD auto is_finite(T a) {
  return a - a == T(0);
}

template <class T>
EMOGS_HD auto is_finite(Vec3<T> a) {
  return is_finite(a.x) && is_finite(a.y) && is_finite(a.z);
}

template <class T>
EMOGS_HD auto is_finite(Quat<T> a) {
  return is_finite(a.w) && is_finite(a.x) && is_finite(a.y) && is_finite(a.z);
}

}  // namespace emogs
