// Elementary functions of V, a scalar or a register of scalars. In float they are polynomials that round alike on both,
// a few units in the last place from the truth (tests/math/test_functions.py has the bounds); double is the C
// library's, lane by lane. The polynomials are those of S. Moshier's Cephes library (expf, logf, sinf, cosf, atanf),
// the reductions are Cody and Waite's.
#pragma once

#include "common/platform.h"

namespace emogs {

constexpr float kRoundToInteger = 12582912.0f;  // 1.5 times 2^23: added to a number below 2^22, it rounds it

/// exp(x) = 2^n (1 + tail), |tail| < 0.42. `biased` is n + kRoundToInteger.
template <class V>
struct ReducedExp {
  V n, biased, tail;
};

template <class V>
EMOGS_HD ReducedExp<V> reduce_exp(V x) {
  const V biased = multiply_add(x, V(1.44269504f), V(kRoundToInteger));
  const V n = biased - V(kRoundToInteger);
  const V r = multiply_add(n, V(2.12194440e-4f), multiply_add(n, V(-0.693359375f), x));
  V p = V(1.9875691500e-4f);
  p = multiply_add(p, r, V(1.3981999507e-3f));
  p = multiply_add(p, r, V(8.3334519073e-3f));
  p = multiply_add(p, r, V(4.1665795894e-2f));
  p = multiply_add(p, r, V(1.6666665459e-1f));
  p = multiply_add(p, r, V(5.0000001201e-1f));
  return {n, biased, multiply_add(p, r * r, r)};
}

/// Powers of two beyond the range of floats come in two steps; so do denormal results, which then round once.
template <class V>
EMOGS_HD V exp(V x) {
  if constexpr (kSingle<V>) {
    const ReducedExp<V> e = reduce_exp(minimum(maximum(x, V(-104.0f)), V(89.0f)));  // beyond: 0 and infinity
    const V half = multiply_add(e.n, V(0.5f), V(kRoundToInteger));
    const V rest = (e.n - (half - V(kRoundToInteger))) + V(kRoundToInteger);
    const V power = multiply_power_of_two(V(1.0f), half), rest_power = multiply_power_of_two(V(1.0f), rest);
    return (V(1.0f) + e.tail) * power * rest_power;
  } else {
    return map(x, [](double lane) { return ::exp(lane); });
  }
}

/// exp(x) - 1 without cancellation: 2 (2^(n-1) tail + (2^(n-1) - 1/2)).
template <class V>
EMOGS_HD V expm1(V x) {
  if constexpr (kSingle<V>) {
    const ReducedExp<V> e = reduce_exp(minimum(maximum(x, V(-40.0f)), V(89.0f)));
    const V half_power = multiply_power_of_two(V(0.5f), e.biased);
    return V(2.0f) * multiply_add(half_power, e.tail, half_power - V(0.5f));
  } else {
    return map(x, [](double lane) { return ::expm1(lane); });
  }
}

/// The natural logarithm: x = 2^e m with m in [sqrt(1/2), sqrt(2)).
template <class V>
EMOGS_HD V log(V x) {
  if constexpr (kSingle<V>) {
    const auto tiny = x < V(1.17549435e-38f);
    const V normal = select(tiny, x * V(16777216.0f), x);
    const uint32_t root_half = 0x3F3504F3u, offset = 128u << 23;  // the bits of sqrt(1/2); keeps the exponent positive
    const auto bits = bits_of(normal) - root_half + offset;
    const V exponent = from_bits(x, (bits >> 23) | 0x4B000000u) - V(8388608.0f + 128.0f);
    const V e = exponent - select(tiny, V(24.0f), V(0.0f));
    const V f = from_bits(x, (bits & 0x7FFFFFu) + root_half) - V(1.0f);
    V p = V(7.0376836292e-2f);
    p = multiply_add(p, f, V(-1.1514610310e-1f));
    p = multiply_add(p, f, V(1.1676998740e-1f));
    p = multiply_add(p, f, V(-1.2420140846e-1f));
    p = multiply_add(p, f, V(1.4249322787e-1f));
    p = multiply_add(p, f, V(-1.6668057665e-1f));
    p = multiply_add(p, f, V(2.0000714765e-1f));
    p = multiply_add(p, f, V(-2.4999993993e-1f));
    p = multiply_add(p, f, V(3.3333331174e-1f));
    const V square = f * f;
    V tail = multiply_add(e, V(-2.12194440e-4f), p * square * f);
    tail = multiply_add(square, V(-0.5f), tail);
    const V result = multiply_add(e, V(0.693359375f), f + tail);
    const V infinity = V(__builtin_inff());
    const V at_the_edge = select(x == V(0.0f), -infinity, select(x == infinity, x, V(__builtin_nanf(""))));
    return select(x > V(0.0f) && x < infinity, result, at_the_edge);
  } else {
    return map(x, [](double lane) { return ::log(lane); });
  }
}

template <class V>
struct SinCos {
  V sin, cos;
};

/// An angle as quarter turns, of which only the last two bits count, and the rest, at most pi/4 to either side.
struct QuarterTurns {
  uint32_t quarters;
  float rest;
};

/// For |x| > 8192 (Payne and Hanek 1983): with x = m 2^e, 64 bits of 2/pi from the right place on times m are the
/// quarter turns, but for whole turns, in units of 2^-62. Cut there, the rest is off by less than 2^-37.
EMOGS_HD QuarterTurns large_quarter_turns(float x) {
  const uint32_t bits = bits_of(x), exponent = bits >> 23 & 0xFFu, mantissa = (bits & 0x7FFFFFu) | 0x800000u;
  if (exponent == 0xFFu) return {0, x - x};                     // infinity or NaN
  const uint32_t start = exponent < 140 ? 20 : exponent - 120;  // 2/pi begins at bit 32
  uint64_t first = 0xA2F9836Eu, next = 0x4E441529u;             // words of 2/pi; an array in CUDA would
  switch (start / 32) {                                         // be on the stack
    case 1:
      first = 0xA2F9836E4E441529u, next = 0xFC2757D1u;
      break;
    case 2:
      first = 0x4E441529FC2757D1u, next = 0xF534DDC0u;
      break;
    case 3:
      first = 0xFC2757D1F534DDC0u, next = 0xDB629599u;
      break;
    case 4:
      first = 0xF534DDC0DB629599u, next = 0x3C439041u;
      break;
  }
  const uint64_t turns = mantissa * (first << start % 32 | next << start % 32 >> 32);
  const uint32_t quarters = uint32_t((turns + (uint64_t(1) << 61)) >> 62);
  const float rest = float(int64_t(turns << 2)) * 8.5153039502163873e-20f;  // pi/2 2^-64
  return int32_t(bits) < 0 ? QuarterTurns{0u - quarters, -rest} : QuarterTurns{quarters, rest};
}

/// Both at once. Up to 8192 the reduction by quarter turns is exact enough for an absolute error of a float's rounding.
template <class V>
EMOGS_HD SinCos<V> sin_cos(V x) {
  if constexpr (kSingle<V>) {
    V biased = multiply_add(x, V(0.63661977f), V(kRoundToInteger));
    const V n = biased - V(kRoundToInteger);
    V r = multiply_add(n, V(-1.5703125f), x);
    r = multiply_add(n, V(-4.837512969970703125e-4f), r);
    r = multiply_add(n, V(-7.54978995489188e-8f), r);
    const auto large = !(fabs(x) <= V(8192.0f));
    if (any(large)) {
      const auto quarters = [](float lane) { return kRoundToInteger + float(large_quarter_turns(lane).quarters & 3u); };
      biased = select(large, map(x, quarters), biased);
      r = select(large, map(x, [](float lane) { return large_quarter_turns(lane).rest; }), r);
    }
    const V z = r * r;
    V s = multiply_add(V(-1.9515295891e-4f), z, V(8.3321608736e-3f));
    s = multiply_add(multiply_add(s, z, V(-1.6666654611e-1f)), z * r, r);
    V c = multiply_add(V(2.443315711809948e-5f), z, V(-1.388731625493765e-3f));
    c = multiply_add(multiply_add(c, z, V(4.166664568298827e-2f)), z * z, multiply_add(z, V(-0.5f), V(1.0f)));
    const auto quarter = bits_of(biased);
    const auto swap = 0u - (quarter & 1u), keep = ~swap;  // all ones or all zeros
    const auto sin_bits = ((bits_of(s) & keep) | (bits_of(c) & swap)) ^ ((quarter & 2u) << 30);
    const auto cos_bits = ((bits_of(c) & keep) | (bits_of(s) & swap)) ^ (((quarter + 1u) & 2u) << 30);
    return {from_bits(x, sin_bits), from_bits(x, cos_bits)};
  } else {
    return {map(x, [](double lane) { return ::sin(lane); }), map(x, [](double lane) { return ::cos(lane); })};
  }
}

/// The angle of the point (x, y), in (-pi, pi]. The smaller over the larger coordinate is at most 1; above tan(pi/8),
/// atan t = pi/4 + atan((t - 1)/(t + 1)).
template <class V>
EMOGS_HD V atan2(V y, V x) {
  if constexpr (kSingle<V>) {
    const V ax = fabs(x), ay = fabs(y);
    const V small = minimum(ax, ay), large = maximum(ax, ay);
    const V ratio = select(small == large, select(large == V(0.0f), small, V(1.0f)), small / large);
    const auto upper = ratio > V(0.41421356f);
    const V t = select(upper, (ratio - V(1.0f)) / (ratio + V(1.0f)), ratio);
    const V z = t * t;
    V p = multiply_add(V(8.05374449538e-2f), z, V(-1.38776856032e-1f));
    p = multiply_add(p, z, V(1.99777106478e-1f));
    p = multiply_add(p, z, V(-3.33329491539e-1f));
    V angle = multiply_add(p * z, t, t) + select(upper, V(0.78539816f), V(0.0f));
    angle = select(ay > ax, V(1.57079633f) - angle, angle);
    const uint32_t sign = 0x80000000u;
    const auto left = bits_of(x) & sign;
    angle = select(from_bits(x, left | 0x3F800000u) < V(0.0f), V(3.14159265f) - angle, angle);
    return select(x == x && y == y, from_bits(x, bits_of(angle) | (bits_of(y) & sign)), x + y);
  } else {
    return map(y, x, [](double y_lane, double x_lane) { return ::atan2(y_lane, x_lane); });
  }
}

}  // namespace emogs
