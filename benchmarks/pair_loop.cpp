// The limit that the rasterizer is measured against: a bare vectorised loop over the pairs of exact 16x16 tile lists,
// rows clipped, no stop, no output of images. bench_rasterize.py compiles it for this machine.
#include <math.h>
#include <stdint.h>

static inline __attribute__((always_inline)) float exp_negative(float x) {
  x = x < -87.f ? -87.f : x;
  float r = x * 1.44269504f + 12582912.f;
  int e = __builtin_bit_cast(int, r) - 0x4B400000;
  r -= 12582912.f;
  float f = x - r * 0.693359375f;
  f = f + r * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * f + 1.3981999507e-3f;
  p = p * f + 8.3334519073e-3f;
  p = p * f + 4.1665795894e-2f;
  p = p * f + 1.6666665459e-1f;
  p = p * f + 5.0000001201e-1f;
  p = p * f * f + f + 1.f;
  return p * __builtin_bit_cast(float, (e + 127) << 23);
}

/// splats [N, 8] as emogs::project_gaussians writes them, colors [N, 3]; returns a sum, so that nothing is optimised
/// away.
extern "C" float pair_loop(const float* splats, const float* colors, const int64_t* offsets, const int32_t* ids,
                           int64_t tiles, int64_t tiles_x, int threads) {
  float total = 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(+ : total)
  for (int64_t tile = 0; tile < tiles; tile++) {
    alignas(64) float t[256], c0[256] = {}, c1[256] = {}, c2[256] = {};
    for (int i = 0; i < 256; i++) t[i] = 1.f;
    const float left = float(tile % tiles_x * 16) + 0.5f, top = float(tile / tiles_x * 16) + 0.5f;
    for (int64_t k = offsets[tile]; k < offsets[tile + 1]; k++) {
      const float* s = splats + 8 * int64_t(ids[k]);
      const float* c = colors + 3 * int64_t(ids[k]);
      const float x = s[0] - left, y = s[1] - top, a = s[2], b = s[3], d = s[4], opacity = s[5], reach = s[7];
      const int first = fmaxf(0.f, ceilf(y - reach)), last = fminf(15.f, floorf(y + reach));
      for (int row = first; row <= last; row++) {
        const float dy = y - row;
        float *T = t + 16 * row, *r0 = c0 + 16 * row, *r1 = c1 + 16 * row, *r2 = c2 + 16 * row;
#pragma omp simd
        for (int i = 0; i < 16; i++) {
          const float dx = x - i, power = -0.5f * (a * dx * dx + d * dy * dy) - b * dx * dy;
          float alpha = opacity * exp_negative(power < 0.f ? power : 0.f);
          alpha = alpha < 0.999f ? alpha : 0.999f;
          alpha = alpha >= 1.f / 255.f ? alpha : 0.f;
          const float next = T[i] * (1.f - alpha);
          alpha = next < 1e-4f ? 0.f : alpha;
          const float w = alpha * T[i];
          r0[i] += w * c[0], r1[i] += w * c[1], r2[i] += w * c[2], T[i] -= w;
        }
      }
    }
    for (int i = 0; i < 256; i++) total += t[i] + c0[i] + c1[i] + c2[i];
  }
  return total;
}
