// Front-to-back blending of one splat into one pixel, and its reverse. V is the pixel's scalar or a register of pixels;
// it brings conversion from a scalar, select, minimum, multiply_add, multiply_power_of_two and the operators. Backward
// recomputes alpha by the very function of forward, so that both agree which pixels a splat touches.
#pragma once

#include "math/functions.h"
#include "math/splat.h"

namespace emogs {

/// log2 of an opacity or of a cut.
template <class V>
EMOGS_HD V alpha_level(V alpha) {
  return log(alpha) * V(1.4426950408889634);
}

template <class T>
struct BlendSettings {
  T level_cut;           // log2 of the alpha below which a splat does not touch a pixel
  T alpha_ceiling;       // larger alphas are set to it, without a gradient
  T transmittance_stop;  // a splat that would bring a pixel to or below it ends the pixel and is left out
};

/// Transmittances stay well above the denormal numbers, whose coarse steps backward could not retrace.
template <class T>
constexpr T kLeastStop = T(sizeof(T) == 4 ? 1e-30 : 1e-290);

template <class T>
EMOGS_HD BlendSettings<T> make_blend_settings(double alpha_cut, double alpha_ceiling, double transmittance_stop) {
  return {alpha_level(T(alpha_cut)), T(alpha_ceiling), maximum(T(transmittance_stop), kLeastStop<T>)};
}

/// 2^x = 2^n 2^f with n the nearest integer. The polynomials are a minimax fit for float (relative error 1e-7) and the
/// Taylor series for double, whose first left-out term is 4e-18.
template <class V>
EMOGS_HD V exp2_polynomial(V f, float) {
  V p = V(1.326472731e-3f);
  p = multiply_add(p, f, V(9.671512991e-3f));
  p = multiply_add(p, f, V(5.550733581e-2f));
  p = multiply_add(p, f, V(2.402224243e-1f));
  p = multiply_add(p, f, V(6.931470037e-1f));
  return multiply_add(p, f, V(1.0f));
}

template <class V>
EMOGS_HD V exp2_polynomial(V f, double) {
  const V x = f * V(0.693147180559945309);
  V p = V(1.0);
  for (int k = 13; k >= 1; k--) p = multiply_add(p, x * V(1.0 / k), V(1.0));
  return p;
}

/// 2^x where that is a normal number; anything elsewhere.
template <class V, class T>
EMOGS_HD V exp2_normal(V x, T) {
  const V round = V(sizeof(T) == 4 ? T(12582912) : T(6755399441055744));  // 1.5 times 2^23 or 2^52: the sum is rounded
  const V biased = x + round;
  return multiply_power_of_two(exp2_polynomial(x - (biased - round), T()), biased);
}

#if defined(__CUDA_ARCH__)
/// The GPU has it in one instruction (relative error 2^-22; zero below the normal numbers).
EMOGS_HD float exp2_normal(float x, float) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}
#endif

/// The lesser of two numbers.
template <class V>
EMOGS_HD V lesser(V a, V b) {
  return minimum(a, b);
}

#if defined(__CUDA_ARCH__)
EMOGS_HD float lesser(float a, float b) {
  return fminf(a, b);
}
#endif

/// 1 / x of a normal number; on the GPU in one instruction, off by at most one unit in the last place.
template <class V>
EMOGS_HD V reciprocal_normal(V x) {
  return V(typename ScalarOf<V>::Type(1)) / x;
}

#if defined(__CUDA_ARCH__)
EMOGS_HD float reciprocal_normal(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
#endif

/// A splat as blending reads it: alpha = 2^(level + xx dx² + xy dx dy + yy dy²) at the offset (dx, dy) of a pixel.
template <class V>
struct StagedSplat {
  V x, y;
  V xx, xy, yy;  // -log2(e) times a/2, b and c/2
  V level;       // log2 of the opacity
};

/// From the fields of a Splat; the position stays as it is.
template <class V>
EMOGS_HD StagedSplat<V> stage_splat(V x, V y, V a, V b, V c, V opacity) {
  using T = typename ScalarOf<V>::Type;
  const V log2_e = V(T(1.4426950408889634)), half = V(T(-0.5)) * log2_e;
  return {x, y, a * half, b * -log2_e, c * half, alpha_level(opacity)};
}

/// The least exponent, lowered by a margin, at which a pixel may be touched by a splat that reaches `reach_y` up and
/// down. Within reach the exponent's terms add up to at most 4 |yy| reach_y² in magnitude, and it rounds in proportion.
template <class V, class T>
EMOGS_HD V least_exponent(V yy, V reach_y, const BlendSettings<T>& settings) {
  const V rounding_unit = V(T(4 * kReachMargin) * rounding<T>());
  return V(settings.level_cut) - rounding_unit * (V(T(1)) - yy * reach_y * reach_y);
}

/// A splat's largest exponent in a rectangle of pixel centres, given relative to the splat. The exponent is concave, so
/// its maximum lies on the vertical or the horizontal line of the rectangle that is nearest to the splat's centre.
template <class V>
EMOGS_HD V largest_exponent(const StagedSplat<V>& s, V left, V right, V top, V bottom) {
  const V zero = V(typename ScalarOf<V>::Type(0));
  const V column = minimum(maximum(zero, left), right), row = minimum(maximum(zero, top), bottom);
  const V dy = minimum(maximum(column * (-s.xy / (s.yy + s.yy)), top), bottom);
  const V dx = minimum(maximum(row * (-s.xy / (s.xx + s.xx)), left), right);
  const V on_column =
      multiply_add(dy, multiply_add(dy, s.yy, column * s.xy), multiply_add(column * s.xx, column, s.level));
  const V on_row = multiply_add(dx, multiply_add(dx, s.xx, row * s.xy), multiply_add(row * s.yy, row, s.level));
  return maximum(on_column, on_row);
}

template <class V>
struct Alpha {
  V value;  // zero where the splat does not touch the pixel
  V free;   // the same, but zero where the ceiling holds it
};

/// Alpha at an offset from the splat. The cut is applied to the exponent. An exponent that exceeds the opacity's is
/// rounding, as in 3DGS: such a pixel is not touched.
template <class V, class T>
EMOGS_HD Alpha<V> alpha_at(V dx, V dy, const StagedSplat<V>& s, const BlendSettings<T>& settings) {
  const V zero = V(T(0)), ceiling = V(settings.alpha_ceiling);
  const V across = multiply_add(dx, s.xx, dy * s.xy);
  const V exponent = multiply_add(dx, across, multiply_add(dy * s.yy, dy, s.level));
  const V raw = exp2_normal(exponent, T());
  const V touched = select(exponent >= V(settings.level_cut), select(exponent <= s.level, raw, zero), zero);
  return {lesser(touched, ceiling), select(touched <= ceiling, touched, zero)};
}

/// A pixel that is still open has a positive transmittance, one that has ended the negative of its last.
template <class V>
struct BlendStep {
  V weight;  // of the splat's channels in the pixel
  V transmittance;
  decltype(V() < V()) goes_on;  // whether the pixel is open after this splat
};

template <class V, class T>
EMOGS_HD BlendStep<V> blend(V transmittance, V alpha, const BlendSettings<T>& settings) {
  const V next = multiply_add(-alpha, transmittance, transmittance);
  const auto goes_on = V(settings.transmittance_stop) < next;
  return {select(goes_on, alpha * transmittance, V(T(0))), select(goes_on, next, negative_magnitude(transmittance)),
          goes_on};
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
  const V inverse = reciprocal_normal(V(T(1)) - alpha.value);
  const V before = transmittance * inverse;
  const V weight = alpha.value * before;
  const V negated_grad_alpha = behind * inverse - before * dot;
  return {weight, before, multiply_add(weight, dot, behind), alpha.free * negated_grad_alpha};
}

/// Sums over the pixels of a splat of dL/dsigma times 1, dx, dy, dx², dx dy, dy², with the offset (dx, dy) from the
/// splat to the pixel.
template <class V>
struct Moments {
  V one, x, y, xx, xy, yy;
};

/// The gradients of a splat's fields from its moments; alpha is opacity exp(-sigma), so opacity's is -one / opacity.
template <class T>
EMOGS_HD Splat<T> splat_backward(const Splat<T>& s, const Moments<T>& m, T grad_depth) {
  return {-(s.a * m.x + s.b * m.y),
          -(s.b * m.x + s.c * m.y),
          m.xx / T(2),
          m.xy,
          m.yy / T(2),
          s.opacity > T(0) ? -m.one / s.opacity : T(0),
          grad_depth,
          T(0)};
}

}  // namespace emogs
