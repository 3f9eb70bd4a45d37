// Frames of mesh faces, and Gaussians that live in them. A frame (q, t, s) takes local coordinates x to s R(q) x + t.
//
// A triangle alone cannot say how it has turned once it has collapsed, and says the opposite just beyond. So its
// rotation is that of its surroundings: the polar rotation of the deformation gradient, which Sumner and Popovic (2004)
// take of single triangles, here averaged by rest area around the triangle: summed at vertices, around faces, and both
// again. Such sums are linear in the vertices, and turn and grow exactly as the mesh does. Everything here also runs on
// registers of scalars, without branches.
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

/// Along the normal, twice the area long.
template <class T>
EMOGS_HD Vec3<T> area_vector(const Triangle<T>& triangle) {
  return cross(triangle.b - triangle.a, triangle.c - triangle.a);
}

// Where stretches differ by this factor the surroundings are a line and have no normal.
constexpr double kDegenerate = 1e-6;
// Share of the surroundings in a triangle's own area. Among equal triangles the sums are 324 times sqrt(2) one's, so
// one that collapses while its surroundings keep still keeps (458/4096)^(1/2) = 0.33 of its scale.
constexpr double kAreaShare = 1.0 / 4096;

/// Twice the area times the deformation gradient, which takes rest edges to deformed ones and the rest normal to zero:
/// the sum of x'ᵢ qᵢᵀ over the corners, q being gradients of barycentric coordinates times that area. Both are here, so
/// that backward is one line. Zero where the rest triangle is a line.
template <class T>
struct RestWeights {
  Vec3<T> b, c;  // of the second and the third corner; the first has minus their sum
};

template <class T>
EMOGS_HD RestWeights<T> rest_weights(const Triangle<T>& rest) {
  const Vec3<T> first = rest.b - rest.a, second = rest.c - rest.a, normal = cross(first, second);
  const T length = sqrt(dot(normal, normal));
  const auto sound = length > T(kDegenerate) * sqrt(dot(first, first)) * sqrt(dot(second, second));
  const Vec3<T> unit = select(sound, T(1) / length, T(0)) * normal, zero = {T(0), T(0), T(0)};
  return {select_vec3(sound, cross(second, unit), zero), select_vec3(sound, cross(unit, first), zero)};
}

template <class T>
EMOGS_HD Mat3<T> triangle_gradient(const Triangle<T>& rest, const Triangle<T>& deformed) {
  const RestWeights<T> weights = rest_weights(rest);
  return outer(deformed.b - deformed.a, weights.b) + outer(deformed.c - deformed.a, weights.c);
}

template <class T>
EMOGS_HD Triangle<T> triangle_gradient_backward(const Triangle<T>& rest, const Mat3<T>& grad) {
  const RestWeights<T> weights = rest_weights(rest);
  const Vec3<T> b = multiply(grad, weights.b), c = multiply(grad, weights.c);
  return {-(b + c), b, c};
}

/// Two unit vectors that make a right-handed system with a unit vector z (Duff et al. 2017).
template <class T>
struct Tangents {
  Vec3<T> x, y;
};

template <class T>
EMOGS_HD Tangents<T> tangents_of(Vec3<T> z) {
  const T sign = select(z.z < T(0), T(-1), T(1)), p = T(-1) / (sign + z.z), q = z.x * z.y * p;
  return {{T(1) + sign * z.x * z.x * p, sign * q, -sign * z.x}, {q, sign + z.y * z.y * p, -z.y}};
}

/// The normal of a patch whose gradients at rest sum to `m`, of any sign: the direction that m takes nearest to zero, a
/// row of its cofactors; where the patch is so round that there are several, the one nearest to the triangle's own
/// normal.
template <class T>
EMOGS_HD Vec3<T> patch_normal(const Mat3<T>& m, const Triangle<T>& rest) {
  const Vec3<T> a = cross(m.row1, m.row2), b = cross(m.row2, m.row0), c = cross(m.row0, m.row1);
  const T aa = dot(a, a), bb = dot(b, b), cc = dot(c, c), longest = maximum(maximum(aa, bb), cc);
  const Vec3<T> row = select_vec3(aa < longest, select_vec3(bb < longest, c, b), a);
  const Vec3<T> own = area_vector(rest), near = multiply(Mat3<T>{a, b, c}, own);
  const auto clear = dot(near, near) > T(0.01) * longest * dot(own, own);
  const Vec3<T> normal = select_vec3(clear, near, row);
  return (T(1) / sqrt(dot(normal, normal))) * normal;
}

/// What the sums of `triangle_gradient` around a triangle, at rest, say once and for all.
template <class T>
struct RestPatch {
  Tangents<T> tangents;  // of the surface there, divided by the size of the sums
  T weight;              // (kAreaShare times the size of the sums)^2
  MaskOf<T> sound;       // false where there is no surface but only a line or a point
};

template <class T>
EMOGS_HD T squared_size(const Mat3<T>& m) {
  return dot(m.row0, m.row0) + dot(m.row1, m.row1) + dot(m.row2, m.row2);
}

template <class T>
EMOGS_HD RestPatch<T> rest_patch(const Mat3<T>& sums, const Triangle<T>& rest) {
  const T size = sqrt(squared_size(sums));
  const auto sound = size > T(0);
  const T inverse_size = T(1) / select(sound, size, T(1));
  const Mat3<T> unit = {inverse_size * sums.row0, inverse_size * sums.row1, inverse_size * sums.row2};
  const Tangents<T> tangents = tangents_of(patch_normal(unit, rest));
  const Vec3<T> zero = {T(0), T(0), T(0)};
  return {{select_vec3(sound, inverse_size * tangents.x, zero), select_vec3(sound, inverse_size * tangents.y, zero)},
          square(T(kAreaShare) * size),
          sound};
}

/// Where a patch's tangents went: a and b. The rotation nearest to them (their polar rotation) has the columns x, y, z:
/// z = a × b / |a × b|, x = (a + b × z)/trace, y = z × x, trace being the sum of both stretches.
template <class T>
struct PatchAxes {
  Vec3<T> a, b, x, y, z;
  T normal_length, trace, squared_stretch;
  MaskOf<T> sound;  // false where the patch has become a line: it has no normal
};

template <class T>
EMOGS_HD PatchAxes<T> patch_axes(const RestPatch<T>& patch, const Mat3<T>& sums) {
  const Vec3<T> a = multiply(sums, patch.tangents.x), b = multiply(sums, patch.tangents.y), normal = cross(a, b);
  const T normal_length = sqrt(dot(normal, normal)), squared_stretch = dot(a, a) + dot(b, b);
  const auto sound = normal_length > T(kDegenerate) * squared_stretch;
  const Vec3<T> z = (T(1) / select(sound, normal_length, T(1))) * normal;
  const Vec3<T> turned = a + cross(b, z);
  const T trace = sqrt(dot(turned, turned));
  const Vec3<T> x = (T(1) / select(sound, trace, T(1))) * turned;
  return {a, b, x, cross(z, x), z, normal_length, trace, squared_stretch, sound};
}

template <class T>
EMOGS_HD Quat<T> select_quat(MaskOf<T> mask, Quat<T> a, Quat<T> b) {
  return {select(mask, a.w, b.w), select(mask, a.x, b.x), select(mask, a.y, b.y), select(mask, a.z, b.z)};
}

/// The quaternion of a rotation matrix, by the largest of its four components (Shepperd 1978).
template <class T>
EMOGS_HD Quat<T> matrix_quat(const Mat3<T>& m) {
  const T xx = m.row0.x, yy = m.row1.y, zz = m.row2.z;
  const T yz = m.row2.y - m.row1.z, zx = m.row0.z - m.row2.x, xy = m.row1.x - m.row0.y;  // 4 w times x, y, z
  const T sum_xy = m.row0.y + m.row1.x, sum_zx = m.row0.z + m.row2.x, sum_yz = m.row1.z + m.row2.y;
  const Quat<T> by_w = {T(1) + xx + yy + zz, yz, zx, xy}, by_x = {yz, T(1) + xx - yy - zz, sum_xy, sum_zx};
  const Quat<T> by_y = {zx, sum_xy, T(1) - xx + yy - zz, sum_yz}, by_z = {xy, sum_zx, sum_yz, T(1) - xx - yy + zz};
  const Quat<T> by_others = select_quat(xx >= yy && xx >= zz, by_x, select_quat(yy >= zz, by_y, by_z));
  const Quat<T> q = select_quat(xx + yy + zz >= T(0), by_w, by_others);
  return (T(1) / sqrt(dot(q, q))) * q;
}

/// Everything that a triangle's frame is made of.
template <class T>
struct TriangleSurroundings {
  Triangle<T> rest, deformed;
  Mat3<T> rest_sums, sums;  // of triangle_gradient, around the triangle
};

/// The fourth power of a frame's scale: squared area over squared rest area, with the squared stretch of the
/// surroundings blended in, so that it is smooth where the triangle collapses and calm where it hardly had an area.
template <class T>
struct FrameStretch {
  Vec3<T> normal;       // of the deformed triangle, twice its area long
  T rest_area, around;  // denominator; stretch of the surroundings, squared
  T fourth_power;
};

template <class T>
EMOGS_HD FrameStretch<T> frame_stretch(const TriangleSurroundings<T>& s, const RestPatch<T>& patch,
                                       const PatchAxes<T>& from, const PatchAxes<T>& to) {
  const Vec3<T> normal = area_vector(s.deformed), rest_normal = area_vector(s.rest);
  const T rest_area = select(patch.sound, dot(rest_normal, rest_normal) + patch.weight, T(1));
  const T around = to.squared_stretch / select(patch.sound, from.squared_stretch, T(1));
  return {normal, rest_area, around, (dot(normal, normal) + patch.weight * (around * around)) / rest_area};
}

/// The frame that carries a rest triangle to its deformed place: the rotation of its surroundings, the deformed
/// centroid, and the square root of the ratio of areas (FrameStretch). Local coordinates are relative to the rest
/// centroid, in the axes of the rest space, so at rest the rotation is the identity and the scale 1. The rotation also
/// is the identity where the surroundings are a line, and the scale 1 where they are at rest.
template <class T>
EMOGS_HD Frame<T> triangle_frame(const TriangleSurroundings<T>& s) {
  const RestPatch<T> patch = rest_patch(s.rest_sums, s.rest);
  const PatchAxes<T> from = patch_axes(patch, s.rest_sums), to = patch_axes(patch, s.sums);
  const Quat<T> turn = matrix_quat(outer(to.x, from.x) + outer(to.y, from.y) + outer(to.z, from.z));
  const T scale = sqrt(sqrt(frame_stretch(s, patch, from, to).fourth_power));
  return {select_quat(from.sound && to.sound, turn, {T(1), T(0), T(0), T(0)}),
          (T(1) / T(3)) * (s.deformed.a + s.deformed.b + s.deformed.c), select(patch.sound, scale, T(1))};
}

template <class T>
struct TriangleFrameGrad {
  Triangle<T> deformed;
  Mat3<T> sums;
};

/// A small turn ω of the axes changes the quaternion by (0, ω)/2 ⊗ q, and ω = z × dz + z (y . da - x . db)/trace; both
/// steps are transposed here. The rotation has no gradient where it is the identity by definition.
template <class T>
EMOGS_HD TriangleFrameGrad<T> triangle_frame_backward(const TriangleSurroundings<T>& s, const Frame<T>& grad) {
  const RestPatch<T> patch = rest_patch(s.rest_sums, s.rest);
  const PatchAxes<T> from = patch_axes(patch, s.rest_sums), to = patch_axes(patch, s.sums);
  const auto sound = from.sound && to.sound;
  const Quat<T> rotation = matrix_quat(outer(to.x, from.x) + outer(to.y, from.y) + outer(to.z, from.z));
  const Quat<T> turned = multiply(grad.rotation, conjugate(rotation));
  const Vec3<T> zero = {T(0), T(0), T(0)};
  const Vec3<T> grad_turn = select_vec3(sound, T(0.5) * Vec3<T>{turned.x, turned.y, turned.z}, zero);
  const Vec3<T> grad_z = (T(1) / select(sound, to.normal_length, T(1))) * cross(grad_turn, to.z);
  const T grad_spin = dot(grad_turn, to.z) / select(sound, to.trace, T(1));

  const FrameStretch<T> stretch = frame_stretch(s, patch, from, to);
  const T power = stretch.fourth_power;
  const auto grows = patch.sound && power > T(0);  // a point has no gradient
  const T grad_power = select(grows, grad.scale * sqrt(sqrt(power)) / (T(4) * power), T(0)) / stretch.rest_area;
  const T grad_around = T(2) * patch.weight * stretch.around * grad_power;
  const T along = T(2) * grad_around / select(patch.sound, from.squared_stretch, T(1));
  const Vec3<T> grad_a = cross(to.b, grad_z) + grad_spin * to.y + along * to.a;
  const Vec3<T> grad_b = cross(grad_z, to.a) - grad_spin * to.x + along * to.b;

  const Vec3<T> grad_normal = (T(2) * grad_power) * stretch.normal, corner = (T(1) / T(3)) * grad.translation;
  const Vec3<T> first = s.deformed.b - s.deformed.a, second = s.deformed.c - s.deformed.a;
  const Vec3<T> grad_first = cross(second, grad_normal), grad_second = cross(grad_normal, first);
  return {{corner - (grad_first + grad_second), corner + grad_first, corner + grad_second},
          outer(grad_a, patch.tangents.x) + outer(grad_b, patch.tangents.y)};
}

}  // namespace emogs
