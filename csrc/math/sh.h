// Real spherical harmonics up to degree 4, in the order and signs of 3DGS: index l² + l + m.
// Each is a homogeneous polynomial of a unit direction (Sloan, "Efficient Spherical Harmonic Evaluation", JCGT 2013),
// written as z-polynomials times Re and Im of (x + iy)^m. Colours are max(sum + 0.5, 0).
#pragma once

#include "math/vector.h"

namespace emogs {

constexpr int kMaxShDegree = 4;
constexpr int kMaxShCount = (kMaxShDegree + 1) * (kMaxShDegree + 1);

EMOGS_HD constexpr int harmonics_of(int degree) {
  return (degree + 1) * (degree + 1);
}

/// Calls function(degree) with the degree that has that many harmonics as a constant.
template <class Function>
EMOGS_HD void with_degree(int64_t harmonics, const Function& function) {
  switch (harmonics) {
    case 1:
      return function(Constant<0>());
    case 4:
      return function(Constant<1>());
    case 9:
      return function(Constant<2>());
    case 16:
      return function(Constant<3>());
    default:
      return function(Constant<4>());
  }
}

template <class T>
struct ShBasis {
  T value[kMaxShCount];
};

/// c_m + i s_m = (x + iy)^m for m up to 4.
template <class T>
struct AzimuthPowers {
  T c1, s1, c2, s2, c3, s3, c4, s4;
};

template <class T>
EMOGS_HD AzimuthPowers<T> azimuth_powers(T x, T y) {
  AzimuthPowers<T> p;
  p.c1 = x, p.s1 = y;
  p.c2 = x * x - y * y, p.s2 = T(2) * x * y;
  p.c3 = x * p.c2 - y * p.s2, p.s3 = x * p.s2 + y * p.c2;
  p.c4 = x * p.c3 - y * p.s3, p.s4 = x * p.s3 + y * p.c3;
  return p;
}

/// The polynomials in z that multiply the powers of order m, by degree l; signs included.
template <class T>
struct Zonal {
  T z1, z2, z3, z4;  // m = 0
  T a1, a2, a3, a4;  // m = 1
  T b2, b3, b4;      // m = 2
  T c3, c4;          // m = 3
  T d4;              // m = 4
};

constexpr double kSh0 = 0.28209479177387814;

template <class T>
EMOGS_HD Zonal<T> zonal(T z) {
  const T z2 = z * z;
  Zonal<T> p;
  p.z1 = T(0.48860251190291992) * z;
  p.z2 = T(0.94617469575756008) * z2 - T(0.31539156525252005);
  p.z3 = z * (T(1.8658816629505770) * z2 - T(1.1195289977703462));
  p.z4 = T(3.7024941420321507) * z2 * z2 - T(3.1735664074561294) * z2 + T(0.31735664074561293);
  p.a1 = T(-0.48860251190291992);
  p.a2 = T(-1.0925484305920792) * z;
  p.a3 = T(-2.2852289973223288) * z2 + T(0.45704579946446577);
  p.a4 = z * (T(-4.6833258049010249) * z2 + T(2.0071396306718676));
  p.b2 = T(0.54627421529603959);
  p.b3 = T(1.4453057213202769) * z;
  p.b4 = T(3.3116114351514603) * z2 - T(0.47308734787878004);
  p.c3 = T(-0.59004358992664352);
  p.c4 = T(-1.7701307697799304) * z;
  p.d4 = T(0.62583573544917614);
  return p;
}

/// Derivatives of `zonal` with respect to z.
template <class T>
EMOGS_HD Zonal<T> zonal_slope(T z) {
  Zonal<T> p = {};
  p.z1 = T(0.48860251190291992);
  p.z2 = T(2 * 0.94617469575756008) * z;
  p.z3 = T(3 * 1.8658816629505770) * z * z - T(1.1195289977703462);
  p.z4 = z * (T(4 * 3.7024941420321507) * z * z - T(2 * 3.1735664074561294));
  p.a2 = T(-1.0925484305920792);
  p.a3 = T(-2 * 2.2852289973223288) * z;
  p.a4 = T(-3 * 4.6833258049010249) * z * z + T(2.0071396306718676);
  p.b3 = T(1.4453057213202769);
  p.b4 = T(2 * 3.3116114351514603) * z;
  p.c4 = T(-1.7701307697799304);
  return p;
}

/// Values of the (degree + 1)² basis functions in a unit direction; the others are left unset.
template <class T>
EMOGS_HD ShBasis<T> sh_basis(Vec3<T> direction, int degree) {
  const AzimuthPowers<T> p = azimuth_powers(direction.x, direction.y);
  const Zonal<T> q = zonal(direction.z);
  ShBasis<T> b;
  b.value[0] = T(kSh0);
  if (degree < 1) return b;
  b.value[1] = q.a1 * p.s1, b.value[2] = q.z1, b.value[3] = q.a1 * p.c1;
  if (degree < 2) return b;
  b.value[4] = q.b2 * p.s2, b.value[5] = q.a2 * p.s1, b.value[6] = q.z2, b.value[7] = q.a2 * p.c1,
  b.value[8] = q.b2 * p.c2;
  if (degree < 3) return b;
  b.value[9] = q.c3 * p.s3, b.value[10] = q.b3 * p.s2, b.value[11] = q.a3 * p.s1, b.value[12] = q.z3;
  b.value[13] = q.a3 * p.c1, b.value[14] = q.b3 * p.c2, b.value[15] = q.c3 * p.c3;
  if (degree < 4) return b;
  b.value[16] = q.d4 * p.s4, b.value[17] = q.c4 * p.s3, b.value[18] = q.b4 * p.s2, b.value[19] = q.a4 * p.s1;
  b.value[20] = q.z4, b.value[21] = q.a4 * p.c1, b.value[22] = q.b4 * p.c2, b.value[23] = q.c4 * p.c3;
  b.value[24] = q.d4 * p.c4;
  return b;
}

/// Gradient with respect to the unit direction, from the gradients of the basis values. With w = x + iy, d w^m = m
/// w^(m-1) dw.
template <class T>
EMOGS_HD Vec3<T> sh_basis_backward(Vec3<T> direction, int degree, const ShBasis<T>& grad) {
  const AzimuthPowers<T> p = azimuth_powers(direction.x, direction.y);
  const Zonal<T> q = zonal(direction.z), dq = zonal_slope(direction.z);
  const T* g = grad.value;
  // The gradients of c_m and s_m, gathered over the degrees, then pulled back to x and y.
  T c1(0), s1(0), c2(0), s2(0), c3(0), s3(0), c4(0), s4(0), z(0);
  if (degree >= 1) {
    s1 += g[1] * q.a1, c1 += g[3] * q.a1;
    z += g[2] * dq.z1;
  }
  if (degree >= 2) {
    s2 += g[4] * q.b2, s1 += g[5] * q.a2, c1 += g[7] * q.a2, c2 += g[8] * q.b2;
    z += (g[5] * p.s1 + g[7] * p.c1) * dq.a2 + g[6] * dq.z2;
  }
  if (degree >= 3) {
    s3 += g[9] * q.c3, s2 += g[10] * q.b3, s1 += g[11] * q.a3, c1 += g[13] * q.a3, c2 += g[14] * q.b3,
        c3 += g[15] * q.c3;
    z += (g[10] * p.s2 + g[14] * p.c2) * dq.b3 + (g[11] * p.s1 + g[13] * p.c1) * dq.a3 + g[12] * dq.z3;
  }
  if (degree >= 4) {
    s4 += g[16] * q.d4, s3 += g[17] * q.c4, s2 += g[18] * q.b4, s1 += g[19] * q.a4;
    c1 += g[21] * q.a4, c2 += g[22] * q.b4, c3 += g[23] * q.c4, c4 += g[24] * q.d4;
    z += (g[17] * p.s3 + g[23] * p.c3) * dq.c4 + (g[18] * p.s2 + g[22] * p.c2) * dq.b4 +
         (g[19] * p.s1 + g[21] * p.c1) * dq.a4 + g[20] * dq.z4;
  }
  const T x = c1 + T(2) * (c2 * p.c1 + s2 * p.s1) + T(3) * (c3 * p.c2 + s3 * p.s2) + T(4) * (c4 * p.c3 + s4 * p.s3);
  const T y = s1 + T(2) * (s2 * p.c1 - c2 * p.s1) + T(3) * (s3 * p.c2 - c3 * p.s2) + T(4) * (s4 * p.c3 - c4 * p.s3);
  return {x, y, z};
}

template <class T>
EMOGS_HD Vec3<T> normalize(Vec3<T> a) {
  return (T(1) / sqrt(dot(a, a))) * a;
}

template <class T>
EMOGS_HD Vec3<T> normalize_backward(Vec3<T> a, Vec3<T> grad) {
  const T inverse = T(1) / sqrt(dot(a, a));
  const Vec3<T> unit = inverse * a;
  return inverse * (grad - dot(grad, unit) * unit);
}

/// Channel sums are lifted by a half, so that zero coefficients are grey, and cut at black.
template <class T>
EMOGS_HD T sh_colour(T sum) {
  return maximum(sum + T(0.5), T(0));
}

}  // namespace emogs
