// Emotion-conditioned renormalization on CUDA. Forward: a thread a parameter of a frame. Backward: a block a chunk of a
// sample's frames, threads over parameters, so that neighbours read neighbours; a second kernel adds the chunks in
// order.
#include "common/cuda_launch.h"
#include "math/renorm.h"
#include "renorm/renorm.h"

namespace emogs {
namespace {

constexpr int kThreads = 128;  // a face has 50 to 500 parameters

template <class T>
__global__ void __launch_bounds__(kThreads) emotion_renorm_forward_kernel(EmotionRenormForward<T> p) {
  const int64_t count = p.batch * p.frames * p.width;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < count; i += int64_t(gridDim.x) * kThreads) {
    const int64_t row = i / p.width, c = i - row * p.width, vector = row / p.frames * p.width + c;
    if (p.valid && !p.valid[row]) {
      p.out[i] = p.params[i];
    } else {
      const float channels = p.channels ? p.channels[c] : 1.0f;
      store_float(renorm(load_float(p.params[i]), p.center[vector], p.scale[vector], p.shift[vector], channels),
                  p.out + i);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) emotion_renorm_backward_kernel(EmotionRenormBackward<T> p) {
  const int64_t chunk = blockIdx.x, b = chunk / p.chunks, length = (p.frames + p.chunks - 1) / p.chunks;
  const int64_t begin = chunk % p.chunks * length, end = minimum(begin + length, p.frames);
  for (int64_t c = threadIdx.x; c < p.width; c += kThreads) {
    const float channels = p.channels ? p.channels[c] : 1.0f;
    const float center = p.center[b * p.width + c], scale = p.scale[b * p.width + c];
    float sum = 0, product = 0;
    for (int64_t t = begin; t < end; ++t) {
      const int64_t row = b * p.frames + t, i = row * p.width + c;
      if (p.valid && !p.valid[row]) {
        p.grad_params[i] = p.grad_out[i];
      } else {
        const float grad = load_float(p.grad_out[i]);
        sum += grad;
        product = multiply_add(grad, load_float(p.params[i]) - center, product);
        store_float(renorm_backward(grad, scale, channels), p.grad_params + i);
      }
    }
    p.partial[chunk * 2 * p.width + c] = sum;
    p.partial[(chunk * 2 + 1) * p.width + c] = product;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) emotion_renorm_finish_kernel(EmotionRenormBackward<T> p) {
  const int64_t c = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= p.width) return;
  const float channels = p.channels ? p.channels[c] : 1.0f;
  float grad_channels = 0;
  for (int64_t b = 0; b < p.batch; ++b) {
    float sum = 0, product = 0;
    for (int64_t chunk = b * p.chunks; chunk < (b + 1) * p.chunks; ++chunk) {
      sum += p.partial[chunk * 2 * p.width + c];
      product += p.partial[(chunk * 2 + 1) * p.width + c];
    }
    const int64_t at = b * p.width + c;
    p.grad_center[at] = -(channels * p.scale[at] * sum);
    p.grad_scale[at] = channels * product;
    p.grad_shift[at] = channels * sum;
    grad_channels += multiply_add(p.scale[at], product, p.shift[at] * sum);
  }
  if (p.grad_channels) p.grad_channels[c] = grad_channels;
}

}  // namespace

template <class T>
void emotion_renorm_forward_cuda(const EmotionRenormForward<T>& p) {
  const DeviceGuard guard(p);
  const int64_t blocks = (p.batch * p.frames * p.width + kThreads - 1) / kThreads;
  if (blocks == 0) return;
  launch_kernel("emotion_renorm_forward_kernel", emotion_renorm_forward_kernel<T>,
                unsigned(minimum(blocks, int64_t(1) << 20)), kThreads, 0, p, p);
}

template <class T>
void emotion_renorm_backward_cuda(const EmotionRenormBackward<T>& p) {
  const DeviceGuard guard(p);
  const int64_t chunks = p.batch * p.chunks;
  if (p.width == 0) return;
  if (chunks > 0) {
    const unsigned blocks = grid_size(chunks, "emotion_renorm_backward_kernel");
    launch_kernel("emotion_renorm_backward_kernel", emotion_renorm_backward_kernel<T>, blocks, kThreads, 0, p, p);
  }
  const unsigned blocks = grid_size((p.width + kThreads - 1) / kThreads, "emotion_renorm_finish_kernel");
  launch_kernel("emotion_renorm_finish_kernel", emotion_renorm_finish_kernel<T>, blocks, kThreads, 0, p, p);
}

#define EMOGS_INSTANTIATE(T)                                                 \
  template void emotion_renorm_forward_cuda(const EmotionRenormForward<T>&); \
  template void emotion_renorm_backward_cuda(const EmotionRenormBackward<T>&);
EMOGS_INSTANTIATE(float)
EMOGS_INSTANTIATE(Half)
EMOGS_INSTANTIATE(BFloat16)

}  // namespace emogs
