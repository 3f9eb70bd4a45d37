// Emotion-conditioned renormalization on the CPU: frames are spread over threads, parameters over vector lanes. The
// same bits for any number of threads, and for any instruction set that fuses multiply-adds.
#include "common/row.h"
#include "common/threads.h"
#include "math/renorm.h"
#include "renorm/renorm.h"

namespace emogs {
namespace EMOGS_ISA {

constexpr int64_t kGrain = 1 << 14;  // elements for which another thread is worth waking

template <class Storage>
EMOGS_HD void copy_row(const Storage* from, Storage* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = from[i];
}

template <class T>
void emotion_renorm_forward(const EmotionRenormForward<T>& p) {
  using Vector = typename EmotionRenorm<T>::Vector;
  using V = Lanes<Vector>;
  const int64_t rows = p.batch * p.frames;
#pragma omp parallel for num_threads(threads_for(p.threads, rows* p.width, kGrain)) schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t at = row * p.width, vector = row / p.frames * p.width;
    if (p.valid && !p.valid[row]) {
      copy_row(p.params + at, p.out + at, p.width);
      continue;
    }
    for_each_register<Vector>(p.width, [&](int64_t c, auto lanes) {
      const V channels = p.channels ? load(p.channels + c, lanes) : V(1);
      const V center = load(p.center + vector + c, lanes), scale = load(p.scale + vector + c, lanes);
      const V shift = load(p.shift + vector + c, lanes);
      store(renorm(load(p.params + at + c, lanes), center, scale, shift, channels), p.out + at + c, lanes);
    });
  }
}

template <class T>
void emotion_renorm_backward(const EmotionRenormBackward<T>& p) {
  using Vector = typename EmotionRenorm<T>::Vector;
  using V = Lanes<Vector>;
  const int64_t width = p.width, chunk_frames = (p.frames + p.chunks - 1) / p.chunks;
#pragma omp parallel for num_threads(threads_for(p.threads, p.batch* p.frames* width, kGrain)) schedule(static)
  for (int64_t chunk = 0; chunk < p.batch * p.chunks; ++chunk) {
    Vector* sums = p.partial + chunk * 2 * width;
    for (int64_t i = 0; i < 2 * width; ++i) sums[i] = 0;
    const int64_t b = chunk / p.chunks, begin = chunk % p.chunks * chunk_frames;
    const int64_t end = minimum(begin + chunk_frames, p.frames);
    for (int64_t row = b * p.frames + begin; row < b * p.frames + end; ++row) {
      const int64_t at = row * width;
      if (p.valid && !p.valid[row]) {
        copy_row(p.grad_out + at, p.grad_params + at, width);
        continue;
      }
      for_each_register<Vector>(width, [&](int64_t c, auto lanes) {
        const V grad = load(p.grad_out + at + c, lanes), channels = p.channels ? load(p.channels + c, lanes) : V(1);
        const V deviation = load(p.params + at + c, lanes) - load(p.center + b * width + c, lanes);
        store(load(sums + c, lanes) + grad, sums + c, lanes);
        store(multiply_add(grad, deviation, load(sums + width + c, lanes)), sums + width + c, lanes);
        store(renorm_backward(grad, load(p.scale + b * width + c, lanes), channels), p.grad_params + at + c, lanes);
      });
    }
  }
  for (int64_t c = 0; c < width && p.grad_channels; ++c) p.grad_channels[c] = 0;
  for (int64_t b = 0; b < p.batch; ++b)
    for_each_register<Vector>(width, [&](int64_t c, auto lanes) {
      V sum(0), product(0);
      for (int64_t chunk = b * p.chunks; chunk < (b + 1) * p.chunks; ++chunk) {
        sum = sum + load(p.partial + chunk * 2 * width + c, lanes);
        product = product + load(p.partial + (chunk * 2 + 1) * width + c, lanes);
      }
      const int64_t at = b * width + c;
      const V channels = p.channels ? load(p.channels + c, lanes) : V(1), scale = load(p.scale + at, lanes);
      store(-(channels * scale * sum), p.grad_center + at, lanes);
      store(channels * product, p.grad_scale + at, lanes);
      store(channels * sum, p.grad_shift + at, lanes);
      if (!p.grad_channels) return;
      const V term = multiply_add(scale, product, load(p.shift + at, lanes) * sum);
      store(load(p.grad_channels + c, lanes) + term, p.grad_channels + c, lanes);
    });
}

#define EMOGS_INSTANTIATE(T)                                            \
  template void emotion_renorm_forward(const EmotionRenormForward<T>&); \
  template void emotion_renorm_backward(const EmotionRenormBackward<T>&);
EMOGS_FOR_FLOATS(EMOGS_INSTANTIATE)
EMOGS_INSTANTIATE(Half)
EMOGS_INSTANTIATE(BFloat16)

}  // namespace EMOGS_ISA
}  // namespace emogs
