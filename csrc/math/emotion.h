// Emotion modulation of one Gaussian by the summed deltas of its basis components, sum_k e_k delta_k.
// A delta of exactly zero returns every attribute bit for bit.
#pragma once

#include "math/functions.h"
#include "math/gaussian.h"

namespace emogs {

template <class T>
struct Delta {
  Vec3<T> mean;
  Vec3<T> rotation;  // tangent vector: axis times angle, in the Gaussian's own axes
  Vec3<T> log_scale;
  T logit_opacity;
};

// Beyond this a logit shift changes no opacity but exact 0 and 1, which no shift may change; exp(-80) is a normal
// float.
constexpr int kLogitShiftLimit = 80;

/// sigmoid(logit(opacity) + d) without the round trip through the logit. With m = expm1(d),
///     opacity' = opacity + opacity (1 - opacity) m / (1 + opacity m);
/// for d > 0 numerator and denominator are divided by exp(d), so that nothing overflows. The denominator is a sum of
/// non-negative terms, so that it does not cancel. Exact at d = 0; finite at opacity 0 and 1, which are fixed points.
template <class T>
EMOGS_HD T modulate_opacity(T opacity, T d) {
  const T limit = T(kLogitShiftLimit);
  d = minimum(maximum(d, -limit), limit);
  const T rest = T(1) - opacity;
  const auto raised = d > T(0);
  const T near = select(raised, opacity, rest), far = select(raised, rest, opacity);
  const T decay = -fabs(d);
  const T change = opacity * rest * expm1(decay) / (near + far * exp(decay));
  return select(raised, opacity - change, opacity + change);
}

template <class T>
struct OpacityGrad {
  T opacity, logit_shift;
};

/// With D = 1 - opacity + opacity exp(d): d opacity' / d opacity = exp(d) / D², d opacity' / d d = opacity (1 -
/// opacity) exp(d) / D².
template <class T>
EMOGS_HD OpacityGrad<T> modulate_opacity_backward(T opacity, T d, T grad) {
  const T limit = T(kLogitShiftLimit);
  const auto limited = d > limit || d < -limit;
  d = minimum(maximum(d, -limit), limit);
  const T rest = T(1) - opacity;
  const T near = select(d > T(0), opacity, rest), far = select(d > T(0), rest, opacity);
  const T decay = exp(-fabs(d));
  const T inverse = T(1) / (near + far * decay);
  const T slope = decay * inverse * inverse;  // the same for both signs of d
  return {grad * slope, select(limited, T(0), grad * (opacity * inverse) * (rest * inverse) * decay)};
}

/// The unit quaternion of a rotation vector: exp(rotation / 2) = (cos h, rotation/2 sinc h), h half its length.
template <class T>
EMOGS_HD Quat<T> rotation_quat(Vec3<T> rotation) {
  const T h2 = dot(rotation, rotation) / T(4);
  const T h = sqrt(h2);
  const SinCos<T> turn = sin_cos(h);
  const T sinc = select(h2 < T(1e-3), T(1) - h2 * (T(1) / T(6) - h2 * (T(1) / T(120))), turn.sin / h);
  const Vec3<T> v = (sinc / T(2)) * rotation;
  return {turn.cos, v.x, v.y, v.z};
}

/// With v = rotation: d cos h = -sinc(h)/4 v.dv, d sinc(h) = (cos h - sinc h)/(4 h²) v.dv.
template <class T>
EMOGS_HD Vec3<T> rotation_quat_backward(Vec3<T> rotation, Quat<T> grad) {
  const T h2 = dot(rotation, rotation) / T(4);
  const T h = sqrt(h2);
  const SinCos<T> turn = sin_cos(h);
  const auto small = h2 < T(1e-3);
  const T sinc = select(small, T(1) - h2 * (T(1) / T(6) - h2 * (T(1) / T(120))), turn.sin / h);
  const T series = -T(1) / T(3) + h2 * (T(1) / T(30) - h2 * (T(1) / T(840)));
  const T curve = select(small, series, (turn.cos - sinc) / h2);
  const Vec3<T> grad_vector = {grad.x, grad.y, grad.z};
  const T along = dot(grad_vector, rotation) * curve / T(8) - grad.w * sinc / T(4);
  return (sinc / T(2)) * grad_vector + along * rotation;
}

template <class T>
EMOGS_HD Vec3<T> exponential(Vec3<T> a) {
  return {exp(a.x), exp(a.y), exp(a.z)};
}

template <class T>
EMOGS_HD Gaussian<T> modulate(const Gaussian<T>& g, const Delta<T>& delta) {
  return {g.mean + delta.mean, multiply(g.quat, rotation_quat(delta.rotation)),
          hadamard(g.scale, exponential(delta.log_scale)), modulate_opacity(g.opacity, delta.logit_opacity)};
}

template <class T>
struct ModulateGrad {
  Gaussian<T> gaussian;
  Delta<T> delta;
};

template <class T>
EMOGS_HD ModulateGrad<T> modulate_backward(const Gaussian<T>& g, const Delta<T>& delta, const Gaussian<T>& grad) {
  const QuatProductGrad<T> product = multiply_backward(g.quat, rotation_quat(delta.rotation), grad.quat);
  const Vec3<T> factor = exponential(delta.log_scale);
  const OpacityGrad<T> opacity = modulate_opacity_backward(g.opacity, delta.logit_opacity, grad.opacity);
  return {{grad.mean, product.a, hadamard(grad.scale, factor), opacity.opacity},
          {grad.mean, rotation_quat_backward(delta.rotation, product.b),
           hadamard(grad.scale, hadamard(g.scale, factor)), opacity.logit_shift}};
}

}  // namespace emogs
