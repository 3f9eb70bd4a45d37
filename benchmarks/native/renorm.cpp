#include "renorm/renorm.h"

#include "driver.h"

namespace emogs {

static const Case renorm("emotion_renorm/8x256x153/float32", [](Counter& count) {
  const int64_t batch = 8, frames = 256, width = 153, chunks = 4;
  Buffer<float> params(batch * frames * width), center(batch * width), scale(batch * width), shift(batch * width);
  Buffer<float> channels(width, 1.f), out(params.size()), grad_out(params.size(), 0.5f), grad_params(params.size());
  Buffer<float> partial(batch * chunks * 2 * width), grads(3 * batch * width), grad_channels(width);
  fill(params, 1), fill(center, 2), fill(scale, 3, 0.3f), fill(shift, 4, 0.3f);

  EmotionRenormForward<float> forward{};
  forward.batch = batch, forward.frames = frames, forward.width = width;
  forward.params = params, forward.center = center, forward.scale = scale, forward.shift = shift;
  forward.channels = channels, forward.out = out;
  count("forward", params.size(), "elements", [&] { return counted::emotion_renorm_forward(forward), 0; });

  EmotionRenormBackward<float> backward{};
  static_cast<EmotionRenorm<float>&>(backward) = forward;
  backward.chunks = chunks, backward.grad_out = grad_out, backward.partial = partial;
  backward.grad_params = grad_params, backward.grad_center = grads, backward.grad_scale = grads + batch * width;
  backward.grad_shift = grads + 2 * batch * width, backward.grad_channels = grad_channels;
  count("backward", params.size(), "elements", [&] { return counted::emotion_renorm_backward(backward), 0; });
});

}  // namespace emogs
