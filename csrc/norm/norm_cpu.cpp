// Emotion-conditioned normalization on the CPU: tokens are spread over threads, channels over vector lanes. A token's
// channels stay in the first-level cache between the passes, so memory sees one read and one write. The order of every
// sum is fixed by the shape alone: the same bits for any number of threads and any instruction set.
#include "common/row.h"
#include "math/norm.h"
#include "norm/norm.h"

namespace emogs {
namespace EMOGS_ISA {

// Work below this many elements takes less time than waking the other threads.
constexpr int64_t kSerialElements = 1 << 15;
// Results of more bytes than this are written past the caches: none of them would be left there for the next reader,
// and a line that is not read before it is written saves a third of the traffic.
constexpr int64_t kStreamBytes = 16 << 20;
// Rows up to this many channels are kept beside a streamed residual_out, on the stack.
constexpr int64_t kKeptChannels = 4096;
// Channels whose gradients one worker finishes at a time.
constexpr int64_t kFinishChannels = 64;

template <class T>
EMOGS_HD int worker_count(const EmotionNorm<T>& p) {
  return p.batch * p.tokens * p.channels < kSerialElements ? 1 : p.threads;
}

/// Whether a result [B, T, C] is streamed: all its registers must be aligned.
template <class T, class Storage>
EMOGS_HD bool is_streamed(const EmotionNorm<T>& p, const Storage* to) {
  const int64_t row_bytes = p.channels * int64_t(sizeof(Storage));
  return p.batch * p.tokens * row_bytes > kStreamBytes && (reinterpret_cast<uintptr_t>(to) | row_bytes) % 64 == 0;
}

template <class V, class Storage>
EMOGS_HD void put(V value, Storage* to, bool streamed) {
  if (streamed)
    stream(value, to);
  else
    store(value, to);
}

/// Row of a modulation vector for sample b and region r.
template <class V>
EMOGS_HD V* vector_row(V* vectors, int64_t rows, int64_t b, int64_t r, int64_t channels) {
  return vectors + (b * rows + (rows == 1 ? 0 : r)) * channels;
}

/// -1 where there is none such.
template <class T>
EMOGS_HD int64_t region_of(const EmotionNorm<T>& p, int64_t b, int64_t t) {
  if (!p.region) return 0;
  const int64_t region = p.region[(p.region_rows == 1 ? 0 : b) * p.tokens + t];
  return region < p.regions ? region : -1;
}

template <class T>
struct Folded {
  using Vector = typename EmotionNorm<T>::Vector;
  Vector *factor, *offset, *branch;  // [C] each, of one sample and region

  EMOGS_HD_MEMBER Folded(const EmotionNorm<T>& p, int64_t row) {
    const int64_t plane = p.batch * p.regions * p.channels;
    factor = p.folded + row * p.channels;
    offset = factor + plane;
    branch = offset + plane;
  }
};

/// `shift` is null in backward, which needs no offset.
template <class T, class Vector = typename EmotionNorm<T>::Vector>
void fold_vectors(const EmotionNorm<T>& p, const Vector* all_shifts) {
  const int64_t rows = p.batch * p.regions;
#pragma omp parallel for num_threads(rows* p.channels < kSerialElements ? 1 : p.threads) schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    const Folded<T> folded(p, row);
    const int64_t b = row / p.regions, r = row % p.regions;
    const Vector* scale = vector_row(p.scale, p.scale_rows, b, r, p.channels);
    const Vector* shift = all_shifts ? vector_row(all_shifts, p.shift_rows, b, r, p.channels) : nullptr;
    const Vector* gate = p.gate ? vector_row(p.gate, p.gate_rows, b, r, p.channels) : nullptr;
    for_each_lanes<Vector>(p.channels, [&](int64_t c, auto lanes) {
      using V = decltype(lanes);
      const V one(Vector(1)), zero(Vector(0)), s = load(scale + c, V());
      store(norm_factor(p.weight ? load(p.weight + c, V()) : one, s), folded.factor + c);
      if (shift) store(norm_offset(p.bias ? load(p.bias + c, V()) : zero, s, load(shift + c, V())), folded.offset + c);
      if (gate) store(norm_branch(load(gate + c, V())), folded.branch + c);
    });
  }
}

template <class T, class Storage>
static __attribute__((noinline)) NormStatistics<T> row_statistics(const Storage* h, int64_t channels, bool rms, T eps) {
  if (rms) {
    const auto squares = row_sums<T, 1>(channels, [=](int64_t c, auto lanes) {
      using V = decltype(lanes);
      const V value = load(h + c, V());
      return Terms<V, 1>{{value * value}};
    });
    return norm_statistics(T(0), T(0), squares.values[0], channels, eps);
  }
  const auto sum = row_sums<T, 1>(channels, [=](int64_t c, auto lanes) {
    using V = decltype(lanes);
    return Terms<V, 1>{{load(h + c, V())}};
  });
  const T mean = sum.values[0] / T(channels);
  const auto sums = row_sums<T, 2>(channels, [=](int64_t c, auto lanes) {
    using V = decltype(lanes);
    const V deviation = load(h + c, V()) - V(mean);
    return Terms<V, 2>{{deviation, deviation * deviation}};
  });
  return norm_statistics(mean, sums.values[0], sums.values[1], channels, eps);
}

template <class T, class Storage, class Vector = typename EmotionNorm<T>::Vector>
EMOGS_HD void normalize_row(const EmotionNormForward<T>& p, const Storage* h, const Folded<T>& folded, int64_t at,
                            bool stream_y) {
  const NormStatistics<Vector> row = row_statistics(h, p.channels, p.rms, Vector(p.eps));
  auto* y = p.y + at;
  for_each_lanes<Vector>(p.channels, [&](int64_t c, auto lanes) {
    using V = decltype(lanes);
    const V n = norm_normalize(load(h + c, V()), row);
    put(n * load(folded.factor + c, V()) + load(folded.offset + c, V()), y + c, stream_y);
  });
}

/// residual_out goes to `kept` first if it is streamed, so that it can be read again.
template <class T, class Storage>
EMOGS_HD void forward_token(const EmotionNormForward<T>& p, int64_t token, int64_t region, bool stream_y,
                            Storage* kept) {
  using Vector = typename EmotionNorm<T>::Vector;
  const int64_t at = token * p.channels;
  const Folded<T> folded(p, token / p.tokens * p.regions + region);
  if (!p.residual) return normalize_row(p, p.x + at, folded, at, stream_y);
  Storage* h = kept ? kept : p.residual_out + at;
  for_each_lanes<Vector>(p.channels, [&](int64_t c, auto lanes) {
    using V = decltype(lanes);
    const V branch = p.gate ? load(folded.branch + c, V()) : V(Vector(1));
    store(norm_residual(load(p.x + at + c, V()), load(p.residual + at + c, V()), branch), h + c);
  });
  normalize_row(p, h, folded, at, stream_y);
  if (kept)
    for_each_lanes<Vector>(
        p.channels, [&](int64_t c, auto lanes) { stream(load(h + c, decltype(lanes)()), p.residual_out + at + c); });
}

template <class T>
int64_t emotion_norm_forward(const EmotionNormForward<T>& p) {
  using Storage = typename EmotionNorm<T>::Stream;
  fold_vectors(p, p.shift);
  const int64_t count = p.batch * p.tokens;
  const bool stream_y = is_streamed(p, p.y);
  const bool keep = p.residual && p.channels <= kKeptChannels && is_streamed(p, p.residual_out);
  int64_t invalid = count;
#pragma omp parallel num_threads(worker_count(p)) reduction(min : invalid)
  {
    alignas(kRegisterBytes) Storage kept[kKeptChannels];
#pragma omp for schedule(static)
    for (int64_t token = 0; token < count; ++token) {
      const int64_t region = region_of(p, token / p.tokens, token % p.tokens);
      if (region < 0)
        invalid = minimum(invalid, token);
      else
        forward_token(p, token, region, stream_y, keep ? kept : nullptr);
    }
    finish_streams();
  }
  return invalid < count ? invalid : -1;
}

struct StreamedGradients {
  bool hidden, x;
};

template <class T, class Vector>
EMOGS_HD void backward_token(const EmotionNormBackward<T>& p, int64_t token, int64_t region, Vector* partial,
                             StreamedGradients streamed) {
  const int64_t channels = p.channels, plane = p.regions * channels, at = token * channels;
  const Folded<T> folded(p, token / p.tokens * p.regions + region);
  const auto* h = p.hidden + at;
  const auto* grad_y = p.grad_y + at;
  const NormStatistics<Vector> row = row_statistics(h, channels, p.rms, Vector(p.eps));

  const auto sums = row_sums<Vector, 2>(channels, [=](int64_t c, auto lanes) {
    using V = decltype(lanes);
    const V n = norm_normalize(load(h + c, V()), row), grad_n = load(grad_y + c, V()) * load(folded.factor + c, V());
    return Terms<V, 2>{{grad_n, grad_n * n}};
  });
  const Vector mean_gradient = p.rms ? Vector(0) : sums.values[0] / Vector(channels);
  const Vector mean_product = sums.values[1] / Vector(channels);

  Vector* sum = partial + region * channels;
  for_each_lanes<Vector>(channels, [&](int64_t c, auto lanes) {
    using V = decltype(lanes);
    const V n = norm_normalize(load(h + c, V()), row), g = load(grad_y + c, V());
    V grad = norm_normalize_backward(g * load(folded.factor + c, V()), n, mean_gradient, mean_product, row);
    store(load(sum + c, V()) + g, sum + c);
    store(load(sum + plane + c, V()) + g * n, sum + plane + c);
    if (p.grad_residual_out) grad = grad + load(p.grad_residual_out + at + c, V());
    if (p.gate) store(load(sum + 2 * plane + c, V()) + grad * load(p.x + at + c, V()), sum + 2 * plane + c);
    put(grad, p.grad_hidden + at + c, streamed.hidden);
    if (p.grad_x) put(p.gate ? load(folded.branch + c, V()) * grad : grad, p.grad_x + at + c, streamed.x);
  });
}

/// Adds the pieces and forms the vectors' gradients (math/norm.h) for channels [begin, end).
template <class T, class Vector = typename EmotionNorm<T>::Vector>
void finish_gradients(const EmotionNormBackward<T>& p, int64_t begin, int64_t end) {
  const int64_t channels = p.channels, plane = p.regions * channels, terms = p.gate ? 3 : 2;
  for (int64_t c = begin; c < end; ++c) {
    if (p.grad_weight) p.grad_weight[c] = 0;
    if (p.grad_bias) p.grad_bias[c] = 0;
  }
  auto add = [](Vector* to, Vector value, bool first) { *to = first ? value : *to + value; };
  for (int64_t row = 0; row < p.batch * p.regions; ++row) {
    const int64_t b = row / p.regions, r = row % p.regions;
    Vector sums[3][kFinishChannels] = {};
    for (int64_t chunk = 0; chunk < p.chunks; ++chunk)
      for (int64_t k = 0; k < terms; ++k) {
        const Vector* partial = p.partial + ((b * p.chunks + chunk) * terms + k) * plane + r * channels;
        for (int64_t c = begin; c < end; ++c) sums[k][c - begin] += partial[c];
      }
    const Vector* scale = vector_row(p.scale, p.scale_rows, b, r, channels);
    Vector* grad_scale = vector_row(p.grad_scale, p.scale_rows, b, r, channels);
    Vector* grad_shift = vector_row(p.grad_shift, p.shift_rows, b, r, channels);
    Vector* grad_gate = p.gate ? vector_row(p.grad_gate, p.gate_rows, b, r, channels) : nullptr;
    for (int64_t c = begin; c < end; ++c) {
      const Vector grad = sums[0][c - begin], product = sums[1][c - begin];
      const Vector factor = norm_factor(Vector(1), scale[c]);
      const Vector scaled = p.weight ? product * p.weight[c] : product;
      add(grad_scale + c, p.bias ? scaled + grad * p.bias[c] : scaled, r == 0 || p.scale_rows > 1);
      add(grad_shift + c, grad, r == 0 || p.shift_rows > 1);
      if (grad_gate) add(grad_gate + c, sums[2][c - begin], r == 0 || p.gate_rows > 1);
      if (p.grad_weight) p.grad_weight[c] += product * factor;
      if (p.grad_bias) p.grad_bias[c] += grad * factor;
    }
  }
}

template <class T>
int64_t emotion_norm_backward(const EmotionNormBackward<T>& p) {
  using Vector = typename EmotionNorm<T>::Vector;
  const int64_t sums = (p.gate ? 3 : 2) * p.regions * p.channels;
  const int64_t chunk_tokens = (p.tokens + p.chunks - 1) / p.chunks;
  const StreamedGradients streamed = {is_streamed(p, p.grad_hidden), p.grad_x && is_streamed(p, p.grad_x)};
  fold_vectors(p, static_cast<const Vector*>(nullptr));
  int64_t invalid = p.batch * p.tokens;
#pragma omp parallel for num_threads(worker_count(p)) schedule(static) reduction(min : invalid)
  for (int64_t chunk = 0; chunk < p.batch * p.chunks; ++chunk) {
    Vector* partial = p.partial + chunk * sums;
    for (int64_t i = 0; i < sums; ++i) partial[i] = Vector(0);
    const int64_t begin = chunk % p.chunks * chunk_tokens, end = minimum(begin + chunk_tokens, p.tokens);
    for (int64_t t = begin; t < end; ++t) {
      const int64_t b = chunk / p.chunks, token = b * p.tokens + t, region = region_of(p, b, t);
      if (region < 0)
        invalid = minimum(invalid, token);
      else
        backward_token(p, token, region, partial, streamed);
    }
    finish_streams();
  }
#pragma omp parallel for num_threads(worker_count(p)) schedule(static)
  for (int64_t begin = 0; begin < p.channels; begin += kFinishChannels)
    finish_gradients(p, begin, minimum(begin + kFinishChannels, p.channels));
  return invalid < p.batch * p.tokens ? invalid : -1;
}

#define EMOGS_INSTANTIATE(...)                                                   \
  template int64_t emotion_norm_forward(const EmotionNormForward<__VA_ARGS__>&); \
  template int64_t emotion_norm_backward(const EmotionNormBackward<__VA_ARGS__>&);
EMOGS_INSTANTIATE(float)
EMOGS_INSTANTIATE(double)
EMOGS_INSTANTIATE(Half)
EMOGS_INSTANTIATE(BFloat16)
EMOGS_INSTANTIATE(Mixed<Half, float>)
EMOGS_INSTANTIATE(Mixed<BFloat16, float>)
EMOGS_INSTANTIATE(Mixed<float, Half>)
EMOGS_INSTANTIATE(Mixed<float, BFloat16>)

}  // namespace EMOGS_ISA
}  // namespace emogs
