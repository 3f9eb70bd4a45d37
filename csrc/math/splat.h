// A splat is a Gaussian seen by a camera: the 2D Gaussian of its local affine projection (EWA, Zwicker 2001).
// Also which pixels it can reach, with bounds that are safe against the rounding of blending.
#pragma once

#include "math/camera.h"
#include "math/gaussian.h"

namespace emogs {

/// Opacity times exp(-sigma), sigma = (a dx² + c dy²)/2 + b dx dy, is its alpha at a pixel centre (dx, dy) from (x, y).
/// Its memory layout is the record [8] that the projection stage writes and the later stages read.
template <class T>
struct Splat {
  T x, y;     // pixels
  T a, b, c;  // conic: the inverse covariance, 1/pixels²
  T opacity;
  T depth;    // camera-space z
  T reach_y;  // half height of the ellipse where alpha can reach the cut, pixels; 0 if culled (see `reach`)
};
constexpr int kSplatSize = 8;

template <class T>
struct SplatSettings {
  T alpha_cut;
  T blur;         // variance added to both screen axes, pixels²
  T near, far;    // depths outside this range are culled
  T radius_clip;  // splats whose half width and half height both are at most this are culled, pixels
  bool antialiased;
};

template <class T>
struct SplatResult {
  Splat<T> splat;  // zeros where not visible
  MaskOf<T> visible, non_finite;
};

/// Rounding of sigma in units of itself, relative to the type's own rounding and the ellipse's condition number.
constexpr double kReachMargin = 16.0;
template <class T>
EMOGS_HD T rounding() {
  return T(kSingle<T> ? 1.1920929e-7 : 2.220446049250313e-16);
}

/// The squared Mahalanobis distance 2 sigma beyond which alpha stays below the cut, whatever the rounding of a float
/// sigma, whose terms cancel by up to the condition number of the ellipse (at most trace²/det). Needs opacity >= cut.
template <class T>
EMOGS_HD T mahalanobis_reach(T opacity, T alpha_cut, T trace, T det) {
  const T margin = T(kReachMargin) * rounding<T>() * (T(1) + trace * trace / det);
  return T(2) * log(opacity / alpha_cut) * (T(1) + margin) + margin;
}

/// Projects a Gaussian with shape matrix M (covariance M Mᵀ). The rows of the screen factor J W M give the covariance,
/// and its determinant as the square of their cross product, which does not cancel. `antialiased` takes back from the
/// opacity what the blur adds to the splat's area: times sqrt(det Σ / det(Σ + blur)) (Mip-Splatting, Yu et al. 2024). T
/// may be a register: what is culled is computed with the rest, to whatever values, and dropped at the end.
template <class T>
EMOGS_HD SplatResult<T> make_splat(const Camera<T>& camera, Vec3<T> mean, const Mat3<T>& shape, T opacity,
                                   const SplatSettings<T>& settings) {
  const Vec3<T> point = multiply(camera.linear, mean) + camera.translation;
  const auto in_depth = point.z >= settings.near && point.z <= settings.far;
  const Projection<T> p = project(camera, point);
  const Vec3<T> u = transpose_multiply(shape, transpose_multiply(camera.linear, p.du));
  const Vec3<T> v = transpose_multiply(shape, transpose_multiply(camera.linear, p.dv));
  const T xx = dot(u, u), yy = dot(v, v), xy = dot(u, v);
  const Vec3<T> area = cross(u, v);
  const T sharp_det = dot(area, area), det = sharp_det + settings.blur * (xx + yy + settings.blur);
  const T wide = xx + settings.blur, high = yy + settings.blur;
  const T inverse = T(1) / det;
  if (settings.antialiased) opacity = opacity * sqrt(sharp_det * inverse);
  const T a = high * inverse, b = -xy * inverse, c = wide * inverse;
  const auto finite =
      is_finite(p.u) && is_finite(p.v) && is_finite(a) && is_finite(b) && is_finite(c) && is_finite(opacity);
  const auto bright = opacity >= settings.alpha_cut;
  const T reach = mahalanobis_reach(opacity, settings.alpha_cut, wide + high, det);
  const T reach_x = sqrt(reach * wide), reach_y = sqrt(reach * high);
  const auto bounded = is_finite(reach_x) && is_finite(reach_y);
  const auto inside =
      p.u + reach_x > T(0) && p.u - reach_x < camera.width && p.v + reach_y > T(0) && p.v - reach_y < camera.height;
  const auto large = reach_x > settings.radius_clip || reach_y > settings.radius_clip;

  const auto visible = in_depth && finite && bright && bounded && inside && large;
  const auto non_finite = select(in_depth, !finite || (bright && !bounded), !is_finite(point));
  const auto keep = [visible](T value) { return select(visible, value, T(0)); };
  return {{keep(p.u), keep(p.v), keep(a), keep(b), keep(c), keep(opacity), keep(point.z), keep(reach_y)},
          visible,
          non_finite};
}

template <class T>
struct SplatGrad {
  Vec3<T> mean;
  Mat3<T> shape;
  T opacity;
  CameraGrad<T> camera;  // its position has no part in the splat
};

/// `grad` holds the gradients of the splat's fields; the reach has none. For the conic C = Σ⁻¹, dL/dΣ = -C (dL/dC) C
/// with the symmetric dL/dC = [[a, b/2], [b/2, c]]. For the antialiased opacity o' = o sqrt(s / det) of the sharp
/// splat's determinant s = |u × v|² and det = s + blur (xx + yy + blur),
///     do'/o' = do/o + blur/(2 det) ((xx + yy + blur)/s ds - dxx - dyy).
template <class T>
EMOGS_HD SplatGrad<T> make_splat_backward(const Camera<T>& camera, Vec3<T> mean, const Mat3<T>& shape,
                                          const Splat<T>& splat, const Splat<T>& grad,
                                          const SplatSettings<T>& settings) {
  const Vec3<T> point = multiply(camera.linear, mean) + camera.translation;
  const Projection<T> p = project(camera, point);
  const Vec3<T> world_u = transpose_multiply(camera.linear, p.du), world_v = transpose_multiply(camera.linear, p.dv);
  const Vec3<T> u = transpose_multiply(shape, world_u), v = transpose_multiply(shape, world_v);

  const T a = splat.a, b = splat.b, c = splat.c, half_b = grad.b / T(2);
  const T left_xx = a * grad.a + b * half_b, left_xy = a * half_b + b * grad.c;
  const T left_yx = b * grad.a + c * half_b, left_yy = b * half_b + c * grad.c;
  T grad_xx = -(left_xx * a + left_xy * b), grad_yy = -(left_yx * b + left_yy * c);
  const T grad_xy = -(left_xx * b + left_xy * c);  // of each of the two equal entries

  const Vec3<T> zero = {T(0), T(0), T(0)};
  Vec3<T> grad_area = zero;
  T compensation = T(1);
  if (settings.antialiased) {
    const Vec3<T> area = cross(u, v);
    const T sharp_det = dot(area, area), widened = dot(u, u) + dot(v, v) + settings.blur;
    const T inverse = T(1) / (sharp_det + settings.blur * widened);
    compensation = sqrt(sharp_det * inverse);
    const T shared = T(0.5) * settings.blur * inverse * grad.opacity * splat.opacity;
    grad_xx = grad_xx - shared, grad_yy = grad_yy - shared;
    grad_area = (T(2) * shared * widened / sharp_det) * area;
  }
  const Vec3<T> grad_u = T(2) * (grad_xx * u + grad_xy * v) + cross(v, grad_area);
  const Vec3<T> grad_v = T(2) * (grad_xy * u + grad_yy * v) + cross(grad_area, u);
  const Vec3<T> grad_world_u = multiply(shape, grad_u), grad_world_v = multiply(shape, grad_v);
  const Vec3<T> grad_du = multiply(camera.linear, grad_world_u), grad_dv = multiply(camera.linear, grad_world_v);
  const ProjectGrad<T> grad_p = project_backward(camera, point, {grad.x, grad.y, grad_du, grad_dv});
  const Vec3<T> grad_point = grad_p.point + Vec3<T>{T(0), T(0), grad.depth};

  SplatGrad<T> result;
  result.mean = transpose_multiply(camera.linear, grad_point);
  result.shape = outer(world_u, grad_u) + outer(world_v, grad_v);
  result.opacity = grad.opacity * compensation;
  result.camera.linear = outer(grad_point, mean) + outer(p.du, grad_world_u) + outer(p.dv, grad_world_v);
  result.camera.translation = grad_point;
  result.camera.position = zero;
  result.camera.fx = grad_p.fx;
  result.camera.fy = grad_p.fy;
  result.camera.cx = grad_p.cx;
  result.camera.cy = grad_p.cy;
  return result;
}

/// The ellipse a dx² + 2 b dx dy + c dy² <= reach around a splat, outside which its alpha is below the cut.
template <class T>
struct Reach {
  T x, y;        // half width and half height, pixels
  T slope;       // a chord at height dy is centred on slope dy
  T half_width;  // of the chord through the centre
};

template <class T>
EMOGS_HD T reach_x(const Splat<T>& s) {
  return s.reach_y * sqrt(s.c / s.a);
}

/// The chord's c/a - (b/a)² cancels in thin oblique ellipses: it gets the rounding of its first term on top.
template <class T>
EMOGS_HD Reach<T> reach(const Splat<T>& s) {
  const T b_over_a = s.b / s.a, c_over_a = s.c / s.a;
  const T chord = c_over_a * (T(1) + T(kReachMargin) * rounding<T>()) - b_over_a * b_over_a;
  return {reach_x(s), s.reach_y, -b_over_a, s.reach_y * sqrt(maximum(chord, T(0)))};
}

template <class T>
struct Interval {
  T low, high;
};

/// The x extent of the ellipse, about its centre, within the band of heights [low, high], which must meet the ellipse.
/// Its widest point to the right lies at height slope y² / x; if that is outside the band, the nearer edge has the
/// widest.
template <class T>
EMOGS_HD Interval<T> extent_in_band(const Reach<T>& r, T low, T high) {
  const T widest = r.slope * r.y * r.y / r.x;
  const T right = minimum(maximum(widest, low), high), left = minimum(maximum(-widest, low), high);
  const T right_chord = r.half_width * sqrt(maximum(T(1) - square(right / r.y), T(0)));
  const T left_chord = r.half_width * sqrt(maximum(T(1) - square(left / r.y), T(0)));
  return {r.slope * left - left_chord, r.slope * right + right_chord};
}

struct PixelRange {
  int begin, end;  // empty if end <= begin
};

// Coordinates of images up to 16k pixels round by less than this.
constexpr double kPixelMargin = 1.0 / 256;

/// The pixels of a line of `size` whose centres lie within [low, high]; none if either is NaN.
template <class T>
EMOGS_HD PixelRange pixels_between(T low, T high, int size) {
  const T first = ceil(low - T(0.5 + kPixelMargin)), end = floor(high - T(0.5 - kPixelMargin)) + T(1);
  return {int(minimum(maximum(T(0), first), T(size))), int(minimum(maximum(T(0), end), T(size)))};
}

}  // namespace emogs
