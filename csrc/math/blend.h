// Front-to-back blending of one splat into one pixel, and its reverse. V is the pixel's scalar or a register of pixels;
// it brings conversion from a scalar, select, minimum, multiply_add, multiply_power_of_two and the operators. Backward
// recomputes alpha by the very function of forward, so that both agree which pixels a splat touches.
#pragma once

#include "math/splat.h"

namespace emogs {

template <class T>
struct BlendSettings {
  T alpha_cut;           // splats below it do not touch a pixel
  T alpha_ceiling;       // larger alphas are set to it, without a gradient
  T transmittance_stop;  // a splat that would bring a pixel to or below it ends the pixel and is left out
};

/// Powers of two of non-positive numbers, to about two units in the last place: 2^x = 2^n 2^f with n the nearest
/// integer. The polynomial is Cephes' exp2f for float and the Taylor series for double, whose first left-out term is
/// 4e-18.
template <class V>
EMOGS_HD V exp2_polynomial(V f, float) {
  V p = V(1.535336188319500e-4f);
  p = multiply_add(p, f, V(1.339887440266574e-3f));
  p = multiply_add(p, f, V(9.618437357674640e-3f));
  p = multiply_add(p, f, V(5.550332471162809e-2f));
  p = multiply_add(p, f, V(2.402264791363012e-1f));
  p = multiply_add(p, f, V(6.931472028550421e-1f));
  return multiply_add(p, f, V(1.0f));
}

template <class V>
EMOGS_HD V exp2_polynomial(V f, double) {
  const V x = f * V(0.693147180559945309);
  V p = V(1.0);
  for (int k = 13; k >= 1; k--) p = multiply_add(p, x * V(1.0 / k), V(1.0));
  return p;
}

template <class V, class T>
EMOGS_HD V exp2_nonpositive(V x, T) {
  constexpr bool single = sizeof(T) == 4;
  const V lowest = V(single ? T(-126) : T(-1022));                // results stay normal numbers
  const V round = V(single ? T(12582912) : T(6755399441055744));  // 1.5 times 2^23 or 2^52: the sum rounds to integers
  x = select(lowest < x, x, lowest);
  const V biased = x + round;
  return multiply_power_of_two(exp2_polynomial(x - (biased - round), T()), biased);
}

/// A splat as blending reads it: the exponent of its falloff, base 2, is a quadratic form with these coefficients.
template <class T>
struct StagedSplat {
  T x, y;
  T xx, xy, yy;  // -log2(e) times a/2, b and c/2
  T opacity;
};

template <class T>
EMOGS_HD StagedSplat<T> stage(const Splat<T>& s) {
  const T log2_e = T(1.4426950408889634);
  return {s.x, s.y, s.a * (T(-0.5) * log2_e), s.b * -log2_e, s.c * (T(-0.5) * log2_e), s.opacity};
}

/// The part of the exponent that one row of pixels shares: exponent = dx (xx dx + linear) + constant.
template <class V>
struct StagedRow {
  V linear, constant;
};

template <class T>
EMOGS_HD StagedRow<T> stage_row(const StagedSplat<T>& s, T dy) {
  return {s.xy * dy, s.yy * dy * dy};
}

template <class V>
struct Alpha {
  V value;  // zero where the splat does not touch the pixel
  V free;   // the same, but zero where the ceiling holds it
};

/// Alpha at horizontal distance dx of a row. An exponent above zero is rounding, as in 3DGS: such a pixel is not
/// touched.
template <class V, class T>
EMOGS_HD Alpha<V> alpha_at(V dx, V xx, StagedRow<V> row, V opacity, const BlendSettings<T>& settings) {
  const V zero = V(T(0)), ceiling = V(settings.alpha_ceiling);
  const V exponent = multiply_add(dx, multiply_add(dx, xx, row.linear), row.constant);
  const V raw = select(exponent <= zero, opacity * exp2_nonpositive(exponent, T()), zero);
  const V touched = select(raw >= V(settings.alpha_cut), raw, zero);
  return {minimum(touched, ceiling), select(touched <= ceiling, touched, zero)};
}

/// A pixel that is still open has a positive transmittance, one that has ended the negative of its last.
template <class V>
struct BlendStep {
  V weight;  // of the splat's channels in the pixel
  V transmittance;
};

template <class V, class T>
EMOGS_HD BlendStep<V> blend(V transmittance, V alpha, const BlendSettings<T>& settings) {
  const V next = multiply_add(-alpha, transmittance, transmittance);
  const auto ends = next <= V(settings.transmittance_stop);
  const V zero = V(T(0));
  const V ended = select(transmittance < zero, transmittance, -transmittance);
  return {select(ends, zero, alpha * transmittance), select(ends, ended, next)};
}

/// Going back, `behind` is the gradient's dot product with all that the pixel receives from behind the splat,
/// background and (negated) alpha included.
template <class V>
struct BlendBack {
  V weight;         // as in forward
  V transmittance;  // in front of the splat
  V behind;
  V grad_exponent;  // of sigma, the negated natural exponent
};

/// `dot` is the splat's channels times the gradient of the pixel's channels. With T before the splat,
/// dL/dalpha = T dot - behind / (1 - alpha), and dL/dsigma = -alpha dL/dalpha below the ceiling.
template <class V, class T>
EMOGS_HD BlendBack<V> blend_backward(V transmittance, V behind, Alpha<V> alpha, V dot, T) {
  const V inverse = V(T(1)) / (V(T(1)) - alpha.value);
  const V before = transmittance * inverse;
  const V weight = alpha.value * before;
  const V grad_alpha = before * dot - behind * inverse;
  return {weight, before, multiply_add(weight, dot, behind), -alpha.free * grad_alpha};
}

/// Sums over the pixels of a splat of dL/dsigma times 1, dx, dy, dx², dx dy, dy².
template <class V>
struct Moments {
  V one, x, y, xx, xy, yy;
};

/// The gradients of a splat's fields from its moments; alpha is opacity exp(-sigma), so opacity's is -one / opacity.
template <class T>
EMOGS_HD Splat<T> splat_backward(const Splat<T>& s, const Moments<T>& m, T grad_depth) {
  return {s.a * m.x + s.b * m.y, s.b * m.x + s.c * m.y, m.xx / T(2), m.xy,
          m.yy / T(2),           -m.one / s.opacity,    grad_depth,  T(0)};
}

}  // namespace emogs
