#include "norm/norm.h"

#include <algorithm>

#include "driver.h"

namespace emogs {
namespace {

/// What a case of `emotion_norm` has beside its size.
struct Options {
  bool rms = false, residual = false;
  int regions = 1;
};

float stored(float value, float) {
  return value;
}
BFloat16 stored(float value, BFloat16) {
  BFloat16 result;
  store_float(value, &result);
  return result;
}

template <class T>
void norm(Counter& count, int64_t tokens, int64_t channels, const Options& options) {
  const int64_t regions = options.regions, size = tokens * channels, rows = regions * channels;
  const int64_t chunks = std::max<int64_t>(1, std::min<int64_t>(tokens / (8 * regions), 64));  // emogs/ops/norm_op.py
  Random random(1);
  Buffer<T> x(size), residual(size), y(size), residual_out(size), grad_y(size, stored(0.5f, T{}));
  Buffer<T> grad_hidden(size), grad_x(size);
  for (int64_t i = 0; i < size; i++) x[i] = stored(random.normal(), T{}), residual[i] = stored(random.normal(), T{});
  Buffer<float> scale(rows), shift(rows), gate(rows), weight(channels), bias(channels), folded(3 * rows);
  Buffer<float> partial(3 * chunks * rows), grad_rows(3 * rows), grad_channels(2 * channels);
  Buffer<int32_t> region(tokens);
  fill(scale, 2, 0.3f), fill(shift, 3, 0.3f), fill(gate, 4, 0.3f), fill(weight, 5, 0.3f, 1.f), fill(bias, 6, 0.3f);
  for (int64_t t = 0; t < tokens; t++) region[t] = random.below(int32_t(regions));

  EmotionNormForward<T> forward{};
  forward.batch = 1, forward.tokens = tokens, forward.channels = channels, forward.regions = regions;
  forward.scale_rows = forward.shift_rows = forward.gate_rows = regions, forward.region_rows = 1;
  forward.x = x, forward.scale = scale, forward.weight = weight, forward.bias = bias, forward.shift = shift;
  forward.gate = options.residual ? gate.data() : nullptr;
  forward.region = regions > 1 ? region.data() : nullptr;
  forward.folded = folded, forward.rms = options.rms, forward.eps = 1e-6;
  forward.residual = options.residual ? residual.data() : nullptr;
  forward.y = y, forward.residual_out = options.residual ? residual_out.data() : nullptr;
  count("forward", size, "elements", [&] { return counted::emotion_norm_forward(forward) + 1; });  // -1: all is well

  EmotionNormBackward<T> backward{};
  static_cast<EmotionNorm<T>&>(backward) = forward;
  backward.x = options.residual ? x.data() : nullptr;
  backward.chunks = chunks, backward.hidden = options.residual ? residual_out : x, backward.grad_y = grad_y;
  backward.partial = partial, backward.grad_hidden = grad_hidden;
  backward.grad_x = options.residual ? grad_x.data() : nullptr;
  backward.grad_scale = grad_rows, backward.grad_shift = grad_rows + rows;
  backward.grad_gate = options.residual ? grad_rows + 2 * rows : nullptr;
  backward.grad_weight = grad_channels, backward.grad_bias = grad_channels + channels;
  count("backward", size, "elements", [&] { return counted::emotion_norm_backward(backward) + 1; });
}

const Case layer("emotion_norm/512x1024/float32", [](Counter& count) { norm<float>(count, 512, 1024, {}); });
const Case half("emotion_norm/512x1024/bfloat16", [](Counter& count) { norm<BFloat16>(count, 512, 1024, {}); });
const Case rms("emotion_norm/512x1024-rms/float32",
               [](Counter& count) { norm<float>(count, 512, 1024, {/*rms=*/true}); });
const Case residual("emotion_norm/512x1024-residual/float32",
                    [](Counter& count) { norm<float>(count, 512, 1024, {false, /*residual=*/true}); });
const Case regions("emotion_norm/512x1024-8regions/float32",
                   [](Counter& count) { norm<float>(count, 512, 1024, {false, false, /*regions=*/8}); });
const Case narrow("emotion_norm/65536x3/float32", [](Counter& count) { norm<float>(count, 1 << 16, 3, {}); });
const Case middle("emotion_norm/8192x32/float32", [](Counter& count) { norm<float>(count, 1 << 13, 32, {}); });

}  // namespace
}  // namespace emogs
