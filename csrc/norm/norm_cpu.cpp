// Emotion-conditioned normalization on the CPU: tokens are spread over threads, channels over vector lanes; rows
// shorter than a few registers have a way of their own (norm_narrow.h). A token's channels stay in the first-level
// cache between the passes, so memory sees one read and one write. The order of every sum is fixed by the shape alone:
// the same bits for any number of threads and any instruction set.
#include "norm/norm_narrow.h"
#include "norm/norm_tokens.h"

namespace emogs {
namespace EMOGS_ISA {

// Rows up to this many channels are kept beside a streamed residual_out, on the stack.
constexpr int64_t kKeptChannels = 4096;
// From this many channels on, the last pass over a row asks for the next one: reading from memory and writing to it
// would otherwise take turns, row by row. Shorter rows the processor fetches in time by itself.
constexpr int64_t kFetchedChannels = 2048;
// Channels whose gradients one worker finishes at a time.
constexpr int64_t kFinishChannels = 64;

/// Whether every row of a result [B, T, C] is streamed: all its registers must be aligned.
template <class T, class Storage>
EMOGS_HD bool is_streamed(const EmotionNorm<T>& p, const Storage* to) {
  return is_large(p, to) && is_aligned(to) && is_aligned(to + p.channels);
}

template <class T>
EMOGS_HD bool is_narrow(const EmotionNorm<T>& p) {
  return !kIsDouble<typename EmotionNorm<T>::Vector> && p.channels <= kNarrowChannels && p.channels > 0;
}

/// Asks for what the next row has at the place of `at`, beyond the last row for nothing.
template <class Storage>
EMOGS_HD void fetch_next(const Storage* at, int64_t channels) {
  if (channels >= kFetchedChannels) __builtin_prefetch(at + channels, 0, 2);
}

/// The tokens that one worker takes, one after the other, with their sample and region.
template <class T>
struct TokenRange {
  const EmotionNorm<T>& p;
  int64_t token, end, b, t;

  EMOGS_HD_MEMBER TokenRange(const EmotionNorm<T>& params, int64_t first, int64_t last)
      : p(params),
        token(first),
        end(last),
        b(first / maximum(params.tokens, int64_t(1))),
        t(first - b * params.tokens) {}
  EMOGS_HD_MEMBER void next() {
    ++token;
    if (++t == p.tokens) t = 0, ++b;
  }
  /// Out of [0, R) if the caller's is.
  EMOGS_HD_MEMBER int64_t region() const { return region_of(p, b, t); }
};

/// `shifts` is null in backward, which needs no offset.
template <class T, class Vector = typename EmotionNorm<T>::Vector>
void fold_vectors(const EmotionNorm<T>& p, const Vector* shifts) {
  using V = Lanes<Vector>;
  const int64_t rows = p.batch * p.regions, channels = p.channels;
#pragma omp parallel for num_threads(threads_for(p.threads, rows* channels, kGrain)) schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t b = row / p.regions, r = row % p.regions;
    const Folded<T> folded(p, b, r);
    const Vector* scale = vector_row(p.scale, p.scale_rows, b, r, channels);
    const Vector* shift = shifts ? vector_row(shifts, p.shift_rows, b, r, channels) : nullptr;
    const Vector* gate = p.gate ? vector_row(p.gate, p.gate_rows, b, r, channels) : nullptr;
    for_each_register<Vector>(channels, [&](int64_t c, auto lanes) {
      const V s = load(scale + c, lanes);
      store(norm_factor(p.weight ? load(p.weight + c, lanes) : V(1), s), folded.factor + c, lanes);
      if (shift) {
        const V bias = p.bias ? load(p.bias + c, lanes) : V(0);
        store(norm_offset(bias, s, load(shift + c, lanes)), folded.offset + c, lanes);
      }
      if (gate) store(norm_branch(load(gate + c, lanes)), folded.branch + c, lanes);
    });
  }
}

template <class T, class Storage>
static __attribute__((noinline)) NormStatistics<T> row_statistics(const Storage* h, int64_t channels, bool rms, T eps) {
  using V = Lanes<T>;
  if (rms) {
    const auto squares = row_sums<T, 1>(channels, [=](int64_t c, auto lanes, Terms<V, 1>& sums) {
      const V value = load(h + c, lanes);
      sums.values[0] = multiply_add(value, value, sums.values[0]);
    });
    return norm_statistics(T(0), T(0), squares.values[0], channels, eps);
  }
  const auto sum = row_sums<T, 1>(channels, [=](int64_t c, auto lanes, Terms<V, 1>& sums) {
    sums.values[0] = sums.values[0] + load(h + c, lanes);
  });
  const T mean = sum.values[0] / T(channels);
  const auto sums = row_sums<T, 2>(channels, [=](int64_t c, auto lanes, Terms<V, 2>& sums) {
    const V deviation = counted(load(h + c, lanes) - V(mean), lanes);
    sums.values[0] = sums.values[0] + deviation;
    sums.values[1] = multiply_add(deviation, deviation, sums.values[1]);
  });
  return norm_statistics(mean, sums.values[0], sums.values[1], channels, eps);
}

template <class T, class Storage>
EMOGS_HD void normalize_row(const EmotionNormForward<T>& p, const Storage* h, const Folded<T>& folded,
                            typename EmotionNorm<T>::Token* y, bool streamed) {
  using Vector = typename EmotionNorm<T>::Vector;
  const NormStatistics<Vector> row = row_statistics(h, p.channels, p.rms, Vector(p.eps));
  for_each_register<Vector>(p.channels, [&](int64_t c, auto lanes) {
    const Lanes<Vector> n = norm_normalize(load(h + c, lanes), row);
    if (!p.residual) fetch_next(h + c, p.channels);
    put(norm_modulate(n, load(folded.factor + c, lanes), load(folded.offset + c, lanes)), y + c, lanes, streamed);
  });
}

/// residual_out goes to `kept` first if it is streamed, so that it can be read again.
template <class T, class Storage = typename EmotionNorm<T>::Stream>
EMOGS_HD void forward_token(const EmotionNormForward<T>& p, const Folded<T>& folded, int64_t token, bool stream_y,
                            Storage* kept) {
  using Vector = typename EmotionNorm<T>::Vector;
  const int64_t at = token * p.channels;
  if (!p.residual) return normalize_row(p, p.x + at, folded, p.y + at, stream_y);
  Storage* h = kept ? kept : p.residual_out + at;
  for_each_register<Vector>(p.channels, [&](int64_t c, auto lanes) {
    const Lanes<Vector> branch = p.gate ? load(folded.branch + c, lanes) : Lanes<Vector>(1);
    store(norm_residual(load(p.x + at + c, lanes), load(p.residual + at + c, lanes), branch), h + c, lanes);
  });
  normalize_row(p, h, folded, p.y + at, stream_y);
  if (!kept) return;
  for_each_register<Vector>(p.channels,
                            [&](int64_t c, auto lanes) { stream(load(h + c, lanes), p.residual_out + at + c, lanes); });
}

/// Tokens [first, last); returns the first whose region is out of range, or a larger number.
template <class T>
int64_t wide_forward(const EmotionNormForward<T>& p, int64_t first, int64_t last) {
  const bool stream_y = is_streamed(p, p.y);
  const bool keep = p.residual && p.channels <= kKeptChannels && is_streamed(p, p.residual_out);
  alignas(kRegisterBytes) typename EmotionNorm<T>::Stream kept[kKeptChannels];
  int64_t invalid = INT64_MAX;
  for (TokenRange<T> at(p, first, last); at.token < at.end; at.next()) {
    const int64_t region = at.region();
    if (region < 0 || region >= p.regions)
      invalid = minimum(invalid, at.token);
    else
      forward_token(p, Folded<T>(p, at.b, region), at.token, stream_y, keep ? kept : nullptr);
  }
  return invalid;
}

template <class T>
int64_t emotion_norm_forward(const EmotionNormForward<T>& p) {
  fold_vectors(p, p.shift);
  const int64_t count = p.batch * p.tokens;
  const int workers = worker_count(p);
  int64_t invalid = count;
#pragma omp parallel for num_threads(workers) schedule(static) reduction(min : invalid)
  for (int worker = 0; worker < workers; ++worker) {
    const int64_t first = worker_begin(count, worker, workers), last = worker_begin(count, worker + 1, workers);
    if constexpr (!kIsDouble<typename EmotionNorm<T>::Vector>)
      invalid = minimum(invalid, is_narrow(p) ? narrow_forward(p, first, last) : wide_forward(p, first, last));
    else
      invalid = minimum(invalid, wide_forward(p, first, last));
    finish_streams();
  }
  return invalid < count ? invalid : -1;
}

struct StreamedGradients {
  bool hidden, x;
};

/// `sum`: of this worker and region, [C] each at a distance of `plane`.
template <class T, class Vector>
EMOGS_HD void backward_token(const EmotionNormBackward<T>& p, const Folded<T>& folded, int64_t token, Vector* sum,
                             StreamedGradients streamed) {
  using V = Lanes<Vector>;
  const int64_t channels = p.channels, plane = p.regions * channels, at = token * channels;
  const auto* h = p.hidden + at;
  const auto* grad_y = p.grad_y + at;
  const NormStatistics<Vector> row = row_statistics(h, channels, p.rms, Vector(p.eps));

  const auto sums = row_sums<Vector, 2>(channels, [=](int64_t c, auto lanes, Terms<V, 2>& sums) {
    const V n = norm_normalize(load(h + c, lanes), row);
    const V grad_n = load(grad_y + c, lanes) * load(folded.factor + c, lanes);  // 0 where nothing counts
    sums.values[0] = sums.values[0] + grad_n;
    sums.values[1] = multiply_add(grad_n, n, sums.values[1]);
  });
  const Vector mean_gradient = p.rms ? Vector(0) : sums.values[0] / Vector(channels);
  const Vector mean_product = sums.values[1] / Vector(channels);

  for_each_register<Vector>(channels, [&](int64_t c, auto lanes) {
    const V n = norm_normalize(load(h + c, lanes), row), g = load(grad_y + c, lanes);
    V grad = norm_normalize_backward(g, load(folded.factor + c, lanes), n, mean_gradient, mean_product, row);
    auto add = [&](V a, V b, Vector* to) { store(multiply_add(a, b, load(to, lanes)), to, lanes); };
    store(load(sum + c, lanes) + g, sum + c, lanes);
    add(g, n, sum + plane + c);
    if (p.grad_residual_out) grad = grad + load(p.grad_residual_out + at + c, lanes);
    if (p.gate) add(grad, load(p.x + at + c, lanes), sum + 2 * plane + c);
    fetch_next(h + c, channels), fetch_next(grad_y + c, channels);
    put(grad, p.grad_hidden + at + c, lanes, streamed.hidden);
    if (!p.grad_x) return;
    put(p.gate ? load(folded.branch + c, lanes) * grad : grad, p.grad_x + at + c, lanes, streamed.x);
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

/// Tokens [first, last), all of one sample; returns as wide_forward.
template <class T, class Vector>
int64_t wide_backward(const EmotionNormBackward<T>& p, int64_t first, int64_t last, Vector* partial) {
  const StreamedGradients streamed = {is_streamed(p, p.grad_hidden), p.grad_x && is_streamed(p, p.grad_x)};
  int64_t invalid = INT64_MAX;
  for (TokenRange<T> at(p, first, last); at.token < at.end; at.next()) {
    const int64_t region = at.region();
    if (region < 0 || region >= p.regions)
      invalid = minimum(invalid, at.token);
    else
      backward_token(p, Folded<T>(p, at.b, region), at.token, partial + region * p.channels, streamed);
  }
  return invalid;
}

template <class T>
int64_t emotion_norm_backward(const EmotionNormBackward<T>& p) {
  using Vector = typename EmotionNorm<T>::Vector;
  const int64_t sums = (p.gate ? 3 : 2) * p.regions * p.channels;
  int64_t chunk_tokens = (p.tokens + p.chunks - 1) / p.chunks;
  if (is_narrow(p)) chunk_tokens = (chunk_tokens + 15) / 16 * 16;  // whole registers
  fold_vectors(p, static_cast<const Vector*>(nullptr));
  int64_t invalid = p.batch * p.tokens;
#pragma omp parallel for num_threads(worker_count(p)) schedule(static) reduction(min : invalid)
  for (int64_t chunk = 0; chunk < p.batch * p.chunks; ++chunk) {
    Vector* partial = p.partial + chunk * sums;
    for (int64_t i = 0; i < sums; ++i) partial[i] = Vector(0);
    const int64_t sample = chunk / p.chunks * p.tokens, begin = chunk % p.chunks * chunk_tokens;
    const int64_t end = sample + minimum(begin + chunk_tokens, p.tokens), first = minimum(sample + begin, end);
    if constexpr (!kIsDouble<Vector>)
      invalid = minimum(invalid,
                        is_narrow(p) ? narrow_backward(p, first, end, partial) : wide_backward(p, first, end, partial));
    else
      invalid = minimum(invalid, wide_backward(p, first, end, partial));
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
EMOGS_FOR_FLOATS(EMOGS_INSTANTIATE)
EMOGS_FOR_NORM_HALVES(EMOGS_INSTANTIATE)

}  // namespace EMOGS_ISA
}  // namespace emogs
