// Rows of fewer channels than a few registers hold. Tokens are taken in blocks. Their rows lie in memory without gaps,
// so a block is itself one long row: all that is done to elements runs over it in whole registers. What belongs to a
// token (its statistics, the sums over its channels) is computed for as many tokens at once as a register has lanes,
// from the transposed block, and spread over their elements again. Formulas and the order of every sum are those of
// wide rows, so the bits do not tell which way a row went. float32 arithmetic only.
#pragma once

#include "common/columns.h"
#include "norm/norm_tokens.h"

namespace emogs {
namespace EMOGS_ISA {

using Register = Lanes<float>;

constexpr int64_t kNarrowChannels = 32;   // more go the wide way
constexpr int64_t kBlockElements = 1024;  // of a block: its buffers together fit into the first-level cache
constexpr int64_t kBlockTokens = 256;
constexpr int64_t kPadding = 64;  // elements that may be read, and written, behind a block
static_assert(kNarrowChannels <= kRunningSums<float>, "tree_sum takes one channel for each running sum");
static_assert(kBlockElements >= 16 * kNarrowChannels, "a block has at least one token a lane");

struct Elements {
  float at[kBlockElements + kPadding] __attribute__((aligned(64)));
};

/// Tokens of a block: a multiple of 16, so that blocks begin at whole registers if their first does.
EMOGS_HD int64_t block_tokens(int64_t channels) {
  return minimum(kBlockTokens, kBlockElements / channels / 16 * 16);
}

/// What is known of each token, a register of tokens at a time, brought to their elements.
struct Spread {
  int32_t token_of[kNarrowChannels * Register::count];  // by element of a register of tokens

  explicit Spread(int64_t channels) {
    for (int64_t token = 0, e = 0; token < Register::count; ++token)
      for (int64_t c = 0; c < channels; ++c) token_of[e++] = int32_t(token);
  }
  EMOGS_HD_MEMBER Register operator()(Register of_tokens, int64_t element) const {
    return permute(of_tokens, token_of + element);
  }
  EMOGS_HD_MEMBER NormStatistics<Register> operator()(const NormStatistics<Register>& rows, int64_t element) const {
    return {(*this)(rows.mean, element), (*this)(rows.correction, element), (*this)(rows.inverse_deviation, element)};
  }
};

/// The channels of as many tokens as a register has lanes, one register each.
struct TokenColumns {
  float at[kNarrowChannels][Register::count] __attribute__((aligned(64)));

  /// Reads up to three elements behind the last token.
  EMOGS_HD_MEMBER TokenColumns(const float* rows, int64_t channels) {
    int64_t c = 0;
    do transpose_quads(rows + c, channels, at + c);
    while ((c += 4) < channels);
  }
  EMOGS_HD_MEMBER Register operator[](int64_t c) const { return Register::load(at[c]); }
};

/// Sum of term(c) over c = first, first + kStep, ... < count: the order in which row_sums adds its running sums.
template <int kStep, class Term>
EMOGS_HD Register tree_sum(int64_t first, int64_t count, const Term& term) {
  if constexpr (kStep == kRunningSums<float>)
    return term(first);
  else {
    const Register sum = tree_sum<2 * kStep>(first, count, term);
    return first + kStep < count ? sum + tree_sum<2 * kStep>(first + kStep, count, term) : sum;
  }
}

template <class Term>
EMOGS_HD Register channel_sum(int64_t channels, const Term& term) {
  return tree_sum<1>(0, channels, term) + Register(0.0f);  // row_sums starts from 0: never -0
}

/// As row_statistics, a token a lane.
static __attribute__((noinline)) NormStatistics<Register> token_statistics(const TokenColumns& h, int64_t channels,
                                                                           bool rms, float eps) {
  if (rms) {
    const Register squares = channel_sum(channels, [&](int64_t c) { return h[c] * h[c]; });
    return norm_statistics(Register(0.0f), Register(0.0f), squares, channels, Register(eps));
  }
  const Register mean = channel_sum(channels, [&](int64_t c) { return h[c]; }) / Register(float(channels));
  const Register deviations = channel_sum(channels, [&](int64_t c) { return h[c] - mean; });
  const Register squares = channel_sum(channels, [&](int64_t c) {
    const Register deviation = h[c] - mean;
    return deviation * deviation;
  });
  return norm_statistics(mean, deviations, squares, channels, Register(eps));
}

/// 16 bytes at a time, the last of them twice if need be.
EMOGS_HD void copy_row(const float* from, float* to, int64_t count) {
  if (count < 4) {
    for (int64_t c = 0; c < count; ++c) to[c] = from[c];
    return;
  }
  for (int64_t c = 0; c + 4 < count; c += 4) memcpy(to + c, from + c, 16);
  memcpy(to + count - 4, from + count - 4, 16);
}

/// What modulates each element of a block.
template <class T>
struct BlockVectors {
  const EmotionNorm<T>& p;
  bool has_offset;
  int64_t sample = -1;
  Elements factor, offset, branch;

  BlockVectors(const EmotionNorm<T>& params, bool with_offset) : p(params), has_offset(with_offset) {}

  /// For tokens t to t + count of sample b. Returns the first t whose region is out of range (its vectors are then
  /// those of another), or -1.
  int64_t fill(int64_t b, int64_t t, int64_t count) {
    if (!p.region) {
      if (b == sample) return -1;
      sample = b;
      count = minimum(block_tokens(p.channels), p.tokens);
    }
    int64_t invalid = -1;
    for (int64_t i = 0; i < count; ++i) {
      int64_t region = region_of(p, b, t + i);
      if (region < 0 || region >= p.regions) {
        if (invalid < 0) invalid = t + i;
        region = 0;
      }
      const Folded<T> folded(p, b, region);
      copy_row(folded.factor, factor.at + i * p.channels, p.channels);
      if (has_offset) copy_row(folded.offset, offset.at + i * p.channels, p.channels);
      if (p.gate) copy_row(folded.branch, branch.at + i * p.channels, p.channels);
    }
    return invalid;
  }
};

/// body(e, lanes, group, r): every register of a block of `count` elements, in groups of a register of tokens each;
/// begin(first element) makes what a group's registers share, r is the place in the group.
template <class Begin, class Body>
EMOGS_HD void for_each_group(int64_t count, int64_t channels, const Begin& begin, const Body& body) {
  const int64_t group_elements = channels * Register::count;
  for (int64_t e = 0; e < count; e += group_elements) {
    const auto group = begin(e);
    for_each_register<float>(minimum(group_elements, count - e),
                             [&](int64_t r, auto lanes) { body(e + r, lanes, group, r); });
  }
}

/// What is normalized, as it is stored, into `h`.
template <class T>
EMOGS_HD void read_hidden(const EmotionNormForward<T>& p, int64_t at, int64_t count, const Elements& branch, bool large,
                          float* h) {
  if (!p.residual) {
    for_each_register<float>(count, [&](int64_t e, auto lanes) { store(load(p.x + at + e, lanes), h + e, Whole()); });
    return;
  }
  auto* to = p.residual_out + at;
  const bool streamed = large && is_aligned(to);
  for_each_register<float>(count, [&](int64_t e, auto lanes) {
    const Register factor = p.gate ? load(branch.at + e, lanes) : Register(1.0f);
    const auto stored = encode(norm_residual(load(p.x + at + e, lanes), load(p.residual + at + e, lanes), factor), to);
    const Register value = decode(to, stored);
    put(value, to + e, lanes, streamed);
    store(value, h + e, Whole());
  });
}

/// Tokens [first, last); returns the first whose region is out of range, or a larger number.
template <class T>
int64_t narrow_forward(const EmotionNormForward<T>& p, int64_t first, int64_t last) {
  const int64_t channels = p.channels, block = block_tokens(channels);
  const bool large_y = is_large(p, p.y), large_out = is_large(p, p.residual_out);
  const Spread spread(channels);
  BlockVectors<T> vectors(p, true);
  Elements h = {};
  int64_t invalid = INT64_MAX;
  for (int64_t token = first, count; token < last; token += count) {
    const int64_t b = token / p.tokens, t = token - b * p.tokens;
    count = minimum(block, minimum(p.tokens - t, last - token));
    const int64_t wrong = vectors.fill(b, t, count);
    if (wrong >= 0) invalid = minimum(invalid, b * p.tokens + wrong);
    const int64_t at = token * channels;
    read_hidden(p, at, count * channels, vectors.branch, large_out, h.at);
    auto* y = p.y + at;
    const bool streamed = large_y && is_aligned(y);
    for_each_group(
        count * channels, channels,
        [&](int64_t e) { return token_statistics(TokenColumns(h.at + e, channels), channels, p.rms, float(p.eps)); },
        [&](int64_t e, auto lanes, const NormStatistics<Register>& rows, int64_t r) {
          const Register n = norm_normalize(load(h.at + e, Whole()), spread(rows, r));
          const Register factor = load(vectors.factor.at + e, Whole());
          put(norm_modulate(n, factor, load(vectors.offset.at + e, Whole())), y + e, lanes, streamed);
        });
  }
  return invalid;
}

/// What the last pass of backward needs of a token.
struct NarrowGradients {
  NormStatistics<Register> rows;
  Register mean_gradient, mean_product;
};

static __attribute__((noinline)) NarrowGradients token_gradients(const float* h, const float* grad_n, int64_t channels,
                                                                 bool rms, float eps) {
  const TokenColumns h_columns(h, channels), grad_columns(grad_n, channels);
  NarrowGradients group;
  group.rows = token_statistics(h_columns, channels, rms, eps);
  const Register gradients = channel_sum(channels, [&](int64_t c) { return grad_columns[c]; });
  const Register products =
      channel_sum(channels, [&](int64_t c) { return grad_columns[c] * norm_normalize(h_columns[c], group.rows); });
  group.mean_gradient = rms ? Register(0.0f) : gradients / Register(float(channels));
  group.mean_product = products / Register(float(channels));
  return group;
}

/// Adds the block's `count` tokens to their regions' sums [C], in order: sum += a * b, or sum += a without a b.
template <class T>
void add_tokens(const EmotionNormBackward<T>& p, int64_t b, int64_t t, int64_t count, const float* a, const float* with,
                float* sums) {
  for (int64_t first = 0, last; first < count; first = last) {
    const int64_t region = region_of(p, b, t + first);
    for (last = first + 1; last < count && (!p.region || region_of(p, b, t + last) == region);) ++last;
    if (region < 0 || region >= p.regions) continue;
    for_each_register<float>(p.channels, [&](int64_t c, auto lanes) {
      float* to = sums + region * p.channels + c;
      Register sum = load(to, lanes);  // beyond the channels of a token are those of the next: never stored
      for (int64_t i = first; i < last; ++i) {
        const Register value = load(a + i * p.channels + c, Whole());
        sum = with ? multiply_add(value, load(with + i * p.channels + c, Whole()), sum) : sum + value;
      }
      store(sum, to, lanes);
    });
  }
}

/// The buffers of a block in backward.
struct BackwardBlock {
  Elements h, grad_y, grad_n, n, grad, x;
};

/// Tokens t to t + count of sample b, all of a chunk whose sums are `partial`.
template <class T>
void narrow_backward_block(const EmotionNormBackward<T>& p, const Spread& spread, const BlockVectors<T>& vectors,
                           int64_t b, int64_t t, int64_t tokens, BackwardBlock& block, float* partial) {
  const int64_t channels = p.channels, at = (b * p.tokens + t) * channels, count = tokens * channels;
  for_each_register<float>(count, [&](int64_t e, auto lanes) {
    const Register g = load(p.grad_y + at + e, lanes);
    store(load(p.hidden + at + e, lanes), block.h.at + e, Whole());
    store(g, block.grad_y.at + e, Whole());
    store(g * load(vectors.factor.at + e, Whole()), block.grad_n.at + e, Whole());
    if (p.gate) store(load(p.x + at + e, lanes), block.x.at + e, Whole());
  });
  const bool streamed_hidden = is_large(p, p.grad_hidden) && is_aligned(p.grad_hidden + at);
  const bool streamed_x = is_large(p, p.grad_x) && is_aligned(p.grad_x + at);
  for_each_group(
      count, channels,
      [&](int64_t e) { return token_gradients(block.h.at + e, block.grad_n.at + e, channels, p.rms, float(p.eps)); },
      [&](int64_t e, auto lanes, const NarrowGradients& group, int64_t r) {
        const NormStatistics<Register> row = spread(group.rows, r);
        const Register n = norm_normalize(load(block.h.at + e, Whole()), row);
        store(n, block.n.at + e, Whole());
        Register grad =
            norm_normalize_backward(load(block.grad_y.at + e, Whole()), load(vectors.factor.at + e, Whole()), n,
                                    spread(group.mean_gradient, r), spread(group.mean_product, r), row);
        if (p.grad_residual_out) grad = grad + load(p.grad_residual_out + at + e, lanes);
        if (p.gate) store(grad, block.grad.at + e, Whole());
        put(grad, p.grad_hidden + at + e, lanes, streamed_hidden);
        if (!p.grad_x) return;
        put(p.gate ? load(vectors.branch.at + e, Whole()) * grad : grad, p.grad_x + at + e, lanes, streamed_x);
      });
  const int64_t plane = p.regions * channels;
  add_tokens(p, b, t, tokens, block.grad_y.at, nullptr, partial);
  add_tokens(p, b, t, tokens, block.grad_y.at, block.n.at, partial + plane);
  if (p.gate) add_tokens(p, b, t, tokens, block.grad.at, block.x.at, partial + 2 * plane);
}

/// Tokens [first, last), all of one sample; returns as narrow_forward.
template <class T>
int64_t narrow_backward(const EmotionNormBackward<T>& p, int64_t first, int64_t last, float* partial) {
  const Spread spread(p.channels);
  BlockVectors<T> vectors(p, false);
  BackwardBlock block = {};
  int64_t invalid = INT64_MAX;
  for (int64_t token = first, count; token < last; token += count) {
    const int64_t b = token / p.tokens, t = token - b * p.tokens;
    count = minimum(block_tokens(p.channels), last - token);
    const int64_t wrong = vectors.fill(b, t, count);
    if (wrong >= 0) invalid = minimum(invalid, b * p.tokens + wrong);
    narrow_backward_block(p, spread, vectors, b, t, count, block, partial);
  }
  return invalid;
}

}  // namespace EMOGS_ISA
}  // namespace emogs
